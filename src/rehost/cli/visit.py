"""The machine where it was last time: remembered, and reached while the rest of a command is still being loaded.

Loading takes as long as reaching the machine, so the commands that people type all day begin with `start`.
What is remembered is a cache: the cloud is asked meanwhile whether it still holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rehost.machine import keys
from rehost.machine.probe import MachineState, probe
from rehost.machine.ssh import Machine, connect
from rehost.run.errors import RehostError

CACHE = "cache/reach.json"
SENT = "cache/sent"


class Remembered(NamedTuple):
    """Where the app's machine was, who it proved to be, and what it was asked. health, host: see `probe`."""

    app: str
    address: str
    user: str
    host_keys: tuple[str, ...]
    instance_id: str
    health: str
    host: str


@dataclass(slots=True)
class Ahead:
    """What is sure to come after the probe. It may be found out while the machine is being reached.

    scripts: how many. begin: one that is opened, of this app.
    """

    scripts: int = 0
    begin: str = ""
    app: str = ""


@dataclass(slots=True)
class Visit:
    """An open connection and what the probe saw there. state: None where nobody wanted to know."""

    where: Remembered
    machine: Machine
    state: MachineState | None


def recall(directory: Path) -> Remembered | None:
    """What the last run noted; None without it, or when it cannot be read."""
    try:
        data: dict[str, Any] = json.loads((directory / ".rehost" / CACHE).read_bytes())
        return Remembered(**{**data, "host_keys": tuple(data["host_keys"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(directory: Path, where: Remembered) -> None:
    """Notes it for the next run."""
    if where != recall(directory):
        _keep(directory, CACHE, json.dumps(where._asdict()))


def _keep(directory: Path, name: str, text: str) -> None:
    """Writes a file of the cache, whole or not at all."""
    file = directory / ".rehost" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(text)
    draft.replace(file)


def sent_before(directory: Path, digest: str) -> bool:
    """Whether the build context of that digest is the one that was sent last from here; also when none ever was."""
    try:
        return (directory / ".rehost" / SENT).read_text() == digest
    except (OSError, ValueError):
        return True


def note_sent(directory: Path, digest: str) -> None:
    """Notes which build context the machine has from here. A cache: a wrong one costs a round trip."""
    _keep(directory, SENT, digest)


async def visit(directory: Path, ahead: Ahead | None = None, *, look: bool = True) -> Visit | None:
    """Connects to where the machine was and probes it. None when nothing is remembered or it leads nowhere.

    look: False for a connection alone.

    No error: the cloud's answer decides what a failure means, and then the machine is asked again, aloud.
    """
    where = recall(directory)
    if where is None:
        return None
    try:
        machine = await connect(
            where.address,
            user=where.user,
            host_keys=where.host_keys,
            key_file=keys.own_key().file,
            label=f"{where.app} ({where.address})",
        )
    except RehostError:
        return None
    try:
        if ahead is not None:
            machine.ahead(ahead.scripts)
            if ahead.begin and ahead.app == where.app:
                machine.begin(ahead.begin)
        state = await probe(machine, where.app, where.health, where.host) if look else None
        return Visit(where, machine, state)
    except RehostError:
        await machine.close()
        return None
    except BaseException:
        machine.abort()
        raise


async def start(
    directory: Path, ahead: Ahead | None = None, *, look: bool = True
) -> asyncio.Task[Visit | None]:
    """Sets out, and loads the other modules while the machine answers. See `visit`."""
    # Python lets the loading thread keep the interpreter for 5 ms each time: the connection, which needs it for a
    # moment at each of its dozen round trips, would take twice as long.
    sys.setswitchinterval(0.0005)
    task = asyncio.create_task(visit(directory, ahead, look=look))
    await asyncio.to_thread(import_module, "rehost.cli.making")
    return task
