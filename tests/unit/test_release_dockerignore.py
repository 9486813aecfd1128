"""The ignore file, read as Docker reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerignore_cases import BAD, CASES, Case
from rehost.release import dockerignore
from rehost.release.dockerignore import Ignore, parse
from rehost.run.errors import UsageError


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    ignore = parse(case.ignore)
    sent = tuple(file for file in case.files if not ignore.ignores(file.partition(" -> ")[0]))
    assert sent == case.sent


# Pattern, path, ignored: what one line says of one path.
LINES = [
    ("**", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("abc/**", "abc", False),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt**", "a/file.txt", True),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "ae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("**/.foo", "bar.foo", False),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("a(b)c/def", "a(b)c/xyz", False),
    ("a\\\\", "a\\", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("a???b", "a☺b", False),
    ("a[^a]b", "a☺b", True),
    ("[é-ζ]*", "ñ", True),
    ("*[é-ζ]", "A", False),
    ("[x\\-]", "-", True),
    ("[\\-x]", "a", False),
    ("[[:alpha:]]1", "x1", True),
    ("[[:^alpha:]]1", "x1", False),
    ("[[:^alpha:]]1", "☺1", True),
    ("v[\\d]", "v7", True),
    ("v[\\D]", "v7", False),
    ("v\\d", "v7", True),
    ("v\\d", "vd", False),
    ("[a?]", "a]", True),
    ("x{2}*", "xx", True),
    ("x{2}*", "x{2}", False),
    ("x{,2}*", "x{,2}", True),
    ("^a*", "^a", False),
]


@pytest.mark.parametrize(("pattern", "path", "ignored"), LINES)
def test_line(pattern: str, path: str, ignored: bool) -> None:
    assert parse(pattern.encode()).ignores(path) is ignored


@pytest.mark.parametrize(
    "pattern", [*BAD, "a\\x41", "\\pL", "\\é", "x*{2}", "x{1001}*", "[[:vowel:]]", "[[:alpha:]"]
)
def test_a_bad_pattern_names_file_and_line(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"# first\n*.md\n{pattern}\n".encode(), "app/.dockerignore")
    assert caught.value.where == "app/.dockerignore:3"
    assert caught.value.cure


def test_a_line_too_long_for_docker_is_refused() -> None:
    assert len(parse(b"a" * 65535).patterns) == 1
    with pytest.raises(UsageError, match="longer than"):
        parse(b"a" * 65536)


def test_bytes_that_are_not_utf8_match_themselves() -> None:
    ignore = parse(b"caf\xe9\n*.\xff\n")
    assert ignore.ignores("caf\udce9")
    assert ignore.ignores("a.\udcff")
    assert not ignore.ignores("café")


def test_the_ignore_file_of_the_dockerfile_comes_first(tmp_path: Path) -> None:
    dockerfile = tmp_path / "deploy" / "Web.Dockerfile"
    dockerfile.parent.mkdir()
    assert dockerignore.find(tmp_path, dockerfile) is None
    (tmp_path / ".dockerignore").touch()
    assert dockerignore.find(tmp_path, dockerfile) == tmp_path / ".dockerignore"
    (tmp_path / "deploy" / ".dockerignore").touch()  # means nothing: the context is tmp_path
    assert dockerignore.find(tmp_path, dockerfile) == tmp_path / ".dockerignore"
    (tmp_path / "deploy" / "Web.Dockerfile.dockerignore").touch()
    assert dockerignore.find(tmp_path, dockerfile) == tmp_path / "deploy" / "Web.Dockerfile.dockerignore"


def test_exceptions_that_name_a_directory() -> None:
    assert parse(b"!.git").excepts(".git")
    assert parse(b"!.git/HEAD").excepts(".git")
    assert not parse(b".git\n!**\n!.gitignore\n!*").excepts(".git")


PIECES = [
    "a",
    "b",
    "*",
    "**",
    "?",
    "/",
    "[",
    "]",
    "^",
    "-",
    "\\",
    "!",
    "{2}",
    "|",
    ".",
    "#",
    " ",
    "é",
    "\udcff",
    "\n",
]
LINE = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
NAME = st.text(st.sampled_from("ab.*[]é\n\udcff"), min_size=1, max_size=3).filter(
    lambda n: n not in (".", "..")
)
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)


@given(st.lists(LINE, max_size=4).map("\n".join), PATH)
def test_any_text_is_read_or_refused_with_its_line(text: str, path: str) -> None:
    try:
        ignore = parse(text.encode("utf-8", "surrogateescape"))
    except UsageError as error:
        assert 1 <= int(error.where.rpartition(":")[2]) <= text.count("\n") + 1
    else:
        assert ignore.ignores(path) in (True, False)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        assert isinstance(parse(content), Ignore)
    except UsageError as error:
        assert error.cure


@given(PATH)
def test_a_path_with_its_special_letters_escaped_ignores_itself_and_what_is_below(path: str) -> None:
    escaped = "".join(f"\\{char}" if char in "*?[]\\" else char for char in path if char not in "\n")
    plain = path.replace("\n", "")
    if escaped.startswith(".") or any(not part or part in (".", "..") for part in plain.split("/")):
        return
    ignore = parse(escaped.encode("utf-8", "surrogateescape"))
    assert ignore.ignores(plain)
    assert ignore.ignores(f"{plain}/below")
    assert not ignore.ignores(f"{plain}x")


@given(st.lists(LINE, max_size=4).map("\n".join), PATH, NAME)
def test_a_directory_that_is_not_walked_held_nothing(text: str, directory: str, name: str) -> None:
    try:
        ignore = parse(text.encode("utf-8", "surrogateescape"))
    except UsageError:
        return
    if ignore.ignores(directory) and not ignore.may_take_back(directory):
        assert ignore.ignores(f"{directory}/{name}")
        assert ignore.ignores(f"{directory}/{name}/deeper")
