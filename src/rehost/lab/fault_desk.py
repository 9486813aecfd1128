"""Where faults are ordered: what `rehost lab fault` sends to the lab's server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rehost.lab.faults import Faults
from rehost.lab.machine_faults import MachineFaults
from rehost.run.errors import UsageError


@dataclass(frozen=True)
class Desk:
    """The faults of one lab, of its API and of its machines. machines: None in tests that have none."""

    calls: Faults
    machines: MachineFaults | None = None

    def listed(self) -> list[dict[str, object]]:
        """All that is in force, each with a line for people under "text"."""
        return [*self.calls.listed(), *(self.machines.listed() if self.machines else ())]

    async def order(self, wanted: Mapping[str, Any]) -> None:
        """wanted: "fault" and either "method" or "machine"; "times", "seconds", "with" where the kind has them.

        Raises UsageError for what cannot be ordered, RehostError when a machine does not take it.
        """
        fault, times, seconds = str(wanted["fault"]), int(wanted.get("times", 1)), wanted.get("seconds")
        if "machine" in wanted:
            other = str(wanted.get("with") or "")
            await self._machines().order(str(wanted["machine"]), fault, times, seconds, other)
        elif wanted.get("with"):
            raise UsageError("--with is for faults of machines", cure="Leave it out.")
        else:
            self.calls.order(str(wanted["method"]), fault, times, seconds)

    async def clear(self, wanted: Mapping[str, Any]) -> int:
        """Takes orders back: those of a "method", those of a "machine", or all. Returns how many."""
        gone = 0
        if "machine" not in wanted:
            gone += self.calls.clear(wanted.get("method"))
        if "method" not in wanted and self.machines is not None:
            gone += await self.machines.clear(wanted.get("machine"))
        return gone

    def _machines(self) -> MachineFaults:
        if self.machines is None:
            raise UsageError("this lab has no machines", cure="Order a fault of a method.")
        return self.machines
