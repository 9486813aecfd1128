"""The fields of the one service that moves, each taken to where it stands in rehost.toml, or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rehost.project.sizes import show_duration
from rehost.project.values import domain_name, web_path
from rehost.source import render
from rehost.source.names import app_name
from rehost.source.report import Ledger, Settings
from rehost.source.yaml_text import Mapped, Text

PREFIX = "service."
_UNREADABLE = ("it is not understood", "set it in rehost.toml by hand")


def kind_of(service: Mapped) -> str:
    """web, pserv, worker, cron, keyvalue or static; old files say redis, and write static sites in three ways."""
    kind = service.get("type", "")
    runtime = service.get("runtime") or service.get("env")
    if kind == "static" or (kind == "web" and runtime == "static"):
        return "static"
    if kind == "redis":
        return "keyvalue"
    return kind if isinstance(kind, str) and kind else "untyped"


def carry_field(key: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    """Take one field over; it lands in one list of the ledger."""
    name = PREFIX + key
    carry = _CARRY.get(key)
    if carry is not None:
        return carry(name, value, settings, ledger)
    why, todo = _LEFT.get(key, ("rehost does not know this key", "see whether the app needs it"))
    ledger.leave(name, why, todo)
    return settings


def _type(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if value == "web":
        ledger.carry(name, "the app behind the proxy")
    else:
        ledger.change(name, "a private service at Render; on the machine the proxy answers for it in public")
    return settings


def _name(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if not isinstance(value, str) or not value:
        ledger.leave(name, *_UNREADABLE)
        return settings
    app = app_name(value)
    if app == value:
        ledger.carry(name, "app")
    else:
        ledger.change(name, f'app = "{app}": machines are named after it, "{value}" is not allowed there')
    return replace(settings, app=app)


def _runtime(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if value == "docker":
        ledger.carry(name, "[build]")
    elif value == "image":
        ledger.leave(name, "rehost builds the image itself", "write a Dockerfile: one line, FROM that image")
    else:
        ledger.leave(
            name,
            f"at Render {value} builds without a Dockerfile; rehost builds from one",
            "write a Dockerfile with the build and start commands in it",
        )
    return settings


def _path(attribute: str, key: str) -> Callable[[str, Text, Settings, Ledger], Settings]:
    def carry(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
        if not isinstance(value, str) or not value:
            ledger.leave(name, *_UNREADABLE)
            return settings
        ledger.carry(name, key)
        found: dict[str, str] = {attribute: value}
        return replace(settings, **found)  # type: ignore[arg-type]

    return carry


def _health(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    try:
        path = web_path(value)
    except ValueError:
        ledger.leave(
            name, "it is not the path of a request", 'set run.health in rehost.toml, as in "/health"'
        )
        return settings
    ledger.change(
        name, "run.health; 2xx is healthy, where Render takes 3xx too (run.health_status changes that)"
    )
    return replace(settings, health=path)


def _shutdown(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isdecimal()
        or not 1 <= int(value) <= 300
    ):
        ledger.leave(name, "it is not a number of seconds from 1 to 300", "set run.stop_grace in rehost.toml")
        return settings
    ledger.carry(name, "run.stop_grace")
    return replace(settings, stop_grace=show_duration(int(value)))


def _region(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    zone = render.ZONES.get(str(value))
    if zone is None:
        ledger.leave(name, "rehost does not know this region", "choose machine.zone in rehost.toml")
        return settings
    free = "is" if render.is_free(zone) else f"is not (only {', '.join(render.FREE_REGIONS)} are)"
    ledger.change(name, f'machine.zone = "{zone}", the nearest of Google\'s; it {free} in the free tier')
    return replace(settings, zone=zone)


def _plan(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    room = render.PLANS.get(str(value).casefold().replace("-", " ").replace("_", " "))
    if room is None:
        ledger.leave(
            name, "rehost does not know this plan", "choose machine.type and run.memory in rehost.toml"
        )
        return settings
    ledger.change(
        name, f'machine.type = "{room.machine}" and run.memory = "{room.memory}", the nearest to the plan'
    )
    return replace(settings, machine=room.machine, memory=room.memory)


def _domains(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if not value:
        ledger.leave(name, "it is empty")
        return settings
    for number, domain in enumerate(value if isinstance(value, list) else [value]):
        shown = f"{name}.{domain if isinstance(domain, str) else number}"
        try:
            valid = domain_name(domain)
        except ValueError:
            ledger.leave(shown, "it is not one domain name in lower case", "set domain.name in rehost.toml")
            continue
        if settings.domain is None:
            ledger.carry(shown, "domain.name")
            settings = replace(settings, domain=valid)
        else:
            ledger.leave(shown, "rehost serves one name per app", "redirect it to domain.name at your DNS")
    return settings


def _instances(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if value == "1":
        ledger.carry(name, "one container on one machine")
    else:
        ledger.leave(name, "rehost runs one machine per app", "choose a machine.type that carries the load")
    return settings


_CARRY: dict[str, Callable[[str, Text, Settings, Ledger], Settings]] = {
    "type": _type,
    "name": _name,
    "runtime": _runtime,
    "env": _runtime,  # its name in old files
    "rootDir": _path("root", "[build], whose paths begin there"),
    "dockerfilePath": _path("dockerfile", "build.dockerfile"),
    "dockerContext": _path("context", "build.context"),
    "healthCheckPath": _health,
    "maxShutdownDelaySeconds": _shutdown,
    "region": _region,
    "plan": _plan,
    "domain": _domains,
    "domains": _domains,
    "numInstances": _instances,
}

_SHIPS = ("rehost ships the files of this directory, not a repository", "")
_IN_DOCKERFILE = "rehost starts the image as its Dockerfile says"
_TYPED = (
    "a deploy happens when somebody types rehost deploy",
    "after the move, turn auto-deploy off at Render, or it goes on deploying there",
)
_PREVIEWS = ("rehost makes no preview environments", "")
_LEFT: dict[str, tuple[str, str]] = {
    "repo": _SHIPS,
    "branch": _SHIPS,
    "buildFilter": _TYPED,
    "autoDeploy": _TYPED,
    "autoDeployTrigger": _TYPED,
    "previews": _PREVIEWS,
    "pullRequestPreviewsEnabled": _PREVIEWS,
    "previewPlan": _PREVIEWS,
    "buildCommand": ("rehost builds from a Dockerfile", "write it into the Dockerfile as RUN"),
    "startCommand": (_IN_DOCKERFILE, "write it into the Dockerfile as CMD"),
    "dockerCommand": (_IN_DOCKERFILE, "write it into the Dockerfile as CMD"),
    "preDeployCommand": (
        "rehost runs no command before a release",
        "run it by hand (rehost exec), or let the app do it when it starts",
    ),
    "initialDeployHook": ("rehost runs no command after the first release", "run it by hand (rehost exec)"),
    "image": ("rehost builds the image itself", "write a Dockerfile: one line, FROM that image"),
    "registryCredential": (
        "rehost holds no registry's password",
        "make the base image public, or log in to the registry on the machine",
    ),
    "scaling": ("rehost runs one machine per app", "choose a machine.type that carries the load"),
    "disk": (
        "rehost gives the container no lasting disk: what it writes is gone with the next release",
        "keep the files in a database or object store before the app moves",
    ),
    "ipAllowList": (
        "the firewall lets everybody to ports 80 and 443",
        "narrow the addresses in the app, or at what stands in front of it",
    ),
    "renderSubdomainPolicy": ("it is about Render's own subdomain", ""),
    "maintenanceMode": ("rehost has no maintenance page", "see that it is off"),
    "port": ("Render does not read it; rehost asks the Dockerfile", "see that run.port is right"),
}
