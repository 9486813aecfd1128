"""Services beside the app, Redis or a database: a container each, on a network of the app's own. See services.sh.

A service is of no release: a release and a rollback leave it alone, and nothing prunes it.
"""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rehost.machine import bootstrap, units
from rehost.machine.probe import MachineState
from rehost.machine.ssh import Machine
from rehost.release.container import (
    FIRST,
    environment_changes,
    fingerprints,
    mount,
    network_name,
    settings_changes,
)
from rehost.run.errors import RehostError
from rehost.run.plan import Action, Change
from rehost.run.secret import Secret

ACTION: Final = "service/"
DEADLINE: Final = 120  # seconds for a service to become healthy
GRACE: Final = 30  # seconds between SIGTERM and SIGKILL
SECOND: Final = 10**9  # Docker's durations are in nanoseconds


class Service(NamedTuple):
    """What a service should be. memory in bytes. command, health: "" for none; volumes: "name:/path".

    values: the variables that it gets, of the app's own.
    """

    image: str
    command: str
    memory: int
    volumes: tuple[str, ...]
    health: str
    values: Mapping[str, Secret]

    def as_json(self) -> dict[str, Any]:
        """All but the values."""
        given = {"command": self.command, "volumes": list(self.volumes), "health": self.health}
        return {
            "image": self.image,
            "memory": self.memory,
            **{name: value for name, value in given.items() if value},
        }


def body(app: str, name: str, service: Service) -> dict[str, Any]:
    """Docker's container (Engine API 1.41). Published nowhere; the app reaches it by its name. Holds values: 0600."""
    made: dict[str, Any] = {
        "Image": service.image,
        "Env": [f"{key}={value.reveal()}" for key, value in sorted(service.values.items())],
        "Labels": {"rehost.app": app, "rehost.service": name},
        "StopTimeout": GRACE,
        "HostConfig": {
            "Memory": service.memory,
            "MemorySwap": 2 * service.memory,
            "CpuShares": FIRST,
            "RestartPolicy": {"Name": "no"},
            "SecurityOpt": ["no-new-privileges:true"],
            "Mounts": [mount(app, volume) for volume in service.volumes],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "10"}},
            "NetworkMode": network_name(app),
        },
        "NetworkingConfig": {"EndpointsConfig": {network_name(app): {"Aliases": [name]}}},
    }
    if service.command:
        made["Cmd"] = shlex.split(service.command)
    if service.health:
        test = ["CMD", *shlex.split(service.health)]
        made["Healthcheck"] = {"Test": test, "Interval": 30 * SECOND, "Timeout": 10 * SECOND, "Retries": 3}
    return made


def plan(app: str, wanted: Mapping[str, Service], state: MachineState | None) -> list[Action]:
    """The steps to the services that are wanted. One that only restarts is an update: its volumes stay."""
    needs = (bootstrap.ACTION,)
    actions = []
    there = {**state.services} if state is not None else {}
    for name, service in wanted.items():
        record = there.pop(name, None)
        if state is None or record is None:
            new = tuple(Change(key, None, value) for key, value in service.as_json().items())
            actions.append(
                Action(f"{ACTION}{name}", "create", f"service {name} of {app}", new, needs, retries=3)
            )
            continue
        found = state.part(app, 0, f"service:{name}")
        if changes := _changes(service, record, found.state if found else None):
            what = f"service {name} of {app}: it is away while it starts anew"
            actions.append(Action(f"{ACTION}{name}", "update", what, tuple(changes), needs, retries=3))
    for name, record in there.items():
        gone = (Change("image", record.get("image"), None),)
        what = f"service {name} of {app} (its volumes stay)"
        actions.append(Action(f"{ACTION}{name}", "delete", what, gone, needs))
    return actions


def _changes(service: Service, record: Mapping[str, Any], state: str | None) -> list[Change]:
    settings = {name: value for name, value in record.items() if name not in ("env", "salt")}
    changes = settings_changes(settings, service.as_json())
    changes += environment_changes(record["env"], fingerprints(service.values, record["salt"]))
    if not changes and state not in ("running", "restarting"):
        changes.append(Change("container", state, "running"))
    return changes


def prepare(app: str, name: str, service: Service) -> str:
    """Writes what services.sh makes the container from. Holds secrets: standard input only."""
    salt = secrets.token_hex(16)
    record = {**service.as_json(), "salt": salt, "env": fingerprints(service.values, salt)}
    lines = [
        f"dir=/var/lib/rehost/{app}/services/{name}",
        f"chmod 755 /var/lib/rehost/{app} && mkdir -p $dir && chmod 700 $dir/.. || exit 1",
    ]
    for file, content in (("container.json", body(app, name, service)), ("service.json.new", record)):
        text = base64.b64encode(json.dumps(content).encode()).decode()
        lines += [f"base64 -d >$dir/{file} <<'REHOST_CONTENT' || exit 1", text, "REHOST_CONTENT"]
    return "\n".join(lines)


async def set_up(
    machine: Machine,
    app: str,
    name: str,
    service: Service,
    say: Callable[[str], None],
    log: Callable[[str], None],
) -> None:
    """Makes a service, or replaces it, as a unit that goes on without us.

    Raises RehostError; the one before, if there was one, runs again then.
    """
    head = {
        "APP": app,
        "NAME": name,
        "NETWORK": network_name(app),
        "IMAGE": service.image,
        "HEALTH": shlex.join(shlex.split(service.health)),
        "DEADLINE": DEADLINE,
        "GRACE": GRACE,
    }
    words = "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in head.items())
    reason = ""
    last: list[str] = []

    def line(text: str) -> None:
        nonlocal reason
        word, _, rest = text.partition(" ")
        if word == "@step":
            say(rest)
        elif word == "@fail":
            reason = rest
        else:
            shown = rest if word == "@log" else text
            last.append(shown)
            log(shown)

    ended = await units.run_unit(
        machine,
        units.Work(
            unit=f"rehost-{app}.service.{name}.service",
            directory=f"/var/lib/rehost/{app}/services/{name}/unit",
            about=f"rehost: service {name} of {app}",
            tag=name,
            script=words + Path(__file__).with_name("services.sh").read_text(),
            prepare=prepare(app, name, service),
        ),
        line,
    )
    if ended.attached_tag is not None:
        raise RehostError(
            f"service {name} was being set up already; it ended with status {ended.status}.",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        )
    if ended.status != 0:
        full = units.DISK_FULL if ended.full else ""
        raise RehostError(
            f"service {name} of {app} was not set up: {full or reason or f'status {ended.status}'}",
            where=machine.label,
            detail="\n".join(last[-50:]),
            cure=units.MORE_DISK
            if ended.full
            else f"Mend [services.{name}] in rehost.toml, then run `rehost up`.",
        )


async def remove(machine: Machine, app: str, name: str) -> None:
    """Takes a service away. Its volumes stay."""
    await machine.run(
        f"docker stop -t {GRACE} {app}.{name} >&2 || :\ndocker rm -f {app}.{name} {app}.{name}.old >&2 || :\n"
        f"rm -rf /var/lib/rehost/{app}/services/{name}\n",
        what=f"removing service {name}",
    )
