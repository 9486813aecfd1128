"""Pulling: the real script under a real sh, with stand-ins for docker and curl."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rehost.release import pull, registry
from rehost.run.errors import RehostError
from rehost.run.secret import Secret
from ssh_here import Moved, Server, asynced, machine

DIGEST = "sha256:" + "d" * 64
NAME = registry.parse("ghcr.io/me/app:1.2")
HEADER = base64.urlsafe_b64encode(b'{"password": "a secret"}').decode()
LOGIN = registry.Login(Secret(HEADER), Secret("a secret"))
ARM = json.dumps({"Descriptor": {"digest": DIGEST}, "Platforms": [{"os": "linux", "architecture": "arm64"}]})
AMD = ARM.replace("arm64", "amd64")
# $S/there: the id and platform of an image that is there under its digest; $S/pulled: one that a pull brings.
PROGRAMS = {
    "docker": """S=${0%/*}/..
echo "docker $*" >>"$S/calls"
case $1$2 in
  imageinspect) cat "$S/there" 2>/dev/null || exit 1 ;;
esac""",
    "curl": """S=${0%/*}/..
echo "curl $*" >>"$S/calls"
cat >>"$S/stdin"
cat "$S/answer"
for url; do :; done
case $url in */images/create*) [ ! -f "$S/pulled" ] || mv "$S/pulled" "$S/there" ;; esac""",
}


class Site:
    def __init__(self, opened: Moved, server: Server, directory: Path) -> None:
        self.machine, self.server, self.directory = opened, server, directory

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.directory / name).write_text(text)

    def read(self, name: str) -> str:
        file = self.directory / name
        return file.read_text() if file.exists() else ""

    async def ask(self) -> str:
        return await pull.ask(self.machine, NAME, LOGIN, "linux/amd64")

    async def pull(self, login: registry.Login | None = LOGIN) -> str:
        return await pull.pull(
            self.machine, NAME, DIGEST, login, app="shop", platform="linux/amd64", progress=lambda _text: None
        )


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    async with machine(directory, PROGRAMS) as (opened, server):
        yield Site(opened, server, directory)


@asynced
async def test_a_tag_is_asked_for(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.write(answer=f"{AMD}\n@status 200\n")
        assert await here.ask() == DIGEST
        assert "http://docker/distribution/ghcr.io/me/app:1.2/json" in here.read("calls")
        assert here.read("stdin") == f'header = "X-Registry-Auth: {HEADER}"\n'
        for status, text, what in (
            (200, ARM, "there for linux/arm64, and not for the machine, linux/amd64"),
            (200, "{}", "could not be pulled"),
            (404, '{"message":"manifest unknown"}', "there is no image"),
            (500, '{"message":"denied"}', "may not read it"),
        ):
            here.write(answer=f"{text}\n@status {status}\n")
            with pytest.raises(RehostError) as fault:
                await here.ask()
            assert what in fault.value.what
            assert fault.value.where == "vm"


@asynced
async def test_a_pull_gets_our_name_and_leaves_no_other(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.write(answer='{"status":"Pulling"}\n@status 200\n', pulled="sha256:new linux/amd64\n")
        assert await here.pull() == "sha256:new"
        calls = here.read("calls")
        assert f"images/create?fromImage=ghcr.io/me/app&tag={DIGEST}" in calls
        assert "docker tag sha256:new rehost/shop:dddddddddddd" in calls
        assert f"docker rmi ghcr.io/me/app@{DIGEST}" in calls
        # Nowhere but in what curl read.
        assert HEADER in here.read("stdin")
        assert HEADER not in calls
        assert not any(HEADER in command for command in here.server.commands)
        written = [
            file for file in tmp_path.rglob("*") if file.is_file() and HEADER in file.read_text("latin1")
        ]
        assert [file.name for file in written] == ["stdin"]


@asynced
async def test_nobody_is_logged_in(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.write(answer="@status 200\n", pulled="sha256:new linux/amd64\n")
        assert await here.pull(None) == "sha256:new"
        assert here.read("stdin") == "\n"


@asynced
async def test_what_somebody_pulled_before_stays_theirs(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.write(there="sha256:theirs linux/amd64\n")
        assert await here.pull() == "sha256:theirs"
        assert "docker tag sha256:theirs rehost/shop:dddddddddddd" in here.read("calls")
        assert "curl" not in here.read("calls")
        assert "rmi" not in here.read("calls")


@asynced
async def test_an_image_for_another_machine_is_taken_away_again(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.write(answer="@status 200\n", pulled="sha256:new linux/arm64\n")
        with pytest.raises(RehostError, match="is there for linux/arm64"):
            await here.pull()
        assert "docker tag" not in here.read("calls")
        assert "docker rmi" in here.read("calls")


@pytest.mark.parametrize(
    ("answer", "what", "retryable"),
    [
        ('{"message":"unauthorized: authentication required"}\n@status 500\n', "may not read it", False),
        (
            '{"status":"Downloading"}\n{"error":"dial tcp: i/o timeout"}\n@status 200\n',
            "does not answer",
            True,
        ),
    ],
)
@asynced
async def test_a_pull_that_fails_says_why(tmp_path: Path, answer: str, what: str, retryable: bool) -> None:
    async with site(tmp_path) as here:
        here.write(answer=answer)
        with pytest.raises(RehostError) as fault:
            await here.pull()
        assert what in fault.value.what
        assert fault.value.retryable == retryable
        assert "docker tag" not in here.read("calls")
