"""A storm: a series of faults that a seed tells, the same each time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rehost.lab import fault_kinds

# What a deployment meets. Not in a storm: faults after which a client can only wait for its longest deadline
# (endless, hang, boot-fails, host-keys-missing).
METHODS: Final = (
    "*",
    "instances.*",
    "instances.get",
    "instances.getGuestAttributes",
    "addresses.*",
    "firewalls.*",
    "disks.*",
    "zones.*",
    "zoneOperations.wait",
)
CHANGES: Final = (
    "instances.insert",
    "instances.start",
    "instances.set*",
    "addresses.insert",
    "firewalls.insert",
    "firewalls.patch",
)
ANSWERS: Final = (*fault_kinds.IN_ANSWER, "502", "reset", "lost", "truncated")
OPERATIONS: Final = ("stockout", "quota", "operation-409", "operation-412", "slow")
ON_MACHINES: Final = (
    *fault_kinds.ON_LINK,
    *fault_kinds.INSIDE,
    *fault_kinds.AT_ONCE,
)
ON_NEW_MACHINES: Final = (
    "boot-slow",
    "agent-late",
    "ssh-late",
    "startup-slow",
    "startup-fails",
    "archive-unreachable",
    "apt-locked",
    "internet-cut",
    "net-lossy",
)


@dataclass(frozen=True, slots=True)
class Gust:
    """One order of a storm. after: seconds from the storm's start. order: as `control.order_fault` takes it."""

    after: float
    order: Mapping[str, Any]

    @property
    def text(self) -> str:
        times = {} if "machine" in self.order else {"times": 1}
        return f"{self.after:5.1f} s  {fault_kinds.text({**times, **self.order, 'left': self.order.get('seconds')})}"


def storm(
    seed: int, machine: str = "", *, seconds: float = 60.0, gusts: int = 6, fresh: bool = False
) -> tuple[Gust, ...]:
    """The storm of that seed, in order of time; a pure function.

    machine: whose faults are among them, "" for faults of the API alone. seconds: how long it blows. fresh: the
    machine is yet to be made, so what goes wrong at its first boot comes at the start.
    """
    dice = random.Random(seed)  # noqa: S311 (to be repeated, keeps no secret)
    made = []
    for _ in range(gusts):
        after = round(dice.uniform(0, seconds), 1)
        where = dice.choice(
            ("answer", "operation", "machine", "machine") if machine else ("answer", "operation")
        )
        if where == "machine":
            order = _of_machine(dice, machine, seconds, fresh=fresh)
            if fresh:
                after = 0.0
        else:
            order = _of_call(dice, where)
        made.append(Gust(after, order))
    return tuple(sorted(made, key=lambda gust: gust.after))


def _of_call(dice: random.Random, where: str) -> dict[str, Any]:
    if where == "operation":
        order = {"method": dice.choice(CHANGES), "fault": dice.choice(OPERATIONS)}
    else:
        order = {"method": dice.choice(METHODS), "fault": dice.choice(ANSWERS)}
    if order["fault"] == "slow":
        return {**order, "seconds": round(dice.uniform(2, 10), 1)}
    return {**order, "times": dice.choice((1, 1, 1, 2, 3))}


def _of_machine(dice: random.Random, machine: str, seconds: float, *, fresh: bool) -> dict[str, Any]:
    fault = dice.choice(ON_NEW_MACHINES if fresh else ON_MACHINES)
    order: dict[str, Any] = {"machine": machine, "fault": fault}
    if fault_kinds.OF_MACHINES[fault].timed:
        order["seconds"] = round(dice.uniform(2, max(3.0, seconds)), 1)
    return order
