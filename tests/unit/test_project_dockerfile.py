from __future__ import annotations

from pathlib import Path

import pytest

from rehost.project.dockerfile import Stage, instructions, parse, read, substitute
from rehost.run.errors import UsageError

MULTI = r"""# syntax=docker/dockerfile:1
# escape=\

ARG PYTHON=3.11
ARG BASE="python:${PYTHON}-slim-bookworm"
# the builder
FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG PYTHON
ARG EXTRA=
RUN apt-get update \
    # a comment between

    && apt-get install -y gcc
RUN <<EOF
FROM nowhere
EXPOSE 1
EOF
COPY <<-'ONE' <<"TWO" /etc/
	ADD \
	ONE
CMD two
TWO
EXPOSE 9
from build as middle
ENV PORT=8080 NAME="a b" ESC=a\ b
ENV OLD the rest of it
EXPOSE $PORT 9/udp 7000-7002/tcp
FROM scratch
FROM middle
COPY --from=build /x /x
CMD ["python", "-m", "app"]
"""


def test_a_build_of_several_stages() -> None:
    found = parse(MULTI)
    base = "python:3.11-slim-bookworm"
    assert found.stages == (
        Stage(base, 7, "build"),
        Stage("build", 24, "middle", None, 0),
        Stage("scratch", 28),
        Stage("middle", 29, None, None, 1),
    )
    assert found.images == (base,)
    assert found.args == {"PYTHON": "3.11", "BASE": base, "EXTRA": ""}
    assert found.ports == (9, 8080, 7000, 7001, 7002)
    assert found.env == {"PORT": "8080", "NAME": "a b", "ESC": "a b", "OLD": "the rest of it"}
    assert found.starts
    assert found.syntax == "docker/dockerfile:1"


def test_here_documents_belong_to_their_instruction() -> None:
    listed = {one.line: one for one in instructions(MULTI, "Dockerfile")}
    assert listed[14].heredocs == ("FROM nowhere\nEXPOSE 1",)
    assert listed[18].heredocs == ("ADD \\", "CMD two")
    assert listed[10].text == "apt-get update     && apt-get install -y gcc"


def test_build_arguments_reach_from_and_expose() -> None:
    text = "ARG TAG=1\nFROM app:$TAG\nARG PORT=80\nEXPOSE ${PORT}\n"
    assert (parse(text).images, parse(text).ports) == (("app:1",), (80,))
    given = parse(text, args={"TAG": "2", "PORT": "90", "OTHER": "x"})
    assert (given.images, given.ports) == (("app:2",), (90,))
    assert set(given.args) == {"TAG", "PORT"}


def test_a_global_argument_is_empty_in_a_stage_that_does_not_declare_it() -> None:
    assert parse("ARG P=80\nFROM a\nEXPOSE ${P:-81}\n").ports == (81,)
    assert parse("ARG P=80\nFROM a\nARG P\nEXPOSE ${P:-81}\n").ports == (80,)


def test_what_the_last_stage_does_not_say_is_not_said() -> None:
    found = parse("FROM a AS b\nEXPOSE 1\nCMD x\nFROM c\nRUN true\n")
    assert (found.ports, found.starts, found.env, found.syntax) == ((), False, {}, None)
    assert parse("FROM a\nENTRYPOINT x\n").starts
    volumes = (
        'FROM a AS b\nENV AT=/x\nVOLUME $AT/y /z\nFROM b\nVOLUME ["/with space", "/z"]\nVOLUME ["/broken\n'
    )
    assert parse(volumes).volumes == ("/x/y", "/z", "/with space", '["/broken')
    assert parse("FROM a\nONBUILD CMD x\n").starts is False


def test_a_here_string_is_no_here_document() -> None:
    assert parse('FROM a\nRUN cat <<< "EOF"\nEXPOSE 1\n').ports == (1,)
    assert parse('FROM a\nLABEL a="<<EOF"\nEXPOSE 1\n').ports == (1,)


def test_another_escape_character_and_lines_of_windows() -> None:
    text = "\ufeff# escape=`\r\nFROM a\r\nWORKDIR C:\\\r\nRUN x `\r\n  y\r\nEXPOSE 80\r\n"
    assert parse(text).ports == (80,)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "no FROM"),
        ("# only a comment\nARG A=1\n", None, "no FROM"),
        ("RUN x\nFROM a\n", 1, "before the first FROM"),
        ("FROM a\nRUM x\n", 2, "Did you mean RUN"),
        ("FROM a\nRUN x &&\n  y\n", 3, '"Y" is not an instruction'),
        ("FROM a\nCOPY\n", 2, "COPY says nothing"),
        ("FROM a b\n", 1, "FROM image AS name"),
        ("FROM a AS\n", 1, "FROM image AS name"),
        ("ARG TAG\nFROM $TAG\n", 2, "names no image"),
        ("FROM a\nRUN <<EOF\nx\n", 2, "never closed"),
        ("# escape=x\nFROM a\n", 1, "escape"),
    ],
)
def test_mistakes_name_the_line(text: str, line: int | None, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse(text, "app/Dockerfile")
    assert caught.value.where == (f"app/Dockerfile:{line}" if line else "app/Dockerfile")
    assert caught.value.cure


@pytest.mark.parametrize(
    ("text", "put"),
    [
        ("a$X-${X}b", "a1-1b"),
        ("$NONE${NONE}", ""),
        ("${NONE:-d}${X:-d}${NONE-d}", "d1d"),
        ("${X:+y}${NONE:+y}", "y"),
        ("${NONE:-$X}", "1"),
        (r"\$X", "$X"),
    ],
)
def test_substitution(text: str, put: str) -> None:
    assert substitute(text, {"X": "1"}) == put


def test_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such Dockerfile"):
        read(tmp_path / "Dockerfile")
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff")
    with pytest.raises(UsageError, match="UTF-8"):
        read(tmp_path / "Dockerfile")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)
