"""What every mover of content shares: a mover takes what one disk or database held to where rehost.toml puts it.

It copies beside the target, as often as wanted, while everything serves. The swap is shell that runs on the machine,
between the stop of the app's containers and their start (see move.sh).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Content(NamedTuple):
    """What one side holds. words: for a person, "14 tables, 20,113 rows". empty: nothing in it would be missed."""

    words: str
    empty: bool


class Copied(NamedTuple):
    """A copy that was verified. counted: what it holds, in a person's words. sent: what this run had to send."""

    counted: str
    sent: str


class Mover(Protocol):
    """One move. Every method may be called again after any cut; nothing that serves changes before the swap.

    In the shell of swap and undo stand $app, $moving (the move's own directory on the machine, mode 0700) and
    $secret (a file, mode 0600, with the text of `secret`; empty when that is "").
    """

    @property
    def name(self) -> str:
        """The key in [moves]."""

    @property
    def notes(self) -> list[str]:
        """What look and copy found that the person should know: a sentence each, with what to do about it."""

    async def look(self) -> tuple[Content, Content]:
        """Origin and target as they are now. Changes nothing."""

    async def copy(self, say: Callable[[str], None]) -> Copied:
        """Brings the copy beside the target up to date, and verifies it. say: a line of progress.

        Raises RehostError when the two differ in the end.
        """

    def swap(self) -> str:
        """POSIX sh: the body of a function that puts the copy in the target's place, and keeps what was there.

        It runs as root while the app's containers stand still; it may be killed anywhere and run again, and then looks
        at what is there. A status other than 0 says that it did not work, and standard error why.
        """

    def undo(self) -> str:
        """The same, back to what was there before. It may run after any part of a swap, or after none."""

    def before(self) -> str:
        """After a swap: where what was there before is kept, and how it is removed. "" when nothing is kept."""

    def secret(self) -> str:
        """What swap and undo need that neither argv nor the unit's script may show. "" when there is nothing."""

    async def close(self) -> None:
        """Hangs up what the mover opened itself."""
