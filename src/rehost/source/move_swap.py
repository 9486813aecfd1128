"""The swap: verified copies take the place of what the app has, as one unit on the machine. See move.sh."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rehost.machine import units
from rehost.machine.ssh import Machine
from rehost.machine.told import Told
from rehost.run.errors import Refused, RehostError
from rehost.source.moving import Mover

TAG: Final = "move"  # of the release's unit, where a release has its number
_OVERTAKEN: Final = 4  # of move.sh
_STUCK: Final = 5
_AGAIN: Final = "Run the same command again: it looks at the machine anew."

_LOCK: Final = """umask 077
(umask 022 && mkdir -p /var/lib/rehost/{app}) && mkdir -p /var/lib/rehost/{app}/moving || exit 1
exec 9>>/var/lib/rehost/{app}/moving/lock
if ! flock -n 9; then echo "busy $(head -n 1 /var/lib/rehost/{app}/moving/lock)"; exit; fi
printf '%s\\n' {who} >/var/lib/rehost/{app}/moving/lock
echo held
exec cat >/dev/null
"""
# Cut off before it had written itself down, or after its end, there is nothing to do but to say so no more.
_AGAIN_SCRIPT: Final = """cd /var/lib/rehost/{app}/moving || exit 0
if [ -f swap ]; then exec sh "$PWD/swap" again; fi
rm -f step since ./*/secret ./*/moved.json.new
"""


class Order(NamedTuple):
    """What the swap has to know of the release that serves. deadline, grace, drain in seconds.

    functions: the shell of release/containers.sh and beside.sh. services: those whose volumes move.
    """

    app: str
    number: int
    host: str
    health: str
    low: int
    high: int
    deadline: int
    grace: int
    drain: int
    functions: str
    services: Sequence[str]
    by: str


class Copy(NamedTuple):
    """A move that is ready for the swap. origin: where its content was; counted, sent: see `moving.Copied`."""

    mover: Mover
    origin: str
    counted: str
    sent: str


@asynccontextmanager
async def alone(machine: Machine, app: str, who: str) -> AsyncIterator[None]:
    """Nobody else copies for this app meanwhile. The lock dies with the connection. Raises Refused."""
    channel = await machine.open(_LOCK.format(app=app, who=shlex.quote(who)))
    try:
        said = b""
        while not said.endswith(b"\n") and (part := await channel.read(1000)):
            said += part
        word, _, holder = said.decode(errors="replace").strip().partition(" ")
        if word == "busy":
            raise Refused(
                f"{holder or 'somebody'} is moving data of {app} at this moment.",
                where=machine.label,
                cure="Wait until that has ended, then run the same command again.",
            )
        if word != "held":
            _, detail = await channel.finish()
            raise RehostError(
                "the lock for moving could not be taken",
                where=machine.label,
                detail=detail.decode(errors="replace"),
                cure=_AGAIN,
            )
        yield
    finally:
        await channel.close()


def script(order: Order, copies: Sequence[Copy]) -> str:
    """The unit's script. Holds no secret: those lie in files beside it."""
    head = {
        "APP": order.app,
        "N": order.number,
        "HOST": order.host,
        "HEALTH": order.health,
        "LOW": order.low,
        "HIGH": order.high,
        "DEADLINE": order.deadline,
        "GRACE": order.grace,
        "DRAIN": order.drain,
        "NAMES": " ".join(copy.mover.name for copy in copies),
        "SERVICES": " ".join(order.services),
        "BY": order.by,
    }
    bodies = [
        f"{verb}_{number}() (\n{body.rstrip()}\n)\n"
        for number, copy in enumerate(copies)
        for verb, body in (("swap", copy.mover.swap()), ("undo", copy.mover.undo()))
    ]
    return (
        "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in head.items())
        + order.functions
        + "".join(bodies)
        + Path(__file__).with_name("move.sh").read_text()
    )


def prepare(order: Order, copies: Sequence[Copy]) -> str:
    """Writes the secrets, and the records of what will have been moved. By standard input only."""
    lines = []
    for copy in copies:
        record = {
            "name": copy.mover.name,
            "from": copy.origin,
            "counted": copy.counted,
            "sent": copy.sent,
            "by": order.by,
            "time": int(time.time()),
        }
        lines.append(f"dir=/var/lib/rehost/{order.app}/moving/{copy.mover.name}")
        lines.append('mkdir -p "$dir" && chmod 700 "$dir" "${dir%/*}" || exit 1')
        for file, text in (("secret", copy.mover.secret()), ("moved.json.new", json.dumps(record) + "\n")):
            lines.append(f"base64 -d >\"$dir/{file}\" <<'REHOST_CONTENT' || exit 1")
            lines += [base64.b64encode(text.encode()).decode(), "REHOST_CONTENT"]
    lines.append('sync "${dir%/*}"')
    return "\n".join(lines)


async def swap(
    machine: Machine,
    order: Order,
    copies: Sequence[Copy],
    say: Callable[[str], None],
    log: Callable[[str], None],
) -> Told:
    """Stops the app, puts every copy in place, starts it. Raises Refused when a release is under way, else RehostError.

    When the app does not get healthy, everything is as it was before, and the error says so.
    """
    work = _work(order.app, f"move data of {order.app}", script(order, copies), prepare(order, copies))
    seen = Told()
    ended = await units.run_unit(machine, work, seen.reader(say, log))
    if ended.attached_tag is not None:
        raise Refused(
            f"a {'move' if ended.attached_tag == TAG else 'release'} of {order.app} was under way already; "
            f"it ended with status {ended.status}.",
            where=machine.label,
            serving=f"release {order.number}",
            cure=_AGAIN,
        )
    if ended.full or ended.prepared is not None:
        raise RehostError(
            "nothing was put in place: "
            + (units.DISK_FULL if ended.full else f"it could not be prepared (status {ended.prepared})."),
            where=machine.label,
            serving=f"release {order.number}",
            cure=units.MORE_DISK if ended.full else _AGAIN,
        )
    if ended.status == _OVERTAKEN:
        raise Refused(f"nothing was put in place: {seen.reason}", where=machine.label, cure=_AGAIN)
    if ended.status != 0:
        raise _failed(machine, seen, ended.status)
    return seen


async def settle(machine: Machine, app: str, say: Callable[[str], None], log: Callable[[str], None]) -> Told:
    """Brings a swap that was cut off to its end: all in place and healthy, or as before. Raises RehostError."""
    seen = Told()
    work = _work(app, f"end a move of {app} that was cut off", _AGAIN_SCRIPT.format(app=app), "")
    ended = await units.run_unit(machine, work, seen.reader(say, log))
    if ended.status != 0:
        raise _failed(machine, seen, ended.status)
    return seen


def _work(app: str, about: str, text: str, first: str) -> units.Work:
    """The release's own unit: systemd allows one of a name, so a release and a move are never under way together."""
    return units.Work(
        unit=f"rehost-{app}-release.service",
        directory=f"/var/lib/rehost/{app}/release",
        about=f"rehost: {about}",
        tag=TAG,
        script=text,
        prepare=first,
    )


def _failed(machine: Machine, seen: Told, status: int) -> RehostError:
    if status == _STUCK:
        return RehostError(
            f"the move failed, and what was there could not be put back: {seen.reason}",
            where=machine.label,
            serving="nothing",
            detail="\n".join((*seen.log, seen.left)),
            cure="Mend what is said below; `rehost up` or `rehost move` then tries again to put it back.",
        )
    back = f"release {seen.back} serves again on what it had before" if seen.back else ""
    down = f", after {seen.down:.1f} s in which nothing served" if seen.down else ""
    return RehostError(
        f"the move failed: {seen.reason or f'status {status}'}",
        where=machine.label,
        serving=(back + down) if not seen.left else f"{back}, but: {seen.left}".lstrip(", "),
        detail="\n".join(seen.log),
        cure="Mend the cause (the app's own last lines are shown), then run `rehost move` again: the copies stay, and "
        "only what has changed is sent.",
    )
