"""A full disk is called by its name, whatever was being done. What the machine says of it: test_machine_units."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from machine_state import APP, fresh, serving
from rehost.machine import bootstrap, units
from rehost.machine.units import Ended
from rehost.release import build, switch
from rehost.run.errors import RehostError
from test_release_switch import desired


async def building(machine: Any) -> None:
    await build.build(
        machine, app=APP, context="sha256:c", fingerprint="f", args={}, serving="release 1",
        say=print, log=print, note=print,
    )  # fmt: skip


async def releasing(machine: Any) -> None:
    order = switch.order_for(desired(), fresh(), 2, "sha256:2")
    await switch.switch(machine, order, serving="release 1", say=print, log=print)


async def preparing(machine: Any) -> None:
    await bootstrap.hold(machine, serving(), print)


@pytest.mark.parametrize("work", [building, releasing, preparing])
@pytest.mark.parametrize(
    "ended", [Ended(1, None, full=True), Ended(-1, None, 1, full=True), Ended(-1, None, full=True)]
)
def test_a_full_disk_is_named_with_its_cure(
    work: Callable[[Any], Awaitable[None]], ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_unit(*_: Any) -> Ended:
        return ended

    async def tried() -> None:
        await work(SimpleNamespace(label="vm"))

    monkeypatch.setattr(units, "run_unit", run_unit)
    with pytest.raises(RehostError, match="the machine's disk is full") as full:
        asyncio.run(tried())
    assert "`disk` under [machine]" in full.value.cure
    assert full.value.where == "vm"
