"""Making a release the one that serves: what is prepared on the machine, and the unit that gates and switches."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rehost.edge import caddy
from rehost.machine import units
from rehost.machine.probe import MachineState
from rehost.machine.ssh import Machine
from rehost.release import decide
from rehost.release.container import Revision, Settings, container_body, fingerprints
from rehost.run.errors import Refused, RehostError

# What release.sh and docker(1) say when Docker itself is not there.
_AWAY: Final = re.compile(r"Docker.*(no answer|does not answer|error during connect|[Cc]annot connect)")
_DOCKER_AWAY: Final = (
    "Run `rehost up` again: it starts Docker where it does not run (`systemctl status docker` there)."
)
_MEND: Final = "Mend the cause (the app's own last lines are shown), then run `rehost up` again."
_TAKEN: Final = 71
_OVERTAKEN: Final = 4  # of release.sh


class ReleaseFailed(RehostError):
    """The new release did not prove itself; what served before still does."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Parameters of release.sh. prune: numbers of releases to drop; prune_images: ids of images that go with them."""

    app: str
    number: int
    slot: caddy.Slot
    ports: tuple[int, int]
    settings: Settings
    hosts: tuple[str, ...]
    prune: Sequence[int] = ()
    prune_images: Sequence[str] = ()

    @property
    def script(self) -> str:
        port, old_port = self.ports if self.slot == "a" else self.ports[::-1]
        values: dict[str, object] = {
            "APP": self.app,
            "N": self.number,
            "SLOT": self.slot,
            "PORT": port,
            "CONTAINER_PORT": self.settings.port,
            "OLD_PORT": old_port,
            "HOST": self.settings.health_host,
            "PROXY_HOST": self.hosts[0] if self.hosts else self.settings.health_host,
            "HEALTH": self.settings.health,
            "LOW": self.settings.health_low,
            "HIGH": self.settings.health_high,
            "DEADLINE": self.settings.health_deadline,
            "GRACE": self.settings.stop_grace,
            "PRUNE": " ".join(map(str, self.prune)),
            "PRUNE_IMAGES": " ".join(self.prune_images),
        }
        head = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
        return head + Path(__file__).with_name("release.sh").read_text()


def prepare_script(
    desired: decide.Desired, state: MachineState, number: int, image: str, revision: Revision
) -> str:
    """Writes the record and containers into place, whole or not at all. Holds secrets: standard input only."""
    ports = caddy.choose_ports(desired.app, state.ports)
    # One salt for all of an app's releases on a machine: by it two records tell which variables differ.
    salts = [str(release.record["salt"]) for release in state.releases if release.record.get("salt")]
    salt = salts[-1] if salts else secrets.token_hex(16)
    record: dict[str, Any] = {
        "app": desired.app,
        "number": number,
        "image": image,
        "context": desired.context,
        "created": int(time.time()),
        "by": revision.by,
        "commit": revision.commit,
        "dirty": revision.dirty,
        "settings": desired.settings.as_json(),
        "salt": salt,
        "env": fingerprints(desired.values, salt),
    }
    contents: dict[str, Any] = {"release.json": record}
    for slot, port in zip(("a", "b"), ports, strict=True):
        contents[f"container.{slot}.json"] = container_body(
            app=desired.app,
            number=number,
            image=image,
            context=desired.context,
            values=desired.values,
            settings=desired.settings,
            host_port=port,
        )
    if decide.routes_differ(desired, state):
        contents["caddy.json"] = decide.proxy_config(desired, state)
    lines = [
        f"home=/var/lib/rehost/{desired.app}",
        'mkdir -p "$home/releases" && chmod 755 "$home" && chmod 700 "$home/releases" || exit 1',
        f'if [ -e "$home/releases/{number}" ]; then exit {_TAKEN}; fi',
        f"printf '%s %s\\n' {ports[0]} {ports[1]} >\"$home/ports.new\" || exit 1",
        'mv "$home/ports.new" "$home/ports" || exit 1',
        'rm -rf "$home/releases/.new" && mkdir "$home/releases/.new" && cd "$home/releases/.new" || exit 1',
    ]
    for name, content in contents.items():
        text = base64.b64encode(json.dumps(content).encode()).decode()
        lines += [f"base64 -d >{name} <<'REHOST_CONTENT' || exit 1", text, "REHOST_CONTENT"]
    lines += [
        "echo prepared >state && sync . || exit 1",
        f'cd / && mv -T "$home/releases/.new" "$home/releases/{number}" || exit 1',
    ]
    return "\n".join(lines)


@dataclass(slots=True)
class Progress:
    """What the release's log said; `reason` is why it failed, `log` the app's own last lines."""

    live: int = 0
    answer: str = ""
    reason: str = ""
    log: tuple[str, ...] = ()


async def switch(
    machine: Machine,
    order: Switch,
    *,
    prepare: str = "",
    serving: str,
    say: Callable[[str], None],
    log: Callable[[str], None],
) -> Progress:
    """Runs the release's unit to its end. Raises ReleaseFailed, or Refused when another release was in the way.

    serving: what still serves when this one fails, for the error.
    """
    seen = Progress()

    def line(text: str) -> None:
        word, _, rest = text.partition(" ")
        if word in ("@step", "@try"):
            say(rest)
        elif word == "@log":
            seen.log += (rest,)
            log(rest)
        elif word == "@fail":
            seen.reason = rest
        elif word == "@live":
            number, _, seen.answer = rest.partition(" ")
            seen.live = int(number)
        else:
            log(text)

    work = units.Work(
        unit=f"rehost-{order.app}-release.service",
        directory=f"/var/lib/rehost/{order.app}/release",
        about=f"rehost: release {order.number} of {order.app}",
        tag=str(order.number),
        script=order.script,
        prepare=prepare,
    )
    ended = await units.run_unit(machine, work, line)
    if ended.full:
        raise ReleaseFailed(
            f"release {order.number} of {order.app} was not made: {units.DISK_FULL}",
            where=machine.label,
            serving=serving,
            detail="\n".join(seen.log),
            cure=units.MORE_DISK,
        )
    if ended.prepared not in (0, None):
        raise Refused(
            f"release {order.number} was made by somebody else meanwhile."
            if ended.prepared == _TAKEN
            else f"the release could not be written to the machine (status {ended.prepared}).",
            where=machine.label,
            serving=serving,
            cure="Run the same command again: it looks at the machine anew.",
        )
    if ended.attached_tag is not None:
        raise Refused(
            f"release {ended.attached_tag} was being made already; it ended with status {ended.status}.",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        )
    if ended.status == _OVERTAKEN:
        raise Refused(
            f"release {order.number} of {order.app} was not made: {seen.reason}",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        )
    if ended.status != 0:
        raise ReleaseFailed(
            f"release {order.number} of {order.app} was not made: {seen.reason or f'status {ended.status}'}",
            where=machine.label,
            serving=serving,
            detail="\n".join(seen.log),
            cure=_DOCKER_AWAY if _AWAY.search(seen.reason) else _MEND,
        )
    return seen


def order_for(desired: decide.Desired, state: MachineState, number: int, image: str) -> Switch:
    """The switch to a new release."""
    prune = decide.to_prune(state, desired.keep, number)
    return Switch(
        app=desired.app,
        number=number,
        slot=decide.free_slot(state),
        ports=caddy.choose_ports(desired.app, state.ports),
        settings=desired.settings,
        hosts=desired.hosts,
        prune=prune,
        prune_images=unused_images(state, prune, image),
    )


def order_back(app: str, state: MachineState, record: Mapping[str, Any], hosts: tuple[str, ...]) -> Switch:
    """The switch to a release that the machine keeps: its own image, environment and settings."""
    return Switch(
        app=app,
        number=int(record["number"]),
        slot=decide.free_slot(state),
        ports=caddy.choose_ports(app, state.ports),
        settings=Settings.from_json(record["settings"]),
        hosts=hosts,
    )


def unused_images(state: MachineState, prune: Sequence[int], image: str) -> list[str]:
    """Images of this app that no release refers to any more once `prune` is gone."""
    used = {str(r.record.get("image")) for r in state.releases if r.number not in prune} | {image}
    return [found.id for found in state.images if found.id not in used]
