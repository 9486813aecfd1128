"""A release as data: its settings, its environment, and the container that Docker is asked for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from rehost.release.jobs import Job
from rehost.release.processes import Process
from rehost.run.plan import Change
from rehost.run.secret import Secret

# A share of the processor, for what answers requests: where there is too little for all, it goes before what can wait,
# a build on the machine above all. Eight times a build's with cgroup v1, three times with v2 as Docker converts it.
FIRST: Final = 8192


class Settings(NamedTuple):
    """What of a release is neither image nor environment. memory in bytes, times in seconds.

    health: the path that the gate asks; statuses from health_low to health_high count as healthy.
    volumes: "name:/path in the container". before_release: the command's words. exclusive: two of its containers may
    never run at once. network: its containers join the app's own, where its services are.
    """

    port: int
    health: str
    health_low: int
    health_high: int
    health_host: str
    health_deadline: int
    memory: int
    stop_grace: int
    volumes: tuple[str, ...] = ()
    processes: Mapping[str, Process] = MappingProxyType({})
    jobs: Mapping[str, Job] = MappingProxyType({})
    network: bool = False
    drain: int = 30
    watch_for: int = 0
    before_release: tuple[str, ...] = ()
    before_release_limit: int = 600
    exclusive: bool = False

    def as_json(self) -> dict[str, Any]:
        # A record without these looks as those from before there were any.
        later: dict[str, Any] = {
            "volumes": list(self.volumes),
            "processes": {name: process._asdict() for name, process in self.processes.items()},
            "jobs": {name: job._asdict() for name, job in self.jobs.items()},
            "before_release": list(self.before_release),
        }
        for name in ("drain", "watch_for", "before_release_limit", "exclusive", "network"):
            value = getattr(self, name)
            later[name] = value if value != self._field_defaults[name] else None
        rest = {name: value for name, value in self._asdict().items() if name not in later}
        return {**rest, **{name: value for name, value in later.items() if value}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        known = {name: data[name] for name in cls._fields if name in data or name not in cls._field_defaults}
        for name in {"volumes", "before_release"} & known.keys():
            known[name] = tuple(known[name])
        if "processes" in known:
            known["processes"] = {name: Process(**one) for name, one in known["processes"].items()}
        if "jobs" in known:
            known["jobs"] = {name: Job(**one) for name, one in known["jobs"].items()}
        return cls(**known)


class Revision(NamedTuple):
    """Where the code came from. commit is "" outside git."""

    by: str
    commit: str
    dirty: bool


def environment(
    values: Mapping[str, Secret], port: int, platform: Mapping[str, str] | None = None
) -> dict[str, Secret]:
    """What the container gets: the user's variables, and PORT and `platform` where they don't name them.

    platform: what the sources expect of the platform that they ran on (project/platform.py).
    """
    expected = {name: Secret(value) for name, value in (platform or {}).items()}
    return {"PORT": Secret(str(port)), **expected, **values}


def fingerprints(values: Mapping[str, Secret], salt: str) -> dict[str, str]:
    """One keyed digest a variable, to tell later which changed without keeping a second copy of the values."""
    return {
        name: hmac.new(salt.encode(), f"{name}={value.reveal()}".encode(), hashlib.sha256).hexdigest()[:24]
        for name, value in sorted(values.items())
    }


def secrets_place(app: str, number: int) -> str:
    """Where the machine keeps a release's secret files. The directories above it let root alone pass."""
    return f"/var/lib/rehost/{app}/releases/{number}/secrets"


def container_body(
    *,
    app: str,
    number: int,
    image: str,
    context: str,
    values: Mapping[str, Secret],
    settings: Settings,
    host_port: int,
    secret_files: bool = False,
) -> dict[str, Any]:
    """The body of Docker's `POST /containers/create` (Engine API 1.41). Holds the environment in clear: 0600.

    The restart policy is "no" until the release has proved itself: one that dies at once says so instead of
    coming back again and again. Published on 127.0.0.1 only, since Docker publishes past the firewall.
    secret_files: the release has some.
    """
    port = f"{settings.port}/tcp"
    network = {"NetworkMode": network_name(app)} if settings.network else {}
    return {
        "Image": image,
        "Env": [f"{name}={value.reveal()}" for name, value in sorted(values.items())],
        "Labels": {"rehost.app": app, "rehost.release": str(number), "rehost.context": context},
        "ExposedPorts": {port: {}},
        "StopTimeout": settings.stop_grace,
        "HostConfig": {
            "Memory": settings.memory,
            # Twice the memory: as much swap as memory, Docker's own default, said aloud.
            "MemorySwap": 2 * settings.memory,
            "CpuShares": FIRST,
            "RestartPolicy": {"Name": "no"},
            "SecurityOpt": ["no-new-privileges:true"],
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": str(host_port)}]},
            "Mounts": mounts(app, number, settings, secret_files=secret_files),
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "10"}},
            **network,
        },
    }


def mounts(app: str, number: int, settings: Settings, *, secret_files: bool) -> list[dict[str, Any]]:
    """What of the machine a container of a release sees: its volumes, and its secret files read-only."""
    found = [mount(app, volume) for volume in settings.volumes]
    if secret_files:
        # Without "CreateMountpoint": Docker refuses a container whose files are gone.
        source = secrets_place(app, number)
        found.append({"Type": "bind", "Source": source, "Target": "/etc/secrets", "ReadOnly": True})
    return found


def volume_name(app: str, name: str) -> str:
    """Docker's name for an app's volume. No app's name holds a dot, so no two apps meet in one volume."""
    return f"{app}.{name}"


def network_name(app: str) -> str:
    """Docker's name for an app's own network."""
    return f"rehost-{app}"


def mount(app: str, volume: str) -> dict[str, Any]:
    """Engine API 1.41, `Mount`. Docker makes the volume where it is not there."""
    name, _, path = volume.partition(":")
    return {
        "Type": "volume",
        "Source": volume_name(app, name),
        "Target": path,
        "VolumeOptions": {"Labels": {"rehost.app": app}},
    }


def environment_changes(old: Mapping[str, str], new: Mapping[str, str], kind: str = "env") -> list[Change]:
    """What differs between two sets of fingerprints, by name and never by value. kind: "env" or "secret file"."""
    changes = []
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            before = "set" if name in old else None
            after = ("changed" if name in old else "set") if name in new else None
            changes.append(Change(f"{kind} {name}", before, after))
    return changes


def settings_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two settings; within tables by their keys, "processes.worker.command"."""
    old, new = _flat(old), _flat(new)
    return [
        Change(name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _flat(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = value
    return flat
