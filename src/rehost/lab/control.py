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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehost.lab import clean, needs, trees
from rehost.lab.places import Places
from rehost.run.errors import RehostError, UsageError

# Files in the state directory, written by server.py.
LOCK = "server.lock"  # held by the server for as long as it lives
RECORD = "server.json"  # how to reach it; 0600, for it holds the control token
CREDENTIALS = "credentials.json"  # the service-account file; 0600
STAGE = "stage"  # what `up` is waiting for, in words
FAILURE = "failure.json"  # why the server did not come up

UP_DEADLINE = 60.0  # seconds for the server, once the trees are there
DOWN_DEADLINE = 30.0
_POLL = 0.05

Progress = Callable[[str], None]

# Servers that this process started: `down` waits for them, or a program that goes on would keep their remains.
_children: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class LabInfo:
    """A lab that is up. api: URL with /compute/v1/. image: what stands in for the containers' base image, in words.
    fresh: whether this call brought it up."""

    name: str
    api: str
    project: str
    gateway: str
    database: str
    image: str
    state: Path
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """instances and faults as the API lists them; leftovers: what a lab that is not up left behind, in words."""

    info: LabInfo | None
    instances: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
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
        if child := _children.pop(name, None):
            child.wait()
        left = clean.leftovers(places)
        if left:
            raise RehostError(
                f"{len(left)} things of the lab {name!r} are still there",
                cure="Run `rehost lab down` again; what stays can be removed by hand.",
                detail="\n".join(left),
            )
    return True


def status(name: str = "default") -> Status:
    """What runs, or what was left. Changes nothing."""
    places = Places.of(name)
    if not running(places):
        return Status(None, leftovers=tuple(clean.leftovers(places)))
    info = _info(places)
    answer = _ask(places, "GET")
    return Status(info, tuple(answer["instances"]), tuple(answer["faults"]))


def fault(name: str, method: str, fault: str, times: int = 1) -> tuple[Mapping[str, Any], ...]:
    """Orders a fault for the next calls of a method; answers all orders that stand. Raises UsageError."""
    return tuple(_ask(_up(name), "POST", {"method": method, "fault": fault, "times": times})["faults"])


def clear_faults(name: str) -> None:
    """Takes back all orders."""
    _ask(_up(name), "DELETE")


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
    """One `up` or `down` of a lab at a time. The file stays: removing a lock file lets two hold it."""
    places.state.parent.mkdir(parents=True, exist_ok=True)
    with (places.state.parent / f".{places.name}.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        raise RehostError(f"the lab {name!r} is not up", cure="Type `rehost lab up`.")
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
        state=places.state,
        fresh=fresh,
    )


def _ask(places: Places, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    record = _record(places)
    connection = http.client.HTTPConnection("127.0.0.1", record["port"], timeout=10)
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
    if answer.status != 200:
        raise RehostError(said["what"], cure="Type `rehost lab down`, then `rehost lab up`.")
    return said


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
