"""Work in units: the generated script, run over a real connection, with stand-ins for systemd alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import systemd_fake
from rehost.machine import units
from rehost.machine.ssh import Machine, MachineError, Output, ScriptFailed
from rehost.machine.units import ATTACHED, FULL, PREPARED, RESULT, Ended, Work, run_unit
from ssh_here import Moved, asynced, machine


def work(script: str = "echo working", **more: str) -> Work:
    parts = {
        "unit": "rehost-app-build.service",
        "directory": "/var/lib/rehost/app/build",
        "about": "it",
        "tag": "one",
    }
    return Work(**{**parts, **more}, script=script)  # type: ignore[arg-type]


async def ended(opened: Moved, order: Work) -> tuple[Ended, list[str]]:
    lines: list[str] = []
    return await run_unit(opened, order, lines.append), lines


@asynced
async def test_it_runs_and_says_how_it_ended(tmp_path: Path) -> None:
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        assert await ended(opened, work("echo a; echo b >&2; exit 7")) == (Ended(7, None), ["a", "b"])
        # Once more: nothing of the run before is left in the log.
        assert await ended(opened, work("echo c")) == (Ended(0, None), ["c"])
        log = opened.home / "app/build/log"
        assert log.stat().st_mode & 0o777 == 0o600
        assert opened.execs == 2


@asynced
async def test_what_is_above_lets_others_pass(tmp_path: Path) -> None:
    """The proxy, a user without rights, finds its files beside the work's directory."""
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        await ended(opened, work())
        assert (opened.home / "app").stat().st_mode & 0o777 == 0o755
        assert (opened.home / "app/build").stat().st_mode & 0o777 == 0o700


@asynced
async def test_on_a_full_disk_no_half_script_is_run(tmp_path: Path) -> None:
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        for file in ("script", "tag"):
            directory = opened.home / file / "build"
            directory.mkdir(parents=True)
            (directory / file).symlink_to("/dev/full")
            with pytest.raises(MachineError, match="the machine's disk is full") as full:
                await ended(opened, work("touch ran", directory=f"/var/lib/rehost/{file}/build"))
            assert "disk" in full.value.cure
            assert not list(opened.home.rglob("ran"))


@asynced
async def test_the_log_may_end_anywhere(tmp_path: Path) -> None:
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        for script in ("printf a", "printf 'a\\n\\n'", "true", "printf '\\n'", "printf 'a\\0'"):
            result, lines = await ended(opened, work(script))
            assert (script, result) == (script, Ended(0, None))
            assert not any(RESULT in line for line in lines)


@asynced
async def test_a_script_is_taken_as_it_stands(tmp_path: Path) -> None:
    script = "cat <<'X'\n$HOME `id` \\n it's \"so\" %s {braces}\nX\necho \"$0\" | sed 's/.*script/script/'"
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        _, lines = await ended(opened, work(script))
        assert lines == ['$HOME `id` \\n it\'s "so" %s {braces}', "script"]


@asynced
async def test_preparation_runs_first_and_is_not_kept(tmp_path: Path) -> None:
    prepare = f"echo hunter2hunter2 >{tmp_path}/prepared; cd /; umask >{tmp_path}/umask"
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        order = work(f"cat {tmp_path}/prepared | wc -c; pwd -P >{tmp_path}/where", prepare=prepare)
        assert await ended(opened, order) == (Ended(0, None), ["15"])
        assert (tmp_path / "umask").read_text() == "0077\n"
        kept = [p for p in opened.home.rglob("*") if p.is_file()]
        assert {p.name for p in kept} >= {"script", "log", "tag", "result"}
        assert not any("hunter2" in p.read_text() for p in kept)


@asynced
async def test_a_preparation_that_fails_starts_nothing(tmp_path: Path) -> None:
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        assert await ended(opened, work(prepare="echo words; exit 71")) == (Ended(-1, None, 71), ["words"])
        assert not (tmp_path / "units/calls").exists()
        # The lock is free again.
        assert await ended(opened, work(prepare="true")) == (Ended(0, None), ["working"])


@asynced
async def test_a_second_one_attaches_and_prepares_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        began = asyncio.Event()
        first_lines: list[str] = []

        def line(text: str) -> None:
            first_lines.append(text)
            began.set()

        first = asyncio.create_task(
            run_unit(opened, work(f"echo begun; cat {gate}; exit 3", tag="first"), line)
        )
        await began.wait()
        second_began = asyncio.Event()
        second_lines: list[str] = []

        def second_line(text: str) -> None:
            second_lines.append(text)
            second_began.set()

        order = work("echo never", tag="second", prepare=f"touch {tmp_path}/prepared")
        second = asyncio.create_task(run_unit(opened, order, second_line))
        await second_began.wait()
        following: list[str] = []
        third = asyncio.create_task(units.follow(opened, order.unit, order.directory, following.append))
        gate.write_text("through the gate\n")
        assert await first == Ended(3, None)
        assert await second == Ended(3, "first")
        await third
        assert first_lines == second_lines == following == ["begun", "through the gate"]
        assert not (tmp_path / "prepared").exists()
        assert (tmp_path / "units/calls").read_text() == "systemd-run\n"


@asynced
async def test_work_that_is_over_is_not_attached_to(tmp_path: Path) -> None:
    """systemd may take its time to see that a unit's last process is gone."""
    late = tmp_path / "units/late"
    said = (
        'late=${0%/*}/../units/late\nif [ -s "$late" ]; then head -n 1 "$late"; sed -i 1d "$late"; exit; fi\n'
    )
    programs = {**systemd_fake.PROGRAMS, "systemctl": said + systemd_fake.PROGRAMS["systemctl"]}
    async with machine(tmp_path, programs) as (opened, _):
        assert await ended(opened, work("echo a")) == (Ended(0, None), ["a"])
        late.write_text("active\ndeactivating\ndeactivating\n")
        assert await ended(opened, work("echo b")) == (Ended(0, None), ["b"])
        assert late.read_text() == ""


@asynced
async def test_a_unit_that_is_killed_has_no_result(tmp_path: Path) -> None:
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        began = asyncio.Event()
        running = asyncio.create_task(
            run_unit(opened, work("echo begun; sleep 60"), lambda _text: began.set())
        )
        await began.wait()
        pid = int((tmp_path / "units/rehost-app-build.service").read_text())
        group = os.getpgid(pid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(MachineError) as lost:
            await running
        os.killpg(group, signal.SIGKILL)
        assert lost.value.retryable
        assert "was cut off on the machine" in lost.value.what
        assert "journalctl -u rehost-app-build.service" in lost.value.cure


@asynced
async def test_a_lost_connection_does_not_stop_the_work(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, server):
        began = asyncio.Event()
        order = work(f"echo begun; cat {gate}")
        running = asyncio.create_task(run_unit(opened, order, lambda _text: began.set()))
        await began.wait()
        server.cut()
        with pytest.raises(MachineError) as broken:
            await running
        assert broken.value.retryable
    shutil.rmtree(tmp_path / "bin")
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        attached = asyncio.Event()
        lines: list[str] = []

        def line(text: str) -> None:
            lines.append(text)
            attached.set()

        again = asyncio.create_task(run_unit(opened, order, line))
        await attached.wait()
        gate.write_text("on it went\n")
        assert (await again, lines) == (Ended(0, "one"), ["begun", "on it went"])


@asynced
async def test_systemd_that_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    (tmp_path / "units/broken").touch()
    async with machine(tmp_path, systemd_fake.PROGRAMS) as (opened, _):
        with pytest.raises(ScriptFailed) as failed:
            await ended(opened, work())
        assert (failed.value.status, failed.value.what) == (
            70,
            "starting rehost-app-build.service failed on the machine (status 70)",
        )
        assert "Access denied" in failed.value.detail


class Told(Machine):
    """A machine that only says these lines."""

    def __init__(self, *lines: str) -> None:
        self.label, self._lines = "vm", lines

    async def stream(  # what a Machine offers
        self,
        script: str,  # noqa: ARG002
        on_line: Callable[[str], None],
        *,
        what: str,  # noqa: ARG002
        check: bool = True,  # noqa: ARG002
        public: bool = False,  # noqa: ARG002
    ) -> Output:
        for line in self._lines:
            on_line(line)
        return Output("", "", 0)


@pytest.mark.parametrize(
    ("lines", "result", "log"),
    [
        ([f"{RESULT}0"], Ended(0, None), []),
        (["a", "", f"{RESULT}137"], Ended(137, None), ["a", ""]),
        ([f"{ATTACHED}sha256:1", "a", f"{RESULT}1"], Ended(1, "sha256:1"), ["a"]),
        ([f"{ATTACHED}", f"{RESULT}0"], Ended(0, ""), []),
        ([f"{PREPARED}71"], Ended(-1, None, 71), []),
        ([FULL, f"{PREPARED}1"], Ended(-1, None, 1, full=True), []),
        (["a", FULL, f"{RESULT}2"], Ended(2, None, full=True), ["a"]),
        ([FULL, f"{RESULT}lost"], Ended(-1, None, full=True), []),
        ([f"words {RESULT}9", f"{RESULT}0"], Ended(0, None), [f"words {RESULT}9"]),
    ],
)
def test_marks(lines: list[str], result: Ended, log: list[str]) -> None:
    seen: list[str] = []
    assert asyncio.run(run_unit(Told(*lines), work(), seen.append)) == result
    assert seen == log


@pytest.mark.parametrize("lines", [[], ["a"], [f"{RESULT}lost"], [RESULT], [f"{ATTACHED}x"]])
def test_no_result_is_an_error(lines: list[str]) -> None:
    with pytest.raises(MachineError) as lost:
        asyncio.run(run_unit(Told(*lines), work(), print))
    assert lost.value.retryable
