"""A release as data: its settings, its environment, and the container that Docker is asked for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from rehost.run.plan import Change
from rehost.run.secret import Secret


class Settings(NamedTuple):
    """What of a release is neither image nor environment. memory in bytes, times in seconds.

    health: the path that the gate asks; statuses from health_low to health_high count as healthy.
    volumes: "name:/path in the container".
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

    def as_json(self) -> dict[str, Any]:
        # Without volumes a record looks as those from before there were any.
        rest = {name: value for name, value in self._asdict().items() if name != "volumes"}
        return {**rest, "volumes": list(self.volumes)} if self.volumes else rest

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        known = {name: data[name] for name in cls._fields if name != "volumes"}
        return cls(**known, volumes=tuple(data.get("volumes", ())))


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


def container_body(
    *,
    app: str,
    number: int,
    image: str,
    context: str,
    values: Mapping[str, Secret],
    settings: Settings,
    host_port: int,
) -> dict[str, Any]:
    """The body of Docker's `POST /containers/create` (Engine API 1.41). Holds the environment in clear: 0600.

    The restart policy is "no" until the release has proved itself: one that dies at once says so instead of
    coming back again and again. Published on 127.0.0.1 only, since Docker publishes past the firewall.
    """
    port = f"{settings.port}/tcp"
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
            "RestartPolicy": {"Name": "no"},
            "SecurityOpt": ["no-new-privileges:true"],
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": str(host_port)}]},
            "Mounts": [_mount(app, volume) for volume in settings.volumes],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "10"}},
        },
    }


def volume_name(app: str, name: str) -> str:
    """Docker's name for an app's volume. No app's name holds a dot, so no two apps meet in one volume."""
    return f"{app}.{name}"


def _mount(app: str, volume: str) -> dict[str, Any]:
    """Engine API 1.41, `Mount`. Docker makes the volume where it is not there."""
    name, _, path = volume.partition(":")
    return {
        "Type": "volume",
        "Source": volume_name(app, name),
        "Target": path,
        "VolumeOptions": {"Labels": {"rehost.app": app}},
    }


def environment_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """What differs between two sets of fingerprints, by name and never by value."""
    changes = []
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            before = "set" if name in old else None
            after = ("changed" if name in old else "set") if name in new else None
            changes.append(Change(f"env {name}", before, after))
    return changes


def settings_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two settings."""
    return [
        Change(name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
