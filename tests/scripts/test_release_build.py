"""The build: its script, run by a real sh where Docker is a stand-in, and what is told of its log."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Callable
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


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, f"not within 30 s: {what}"
        time.sleep(0.01)


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


@asynced
async def test_memory_that_ran_out_is_said_to_have(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.docker("#6 [2/2] RUN make\n#6 ERROR: executor failed running [make]: exit code: 137\n", 1, "")
        with pytest.raises(BuildFailed) as failed:
            await here.build()
        assert "the failing step is [2/2] RUN make" in failed.value.what
        assert "most likely memory ran out" in failed.value.cure and 'on = "here"' in failed.value.cure
        # As the guard of build.sh says it.
        here.docker("#6 [2/2] RUN make\n@memory 300\n#6 CANCELED\n", 73, "")
        with pytest.raises(BuildFailed) as failed:
            await here.build()
        assert "was stopped: it left the machine 300 MB of memory and swap" in failed.value.what
        assert failed.value.detail.splitlines() == ["#6 [2/2] RUN make", "#6 CANCELED"]
        assert failed.value.serving == "release 1" and 'on = "here"' in failed.value.cure
        assert "@memory 300" not in here.log


MIB = 1024  # kB


def meminfo(available: int, swap_total: int, swap_free: int) -> str:
    """As proc(5) has it; the sizes in MiB, of a machine with 1 GiB of memory."""
    sizes = {
        "MemTotal": 1024,
        "MemFree": 1,
        "MemAvailable": available,
        "SwapCached": 7,
        "SwapTotal": swap_total,
        "SwapFree": swap_free,
    }
    return "".join(f"{name + ':':16}{size * MIB:8} kB\n" for name, size in sizes.items())


@pytest.mark.parametrize(
    ("swap", "calm", "short", "left"),
    [
        # An eighth of 3 GiB is 384 MiB.
        (2048, [meminfo(800, 2048, 2048), meminfo(20, 2048, 365)], meminfo(20, 2048, 363), 383),
        (0, [meminfo(800, 0, 0), meminfo(129, 0, 0)], meminfo(127, 0, 0), 127),
        # At most 512 MiB are kept.
        (65536, [meminfo(800, 65536, 65536), meminfo(100, 65536, 413)], meminfo(100, 65536, 411), 511),
        # Of what is there at first, a build may have half: others hold the rest.
        (2048, [meminfo(20, 2048, 280), meminfo(20, 2048, 131)], meminfo(20, 2048, 129), 149),
        # A container, where lxcfs counts the memory into SwapTotal.
        (2048, [meminfo(800, 3072, 3072), meminfo(20, 3072, 1389)], meminfo(20, 3072, 1387), 383),
    ],
)
def test_a_build_that_takes_the_last_memory_is_stopped(
    tmp_path: Path, swap: int, calm: list[str], short: str, left: int
) -> None:
    info, swaps, naps = (tmp_path / name for name in ("meminfo", "swaps", "naps"))
    info.write_text(calm[0])
    swaps.write_text(
        "Filename Type Size Used Priority\n" + (f"/swap file {swap * MIB} 5 -2\n" if swap else "")
    )
    home, programs = tmp_path / "home", tmp_path / "bin"
    (home / APP).mkdir(parents=True)
    (home / APP / "context.shipped").write_text(SHIPPED)
    programs.mkdir()
    stands_in = {
        "docker": "trap 'exit 1' TERM; echo '#1 working'; while :; do /bin/sleep 0.01; done",
        "sleep": f'echo >>{naps}; exec /bin/sleep "$@"',
    }
    for name, body in stands_in.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    script = build_script(APP, CONTEXT, {}, SHIPPED).replace("/var/lib/rehost", str(home))
    script = script.replace("/proc/meminfo", str(info)).replace("/proc/swaps", str(swaps))
    path = f"{programs}:{os.environ['PATH']}"

    def napped() -> int:
        return len(naps.read_text()) if naps.exists() else 0

    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, env={"PATH": path}) as run:
        try:
            draft = tmp_path / "draft"
            for text in (*calm[1:], short):
                before = napped()
                until(lambda: napped() > before + 1, "it has looked, and goes on")  # noqa: B023
                draft.write_text(text)
                draft.replace(info)
            said, _ = run.communicate(timeout=30)
        finally:
            run.kill()
    assert said.splitlines()[1:] == ["#1 working", f"@memory {left}"]
    assert run.returncode == 73


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
    command = script[script.index("docker build") :].partition("\n# Builds an image")[0]
    words = [word for word in shlex.split(command) if word.startswith("--build-arg=")]
    assert words == [f"--build-arg={name}={value}" for name, value in sorted(args.items())]
