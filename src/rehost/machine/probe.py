"""One read of a machine's state: the script, and what its answer means."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from rehost.machine.ssh import Machine, MachineError

# What bootstrap holds in place; the probe reads them so that drift shows in the plan.
PACKAGES: Final = ("docker.io", "caddy", "ca-certificates", "curl", "unattended-upgrades", "apparmor")
FILES: Final = (
    "/etc/docker/daemon.json",
    "/etc/apt/apt.conf.d/20auto-upgrades",
    "/etc/systemd/journald.conf.d/rehost.conf",
    "/etc/ssh/sshd_config.d/60-rehost.conf",
    "/etc/systemd/logind.conf.d/rehost.conf",
    "/etc/sysctl.d/90-rehost.conf",
    "/etc/systemd/system/caddy-api.service.d/rehost.conf",
    "/etc/systemd/system/docker.service.d/rehost.conf",
    "/var/lib/rehost/bootstrap/end-containers",
)
# Debian's names of architectures that Docker calls otherwise.
DOCKER_NAMES: Final = {"armhf": "arm", "armel": "arm", "i386": "386", "ppc64el": "ppc64le"}
# Labels of what is no web process.
PARTS: Final = ("process", "job", "service")


class Unit(NamedTuple):
    """A systemd unit as `systemctl show` tells it."""

    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    result: str = ""

    @property
    def running(self) -> bool:
        return self.active in ("active", "activating", "reloading")


class Container(NamedTuple):
    """A container that carries our label, of this app or another. app: "" for one that somebody runs by hand from an
    app's image, which has that label too.

    part: "" for a web process, else its kind and name, "process:worker".
    """

    id: str
    name: str
    app: str
    release: int
    state: str
    status: str
    image: str
    ports: tuple[int, ...]
    part: str = ""


class Image(NamedTuple):
    id: str
    tags: tuple[str, ...]
    context: str
    size: int
    created: int


class ReleaseRecord(NamedTuple):
    """A release as the machine keeps it; `record` is release.json."""

    number: int
    state: str
    record: Mapping[str, Any]


class Health(NamedTuple):
    """What the app answered through the proxy. status 0: no answer. seconds: how long it took."""

    status: int
    seconds: float
    text: str


class MachineState(NamedTuple):
    """What one probe saw. Sizes in bytes. jobs: the unit files of the app's jobs, services: records, by name.

    platform: what Docker there runs, as it names that ("linux/amd64"); "" when it does not answer.
    moving: how far a move of data is that is under way or was cut off, "" for none. moved: records of those made.
    """

    os_id: str
    os_version: str
    os_name: str
    cpus: int
    memory: int
    memory_available: int
    swap: int
    swap_free: int
    swap_files: tuple[str, ...]
    disk: int
    disk_free: int
    uptime: float
    packages: Mapping[str, str]
    files: Mapping[str, bytes | None]
    units: Mapping[str, Unit]
    bootstrap: Mapping[str, str]
    containers: tuple[Container, ...]
    images: tuple[Image, ...]
    caddy: Mapping[str, Any] | None
    caddy_text: str  # what it was read from
    ports: Mapping[str, tuple[int, int]]
    live_slot: str
    current: int
    health: Health | None = None
    releases: tuple[ReleaseRecord, ...] = ()
    platform: str = ""
    jobs: Mapping[str, str] = MappingProxyType({})
    services: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    moving: str = ""
    moved: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def unit(self, name: str) -> Unit:
        return self.units.get(name, Unit())

    def release(self, number: int) -> ReleaseRecord | None:
        return next((release for release in self.releases if release.number == number), None)

    def container(self, app: str, release: int) -> Container | None:
        """The web process of a release."""
        return self.part(app, release, "")

    def part(self, app: str, release: int, part: str) -> Container | None:
        """What runs beside it; see `Container.part`."""
        found = (c for c in self.containers if (c.app, c.release, c.part) == (app, release, part))
        return next(found, None)


def script(app: str, health: str = "/", host: str = "localhost") -> str:
    """The probe as one POSIX sh script. health and host: what to ask the app for, and under which name.

    Sections of the answer begin with a mark that nobody can know before, so that no app can forge one.
    """
    head = {
        "MARK": f"@@{secrets.token_hex(8)}",
        "APP": app,
        "PACKAGES": " ".join(PACKAGES),
        "FILES": " ".join(FILES),
        "HEALTH": health,
        "HOST": host,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in head.items()]
    return "\n".join(lines) + "\n" + Path(__file__).with_name("probe.sh").read_text()


async def probe(machine: Machine, app: str, health: str = "/", host: str = "localhost") -> MachineState:
    """Reads everything in one exec. health and host: what to ask the app for, and under which name."""
    output = await machine.run(script(app, health, host), what="the probe", public=True)
    try:
        return parse(output.stdout)
    except (KeyError, ValueError, IndexError) as fault:
        raise MachineError(
            f"the probe's answer could not be read: {fault!r}",
            where=machine.label,
            detail=output.stdout[-2000:],
            cure="Is this Debian or Ubuntu with systemd? If it is, this is a fault in rehost.",
        ) from fault


def parse(text: str) -> MachineState:
    """Raises KeyError or ValueError when the text is not a whole probe."""
    parts = _sections(text)
    if "end" not in parts:
        raise ValueError("the probe broke off")
    texts = _texts(parts["texts"])
    os_release = _pairs(texts["/etc/os-release"], "=")
    memory = {key: int(value.split()[0]) * 1024 for key, value in _pairs(texts["/proc/meminfo"], ":").items()}
    size, available = parts["disk"][1].split()[-2:]  # before them the mount point, which may hold spaces
    live, current = _live(texts)
    swaps = _swaps(texts["/proc/swaps"])
    caddy_text = "\n".join(parts.get("caddy", [])).strip()
    return MachineState(
        os_id=os_release.get("ID", ""),
        os_version=os_release.get("VERSION_ID", ""),
        os_name=os_release.get("PRETTY_NAME", ""),
        cpus=int(parts["cpus"][0]),
        memory=memory["MemTotal"],
        memory_available=memory["MemAvailable"],
        swap=sum(size for _, size, _ in swaps),
        swap_free=sum(size - used for _, size, used in swaps),
        swap_files=tuple(name for name, _, _ in swaps),
        disk=int(size),
        disk_free=int(available),
        uptime=float(texts["/proc/uptime"][0].split()[0]),
        packages=_packages(parts["packages"]),
        files={name: _file(texts.get(name)) for name in FILES},
        units=_units(parts["units"]),
        bootstrap=_pairs(texts.get("/var/lib/rehost/bootstrap/state", []), "="),
        platform=_platform(parts),
        # Where there is no curl yet, these sections don't even begin.
        containers=tuple(_container(item) for item in _json(parts.get("containers", [])) or []),
        images=_images(_json(parts.get("images", [])), _json(parts.get("tagged", []))),
        caddy=_caddy(caddy_text),
        caddy_text=caddy_text,
        ports=_ports(texts),
        live_slot=live,
        current=current,
        health=_health(parts["health"]),
        releases=_releases(texts),
        services={
            name: json.loads("".join(lines))
            for name, lines in _named(texts, r"/services/([^/]+)/service\.json$")
        },
        moving=next(("".join(lines) for _, lines in _named(texts, r"(/moving/step)$")), ""),
        moved={
            name: json.loads("".join(lines)) for name, lines in _named(texts, r"/moving/([^/]+)/moved\.json$")
        },
        jobs={
            name: (_file(lines) or b"").decode()
            for name, lines in _named(texts, r"^/etc/systemd/system/(rehost-[^/]*\.job\.[^/]*)$")
        },
    )


def _sections(text: str) -> dict[str, list[str]]:
    """The lines of each section. The first line begins with the mark."""
    mark = text.partition(" ")[0] + " "
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):  # no other line end: JSON and the app's answer may hold those
        if line.startswith(mark):
            lines = parts.setdefault(line[len(mark) :], [])
        else:
            lines.append(line)
    return parts


def _texts(lines: list[str]) -> dict[str, list[str]]:
    """The lines of each file. One that is not there is missing here, and so is an empty one."""
    texts: dict[str, list[str]] = {}
    for line in filter(None, lines):
        path, content = line.split(":", 1)
        texts.setdefault(path, []).append(content)
    return texts


def _file(lines: list[str] | None) -> bytes | None:
    return None if lines is None else "".join(f"{line}\n" for line in lines).encode()


def _pairs(lines: list[str], separator: str) -> dict[str, str]:
    pairs = (line.split(separator, 1) for line in lines if separator in line)
    return {key.strip(): value.strip().strip('"') for key, value in pairs}


def _json(lines: list[str]) -> Any:
    text = "\n".join(lines).strip()
    if not text:
        return None
    found = json.loads(text)
    # Docker answers an error as {"message": ...}; for a list that means that there is none to be had.
    return None if isinstance(found, dict) and set(found) == {"message"} else found


def _caddy(text: str) -> Mapping[str, Any] | None:
    """None when Caddy does not answer; {} when it runs without a configuration."""
    if not text:
        return None
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _swaps(lines: list[str]) -> list[tuple[str, int, int]]:
    """Name, size and used bytes of each swap area (proc(5), /proc/swaps: sizes in KiB)."""
    rows = (line.split() for line in lines[1:] if line.strip())
    return [(name, int(size) * 1024, int(used) * 1024) for name, _, size, used, *_ in rows]


def _packages(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, status, *version = line.split()
        # Wanted and actual state; what is on hold ("hi") is installed too (dpkg-query(1)).
        if status[1:] == "i":
            found[name] = version[0] if version else ""
    return found


def _platform(parts: Mapping[str, list[str]]) -> str:
    """Debian's architecture, in Docker's words. That of curl: without it nobody would have asked Docker."""
    if "".join(parts["docker"]).strip() != "OK":
        return ""
    names = [line.split()[-1] for line in parts["packages"] if line.startswith("curl ")]
    return "".join(f"linux/{DOCKER_NAMES.get(name, name)}" for name in names)


def _units(lines: list[str]) -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for block in "\n".join(lines).split("\n\n"):
        fields = _pairs(block.splitlines(), "=")
        if name := fields.get("Id", ""):
            units[name] = Unit(
                fields.get("ActiveState", ""),
                fields.get("SubState", ""),
                fields.get("UnitFileState", ""),
                fields.get("Result", ""),
            )
    return units


def _container(item: Mapping[str, Any]) -> Container:
    labels = item.get("Labels") or {}
    ours = "rehost.release" in labels or "rehost.service" in labels
    return Container(
        id=item["Id"],
        name=(item.get("Names") or ["/"])[0].lstrip("/"),
        app=labels.get("rehost.app", "") if ours else "",
        release=int(labels.get("rehost.release", 0)),
        state=item.get("State", ""),
        status=item.get("Status", ""),
        image=item.get("ImageID", ""),
        ports=tuple(port["PublicPort"] for port in item.get("Ports") or [] if "PublicPort" in port),
        part=next((f"{kind}:{labels[f'rehost.{kind}']}" for kind in PARTS if f"rehost.{kind}" in labels), ""),
    )


def _images(labelled: Any, tagged: Any) -> tuple[Image, ...]:
    """Images with our label, and those with our name alone: pulled ones can't be given a label."""
    found = {item["Id"]: _image(item) for item in (*(labelled or ()), *(tagged or ()))}
    return tuple(found.values())


def _image(item: Mapping[str, Any]) -> Image:
    labels = item.get("Labels") or {}
    return Image(
        id=item["Id"],
        tags=tuple(item.get("RepoTags") or ()),
        context=labels.get("rehost.context", ""),
        size=int(item.get("Size", 0)),
        created=int(item.get("Created", 0)),
    )


def _named(texts: Mapping[str, list[str]], pattern: str) -> Iterator[tuple[str, list[str]]]:
    """What the pattern's group finds in a path, and the lines of that file."""
    for path, lines in texts.items():
        if found := re.search(pattern, path):
            yield found[1], lines


def _ports(texts: Mapping[str, list[str]]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for app, lines in _named(texts, r"/([^/]+)/ports$"):
        first, second = lines[0].split()
        found[app] = (int(first), int(second))
    return found


def _live(texts: Mapping[str, list[str]]) -> tuple[str, int]:
    """The slot that takes traffic and the number of its release; ("", 0) before the first release. b wins."""
    slots = {slot: int(lines[0]) for slot, lines in _named(texts, r"/live/([ab])$")}
    slot = max(slots, default="")
    return slot, slots.get(slot, 0)


def _health(lines: list[str]) -> Health | None:
    if not lines:
        return None
    status, seconds = lines[-1].split()
    return Health(int(status), float(seconds), "\n".join(lines[:-1]).replace("\r", "").strip())


def _releases(texts: Mapping[str, list[str]]) -> tuple[ReleaseRecord, ...]:
    states = {number: lines[0] for number, lines in _named(texts, r"/releases/(\d+)/state$")}
    records = dict(_named(texts, r"/releases/(\d+)/release\.json$"))
    return tuple(
        ReleaseRecord(int(number), states.get(number, "prepared"), json.loads("\n".join(lines)))
        for number, lines in sorted(records.items(), key=lambda item: int(item[0]))
    )
