"""What a release's or a move's unit says on the machine, line by line: release.sh and move.sh write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 50  # lines of the app's log


@dataclass(slots=True)
class Told:
    """reason: why it failed. log: the app's own last lines. by: who made it.

    live: the release that serves by what was done, 0 for none; answer: its health check's. back: the release that
    serves again on what a move had put aside. drain: what the machine still has to do. left: what could not be put
    right. down: seconds in which nothing served.
    """

    live: int = 0
    back: int = 0
    answer: str = ""
    reason: str = ""
    drain: str = ""
    left: str = ""
    down: float = 0.0
    by: str = ""
    log: tuple[str, ...] = ()

    def reader(
        self,
        say: Callable[[str], None],
        log: Callable[[str], None],
        served: Callable[[], None] = lambda: None,
    ) -> Callable[[str], None]:
        """Takes the unit's lines. say: gets its steps; log: the app's lines, and what no script of ours says.

        served: called when `live` is known; the unit has some tidying left to do then.
        """

        def line(text: str) -> None:
            word, _, rest = text.partition(" ")
            if word in ("@step", "@try"):
                say(rest)
            elif word == "@log":
                self.log = (*self.log[1 - _KEPT :], rest)
                log(rest)
            elif word == "@fail":
                self.reason = rest
            elif word == "@left":
                self.left = rest
                say(rest)
            elif word == "@drain":
                self.drain = rest
            elif word == "@down":
                self.down += int(rest) / 1000
            elif word == "@by":
                self.by = rest.partition(" ")[0]
            elif word == "@live":
                number, _, self.answer = rest.partition(" ")
                self.live = int(number)
                served()
            elif word == "@back":
                self.back = int(rest)
            elif text:
                log(text)

        return line
