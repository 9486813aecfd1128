"""The lab in tests of your own: a lab for as long as a block lasts, and faults for as long as another does.

Needs what `rehost lab up` needs, root too. docs/lab.md shows it in a pytest fixture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rehost.lab import control, fault_kinds
from rehost.lab.control import LabInfo
from rehost.run.errors import UsageError


@dataclass(frozen=True)
class RunningLab:
    """environ: of this process, with the variables under which rehost, gcloud and Google's libraries meet the lab."""

    name: str
    info: LabInfo
    environ: Mapping[str, str]

    @contextmanager
    def fault(
        self, *what: str, times: int = 1, seconds: float | None = None, other: str | None = None
    ) -> Iterator[None]:
        """A fault while the block lasts: what `rehost lab fault` takes, `fault("instances.insert", "stockout")` or
        `fault("machine", "app", "disk-full")`. At the end all orders of that method or machine are taken back.

        times: for how many calls or boots. seconds: a length, for kinds that have one. other: the other machine, for
        a fault between two. Raises UsageError for what cannot be ordered, RehostError when a machine does not take it.
        """
        order = order_of(what)
        extent: dict[str, Any] = {"times": times, "seconds": seconds, "with": other}
        control.order_fault(
            self.name, **order, **{key: value for key, value in extent.items() if value is not None}
        )
        try:
            yield
        finally:
            del order["fault"]
            control.clear_faults(self.name, **order)

    def faults(self) -> Sequence[Mapping[str, Any]]:
        """What is in force, each with a line for people under "text"."""
        return control.status(self.name).faults


@contextmanager
def running_lab(name: str) -> Iterator[RunningLab]:
    """A lab of that name, brought up, and taken down at the end with all that is in it.

    Raises RehostError: what is missing on this computer, and how to get it.
    """
    info = control.up(name)
    try:
        yield RunningLab(name, info, {**os.environ, **control.environment(name)})
    finally:
        control.down(name)


def order_of(what: Sequence[str]) -> dict[str, str]:
    """The order that the words METHOD KIND or machine NAME KIND stand for. Raises UsageError for others."""
    if len(what) == 3 and what[0] == fault_kinds.MACHINE:
        return {"machine": what[1], "fault": what[2]}
    if len(what) == 2 and what[0] != fault_kinds.MACHINE:
        return {"method": what[0], "fault": what[1]}
    raise UsageError(
        "what is to go wrong is said by METHOD KIND or by machine NAME KIND",
        cure="For example `rehost lab fault instances.insert stockout` or "
        "`rehost lab fault machine content-api disk-full`; `rehost lab fault --list` explains every kind.",
    )
