"""Every fault that the lab can be asked for: what it is called, what it does, and how an order of it reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rehost.run.errors import UsageError

MACHINE = "machine"  # the word before a machine's name in an order
SHORTEST, LONGEST = 1.0, 86400.0  # seconds
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Kind:
    """One fault. does: for a person, one line.

    seconds: how long it takes if nobody says; None where it stands until it is taken back, or has no length.
    timed: whether an order may give its length. counted: whether it is for a number of calls or boots.
    """

    name: str
    does: str
    seconds: float | None = None
    timed: bool = False
    counted: bool = False


def _table(*kinds: Kind) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


def _calls(**does: str) -> dict[str, Kind]:
    return _table(*(Kind(name.removeprefix("_"), text, counted=True) for name, text in does.items()))


IN_ANSWER = _calls(
    accessNotConfigured="403: the Compute Engine API was never enabled in the project",
    billing="403: the project has no billing",
    rateLimitExceeded="403: the quota of calls a minute is used up",
    _401="the token is not taken",
    _404="the resource was not found",
    _409="it exists already",
    _412="the fingerprint is stale",
    _429="the quota of calls a minute is used up",
    _500="Google's own error",
    _503="Google's own error: unavailable",
)
IN_OPERATION = _table(
    Kind("stockout", "the operation ends with an error: the zone has no such machine left", counted=True),
    Kind("quota", "the operation ends with an error: a quota of the region is used up", counted=True),
    Kind("operation-409", "the operation ends with an error: it exists already", counted=True),
    Kind("operation-412", "the operation ends with an error: the fingerprint is stale", counted=True),
    Kind("slow", "the operation takes that much longer", seconds=30, timed=True, counted=True),
    Kind("endless", "the operation never ends, and nothing is done", counted=True),
)
ON_WIRE = _table(
    Kind("502", "the front end's page in HTML", counted=True),
    Kind("reset", "the connection breaks before anything was done", counted=True),
    Kind("lost", "the connection breaks after the call was carried out", counted=True),
    Kind("truncated", "carried out, and the answer breaks off in the middle", counted=True),
    Kind("hang", "no answer, for ever", counted=True),
)
OF_CALLS = {**IN_ANSWER, **IN_OPERATION, **ON_WIRE}

# At a boot: the machine may not be there yet when they are ordered.
AT_BOOT = _table(
    Kind("boot-slow", "the next boot hangs that long before the system starts", 30, timed=True, counted=True),
    Kind("boot-fails", "the next boot ends in a kernel panic; reset or stop it, then it boots", counted=True),
    Kind(
        "agent-late", "the metadata server keeps the machine waiting that long after a boot", 30, timed=True
    ),
    Kind("host-keys-missing", "the metadata server refuses the ssh host keys that the machine publishes"),
    Kind("startup-slow", "the startup script begins that much later", seconds=60, timed=True),
    Kind("startup-fails", "the startup script ends at once with status 1"),
    Kind("ssh-late", "port 22 is silent for that long after a boot", seconds=30, timed=True),
)
ON_LINK = _table(
    Kind("net-cut", "no packet comes or goes; with --with: none to or from that machine", timed=True),
    Kind("net-slow", "256 kbit/s each way", timed=True),
    Kind(
        "net-lossy", "every fifth packet is lost, each way; with --with: of those between the two", timed=True
    ),
    Kind("internet-cut", "the machine's packets to the world outside the lab get no answer", timed=True),
)
INSIDE = _table(
    Kind("archive-unreachable", "Debian's archive refuses connections, and apt's cache is empty", timed=True),
    Kind("apt-locked", "another program holds the lock of the package manager", timed=True),
    Kind("disk-full", "the disk has no byte left", timed=True),
    Kind("memory-eaten", "all memory but 64 MB is taken; what else runs is swapped out", timed=True),
    Kind("docker-stopped", "Docker is stopped, and started again at the end", timed=True),
)
AT_ONCE = _table(
    Kind("power-cut", "the machine is off from one moment to the next; start it again yourself"),
    Kind("preempted", "Compute Engine wants the machine back: power off with 30 s of notice"),
)
OF_MACHINES = {**AT_BOOT, **ON_LINK, **INSIDE, **AT_ONCE}
WITH_ANOTHER = ("net-cut", "net-lossy")


def kind(name: str, known: Mapping[str, Kind], what: str) -> Kind:
    """The kind of that name. Raises UsageError that names the nearest."""
    if name in known:
        return known[name]
    elsewhere = OF_MACHINES if known is OF_CALLS else OF_CALLS
    if name in elsewhere:
        place = "a machine" if elsewhere is OF_MACHINES else "a method of the API"
        shape = f"{MACHINE} NAME {name}" if elsewhere is OF_MACHINES else f"METHOD {name}"
        raise UsageError(f"{name} is a fault of {place}", cure=f"Type `rehost lab fault {shape}`.")
    raise UsageError(
        f"{name!r} is no fault of {what}",
        cure=f"{near(name, known)}`rehost lab fault --list` explains them all.",
    )


def near(name: str, known: Iterable[str]) -> str:
    """ "Did you mean ...? " or nothing."""
    folded = {each.casefold(): each for each in known}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"Did you mean {folded[found[0]]}? " if found else ""


def seconds(text: str) -> float:
    """ "30s", "2m", "1h" or a number of seconds. Raises UsageError."""
    match = _SPAN.fullmatch(text.strip())
    value = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if not SHORTEST <= value <= LONGEST:
        raise UsageError(f"{text!r} is not a length of time", cure="Write it as 30s, 2m or 1h.")
    return value


def check_extent(one: Kind, times: int, length: float | None) -> None:
    """Raises UsageError for a count or a length that the kind has not."""
    if times < 1:
        raise UsageError(f"a fault cannot come {times} times", cure="Give 1 or more.")
    if times > 1 and not one.counted:
        raise UsageError(f"{one.name} is not counted", cure=f"Leave --times out: {one.does}.")
    if length is not None and not one.timed:
        raise UsageError(f"{one.name} has no length", cure=f"Leave --for out: {one.does}.")


def text(order: Mapping[str, Any]) -> str:
    """One line for a person about an order as the lab lists it."""
    if "method" in order:
        count, length = order["times"], order.get("seconds")
        who = (
            f"the next call of {order['method']}"
            if count == 1
            else f"the next {count} calls of {order['method']}"
        )
        return f"{who}: {order['fault']}" + (f", {length:g} s" if length else "")
    parts = [f"{MACHINE} {order['machine']}: {order['fault']}"]
    if order.get("with"):
        parts.append(f"with {order['with']}")
    if order.get("times"):
        parts.append("the next boot" if order["times"] == 1 else f"the next {order['times']} boots")
    if order.get("seconds"):
        parts.append(f"{order['seconds']:g} s")
    if order.get("left") is not None:
        parts.append(f"{order['left']:.0f} s left")
    return ", ".join(parts)
