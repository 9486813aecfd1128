"""The app's log: what Docker is asked for, by a real sh where Docker is a stand-in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from machine_state import APP
from rehost.machine.ssh import MachineError
from rehost.release.logs import Order, show
from rehost.run.errors import RehostError, UsageError
from ssh_here import Moved, asynced, machine

DOCKER = """echo "$*" >>"${0%/*}/../calls"
[ ! -f "${0%/*}/../error" ] || { cat "${0%/*}/../error" >&2; exit 1; }
echo out; echo err >&2; printf 'no line end'
case "$*" in *--follow*) sleep 60 ;; esac"""


def order(**changes: object) -> Order:
    parts: dict[str, object] = {"app": APP, "follow": False, "since": "", "lines": 200, "number": None}
    return Order(**{**parts, **changes})  # type: ignore[arg-type]


def live(opened: Moved, **slots: int) -> None:
    folder = opened.home / APP / "live"
    folder.mkdir(parents=True, exist_ok=True)
    for slot, number in slots.items():
        (folder / slot).write_text(f"{number}\n")


@asynced
async def test_which_release_serves_is_for_the_machine_to_say(tmp_path: Path) -> None:
    async with machine(tmp_path, {"docker": DOCKER}) as (opened, _):
        with pytest.raises(RehostError) as none:
            await show(opened, order(), print)
        assert none.value.what == "no release serves yet"
        assert not (tmp_path / "calls").exists()
        lines: list[str] = []
        live(opened, a=3)
        await show(opened, order(), lines.append)
        assert lines == ["out", "err", "no line end"]
        live(opened, b=4)
        await show(opened, order(lines=5, since="2h"), lines.append)
        await show(opened, order(number=2), lines.append)
        await show(opened, order(process="worker"), lines.append)
        await show(opened, order(process="$(id)", number=2), lines.append)
        await show(opened, order(service="redis"), lines.append)
        assert (tmp_path / "calls").read_text().splitlines() == [
            f"logs --tail=200 {APP}-3",
            f"logs --tail=5 --since=2h {APP}-4",
            f"logs --tail=200 {APP}-2",
            f"logs --tail=200 {APP}-4.worker",
            f"logs --tail=200 {APP}-2.$(id)",
            f"logs --tail=200 {APP}.redis",
        ]
        assert opened.execs == 7


@asynced
async def test_a_release_that_is_not_kept(tmp_path: Path) -> None:
    async with machine(tmp_path, {"docker": DOCKER}) as (opened, _):
        (tmp_path / "error").write_text(f"Error: No such container: {APP}-9\n")
        with pytest.raises(RehostError) as wrong:
            await show(opened, order(number=9), lambda _line: None)
        assert wrong.value.what == f"Docker shows no log: Error: No such container: {APP}-9"
        assert "`rehost history`" in wrong.value.cure


@asynced
async def test_following_ends_when_the_line_breaks(tmp_path: Path) -> None:
    async with machine(tmp_path, {"docker": DOCKER}) as (opened, server):
        live(opened, a=1)
        began = asyncio.Event()
        running = asyncio.create_task(show(opened, order(follow=True), lambda _line: began.set()))
        await began.wait()
        server.cut()
        with pytest.raises(MachineError) as broken:
            await running
        assert broken.value.retryable


@pytest.mark.parametrize(
    "since",
    [
        "10m",
        "2h",
        "30s",
        "2026-11-22",
        "2026-11-22T10:00",
        "2026-11-22T10:00:00.5Z",
        "2026-11-22T10:00:00+09:00",
    ],
)
def test_times(since: str) -> None:
    assert f"--since={since}" in order(since=since).script.replace("'", "")


@pytest.mark.parametrize("since", ["yesterday", "10", "1d", "10m; id", "-5m", "2026-11-22 10:00", "10m\n"])
def test_what_is_no_time(since: str) -> None:
    with pytest.raises(UsageError) as wrong:
        order(since=since)
    assert repr(since) in wrong.value.what
    assert '"10m"' in wrong.value.cure
