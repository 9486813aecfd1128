"""YAML read as text: mappings, lists and strings, nothing else.

A blueprint's values become environment variables, so what was written counts: `yes`, `0755`, `1.10` and
`2020-01-01` stay what they are, where a typed reader would hand back a boolean, 493, 1.1 and a date.
"""

from __future__ import annotations

from typing import TypeAlias

from rehost.run.errors import UsageError

Text: TypeAlias = "str | list[Text] | dict[str, Text]"
Mapped: TypeAlias = dict[str, Text]


def read(text: str, file: str) -> tuple[Text, list[tuple[str, int]]]:
    """The document, and the keys that stand twice in one mapping (dotted, with the line of the one that counts).

    Raises UsageError with file and line. The library's own message is cut to its problem: its context quotes the
    file, and with it secrets.
    """
    import yaml  # noqa: PLC0415  # slow to import, and only `init` needs it

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        raise UsageError(
            f"not valid YAML: {wrong.problem or 'not understood'}.",
            cure="Correct the line, or the one above it.",
            where=f"{file}:{mark.line + 1}" if mark else file,
        ) from None
    except yaml.YAMLError:  # characters that YAML does not allow
        raise UsageError("not valid YAML.", cure="Save the file as UTF-8 text.", where=file) from None
    except RecursionError:
        raise UsageError(
            "nests deeper than anything that is meant.", cure="Is it the right file?", where=file
        ) from None
    twice: list[tuple[str, int]] = []

    def build(node: yaml.Node, path: str, above: frozenset[int]) -> Text:
        line = node.start_mark.line + 1
        if id(node) in above:
            raise UsageError(f"{path}: an alias holds itself.", cure="Write it out.", where=f"{file}:{line}")
        above |= {id(node)}
        if isinstance(node, yaml.ScalarNode):
            empty = node.tag == "tag:yaml.org,2002:null"
            return "" if empty else str(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [build(item, f"{path}[{number}]", above) for number, item in enumerate(node.value)]
        found: dict[str, Text] = {}
        merged: dict[str, Text] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                base = build(value, f"{path}.<<", above)
                for each in reversed(base if isinstance(base, list) else [base]):
                    merged.update(each if isinstance(each, dict) else {})
                continue
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "(a key that is no text)"
            inner = f"{path}.{name}" if path else name
            if name in found:
                twice.append((inner, key.start_mark.line + 1))
            found[name] = build(value, inner, above)
        return {**merged, **found}

    return ("" if node is None else build(node, "", frozenset())), twice
