"""What became of each release: the lines that keep.sh writes on the machine, read back.

A line is TIME, a word, the release's number, who made it, and a text, with tabs between them. Words: began (text: the
release that served), live, returned (text: to which release, and why), failed (text: why), ended. A release that is
returned to begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from rehost.machine.ssh import Machine


class Run(NamedTuple):
    """One run of the release's unit, a new release or a return to one. Times are Unix time in seconds, UTC.

    came_from: the release that served before, 0 for none. live: when the traffic moved. ended: when nothing was left
    to do. outcome: "live", "failed", "returned" (live, and then back to the one before), or "cut off". why: in words.
    again: it had been live before, so this is a rollback, or a way forward again.
    """

    number: int
    by: str
    came_from: int
    began: float
    live: float | None = None
    ended: float | None = None
    outcome: str = "cut off"
    why: str = ""
    again: bool = False

    @property
    def seconds(self) -> float | None:
        """How long it took until it served, or was known not to."""
        until = self.live if self.outcome == "live" else self.ended
        return None if until is None else max(until - self.began, 0.0)


def holder(line: str) -> str:
    """Who makes a release or builds, and since when, of the line "@by WHO TIME" that the unit begins with; else ""."""
    word, _, rest = line.partition(" ")
    who, _, since = rest.rpartition(" ")
    if word != "@by" or not who.strip() or not since.isdigit():
        return ""
    return f"{who}'s, since {datetime.fromtimestamp(int(since), UTC):%H:%M:%S} UTC"


async def read(machine: Machine, app: str) -> list[Run]:
    """The app's history on the machine, the oldest first."""
    # A machine that rehost of long ago released on has none.
    output = await machine.run(
        f"cat /var/lib/rehost/{app}/history 2>/dev/null || :", what="reading the history"
    )
    return runs(output.stdout)


def runs(text: str) -> list[Run]:
    """The runs that the lines tell of. Lines that a full disk tore are passed over, and so is a run without a start."""
    found: list[Run] = []
    open_ones: dict[int, int] = {}  # by number, where in `found`
    served: set[int] = set()
    for time, word, number, by, why in _lines(text.splitlines()):
        if word == "began":
            came_from = int(why) if why.isdigit() else 0
            served.add(came_from)
            open_ones[number] = len(found)
            found.append(Run(number, by, came_from, time, again=number in served))
            continue
        if number not in open_ones:
            continue
        at = open_ones[number]
        run = found[at]
        if word == "live":
            served.add(number)
            found[at] = run._replace(live=time, outcome="live")
        elif word == "returned":
            found[at] = run._replace(outcome="returned", ended=time, why=why.partition(" ")[2])
        elif word == "failed":
            outcome = "failed" if run.outcome == "cut off" else run.outcome
            found[at] = run._replace(outcome=outcome, ended=time, why=run.why or why)
        elif word == "ended":
            found[at] = run._replace(ended=time)
    return found


def _lines(lines: Iterable[str]) -> Iterable[tuple[float, str, int, str, str]]:
    for line in lines:
        fields = line.split("\t")
        if len(fields) == 5 and fields[2].isdigit():
            try:
                yield float(fields[0]), fields[1], int(fields[2]), fields[3], fields[4]
            except ValueError:
                continue
