"""`rehost lab fault` and `rehost lab storm`, typed at a lab's own server that has no machines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab_fake import Lab, asynced
from lab_serving import serving
from rehost.cli.lab import command
from rehost.lab import fault_kinds
from rehost.lab.places import Places
from test_lab_api_control import server_lives


@asynccontextmanager
async def up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """The lab "mine"."""
    monkeypatch.setenv("XDG_STATE_HOME", str(directory / "state"))
    lab = Lab(directory)
    async with serving(lab, directory) as url:
        with server_lives(Places.claim("mine"), int(url.rsplit(":", 1)[1])):
            yield lab


async def typed(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, [words[0], "--name", "mine", *words[1:]])


@asynced
async def test_ordering_and_taking_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with up(tmp_path, monkeypatch) as lab:
        ran = await typed("fault", "instances.insert", "stockout", "--times", "2")
        assert ran.stdout == "the next 2 calls of instances.insert: stockout\n"
        ran = await typed("fault", "zones.get", "500", "--json")
        told = json.loads(ran.stdout.splitlines()[-1])
        assert [one["fault"] for one in told["faults"]] == ["stockout", "500"]
        assert (await typed("fault", "--clear", "zones.get")).stdout == "1 taken back.\n"
        assert [order.fault for order in lab.api.faults.orders] == ["stockout"]
        assert (await typed("fault", "--clear")).stdout == "1 taken back.\n"
        assert (await typed("fault", "--clear")).stdout == "Nothing was ordered.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--list"),
        (("instances.insert",), "METHOD KIND"),
        (("machine", "app"), "machine NAME KIND"),
        (("instances.insert", "stockot"), "Did you mean stockout?"),
        (("instances.insert", "stockout", "--for", "soon"), "30s, 2m or 1h"),
        (("instances.insert", "stockout", "--times", "0"), "Give 1 or more"),
        (("--clear", "a", "b"), "--clear machine content-api"),
    ],
)
@asynced
async def test_wrong_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    async with up(tmp_path, monkeypatch) as lab:
        ran = await typed("fault", *words)
        assert ran.exit_code == 2
        assert said in " ".join(ran.stderr.split())
        assert lab.api.faults.orders == []


def test_every_kind_is_explained() -> None:
    ran = CliRunner().invoke(command, ["fault", "--list"])
    for kind in (*fault_kinds.OF_CALLS.values(), *fault_kinds.OF_MACHINES.values()):
        assert f"  {kind.name:<20} {kind.does}" in ran.stdout


@asynced
async def test_a_storm_blows_and_all_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with up(tmp_path, monkeypatch) as lab:
        ran = await typed("storm", "--seed", "7", "--for", "1s", "--gusts", "4", "--json")
        assert ran.exit_code == 0
        told = json.loads(ran.stdout.splitlines()[-1])
        assert (told["seed"], len(told["gusts"])) == (7, 4)
        assert lab.api.faults.orders == []


def test_a_storm_needs_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = CliRunner().invoke(command, ["storm", "--name", "mine", "--seed", "7"])
    assert ran.exit_code == 1
    assert "rehost lab up" in ran.stderr
