"""A script on the machine, and talking with it while it runs."""

from __future__ import annotations

from typing import Protocol

from rehost.machine.answers import Answers
from rehost.run.errors import RehostError


class Channel(Protocol):
    """One running script. Standard error is read in the background so that it never fills up."""

    async def read(self, most: int) -> bytes:
        """Up to `most` bytes of standard output, as soon as there are any; empty at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """To standard input; waits while nobody reads it. Raises ConnectionError once nobody will."""
        ...

    async def eof(self) -> None:
        """End standard input; output can still be read."""
        ...

    async def finish(self) -> tuple[int, bytes]:
        """Wait for the script's end: its exit status (negative: a signal or no status) and standard error."""
        ...

    async def close(self) -> None:
        """Hang up, whatever is under way. May be called twice."""
        ...


class Machine(Protocol):
    """Whoever can run a script of POSIX sh as root."""

    async def open(self, script: str) -> Channel:
        """Start it. The script holds no secret and may stand in argv."""
        ...


class Replies:
    """The script's output, by lines and by counted bytes."""

    def __init__(self, channel: Channel, what: str) -> None:
        """what: is being sent, for errors."""
        self._channel = channel
        self._what = what
        self._answers = Answers(channel.read, self.failure)
        self.exactly = self._answers.exactly

    async def line(self) -> tuple[str, str]:
        """The next line: its first word and the rest."""
        word, _, rest = (await self._answers.until(b"\n")).decode("utf-8", "replace").partition(" ")
        return word, rest

    async def failure(self) -> RehostError:
        """Why the script ended early, in its own last words."""
        status, errors = await self._channel.finish()
        said = errors.decode("utf-8", "replace").strip()
        if "No space left on device" in said:
            return RehostError(
                f"the machine's disk is full; {self._what} could not be written.",
                cure="Raise `disk` under [machine] in rehost.toml, or remove what is not needed there.",
                detail=said[-2000:],
            )
        return RehostError(
            f"sending {self._what} stopped: "
            + (
                "the connection to the machine broke, or the script there was killed."
                if status < 0
                else f"the script on the machine ended early, status {status}."
            ),
            cure="Run the same command again: it carries on with what is missing.",
            detail=said[-2000:],
            retryable=True,
        )

    def strange(self, word: str, rest: str) -> RehostError:
        """The error for an answer that the script does not give."""
        return RehostError(
            f"the machine answered what no script of ours says: {f'{word} {rest}'[:200]!r}.",
            cure="Something prints to every ssh session there; look at the shell's start-up files (.bashrc).",
        )
