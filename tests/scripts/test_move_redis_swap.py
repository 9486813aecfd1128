"""The swap of a moved Redis, under a real sh and on real servers: it is whole wherever it is cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_here import PASSWORD, Here, Server, server
from rehost.run.errors import Refused, RehostError
from rehost.source.redis_side import MARKER
from ssh_here import asynced

said: list[str] = []


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def servers(directory: Path) -> Iterator[tuple[Server, Server]]:
    with server(directory / "origin") as origin, server(directory / "target") as target:
        yield origin, target


@pytest.fixture
def pair(servers: tuple[Server, Server]) -> tuple[Server, Server]:
    for one in servers:
        one.fill(("FLUSHALL",))
    servers[0].fill(("SET", "a", "1"), ("SET", "b", "1"))
    servers[1].fill(("SET", "old", "1"))
    return servers


@pytest.fixture
def here(directory: Path) -> Here:
    return Here(directory)


def content(one: Server) -> tuple[set[str], set[str], str]:
    """The names in both databases, and the mark."""
    names = (set(one.say("KEYS", "*", database=number).split()) for number in (0, 15))
    return next(names), next(names) - {MARKER.decode()}, one.say("GET", MARKER, database=15)


COPIED = ({"old"}, {"a", "b"}, "copy")
SWAPPED = ({"a", "b"}, {"old"}, "before")
RETURNED = ({"old"}, {"a", "b"}, "copying")


@asynced
async def test_swap_and_undo_may_be_repeated_and_come_in_any_order(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    mover = here.mover(origin, target)
    with pytest.raises(RehostError, match="nothing was copied"):
        mover.swap()
    await mover.copy(said.append)
    swap, undo = mover.swap(), mover.undo()
    assert PASSWORD not in swap + undo and mover.secret() == PASSWORD
    for body, code, then in [
        (undo, 0, COPIED),
        (swap, 0, SWAPPED),
        (swap, 0, SWAPPED),
        (undo, 0, RETURNED),
        (undo, 0, RETURNED),
        (swap, 1, RETURNED),  # the app may have written into it
    ]:
        assert here.turn(body)[0] == code
        assert content(target) == then
    await mover.copy(said.append)
    here.turn(mover.swap())
    # What the service held before is lost by no rehearsal, and by no copy that did not say so.
    rehearsal = here.mover(origin, target, rehearse=True)
    for again in (rehearsal.look, lambda: here.mover(origin, target).copy(said.append)):
        with pytest.raises(Refused, match="keeps 1 keys of before the last move"):
            await again()
    assert content(target) == SWAPPED
    assert "-n 15 FLUSHDB" in mover.before()
    mover = here.mover(origin, target)
    _, there = await mover.look()
    assert there.words.endswith("and 1 of before the last move, which give way") and not there.empty
    assert content(target) == SWAPPED
    await mover.copy(said.append)
    assert content(target) == ({"a", "b"}, {"a", "b"}, "copy")


@asynced
async def test_a_swap_that_is_killed_anywhere_is_whole_or_not_there(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    mover = here.mover(origin, target)
    await mover.copy(said.append)
    seen = set()
    for step in range(8):
        unit = here.unit(mover.swap())
        end = time.monotonic() + step * 0.004
        while time.monotonic() < end and unit.poll() is None:
            pass
        os.killpg(unit.pid, signal.SIGKILL)
        unit.communicate()
        found = content(target)
        assert found in (COPIED, SWAPPED)
        seen.add(found[2])
        assert here.turn(mover.swap())[0] == 0
        assert content(target) == SWAPPED
        assert here.turn(mover.undo())[0] == 0
        target.fill(("SET", MARKER, "copy"), database=15)  # as a copy that found nothing to send leaves it
    assert "copy" in seen


@pytest.mark.parametrize("kept", [("--save", "3600 1"), ("--appendonly", "yes", "--appendfsync", "always")])
@asynced
async def test_what_was_swapped_survives_a_power_cut(
    directory: Path, pair: tuple[Server, Server], here: Here, kept: tuple[str, ...]
) -> None:
    origin, _ = pair
    with server(directory / f"kept{kept[0]}", *kept) as target:
        target.fill(("SET", "old", "1"))
        mover = here.mover(origin, target)
        await mover.look()
        assert any("no volume" in note for note in mover.notes)
        await mover.copy(said.append)
        assert here.turn(mover.swap())[0] == 0
        target.kill()
        target.start()
        assert content(target) == SWAPPED
        assert here.turn(mover.undo())[0] == 0
        target.kill()
        target.start()
        assert content(target) == RETURNED


def test_the_shell_of_a_swap_is_clean(pair: tuple[Server, Server], here: Here) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian: apt-get install shellcheck)")
    mover = here.mover(*pair)
    asyncio.run(mover.copy(said.append))
    for body in (mover.swap(), mover.undo()):
        script = f"#!/bin/sh\nsecret=$1\none() (\n{body}\n)\none\n"
        checked = subprocess.run(
            ["shellcheck", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout
