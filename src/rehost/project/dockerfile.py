"""A Dockerfile, read far enough to know its images, arguments, ports and whether it says what to start.

The reading follows BuildKit's: parser directives first, then instructions of logical lines, joined over the
escape character; comment lines and empty lines inside a joined line vanish; here-documents belong to their
instruction. (Docker's Dockerfile reference, "Format", "Parser directives", "Here-Documents".)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rehost.project import files
from rehost.project.nearest import nearest
from rehost.run.errors import UsageError

INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(.*?)[ \t]*$")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:\"([A-Za-z_]\w*)\"|'([A-Za-z_]\w*)'|([A-Za-z_]\w*))", re.ASCII)
_WITH_HEREDOC = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One logical line. line: where it begins, from 1. heredocs: the bodies that follow it."""

    name: str
    text: str
    line: int
    heredocs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """What one FROM begins. image: with global arguments put in. parent: the earlier stage it builds on."""

    image: str
    line: int
    name: str | None = None
    platform: str | None = None
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What was read. ports, env and starts are of the image that the last stage makes.

    args: every declared argument with its default. ports: TCP ports of EXPOSE. env: values of ENV as written.
    starts: CMD or ENTRYPOINT stands there (or else the base image's counts). volumes: paths of VOLUME. syntax: image of
    a `# syntax=` line, which the builder fetches before it reads on, so the machine needs the network for it.
    """

    stages: tuple[Stage, ...]
    args: Mapping[str, str | None] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    starts: bool = False
    volumes: tuple[str, ...] = ()
    syntax: str | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The images to fetch, each once: not earlier stages, not `scratch`."""
        named = [s.image for s in self.stages if s.parent is None and s.image != "scratch"]
        return tuple(dict.fromkeys(named))


@dataclass
class _Content:
    """What a stage adds while it is read."""

    ports: list[int]
    env: dict[str, str]
    args: dict[str, str | None]
    volumes: list[str]
    starts: bool


def read(path: Path, name: str | None = None, args: Mapping[str, str] | None = None) -> Dockerfile:
    """A file's content; `args` are build arguments. Raises UsageError, as `parse` does."""
    shown = name or str(path)
    data = files.read(
        path, shown, "there is no such Dockerfile.", "Write one, or correct build.dockerfile in rehost.toml."
    )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("this is not UTF-8.", cure="Save the file as UTF-8.", where=shown) from None
    return parse(text, shown, args)


def parse(text: str, name: str = "Dockerfile", args: Mapping[str, str] | None = None) -> Dockerfile:
    """The content of a text. Raises UsageError with the line for what a builder would refuse as well."""
    given = args or {}
    directives = _directives(text)
    global_args: dict[str, str | None] = {}
    declared: dict[str, str | None] = {}
    stages: list[Stage] = []
    contents: list[_Content] = []
    for one in instructions(text, name):
        where = f"{name}:{one.line}"
        if one.name == "FROM":
            stage = _stage(one, where, {**_known(global_args), **_given(global_args, given)}, stages)
            stages.append(stage)
            contents.append(_beginning(stage, contents))
        elif not stages:
            if one.name != "ARG":
                raise UsageError(
                    f"{one.name} stands before the first FROM.",
                    cure="Only ARG may; move it below FROM.",
                    where=where,
                )
            found = _arguments(one.text, {**_known(global_args), **given})
            global_args.update(found)
            declared.update(found)
        else:
            _add(one, contents[-1], global_args, declared, given)
    if not stages:
        raise UsageError(
            "there is no FROM in it.", cure="A Dockerfile begins with FROM and an image.", where=name
        )
    last = contents[-1]
    return Dockerfile(
        tuple(stages),
        declared,
        tuple(dict.fromkeys(last.ports)),
        last.env,
        last.starts,
        tuple(dict.fromkeys(last.volumes)),
        directives.get("syntax"),
    )


def instructions(text: str, name: str) -> list[Instruction]:
    """The logical lines of a text, with directives, comments and empty lines gone."""
    escape = _directives(text).get("escape", "\\")
    if escape not in ("\\", "`"):
        raise UsageError(f'escape "{escape}" is not known.', cure="It is \\ or ` alone.", where=f"{name}:1")
    joined = re.compile(re.escape(escape) + r"[ \t]*$")
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    found: list[Instruction] = []
    index = 0
    while index < len(lines):
        if not lines[index].strip() or lines[index].lstrip().startswith("#"):
            index += 1
            continue
        first = index + 1
        parts: list[str] = []
        while index < len(lines):
            line = lines[index]
            index += 1
            if parts and (not line.strip() or line.lstrip().startswith("#")):
                continue
            parts.append(joined.sub("", line))
            if parts[-1] == line:
                break
        word, *tail = "".join(parts).split(None, 1) or [""]
        word, rest = word.upper(), "".join(tail).strip()
        if word not in INSTRUCTIONS:
            meant = nearest(word, INSTRUCTIONS)
            raise UsageError(
                f'"{word[:30]}" is not an instruction.',
                cure=f"Did you mean {meant}?" if meant else f'A line that goes on ends in "{escape}".',
                where=f"{name}:{first}",
            )
        if not rest:
            raise UsageError(f"{word} says nothing.", cure="Give it what it needs.", where=f"{name}:{first}")
        bodies, index = _heredocs(word, rest, lines, index, f"{name}:{first}")
        found.append(Instruction(word, rest, first, bodies))
    return found


def _directives(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").split("\n"):
        directive = _DIRECTIVE.match(line.removesuffix("\r").strip())
        if directive is None or directive[1].lower() not in _DIRECTIVES or directive[1].lower() in found:
            break
        found[directive[1].lower()] = directive[2]
    return found


def _heredocs(word: str, rest: str, lines: list[str], index: int, where: str) -> tuple[tuple[str, ...], int]:
    """The bodies that an instruction announces, and the index of the line after them."""
    carrier = rest.split(None, 1)[-1] if word == "ONBUILD" else rest
    if word not in _WITH_HEREDOC and not (word == "ONBUILD" and rest.upper().startswith(_WITH_HEREDOC)):
        return (), index
    if carrier.lstrip().startswith("["):
        return (), index
    bodies: list[str] = []
    for opener in _HEREDOC.finditer(carrier):
        if carrier[: opener.start()].endswith("<"):  # a here-string of the shell: <<<
            continue
        end = opener[2] or opener[3] or opener[4]
        body: list[str] = []
        while index < len(lines):
            line = lines[index].lstrip("\t") if opener[1] else lines[index]
            index += 1
            if line == end:
                break
            body.append(line)
        else:
            raise UsageError(
                f"the here-document {end} is never closed.",
                cure=f"Write {end} alone on the line after it.",
                where=where,
            )
        bodies.append("\n".join(body))
    return tuple(bodies), index


def _stage(one: Instruction, where: str, values: Mapping[str, str], stages: list[Stage]) -> Stage:
    words = one.text.split()
    platform = None
    while words and words[0].startswith("--"):
        flag, _, value = words.pop(0).partition("=")
        if flag == "--platform":
            platform = substitute(value, values) or None  # the builder's own arguments have no value here
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise UsageError(
            "FROM is not understood.", cure="Write FROM image, or FROM image AS name.", where=where
        )
    image = substitute(words[0], values)
    if not image:
        raise UsageError(
            f"FROM {words[0]} names no image: the argument has no value here.",
            cure="Give its ARG, above the first FROM, a default, or set it under build.args.",
            where=where,
        )
    parent = None
    for number, earlier in enumerate(stages):
        if earlier.name and earlier.name.lower() == image.lower():
            parent = number
    return Stage(image, one.line, words[2] if len(words) == 3 else None, platform, parent)


def _beginning(stage: Stage, contents: list[_Content]) -> _Content:
    """A stage goes on from what its parent made; arguments end with their stage."""
    if stage.parent is None:
        return _Content([], {}, {}, [], starts=False)
    parent = contents[stage.parent]
    return _Content(list(parent.ports), dict(parent.env), {}, list(parent.volumes), parent.starts)


def _add(
    one: Instruction,
    content: _Content,
    global_args: Mapping[str, str | None],
    declared: dict[str, str | None],
    given: Mapping[str, str],
) -> None:
    # ENV beats ARG of the same name (Dockerfile reference, "Using ARG variables").
    values = {**_known(content.args), **_given(content.args, given), **content.env}
    if one.name == "ARG":
        for key, default in _arguments(one.text, values).items():
            content.args[key] = default if default is not None else global_args.get(key)
            if declared.get(key) is None:
                declared[key] = content.args[key]
    elif one.name == "ENV":
        content.env.update(_pairs(one.text, values))
    elif one.name == "EXPOSE":
        for word in one.text.split():
            content.ports += _ports(substitute(word, values))
    elif one.name == "VOLUME":
        content.volumes += [substitute(path, values) for path in _list(one.text)]
    elif one.name in ("CMD", "ENTRYPOINT"):
        content.starts = True


def _list(text: str) -> list[str]:
    """Paths in a JSON array, or by white space (Dockerfile reference, "VOLUME")."""
    try:
        found = json.loads(text)
    except ValueError:
        return text.split()
    return [str(each) for each in found] if isinstance(found, list) else text.split()


def _known(args: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in args.items() if value is not None}


def _given(declared: Mapping[str, str | None], given: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in given.items() if key in declared}


def _arguments(text: str, values: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        found[key] = substitute(_unquote(value), values) if equals else None
    return found


def _pairs(text: str, values: Mapping[str, str]) -> dict[str, str]:
    first = text.split(None, 1)
    if "=" not in first[0]:  # the old form: ENV key the whole rest
        return {first[0]: substitute(first[1] if len(first) > 1 else "", values)}
    pairs = (word.partition("=") for word in _words(text))
    return {key: substitute(_unquote(value), values) for key, _, value in pairs}


def _words(text: str) -> list[str]:
    return re.findall(r"(?:\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.|[^\s])+", text)


def _unquote(word: str) -> str:
    return re.sub(
        r"\"((?:\\.|[^\"\\])*)\"|'([^']*)'|\\(.)",
        lambda part: next(found for found in part.groups() if found is not None),
        word,
    )


_VARIABLE = re.compile(r"\\\$|\$(?:(\w+)|\{(\w+)(?::?([-+])([^}]*))?\})", re.ASCII)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`$name`, `${name}`, `${name:-default}` and `${name:+instead}` put in; without a value: empty."""

    def put(found: re.Match[str]) -> str:
        if found[0] == "\\$":
            return "$"
        value = values.get(found[1] or found[2], "")
        if found[3] == "-":
            return value or substitute(found[4], values)
        if found[3] == "+":
            return substitute(found[4], values) if value else ""
        return value

    return _VARIABLE.sub(put, text)


def _ports(word: str) -> list[int]:
    """TCP ports of `8080`, `8080/tcp`, `8000-8010`; others (udp, unknown variables) are none of ours."""
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/tcp)?", word.lower(), re.ASCII)
    if found is None:
        return []
    low, high = int(found[1]), int(found[2] or found[1])
    return list(range(low, high + 1)) if 1 <= low <= high <= 65535 else []
