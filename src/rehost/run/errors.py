"""The exception tree of rehost. Every message says what happened, where, what still serves and what to type next."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code means; the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    INTERRUPTED = 130


class RehostError(Exception):
    """Something went wrong that a person can act on.

    what: what happened, one sentence. cure: what to do or type next. where: the machine, project or file.
    serving: what still serves, when an app is concerned. detail: last log lines or the like, shown below.
    retryable: the same action may be tried again without asking anybody.
    """

    exit: Exit = Exit.FAILED

    def __init__(
        self,
        what: str,
        *,
        cure: str = "",
        where: str = "",
        serving: str = "",
        detail: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure
        self.where = where
        self.serving = serving
        self.detail = detail
        self.retryable = retryable

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.serving:
            parts.append(f"Still serving: {self.serving}.")
        if self.cure:
            parts.append(self.cure)
        return " ".join(parts)


class UsageError(RehostError):
    """Wrong usage or input: names file, line and key. Nothing was created."""

    exit = Exit.USAGE


class Refused(RehostError):
    """A guard said no; nothing was changed."""

    exit = Exit.REFUSED


class Interrupted(RehostError):
    """Stopped by the person at the keyboard; what was done stays done and the next run carries on."""

    exit = Exit.INTERRUPTED
