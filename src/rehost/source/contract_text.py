"""The variables that JavaScript, TypeScript, Ruby, Go, Rust and Elixir read, by how the text around them looks.

No parser of these languages is at hand, so what is called "demanded" is what can be told from the line itself,
or from a refusal that follows it. What is doubtful is "read".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from rehost.source.contract_use import Need, Use

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_NEAR = 400  # characters after a reading, in which a refusal belongs to it
# `mustEnv("X")`, `requireEnv("X")`, `getRequiredEnv("X")`: what such a name promises, in any language.
_MUST = re.compile(rf"""\b\w*(?:[Mm]ust|[Rr]equire[d]?)\w*[Ee]nv\w*!?\(\s*["'`]({_NAME})["'`]\s*\)""")

Judge = Callable[[str, "re.Match[str]"], Need]
Form = tuple[re.Pattern[str], Judge]


def read(files: Mapping[str, bytes]) -> tuple[list[Use], set[str]]:
    """The uses, and the names that the code itself sets."""
    uses: list[Use] = []
    given: set[str] = set()
    for path, data in files.items():
        language = _LANGUAGE.get(path.rpartition(".")[2].lower())
        if language is None or not any(mark in data for mark in _MARKS[language]):
            continue
        text = data.decode("utf-8", "replace")
        for form, judge in (*_FORMS[language], (_MUST, _demanded)):
            for found in form.finditer(text):
                if _in_comment(text, found.start(), language):
                    continue
                name = next(each for each in found.groups() if each)
                if language == "js" and _set(text, found.end()):
                    given.add(name)
                    continue
                line = text.count("\n", 0, found.start()) + 1
                how = found[0].strip().splitlines()[0][:60]
                uses.append(Use(name, path, line, judge(text, found), how))
        if language == "js":
            uses += _destructured(path, text)
            uses += _aliased(path, text)
            uses += _schema(path, text)
    return uses, given


def _in_comment(text: str, position: int, language: str) -> bool:
    start = text.rfind("\n", 0, position) + 1
    before = text[start:position]
    if language in ("ruby", "elixir"):
        return before.lstrip().startswith("#")
    return before.lstrip().startswith(("//", "*", "/*")) or re.search(r"(?<![:\"'`])//", before) is not None


def _demanded(_text: str, _found: re.Match[str]) -> Need:
    return "demanded"


def _refused_later(text: str, position: int, asked: str, refusal: str) -> bool:
    """`if <asked> { <refusal>` near after a position."""
    return re.search(rf"{asked}[^}}]{{0,160}}?(?:{refusal})", text[position : position + _NEAR]) is not None


def _bound(text: str, position: int) -> str:
    """The name that the expression at a position is given to: `const x = `, `x := `; "" for none."""
    start = text.rfind("\n", 0, position) + 1
    found = re.search(rf"(?:^|[\s(])({_NAME})(?:\s*:\s*[\w<>| ]+)?\s*:?=\s*(?:\w+\()?$", text[start:position])
    return found[1] if found else ""


# -- JavaScript and TypeScript ------------------------------------------------------------------------------------

# Calls that cannot do without what they are given.
_CONNECT = re.compile(
    r"(?:\bconnect|createClient|createConnection|createPool|createPostgres\w*|MongoClient|\bPool|\bRedis|ioredis"
    r"|Sequelize|Stripe|OpenAI|neon|drizzle|\bsign|\bverify)\(\s*"
    # The second argument, or the address among the options.
    r"(?:(?:[\w.\"'`]+|\{[^{}]*\})\s*,\s*)?(?:\{(?:[^{}]*,)?\s*(?:connectionString|url|uri|apiKey)\s*:\s*)?$"
)
_JS_REFUSAL = r"throw\b|process\.exit|assert|invariant"


def _set(text: str, end: int) -> bool:
    return re.match(r"\s*(?:\|\|=|\?\?=|=(?![=>]))", text[end : end + 12]) is not None


def _javascript(text: str, found: re.Match[str]) -> Need:
    before = text[max(0, found.start() - 160) : found.start()]
    after = text[found.end() : found.end() + 40].lstrip()
    if re.search(r"if\s*\(\s*!\s*$", before):
        refused = re.match(rf"\s*\)[^}}]{{0,200}}?(?:{_JS_REFUSAL})", text[found.end() : found.end() + _NEAR])
        return "demanded" if refused else "optional"
    if re.search(r"(?:assert|invariant)(?:\.ok)?\(\s*$", before):
        return "demanded"
    if re.match(r"\|\||\?\?|&&|\?(?!\.)|[!=]==?|\?\.|\)\s*\{|<|>|instanceof", after):
        return "optional"
    if re.search(r"(?:!|typeof\s|Boolean\(|if\s*\(|while\s*\(|&&|[!=]==?)\s*$", before):
        return "optional"
    if after.startswith("!") or _CONNECT.search(before):
        return "demanded"
    name = _bound(text, found.start())
    if name:
        end = found.end()
        if _refused_later(text, end, rf"if\s*\(\s*!\s*{name}\b", _JS_REFUSAL):
            return "demanded"
        if re.search(rf"(?:if\s*\(\s*!?\s*|[(\s]){name}\s*(?:\|\||\?\?|\?|&&|\))", text[end : end + _NEAR]):
            return "optional"
    return "read"


def _vite(text: str, found: re.Match[str]) -> Need:
    """Put in while the image is built: a missing one is no fault of the container's."""
    return "read" if _javascript(text, found) == "demanded" else _javascript(text, found)


# `const env = process.env`, `const { env } = process`, `import { env } from "node:process"`.
_ENV_ALIAS = re.compile(
    r"""\b(?:const|let|var)\s+(?:env\s*=\s*process\.env\b(?!\s*[.\[])|\{\s*env\s*\}\s*=\s*process\b(?!\.))"""
    r"""|import\s*\{\s*env\s*\}\s*from\s*["'](?:node:)?process["']"""
)
_OF_ALIAS = re.compile(rf"(?<![\w.$])env\.({_NAME})\b(?!\s*\()")


def _aliased(path: str, text: str) -> Iterator[Use]:
    """`env.X` in a file that calls process.env so."""
    if not _ENV_ALIAS.search(text):
        return
    for found in _OF_ALIAS.finditer(text):
        if not _in_comment(text, found.start(), "js") and not _set(text, found.end()):
            line = text.count("\n", 0, found.start()) + 1
            yield Use(found[1], path, line, _javascript(text, found), found[0])


_DESTRUCTURED = re.compile(r"(?:const|let|var)\s*\{([^{}]{1,2000})\}\s*=\s*process\.env\b")


def _destructured(path: str, text: str) -> Iterator[Use]:
    """`const { A, B = "x", C: c } = process.env`."""
    for found in _DESTRUCTURED.finditer(text):
        inside = re.sub(r"//[^\n]*", "", found[1])
        for part in inside.split(","):
            name = re.match(rf"\s*({_NAME})\s*(?::\s*({_NAME})\s*)?(=)?", part)
            if name is None:
                continue
            need: Need = "optional" if name[3] else "read"
            asked = rf"if\s*\([^)]*!\s*{name[2] or name[1]}\b"
            if need == "read" and _refused_later(text, found.end(), asked, _JS_REFUSAL):
                need = "demanded"
            line = text.count("\n", 0, found.start(1) + found[1].find(name[1])) + 1
            yield Use(name[1], path, line, need, f"{{ {name[1]} }} = process.env")


_PARSED = re.compile(
    r"(?:\.(?:parse|safeParse|validate)\(\s*process\.env|cleanEnv\(\s*process\.env|createEnv\()"
)
_KEY = re.compile(
    r"^[ \t]*([A-Z][A-Z0-9_]*)[ \t]*:\s*(z|Joi|joi|yup|v|t|str|num|bool|url|port|email|host|json|makeValidator)\b",
    re.MULTILINE,
)
_LENIENT = re.compile(r"\.(?:optional|default|nullish|nullable|catch)\(|\b(?:default|devDefault)\s*:")


def _schema(path: str, text: str) -> Iterator[Use]:
    """The fields of a schema (zod, envalid, Joi, ...) that process.env is held against."""
    if not _PARSED.search(text):
        return
    for found in _KEY.finditer(text):
        field = _until_comma(text, found.end(1))
        # Joi's fields may be missing unless they are required.
        strict = ".required(" in field if found[2].lower() == "joi" else not _LENIENT.search(field)
        line = text.count("\n", 0, found.start(1)) + 1
        yield Use(found[1], path, line, "demanded" if strict else "optional", f"{found[1]} of the schema")


def _until_comma(text: str, position: int) -> str:
    depth = 0
    for index in range(position, min(len(text), position + 600)):
        letter = text[index]
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0 or (depth == 0 and letter == ","):
            return text[position:index]
    return text[position : position + 600]


# -- the others ---------------------------------------------------------------------------------------------------


def _ruby_fetch(text: str, found: re.Match[str]) -> Need:
    after = text[found.end() : found.end() + 40].lstrip()
    if after.startswith(","):
        return "optional"
    after = after.removeprefix(")").lstrip()
    return "optional" if after.startswith(("{", "do", "rescue")) else "demanded"


def _ruby_index(text: str, found: re.Match[str]) -> Need:
    after = text[found.end() : found.end() + 80].lstrip(" ")
    before = text[max(0, found.start() - 20) : found.start()]
    if re.match(r"\|\|\s*(?:raise|abort|fail)\b|or\s+(?:raise|abort)\b", after):
        return "demanded"
    if re.match(r"\|\||&&|[=!]=|\.(?:present|blank|nil|to_s|to_i|presence)|&\.|\?|=[^=]|\)?\s*\?", after):
        return "optional"
    return "optional" if re.search(r"(?:\bif|\bunless|&&|\|\||!|==)\s*$", before) else "read"


def _go_getenv(text: str, found: re.Match[str]) -> Need:
    name = _bound(text, found.start())
    empty = rf'if\s+(?:len\({name}\)\s*==\s*0|{name}\s*==\s*"")\s*\{{'
    if name and _refused_later(text, found.end(), empty, r"log\.(?:Fatal|Panic)|panic\(|os\.Exit|[Ee]rr"):
        return "demanded"
    if name and re.search(empty, text[found.end() : found.end() + _NEAR]):
        return "optional"
    after = text[found.end() : found.end() + 12].lstrip(" ")
    return "optional" if re.match(r"[=!]=|!=", after) else "read"


def _go_lookup(text: str, found: re.Match[str]) -> Need:
    """`v, ok := os.LookupEnv("X")`, and a refusal where it is not ok."""
    start = text.rfind("\n", 0, found.start()) + 1
    named = re.search(rf"({_NAME})\s*:?=\s*$", text[start : found.start()])
    if named is None:
        return "optional"
    refusal = r"log\.(?:Fatal|Panic)|panic\(|os\.Exit|[Ee]rr"
    return "demanded" if _refused_later(text, found.end(), rf"!\s*{named[1]}\s*\{{", refusal) else "optional"


def _go_tag(text: str, found: re.Match[str]) -> Need:
    line = text[text.rfind("\n", 0, found.start()) + 1 : text.find("\n", found.end())]
    if "envDefault:" in line or re.search(r"\bdefault[:=]", line):
        return "optional"
    strict = re.search(
        r'env:"\w+,[^"]*\b(?:required|notEmpty)\b|required:"true"|validate:"[^"]*required', line
    )
    return "demanded" if strict else "optional"


def _rust(text: str, found: re.Match[str]) -> Need:
    after = re.sub(r"\s+", "", text[found.end() : found.end() + 60])
    return (
        "demanded" if re.match(r"\.(?:unwrap\(\)|expect\()|\?|\.(?:with_)?context\(", after) else "optional"
    )


def _elixir(text: str, found: re.Match[str]) -> Need:
    after = text[found.end() : found.end() + 60].lstrip()
    if re.match(r"\|\|\s*(?:raise|exit)\b", after):
        return "demanded"
    return "optional" if re.match(r"\|\||&&|[=!]=|\|>|in\b", after) else "read"


def _optional(_text: str, _found: re.Match[str]) -> Need:
    return "optional"


_JS_SUFFIXES = ("js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "vue", "svelte")
_LANGUAGE = {
    **dict.fromkeys(_JS_SUFFIXES, "js"),
    **dict.fromkeys(("rb", "rake", "ru"), "ruby"),
    "go": "go",
    "rs": "rust",
    **dict.fromkeys(("ex", "exs"), "elixir"),
}
_MARKS = {
    "js": (
        *(b"process.env", b"Env(", b"Deno.env", b"Bun.env", b"import.meta.env", b"= process"),
        *(b'"process"', b"'process'", b"node:process"),
    ),
    "ruby": (b"ENV",),
    "go": (b"env", b"Env"),
    "rust": (b"env::var",),
    "elixir": (b"System.",),
}
_FORMS: dict[str, tuple[Form, ...]] = {
    "js": (
        (re.compile(rf"""\bprocess\.env(?:\.({_NAME})|\[\s*["'`]({_NAME})["'`]\s*\])"""), _javascript),
        (
            re.compile(
                rf"""\b(?:Deno\.env\.get\(\s*["'`]({_NAME})["'`]\s*\)|Bun\.env\.({_NAME})"""
                rf"""|Bun\.env\[\s*["'`]({_NAME})["'`]\s*\])"""
            ),
            _javascript,
        ),
        # What Vite itself sets is no variable of the environment.
        (re.compile(rf"\bimport\.meta\.env\.(?!(?:MODE|DEV|PROD|SSR|BASE_URL)\b)({_NAME})"), _vite),
    ),
    "ruby": (
        (re.compile(rf"""\bENV\.fetch(?:\(\s*| +)["']({_NAME})["']"""), _ruby_fetch),
        (re.compile(rf"""\bENV\[\s*["']({_NAME})["']\s*\]"""), _ruby_index),
    ),
    "go": (
        (re.compile(rf'\bos\.Getenv\(\s*"({_NAME})"\s*\)'), _go_getenv),
        (re.compile(rf'\bos\.LookupEnv\(\s*"({_NAME})"\s*\)'), _go_lookup),
        (re.compile(rf'`[^`\n]*\benv(?:config)?:"({_NAME})[",]'), _go_tag),
    ),
    "rust": ((re.compile(rf'\benv::var(?:_os)?\(\s*"({_NAME})"\s*\)'), _rust),),
    "elixir": (
        (re.compile(rf'\bSystem\.fetch_env!\(\s*"({_NAME})"\s*\)'), _demanded),
        (re.compile(rf'\bSystem\.get_env\(\s*"({_NAME})"\s*\)'), _elixir),
        (re.compile(rf'\bSystem\.get_env\(\s*"({_NAME})"\s*,'), _optional),
    ),
}
