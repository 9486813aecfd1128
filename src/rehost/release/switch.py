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
from rehost.machine.told import Told
from rehost.project.sizes import show_size
from rehost.release import decide, jobs, processes, prune
from rehost.release.container import Revision, Settings, container_body, fingerprints
from rehost.run.engine import Doing
from rehost.run.errors import Refused, RehostError

# What release.sh and docker(1) say when Docker itself is not there.
_AWAY: Final = re.compile(r"Docker.*(no answer|does not answer|error during connect|[Cc]annot connect)")
_DOCKER_AWAY: Final = (
    "Run `rehost up` again: it starts Docker where it does not run (`systemctl status docker` there)."
)
_MEND: Final = "Mend the cause (the app's own last lines are shown), then run `rehost up` again."
_MORE_MEMORY: Final = (
    "Raise `memory` under [run] in rehost.toml, or find what eats it (the app's own last lines are shown); then run "
    "`rehost up` again."
)
_TAKEN: Final = 71
_PORTS_TAKEN: Final = 72
_OVERTAKEN: Final = 4  # of release.sh
_UNWELL: Final = 5


class ReleaseFailed(RehostError):
    """The new release did not prove itself; what served before still does."""


class PortsTaken(Refused):
    """Another app was first; the machine is to be looked at anew."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Parameters of release.sh. prune: numbers of releases to drop; prune_images: ids of images that go with them."""

    app: str
    number: int
    slot: caddy.Slot
    ports: tuple[int, int]
    settings: Settings
    hosts: tuple[str, ...]
    by: str = ""
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
            "OLD_PORT": old_port,
            "HOST": self.settings.health_host,
            "PROXY_HOST": self.hosts[0] if self.hosts else self.settings.health_host,
            "ANY": "" if self.hosts else "yes",
            "HEALTH": self.settings.health,
            "LOW": self.settings.health_low,
            "HIGH": self.settings.health_high,
            "DEADLINE": self.settings.health_deadline,
            "MEMORY": show_size(self.settings.memory),
            "DRAIN": self.settings.drain,
            "GRACE": self.settings.stop_grace,
            "WATCH": self.settings.watch_for,
            "BEFORE_LIMIT": self.settings.before_release_limit,
            "EXCLUSIVE": "yes" if self.settings.exclusive else "",
            "BY": self.by,
            "PRUNE": " ".join(map(str, self.prune)),
            "PRUNE_IMAGES": " ".join(self.prune_images),
        }
        head = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
        here = Path(__file__).parent
        parts = ("containers.sh", "keep.sh", "beside.sh", "release.sh")
        return head + "".join((here / name).read_text() for name in parts)


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
    if desired.image:
        record["source"] = desired.image
    if desired.files:
        record["files"] = fingerprints(desired.files, salt)
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
            secret_files=bool(desired.files),
        )
    web = contents["container.a.json"]
    contents |= processes.files(web, desired.settings.processes)
    contents |= jobs.files(desired.app, web, desired.settings.jobs, desired.settings.stop_grace)
    if desired.settings.before_release:
        contents["before.json"] = {
            **processes.beside(web, "", desired.settings.memory),
            "Cmd": desired.settings.before_release,
            "Labels": {**web["Labels"], "rehost.process": "before_release"},
        }
    if decide.routes_differ(desired, state):
        contents["caddy.json"] = decide.proxy_config(desired, state)
        contents["route.json"] = caddy.route(desired.app, ports, desired.hosts)
    lines = [
        f"home=/var/lib/rehost/{desired.app}",
        'mkdir -p "$home/releases" && chmod 755 "$home" && chmod 700 "$home/releases" || exit 1',
        f'if [ -e "$home/releases/{number}" ]; then exit {_TAKEN}; fi',
        *_claim_ports(ports),
        'rm -rf "$home/releases/.new" && mkdir "$home/releases/.new" && cd "$home/releases/.new" || exit 1',
    ]
    for name, content in contents.items():
        written = content if isinstance(content, str) else json.dumps(content)
        text = base64.b64encode(written.encode()).decode()
        lines += [f"base64 -d >{name} <<'REHOST_CONTENT' || exit 1", text, "REHOST_CONTENT"]
    if desired.files:
        # Any user of the container may read them; on the machine nobody but root gets as far as this directory.
        lines.append("mkdir secrets && chmod 755 secrets || exit 1")
    for name, secret in desired.files.items():
        file = shlex.quote(f"secrets/{name}")
        lines += [f"base64 -d >{file} <<'REHOST_CONTENT' || exit 1", secret.reveal(), "REHOST_CONTENT"]
        lines.append(f"chmod 444 {file} || exit 1")
    lines += [
        "echo prepared >state && sync . || exit 1",
        f'cd / && mv -T "$home/releases/.new" "$home/releases/{number}" || exit 1',
    ]
    return "\n".join(lines)


def _claim_ports(ports: tuple[int, int]) -> list[str]:
    """Writes the app's ports down, unless another app that came at the same moment has: they were chosen from afar."""
    return [
        'exec 9>>"${home%/*}/ports.lock" && flock 9 || exit 1',
        'for other in "${home%/*}"/*/ports; do',
        '  if [ "$other" != "$home/ports" ] && [ -f "$other" ]; then',
        f'    case " $(cat "$other") " in *" {ports[0]} "* | *" {ports[1]} "*) exit {_PORTS_TAKEN} ;; esac',
        "  fi",
        "done",
        f"printf '%s %s\\n' {ports[0]} {ports[1]} >\"$home/ports.new\" || exit 1",
        'mv "$home/ports.new" "$home/ports" && exec 9>&- || exit 1',
    ]


async def switch(
    machine: Machine,
    order: Switch,
    *,
    prepare: str = "",
    serving: str,
    say: Callable[[str], None],
    log: Callable[[str], None],
    served: Callable[[], None] = lambda: None,
) -> Told:
    """Runs the release's unit to its end. Raises ReleaseFailed, or Refused when another release was in the way.

    serving: what still serves when this one fails, for the error. served: called when the new one does.
    """
    seen = Told()
    work = units.Work(
        unit=f"rehost-{order.app}-release.service",
        directory=f"/var/lib/rehost/{order.app}/release",
        about=f"rehost: release {order.number} of {order.app}",
        tag=str(order.number),
        script=order.script,
        prepare=prepare,
    )
    ended = await units.run_unit(machine, work, seen.reader(say, log, served))
    if ended.full:
        raise ReleaseFailed(
            f"release {order.number} of {order.app} was not made: {units.DISK_FULL}",
            where=machine.label,
            serving=serving,
            detail="\n".join(seen.log),
            cure=units.MORE_DISK,
        )
    if ended.prepared == _PORTS_TAKEN:
        raise PortsTaken(
            f"another app of the machine took the local ports that {order.app} was to have.",
            where=machine.label,
            serving=serving,
            cure="Run the same command again: it looks at the machine anew.",
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
        what = f"release {ended.attached_tag}" if ended.attached_tag.isdigit() else "a move of data"
        raise Refused(
            f"{what} was being made already{f' by {seen.by}' if seen.by else ''}; "
            f"it ended with status {ended.status}.",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        )
    if ended.status == _OVERTAKEN:
        raise Refused(
            f"release {order.number} of {order.app} was not made: {seen.reason}",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        )
    down = f"; nothing served for {seen.down:.1f} s" if seen.down else ""
    if ended.status == _UNWELL:
        raise ReleaseFailed(
            f"release {order.number} of {order.app} serves, but is not well: {seen.reason}",
            where=machine.label,
            serving=f"release {order.number}, which is not well",
            detail="\n".join(seen.log),
            cure=_cure(seen.reason),
        )
    if ended.status != 0:
        raise ReleaseFailed(
            f"release {order.number} of {order.app} was not made: {seen.reason or f'status {ended.status}'}{down}",
            where=machine.label,
            serving=serving,
            detail="\n".join(seen.log),
            cure=_cure(seen.reason),
        )
    return seen


def _cure(reason: str) -> str:
    """What to do about a release that failed."""
    if "memory limit" in reason:
        return _MORE_MEMORY
    return _DOCKER_AWAY if _AWAY.search(reason) else _MEND


def tell(seen: Told, settings: Settings, doing: Doing) -> None:
    """Says how a release ended that went well."""
    away = f", after {seen.down:.1f} s in which nothing served" if seen.down else ""
    doing.note(f"release {seen.live} serves{away}; {settings.health} answers {seen.answer}")
    if seen.drain:
        doing.note(seen.drain)
    if seen.left:
        doing.warning(seen.left)


def order_for(desired: decide.Desired, state: MachineState, number: int, image: str) -> Switch:
    """The switch to a new release."""
    drop = prune.to_prune(state, desired.keep, number)
    return Switch(
        app=desired.app,
        number=number,
        slot=decide.free_slot(state),
        ports=caddy.choose_ports(desired.app, state.ports),
        settings=desired.settings,
        hosts=desired.hosts,
        prune=drop,
        prune_images=prune.unused_images(state, desired.app, drop, image),
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
