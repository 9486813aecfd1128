"""Events: the one stream that the terminal, JSON output, the journal and the record are all views of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rehost.run.secret import Scrubber, Secret

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Kind = Literal[
    "run-start",  # data: command, version
    "plan",  # data: actions
    "start",  # an action begins
    "progress",  # what an action is waiting for or has reached; replaces the line before it
    "log",  # one line that a program on the machine wrote
    "note",  # something the person should know
    "warning",
    "end",  # an action ended; data: result ("done" | "unchanged" | "failed" | "stopped"), seconds
    "run-end",  # data: result, exit
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `time` is Unix time in seconds, UTC."""

    kind: Kind
    text: str = ""
    action: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        _refuse_secrets(self.data)

    def as_json(self) -> dict[str, Json]:
        out: dict[str, Json] = {"time": round(self.time, 3), "kind": self.kind}
        if self.action:
            out["action"] = self.action
        if self.text:
            out["text"] = self.text
        if self.data:
            out["data"] = dict(self.data)
        return out


def _refuse_secrets(value: object) -> None:
    if isinstance(value, Secret):
        raise TypeError("an event never carries a Secret; name the variable instead")
    if isinstance(value, Mapping):
        for part in value.values():
            _refuse_secrets(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _refuse_secrets(part)


Sink = Callable[[Event], None]


class Bus:
    """Hands every event to every sink, with the values of known secrets masked first."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks: list[Sink] = list(sinks)
        self.scrubber = Scrubber()

    def add(self, sink: Sink) -> None:
        self._sinks.append(sink)

    def emit(self, kind: Kind, text: str = "", *, action: str = "", **data: Json) -> None:
        clean = {key: scrubbed(value, self.scrubber) for key, value in data.items()}
        event = Event(kind, self.scrubber.scrub(text), action, clean)
        for sink in self._sinks:
            sink(event)


def scrubbed(value: Json, scrubber: Scrubber) -> Json:
    """The value with known secrets masked in every text of it."""
    if isinstance(value, str):
        return scrubber.scrub(value)
    if isinstance(value, dict):
        return {key: scrubbed(part, scrubber) for key, part in value.items()}
    if isinstance(value, list):
        return [scrubbed(part, scrubber) for part in value]
    return value
