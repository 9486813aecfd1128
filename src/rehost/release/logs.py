"""The app's log on the machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rehost.machine.ssh import Machine
from rehost.run.errors import RehostError, UsageError

_SINCE: Final = re.compile(r"\d+[smh]|\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?")
_NO_RELEASE: Final = 73

# Which release serves is for the machine to say: it saves a round trip, and is right even while it changes.
# otherwise: what to do when none does.
CURRENT: Final = """live=/var/lib/rehost/{app}/live
if [ -f "$live/b" ]; then n=$(cat "$live/b"); elif [ -f "$live/a" ]; then n=$(cat "$live/a"); else {otherwise}; fi
"""


@dataclass(frozen=True, slots=True)
class Order:
    """since: "" for all, else a time as Docker takes it. number: of a release, None for the one that serves.

    process: "" for the web process. service: a service's log instead of the app's.
    """

    app: str
    follow: bool
    since: str
    lines: int
    number: int | None
    process: str = ""
    service: str = ""

    def __post_init__(self) -> None:
        """Raises UsageError for a time that Docker would not understand."""
        if self.since and not _SINCE.fullmatch(self.since):
            raise UsageError(
                f"--since {self.since!r} is not a time.", cure='Write "10m", "2h" or "2026-11-22T10:00:00".'
            )

    @property
    def script(self) -> str:
        options = [f"--tail={self.lines}"]
        if self.follow:
            options.append("--follow")
        if self.since:
            options.append(f"--since={self.since}")
        if self.service:
            return f"exec docker logs {shlex.join(options)} {shlex.quote(f'{self.app}.{self.service}')} 2>&1"
        which = (
            CURRENT.format(app=self.app, otherwise=f"exit {_NO_RELEASE}")
            if self.number is None
            else f"n={self.number}\n"
        )
        container = shlex.quote(f".{self.process}") if self.process else ""
        return f'{which}exec docker logs {shlex.join(options)} "{self.app}-$n"{container} 2>&1'


async def show(machine: Machine, order: Order, on_line: Callable[[str], None]) -> None:
    """Hands over the lines. Raises RehostError when there is no such release."""
    last = ""

    def line(text: str) -> None:
        nonlocal last
        last = text
        on_line(text)

    done = await machine.stream(order.script, line, what="reading the log", check=False, public=True)
    if done.status == _NO_RELEASE:
        raise RehostError("no release serves yet", where=machine.label, cure="`rehost up` makes one.")
    if done.status != 0:
        raise RehostError(
            f"Docker shows no log: {last}",
            where=machine.label,
            cure="`rehost history` lists the releases that the machine keeps, `rehost status` the processes.",
        )
