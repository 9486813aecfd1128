"""Bringing a lab up and down, and asking it: plain functions for the command line."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehost.lab import clean, needs, trees, usage
from rehost.lab.places import Places, all_labs, locked
from rehost.run.errors import Refused, RehostError, UsageError

# Files in the state directory, written by server.py.
LOCK = "server.lock"  # held by the server for as long as it lives
RECORD = "server.json"  # how to reach it; 0600, for it holds the control token
CREDENTIALS = "credentials.json"  # the service-account file; 0600
STAGE = "stage"  # what `up` is waiting for, in words
FAILURE = "failure.json"  # why the server did not come up

UP_DEADLINE = 60.0  # seconds for the server, once the trees are there
DOWN_DEADLINE = 30.0
FAULT_DEADLINE = 150.0  # seconds for a machine to be harmed or mended
_POLL = 0.05

Progress = Callable[[str], None]

# Servers that this process started: `down` waits for them, or a program that goes on would keep their remains.
_children: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class LabInfo:
    """A lab that is up. api: URL with /compute/v1/. image: what stands in for the containers' base image, in words.
    since: when it came up, RFC 3339. fresh: whether this call brought it up."""

    name: str
    api: str
    project: str
    gateway: str
    database: str
    image: str
    since: str
    state: Path
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """instances, addresses, disks, operations (newest first): as report.py makes them; an instance has its memory in
    bytes beside it. faults: what is ordered. memory, disk: bytes that the lab takes of this computer. leftovers: what
    a lab that is not up left behind, in words."""

    info: LabInfo | None
    instances: tuple[Mapping[str, Any], ...] = ()
    addresses: tuple[Mapping[str, Any], ...] = ()
    disks: tuple[Mapping[str, Any], ...] = ()
    operations: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    memory: int = 0
    disk: int = 0
    leftovers: tuple[str, ...] = ()


def up(name: str = "default", progress: Progress = lambda _: None) -> LabInfo:
    """Brings the lab up; says so and changes nothing when it is. What a killed `up` left is swept first.

    Raises RehostError: what is missing on this computer and how to get it, or why the server did not come up.
    """
    places = Places.of(name)
    with _locked(places):
        if running(places):
            progress(f"the lab {name} is up already")
            return _info(places)
        _check_needs()
        trees.prepare(progress)
        if clean.leftovers(places):
            progress("sweeping what an earlier lab left")
            clean.sweep(places)
        _reap(name)
        places = Places.claim(name)
        return _start(places, progress)


def down(name: str = "default", progress: Progress = lambda _: None) -> bool:
    """Takes the lab down and removes all of it; False when there was nothing.

    Raises RehostError naming what did not go.
    """
    places = Places.of(name)
    with _locked(places):
        if not clean.leftovers(places):
            return False
        _check_root("rehost lab down")
        if running(places):
            progress("stopping the machines")
            _end(places)
        progress("removing what the lab made")
        clean.sweep(places)
        _reap(name)
        left = clean.leftovers(places)
        if left:
            raise RehostError(
                f"{len(left)} things of the lab {name!r} are still there",
                cure="Run `rehost lab down` again; what stays can be removed by hand.",
                detail="\n".join(left),
            )
    return True


def drop_cache() -> int:
    """Removes the cached trees; the next `up` builds them anew. Returns the bytes that are free now.

    Raises Refused while a lab is up.
    """
    if labs := all_labs():
        commands = "; ".join(f"`rehost lab down --name {one}`" for one in labs)
        raise Refused(
            f"the cached trees are in use by the labs {', '.join(labs)}",
            cure=f"Nothing was removed from the cache. Type {commands}",
        )
    freed = trees.cache_size()
    trees.drop_cache()
    return freed


def _reap(name: str) -> None:
    """A server that this process started and that has ended stays a zombie until it is asked."""
    if child := _children.pop(name, None):
        child.wait()


def status(name: str = "default") -> Status:
    """What runs, or what was left. Changes nothing."""
    places = Places.of(name)
    if not running(places):
        return Status(None, leftovers=tuple(clean.leftovers(places)))
    info = _info(places)
    answer = _ask(places, "GET")
    machines = [{**one, "memory": usage.machine_memory(places, one["name"])} for one in answer["instances"]]
    return Status(
        info,
        instances=tuple(machines),
        addresses=tuple(answer["addresses"]),
        disks=tuple(answer["disks"]),
        operations=tuple(answer["operations"]),
        faults=tuple(answer["faults"]),
        memory=usage.programs_memory(places) + sum(one["memory"] for one in machines),
        disk=usage.disk(places),
    )


def names_up() -> list[str]:
    """The user's labs that are up."""
    return [name for name in all_labs() if running(Places.of(name))]


def order_fault(name: str, **order: Any) -> tuple[Mapping[str, Any], ...]:
    """Orders a fault; answers all that stand. order: as fault_desk.Desk.order takes it.

    Raises UsageError for what cannot be ordered, RehostError for a machine that does not take it.
    """
    return tuple(_ask(_up(name), "POST", order, FAULT_DEADLINE)["faults"])


def clear_faults(name: str, **which: str) -> int:
    """Takes back the orders of a `method`, of a `machine`, or all. Returns how many."""
    return int(_ask(_up(name), "DELETE", which, FAULT_DEADLINE)["cleared"])


def environment(name: str = "default") -> dict[str, str]:
    """The variables under which rehost, gcloud and Google's libraries meet the lab instead of Google.

    Raises RehostError when the lab is not up.
    """
    places = _up(name)
    record = _record(places)
    return {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"http://127.0.0.1:{record['port']}/compute/v1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING": f"http://127.0.0.1:{record['port']}/",
        "GOOGLE_APPLICATION_CREDENTIALS": str(places.state / CREDENTIALS),
        "CLOUDSDK_CORE_PROJECT": str(record["project"]),
        # gcloud itself reads neither GOOGLE_APPLICATION_CREDENTIALS nor the file's token_uri.
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(places.state / CREDENTIALS),
        "CLOUDSDK_AUTH_TOKEN_HOST": f"http://127.0.0.1:{record['port']}/token",
    }


def running(places: Places) -> bool:
    """Whether the lab's server lives: it holds a lock that dies with it."""
    try:
        with (places.state / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


# -- up ----------------------------------------------------------------------------------------------------


def _check_needs() -> None:
    missing = needs.missing()
    if missing:
        raise RehostError(
            "this computer cannot run the lab yet; it lacks " + "; ".join(one.missing for one in missing),
            cure="Nothing was changed. Type: " + "; ".join(one.command for one in missing),
        )


def _check_root(command: str) -> None:
    if os.geteuid() != 0:
        raise RehostError(
            f"`{command}` must be root: the lab's machines, network and limits are the kernel's",
            cure=f"Nothing was changed. Type `sudo {command}`.",
        )


@contextmanager
def _locked(places: Places) -> Iterator[None]:
    """One `up` or `down` of a lab at a time."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(places.state.parent / f".{places.name}.lock", wait=False))
        except BlockingIOError:
            raise RehostError(
                f"another command is bringing the lab {places.name!r} up or down",
                cure="Wait for it, then try again.",
                retryable=True,
            ) from None
        yield


def _start(places: Places, progress: Progress) -> LabInfo:
    output = places.log("server")
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rehost.lab.server", places.name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **places.environment()},
            start_new_session=True,
        )
    try:
        _wait_up(places, process, progress)
    except BaseException:
        # Ctrl-C too: a lab half up is of no use, and the sweep is the same that a later `up` would do.
        process.kill()
        process.wait()
        clean.sweep(places)
        raise
    _children[places.name] = process
    return _info(places, fresh=True)


def _wait_up(places: Places, process: subprocess.Popen[bytes], progress: Progress) -> None:
    shown, end = "", time.monotonic() + UP_DEADLINE
    while not (places.state / RECORD).exists():
        stage = _text(places.state / STAGE)
        if stage and stage != shown:
            shown = stage
            progress(f"starting {stage}")
        if process.poll() is not None:
            raise _failure(places)
        if time.monotonic() > end:
            raise RehostError(
                f"the lab's server did not come up within {UP_DEADLINE:.0f} s; it was starting {shown or 'itself'}",
                cure="Try again; its last lines stand below.",
                detail=_last_lines(places),
            )
        time.sleep(_POLL)


def _failure(places: Places) -> RehostError:
    reason = _text(places.state / FAILURE)
    if reason:
        said = json.loads(reason)
        return RehostError(said["what"], cure=said["cure"], detail=said["detail"])
    return RehostError(
        "the lab's server ended while it was starting",
        cure="Its last lines stand below.",
        detail=_last_lines(places),
    )


def _last_lines(places: Places) -> str:
    return "\n".join((_text(places.log("server")) or "").splitlines()[-15:])


def _end(places: Places) -> None:
    """Ends the server in order; what does not end, the sweep kills."""
    record = _text(places.state / RECORD)
    if not record:
        return
    os.kill(json.loads(record)["pid"], signal.SIGTERM)
    end = time.monotonic() + DOWN_DEADLINE
    while running(places) and time.monotonic() < end:
        time.sleep(_POLL)


# -- asking ------------------------------------------------------------------------------------------------


def _up(name: str) -> Places:
    places = Places.of(name)
    if not running(places) or not (places.state / RECORD).exists():
        others = names_up()
        up_are = f"These labs are up: {', '.join(others)}; add --name. Or type" if others else "Type"
        raise RehostError(f"the lab {name!r} is not up", cure=f"{up_are} `rehost lab up --name {name}`.")
    return places


def _record(places: Places) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((places.state / RECORD).read_text())
    except FileNotFoundError:
        raise RehostError(
            f"the lab {places.name!r} is coming up or going down",
            cure="Wait a moment, then `rehost lab status`.",
        ) from None
    return record


def _info(places: Places, *, fresh: bool = False) -> LabInfo:
    record = _record(places)
    return LabInfo(
        name=places.name,
        api=f"http://127.0.0.1:{record['port']}/compute/v1/",
        project=record["project"],
        gateway=record["gateway"],
        database=record["database"],
        image=record["image"],
        since=record["since"],
        state=places.state,
        fresh=fresh,
    )


def _ask(
    places: Places, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 10
) -> dict[str, Any]:
    record = _record(places)
    connection = http.client.HTTPConnection("127.0.0.1", record["port"], timeout=timeout)
    try:
        connection.request(
            verb,
            "/lab/v1/control",
            json.dumps(body) if body is not None else None,
            {"Authorization": f"Bearer {record['control_token']}"},
        )
        answer = connection.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
    except OSError as error:
        raise RehostError(
            f"the lab's server does not answer: {error}", cure="Type `rehost lab down`, then `rehost lab up`."
        ) from error
    finally:
        connection.close()
    if answer.status == 400:
        raise UsageError(said["what"], cure=said["cure"])
    if answer.status == 409:
        raise RehostError(said["what"], cure=said["cure"], detail=said["detail"])
    if answer.status != 200:
        raise RehostError(said["what"], cure="Type `rehost lab down`, then `rehost lab up`.")
    return said


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
