"""The build: its script, run by a real sh where Docker is a stand-in, and what is told of its log."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import systemd_fake
from machine_state import APP
from rehost.release.build import BuildFailed, build, build_script, failing_step, tag
from ssh_here import Moved, asynced, machine

CONTEXT = "sha256:" + "c" * 64
SHIPPED = "f" * 64
DOCKER = """printf '%s\\n' "$DOCKER_BUILDKIT" "$@" >"${0%/*}/../argv"
for word; do case $word in --iidfile=*) image=${word#--iidfile=} ;; esac; done
cat "${0%/*}/../output"
if [ -p "${0%/*}/../gate" ]; then cat "${0%/*}/../gate"; fi
[ ! -s "${0%/*}/../image" ] || cat "${0%/*}/../image" >"$image"
exit "$(cat "${0%/*}/../status")"
"""


class Site:
    def __init__(self, opened: Moved, directory: Path) -> None:
        self.machine, self.directory = opened, directory
        self.app = opened.home / APP
        (self.app / "context").mkdir(parents=True)
        (self.app / "context.shipped").write_text(SHIPPED + "\n")
        self.docker("#5 [1/2] FROM base\n")
        self.steps: list[str] = []
        self.log: list[str] = []
        self.notes: list[str] = []

    def docker(self, output: str, status: int = 0, image: str = "sha256:built") -> None:
        (self.directory / "output").write_text(output)
        (self.directory / "status").write_text(str(status))
        (self.directory / "image").write_text(image)

    async def build(self, **changes: Any) -> str:
        self.steps, self.log = [], []
        parts: dict[str, Any] = {
            "app": APP,
            "context": CONTEXT,
            "fingerprint": SHIPPED,
            "args": {},
            "serving": "release 1",
            "say": self.steps.append,
            "log": self.log.append,
            "note": self.notes.append,
            "by": "it's ada",
        }
        return await build(self.machine, **{**parts, **changes})


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with machine(tmp_path, {**systemd_fake.PROGRAMS, "docker": DOCKER}) as (opened, _):
        yield Site(opened, tmp_path)


@asynced
async def test_a_build(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.docker("#1 [internal] load build definition\n#5 [1/2] FROM base\n#5 CACHED\n#6 [2/2] RUN make\n")
        assert await here.build(args={"B": "it's $HOME, 2", "A": ""}) == "sha256:built"
        assert here.steps == ["[internal] load build definition", "[1/2] FROM base", "[2/2] RUN make"]
        assert here.log[-1] == "#6 [2/2] RUN make"
        argv = (tmp_path / "argv").read_text().splitlines()
        assert argv == [
            "1",  # BuildKit
            "build",
            "--progress=plain",
            f"--label=rehost.app={APP}",
            f"--label=rehost.context={CONTEXT}",
            f"--tag=rehost/{APP}:cccccccccccc",
            f"--iidfile={here.app}/build/image",
            "--build-arg=A=",
            "--build-arg=B=it's $HOME, 2",
            f"--file={here.app}/context/Dockerfile",
            f"{here.app}/context/tree",
        ]


@asynced
async def test_a_build_that_fails_names_the_step(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        lines = [f"#6 0.{n} line {n}" for n in range(40)]
        here.docker(
            "\n".join(["#6 [2/2] RUN pip install", *lines, "#6 ERROR: process did not complete", ""]), 1, ""
        )
        with pytest.raises(BuildFailed) as failed:
            await here.build()
        assert (
            failed.value.what
            == f"the image of {APP} could not be built; the failing step is [2/2] RUN pip install"
        )
        assert failed.value.detail.splitlines() == [*lines[-24:], "#6 ERROR: process did not complete"]
        assert failed.value.serving == "release 1"
        here.docker("no such host", 1, "")  # before any step, and without a line end
        with pytest.raises(BuildFailed) as failed:
            await here.build()
        assert failed.value.what == f"the image of {APP} could not be built."
        assert failed.value.detail == "no such host"


@asynced
async def test_other_files_are_not_built_under_our_name(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for shipped in ("another", None):
            file = here.app / "context.shipped"
            file.unlink() if shipped is None else file.write_text(shipped)
            with pytest.raises(BuildFailed) as failed:
                await here.build()
            assert "somebody else has sent other files" in failed.value.what
            assert not (tmp_path / "argv").exists()


@asynced
async def test_docker_that_names_no_image(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.docker("", image="")
        with pytest.raises(BuildFailed) as failed:
            await here.build()
        assert "named no image" in failed.value.what


@pytest.mark.parametrize("same", [True, False])
@asynced
async def test_a_build_that_runs_already(tmp_path: Path, same: bool) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with site(tmp_path) as here:
        began, attached = asyncio.Event(), asyncio.Event()
        other = here.build(context=CONTEXT if same else "sha256:other", log=lambda _text: began.set())
        first = asyncio.create_task(other)
        await began.wait()
        notes: list[str] = []
        second = asyncio.create_task(here.build(log=lambda _text: attached.set(), note=notes.append))
        await attached.wait()
        gate.write_text("through the gate\n")
        gate.unlink()
        assert await first == "sha256:built"
        assert await second == "sha256:built"
        assert notes.pop(1).startswith("the build is it's ada's, since ")
        ours = f"--label=rehost.context={CONTEXT}" in (tmp_path / "argv").read_text().splitlines()
        if same:
            assert notes == ["this build runs on the machine already; following it"]
            assert (tmp_path / "units/calls").read_text() == "systemd-run\n"
        else:
            assert notes == [
                "another build runs on the machine already; following it",
                "the other build has ended; now this one",
            ]
            assert (tmp_path / "units/calls").read_text() == "systemd-run\n" * 2
        assert ours


# -- as data -----------------------------------------------------------------------------------------------

LOG = [
    "#1 [internal] load build definition from Dockerfile",
    "#1 DONE 0.0s",
    "#7 [build 3/5] RUN pip install",
    "#8 [run 2/3] COPY . .",
    "#7 0.512 ERROR: no matching distribution",
    "#7 ERROR: executor failed running [/bin/sh -c pip install]: exit code: 1",
    "------",
    " > [build 3/5] RUN pip install:",
]


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        (LOG, "[build 3/5] RUN pip install"),
        ([], ""),
        (["error: no builder"], ""),
        (["#9 ERROR: it failed before it had a name"], ""),
        (["#7 [a] RUN x", "#17 [b] RUN y", "#17 ERROR: no"], "[b] RUN y"),
        (
            ["#2 [internal] load metadata for none", "#2 ERROR: not found"],
            "[internal] load metadata for none",
        ),
    ],
)
def test_the_failing_step(lines: list[str], step: str) -> None:
    assert failing_step(lines) == step


@given(st.lists(st.text(max_size=30), max_size=20))
def test_any_log_is_read(lines: list[str]) -> None:
    failing_step(lines)


def test_names() -> None:
    assert tag("shop", "sha256:0123456789abcdef") == "rehost/shop:0123456789ab"


ARGS = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
    max_size=3,
)


@given(ARGS)
def test_build_arguments_stay_words(args: dict[str, str]) -> None:
    script = build_script(APP, CONTEXT, args, SHIPPED)
    command = script[script.index("docker build") :].rpartition(" || exit")[0]
    words = [word for word in shlex.split(command) if word.startswith("--build-arg=")]
    assert words == [f"--build-arg={name}={value}" for name, value in sorted(args.items())]
