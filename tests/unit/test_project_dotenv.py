"""dotenv files: values arrive exactly, errors never show them, and changes leave the rest as it was."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import dotenv as python_dotenv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.project import dotenv
from rehost.project.config import parse as parse_project
from rehost.run.errors import UsageError
from rehost.run.secret import Secret


def values(text: str) -> dict[str, str]:
    return {name: each.value.reveal() for name, each in dotenv.parse(text, ".env").variables.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\n", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("  A = 1  \n", {"A": "1"}),
        ("export A=1\nexport\tB=2", {"A": "1", "B": "2"}),
        ("export=1", {"export": "1"}),
        ("# note\n\n   \n\t# more\nA=1 # note\n", {"A": "1"}),
        ("A=a#b\nB=#c\nC= # note\nD=x\t# note", {"A": "a#b", "B": "#c", "C": "", "D": "x"}),
        ('A=it\'s\nB=say "hi" # x', {"A": "it's", "B": 'say "hi"'}),
        ("A='$HOME #1, \"x\" \\n'", {"A": '$HOME #1, "x" \\n'}),
        ("A='one\ntwo'\nB=3", {"A": "one\ntwo", "B": "3"}),
        ('A="one\\ntwo\\t\\"x\\" \\\\ \\$H \\r"', {"A": 'one\ntwo\t"x" \\ $H \r'}),
        ('A="\\d+\\p"', {"A": "\\d+\\p"}),
        ('A="one\n# two\n\nB=3"\nC=4', {"A": "one\n# two\n\nB=3", "C": "4"}),
        ('A="x" # note\nB="y"#note\nC=\'\'', {"A": "x", "B": "y", "C": ""}),
        ("A=${B}\nB=$A$$", {"A": "${B}", "B": "$A$$"}),
        (
            'U=mongodb://u:p$s#w,@h1:1,h2:2/?a=1&b="2"\n',
            {"U": 'mongodb://u:p$s#w,@h1:1,h2:2/?a=1&b="2"'},
        ),
        ("A=käse 🧀, 한국어\n", {"A": "käse 🧀, 한국어"}),
        (
            "\ufeffA=1\r\nB=\"x\r\ny\"\r\n\r\n# c\r\nC='z'\r\nD=\r\n",
            {"A": "1", "B": "x\ny", "C": "z", "D": ""},
        ),
        ("A=1\nB=2\nA=3", {"A": "3", "B": "2"}),
        ("A==b=", {"A": "=b="}),
        ("A=\u00a0x\u2028y", {"A": "\u00a0x\u2028y"}),
        ("", {}),
        ("\ufeff", {}),
    ],
)
def test_reading(text: str, expected: dict[str, str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("A=1\nhunter2secret\n", 2, ""),
        ("A=1\n\nhunter2secret=\n2B=hunter2secret", 4, ""),
        ("MY-KEY=hunter2secret", 1, "MY-KEY"),
        ("MY KEY=hunter2secret", 1, "MY KEY"),
        ("=hunter2secret", 1, ""),
        ('# x\nA="hunter2secret\nB=1\n', 2, "A"),
        ("A='hunter2secret", 1, "A"),
        ('A="x" hunter2secret', 1, "A"),
        ('A="hunter2secret"x"', 1, "A"),
        ("A=1\nK=-----BEGIN PRIVATE KEY-----\nhunter2secret\n", 2, "K"),
        ("A=hunter2secret\0", 1, "A"),
        ("SECRET_KEY: hunter2secret", 1, ""),
        ("QUJDRA+/hunter2secret==", 1, ""),
    ],
)
def test_a_bad_line_names_file_line_and_key_and_never_the_value(text: str, line: int, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        dotenv.parse(text, ".env.prod")
    assert caught.value.where == f".env.prod:{line}"
    assert caught.value.what.startswith(f"{key}: " if key else "this line is not KEY=value")
    assert caught.value.cure
    assert "hunter2secret" not in f"{caught.value} {caught.value!r}"


def test_lines_are_counted_over_values_of_several_lines() -> None:
    file = dotenv.parse("A=\"1\n2\n3\"\n\n# c\nB=1\r\nC='\n'\nD=x", "e")
    assert [(each.name, each.line) for each in file.assignments] == [("A", 1), ("B", 6), ("C", 7), ("D", 9)]


def test_what_is_read_prints_no_value() -> None:
    file = dotenv.parse("A=hunter2secret", "e")
    assert "hunter2secret" not in repr(file)
    assert "hunter2secret" not in repr(dotenv.merge([file]))


def test_later_files_win_and_the_origin_says_which() -> None:
    first, second = dotenv.parse("A=1\nB=1", "one"), dotenv.parse("\nB=2\nC=2", "two")
    merged = dotenv.merge([first, second], required=["C", "D", "A"])
    assert {name: each.reveal() for name, each in merged.values.items()} == {"A": "1", "B": "2", "C": "2"}
    assert merged.origin == {"A": "one:1", "B": "two:2", "C": "two:3"}
    assert merged.missing == ("D",)


def test_duplicates_are_told() -> None:
    file = dotenv.parse("A=1\nB=1\nA=2\nA=3", "e")
    assert [(early.line, last.line) for early, last in file.duplicates] == [(1, 4), (3, 4)]


def test_a_projects_environment_is_read_from_its_directory(tmp_path: Path) -> None:
    text = 'app = "a"\n[machine]\nprovider = "host"\naddress = "h"\n[env]\nfiles = ["a.env", "b/b.env"]\n'
    project = parse_project(text + 'required = ["A", "Z"]\n', tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "a.env").write_text("A=1\nB=1")
    with pytest.raises(UsageError, match=r"^b/b\.env: there is no such env file"):
        dotenv.read_env(project)
    (tmp_path / "b/b.env").write_text("B=2")
    read = dotenv.read_env(project)
    assert (read.values["B"], read.origin["B"], read.missing) == (Secret("2"), "b/b.env:1", ("Z",))


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"A=1\nB=\xff\n")
    with pytest.raises(UsageError) as caught:
        dotenv.read(tmp_path / "e", "e")
    assert caught.value.where == "e:2"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
TRICKY = st.text("ab #$'\"\\\n\r\t=,{}\ufeff\u2028", max_size=12)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANY_TEXT | TRICKY))
def test_what_is_written_reads_back_exactly(wanted: dict[str, str]) -> None:
    text = dotenv.edit("", {key: Secret(value) for key, value in wanted.items()}, "e")
    assert values(text) == wanted


FILES = st.lists(
    st.sampled_from(
        [
            "A=1\n", "export A='x y' # c\n", 'A="z"#c\n', "B=\n", "B= # c\n", "C='1\n2' \r\n", "# A=1\n", "\n",
            "\t\r\n", 'B="\\$\\n"\r\n', "A=a b#c  \n", "D=  x  # c\n",
        ]
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(FILES, st.booleans(), st.dictionaries(st.sampled_from("ABCDE"), TRICKY | st.none(), max_size=4))
def test_changing_some_leaves_the_others(lines: list[str], cut: bool, changes: dict[str, str | None]) -> None:
    before = "".join(lines)
    before = before.removesuffix("\n") if cut else before
    secrets = {key: None if value is None else Secret(value) for key, value in changes.items()}
    after = dotenv.edit(before, secrets, "e")
    expected = values(before) | {key: value for key, value in changes.items() if value is not None}
    expected = {key: value for key, value in expected.items() if changes.get(key, "") is not None}
    assert values(after) == expected
    assert after.count("# A=1\n") >= before.count("# A=1\n")
    assert dotenv.edit(after, secrets, "e") == after


def test_a_change_keeps_comments_order_and_form() -> None:
    before = "\ufeff# db\r\nexport URL = 'old' # the one\r\n\r\nB=2\r\nGONE=x\r\n# end"
    after = dotenv.edit(before, {"URL": Secret("n'ew"), "GONE": None, "NEW": Secret("a b")}, "e")
    assert after == "\ufeff# db\r\nexport URL = \"n'ew\" # the one\r\n\r\nB=2\r\n# end\r\nNEW='a b'\r\n"


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_value_that_no_environment_carries_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"^KEY: the value"):
        dotenv.edit("", {"KEY": Secret(value)}, "e")


def test_a_name_that_no_environment_carries_is_refused() -> None:
    with pytest.raises(UsageError, match="A-B"):
        dotenv.edit("", {"A-B": Secret("1")}, "e")


def test_writing_is_private_whole_and_repeatable(tmp_path: Path) -> None:
    path, link = tmp_path / "env", tmp_path / "link"
    assert dotenv.write(path, {"A": Secret("1")})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not dotenv.write(path, {"A": Secret("1"), "B": None})
    path.chmod(0o644)
    link.symlink_to(path)
    assert dotenv.write(link, {"A": Secret("2")})
    assert link.is_symlink()
    assert path.read_text() == "A=2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["env", "link"]


def test_a_bad_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("no value")
    with pytest.raises(UsageError):
        dotenv.write(path, {"A": Secret("1")})
    assert path.read_text() == "no value"


def test_a_directory_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        dotenv.write(tmp_path / "none" / "env", {"A": Secret("1")})


# Where python-dotenv's reading and ours are specified alike, they must agree.
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="'\"\\\0#\ufeff"))
QUOTED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="'\"\\\0\r"))


@settings(deadline=None)
@given(st.lists(st.tuples(KEYS, st.sampled_from(["", "'", '"']), PLAIN, QUOTED), max_size=4))
def test_python_dotenv_reads_the_same(rows: list[tuple[str, str, str, str]]) -> None:
    text = "".join(
        f"{key}={quote}{inside if quote else plain}{quote} # c\n" for key, quote, plain, inside in rows
    )
    theirs = python_dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)
    assert values(text) == theirs
