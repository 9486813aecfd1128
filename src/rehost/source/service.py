"""The fields of the one service that moves, each taken to where it stands in rehost.toml, or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rehost.project.sizes import show_duration
from rehost.project.values import domain_name, web_path
from rehost.source import commands, native_caddy, prebuilt, render, volumes
from rehost.source.names import app_name
from rehost.source.report import Ledger, Settings
from rehost.source.yaml_text import Mapped, Text

PREFIX = "service."
_UNREADABLE = ("it is not understood", "set it in rehost.toml by hand")


# How files, and the API, write the types besides Render's present names.
_TYPES = {
    "redis": "keyvalue",
    "key_value": "keyvalue",
    "web_service": "web",
    "private_service": "pserv",
    "private": "pserv",
    "background_worker": "worker",
    "cron_job": "cron",
    "cronjob": "cron",
    "static_site": "static",
}


def kind_of(service: Mapped) -> str:
    """web, pserv, worker, cron, keyvalue or static; "untyped" where a file does not say."""
    written = service.get("type", "")
    kind = written.strip().casefold() if isinstance(written, str) else ""
    kind = _TYPES.get(kind, kind)
    runtime = service.get("runtime") or service.get("env")
    if kind == "static" or (kind == "web" and runtime == "static"):
        return "static"
    return kind or "untyped"


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
    kind = kind_of({"type": value})
    if kind == "web":
        ledger.carry(name, "the app behind the proxy")
    elif kind == "static":
        ledger.change(name, "a container of the built files and a file server, behind the proxy")
        settings = replace(settings, runtime="static")
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
    if not isinstance(value, str) or not value:
        ledger.leave(name, *_UNREADABLE)
        return settings
    if value == "docker":
        ledger.carry(name, "[build]")
    elif value == "image":
        ledger.carry(name, "build.image")
    else:
        ledger.leave(
            name,
            f"at Render {value} builds without a Dockerfile; rehost builds from one",
            "write a Dockerfile with the build and start commands in it",
        )
    return replace(settings, runtime=value)


def _kept(attribute: str, why: str, todo: str) -> Callable[[str, Text, Settings, Ledger], Settings]:
    """A field that rehost.toml has no place for, and that a Dockerfile made from it needs."""

    def carry(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
        ledger.leave(name, why, todo)
        found: dict[str, str] = {attribute: value} if isinstance(value, str) and value else {}
        return replace(settings, **found)  # type: ignore[arg-type]

    return carry


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
    free = "it is in the free tier"
    if not render.is_free(zone):
        free = f"it is not in the free tier, which is in {', '.join(render.FREE_REGIONS)} alone"
    ledger.change(name, f'machine.zone = "{zone}", the nearest of Google\'s; {free}')
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
            todo = "let whoever serves it redirect to domain.name: many hosts of DNS offer that"
            ledger.leave(shown, "rehost serves one name per app", todo)
    return settings


def _instances(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if value == "1":
        ledger.carry(name, "one container on one machine")
    else:
        ledger.leave(name, "rehost runs one machine per app", "choose a machine.type that carries the load")
    return settings


def _disk(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    found = value if isinstance(value, dict) else {}
    settings = _disk_parts(name, found, settings, ledger)
    try:
        volume = volumes.named(str(found.get("name", "")), str(found.get("mountPath", "")))
    except ValueError:
        ledger.leave(name, "its mountPath is no plain path", "set run.volumes in rehost.toml")
        return settings
    ledger.change(
        name,
        f'run.volumes = ["{volume}"], a volume on the machine\'s own disk (machine.disk is its room); '
        "run.exclusive = true stops the old container before the new one starts, as Render does; `rehost move` brings "
        "what it holds ([moves])",
    )
    return replace(settings, volumes=(volume,))


def _disk_parts(name: str, disk: Mapped, settings: Settings, ledger: Ledger) -> Settings:
    for key in disk.keys() - {"name", "mountPath", "sizeGB"}:
        ledger.leave(f"{name}.{key}", "rehost does not know this key", "see whether the app needs it")
    size = disk.get("sizeGB")
    if size is None:
        return settings
    if not isinstance(size, str) or not size.isascii() or not size.isdecimal() or len(size) > 5:
        ledger.leave(f"{name}.sizeGB", "it is not a number of GB", "set machine.disk in rehost.toml")
        return settings
    ledger.change(
        f"{name}.sizeGB",
        f"the volume has no size of its own: machine.disk holds its {size}GB and the 10GB of the system",
    )
    return replace(settings, disk_gb=int(size))


def _before(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    if not isinstance(value, str) or not value.strip():
        ledger.leave(
            name, "it is empty" if not value else _UNREADABLE[0], "" if not value else _UNREADABLE[1]
        )
        return settings
    ledger.change(name, "run.before_release: it runs in a container of the new image, before each switch")
    return replace(settings, before_release=commands.command(value))


_IN_DOCKERFILE = "rehost starts the image as its Dockerfile says"


def _image(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    """Comes after `runtime`, which says whether Render looks at it."""
    found: Mapped = value if isinstance(value, dict) else {"url": value}
    image = prebuilt.name_of(found.get("url"))
    if settings.runtime not in (None, "image"):
        why = f"Render builds {settings.runtime}, and looks at an image for the runtime image alone"
        ledger.leave(name, why, "write it as `image`, alone under [build], if it is the one that is meant")
        return settings
    if image is None:
        ledger.leave(name, "it is not the name of an image", "write it as `image`, alone under [build]")
        return settings
    ledger.change(f"{name}.url" if "url" in found and found is value else name, prebuilt.carried(image))
    for key in found.keys() - {"url"}:
        ledger.leave(
            f"{name}.{key}",
            "Render does not give out a registry's password"
            if key == "creds"
            else "rehost does not know this key",
            prebuilt.login(image) if key == "creds" else "see whether the app needs it",
        )
    return replace(settings, image=image)


def _deploys(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    typed = "a deploy happens when somebody types rehost deploy"
    if str(value).casefold() in ("false", "no", "off"):
        ledger.carry(name, typed)
    else:
        todo = "after the move, turn auto-deploy off at Render, or it goes on deploying there"
        ledger.leave(name, typed, todo)
    return settings


def _maintenance(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    on = value.get("enabled") if isinstance(value, dict) else value
    if str(on).casefold() in ("", "none", "false", "no", "off"):
        ledger.carry(name, "no maintenance page")
    else:
        ledger.leave(
            name, "rehost has no maintenance page", "answer with one in the app, or move when it is off"
        )
    return settings


def _allowed(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
    """Addresses that may reach the app. Everybody is what the machine's firewall says."""
    listed = value if isinstance(value, list) else []
    sources = [
        each.get("source") or each.get("cidrBlock") if isinstance(each, dict) else each for each in listed
    ]
    if "0.0.0.0/0" in sources:
        ledger.carry(name, "everybody may reach ports 80 and 443")
    else:
        ledger.leave(
            name,
            "the machine's firewall lets everybody to ports 80 and 443",
            "narrow the addresses in the app (X-Forwarded-For has the client's), or at what stands in front of it",
        )
    return settings


def _rules(read: Callable[[Text], object], key: str) -> Callable[[str, Text, Settings, Ledger], Settings]:
    """`routes` or `headers`: each item by itself, since one that is not understood takes no other with it."""

    def carry(name: str, value: Text, settings: Settings, ledger: Ledger) -> Settings:
        if not isinstance(value, list) or not value:
            ledger.leave(name, "it is empty" if not value else _UNREADABLE[0], _RULE if value else "")
            return settings
        kept: list[object] = []
        for number, item in enumerate(value):
            found = read(item)
            if found is None:
                ledger.leave(f"{name}.{number}", "it is not understood", _RULE)
                continue
            kept.append(found)
            ledger.change(
                f"{name}.{number}", "the file server of a Dockerfile of rehost's making does the same"
            )
        return replace(settings, **{key: tuple(kept)})  # type: ignore[arg-type]

    return carry


_RULE = "write it into the Caddyfile that the Dockerfile makes (caddyserver.com/docs/caddyfile)"
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
    "disk": _disk,
    "buildCommand": _kept(
        "build_command", "rehost builds from a Dockerfile", "write it into the Dockerfile as RUN"
    ),
    "startCommand": _kept("start_command", _IN_DOCKERFILE, "write it into the Dockerfile as CMD"),
    "staticPublishPath": _kept(
        "publish", "it is the directory of a static site", "COPY it in the Dockerfile"
    ),
    "routes": _rules(native_caddy.route, "routes"),
    "headers": _rules(native_caddy.header, "headers"),
    "preDeployCommand": _before,
    "image": _image,
    "autoDeploy": _deploys,
    "autoDeployTrigger": _deploys,
    "maintenanceMode": _maintenance,
    "ipAllowList": _allowed,
}

_SHIPS = ("rehost ships the files of this directory, not a repository", "")
_PREVIEWS = ("rehost makes no preview environments", "")
_LEFT: dict[str, tuple[str, str]] = {
    "repo": _SHIPS,
    "branch": _SHIPS,
    "buildFilter": ("a deploy happens when somebody types rehost deploy, whichever files changed", ""),
    "previews": _PREVIEWS,
    "pullRequestPreviewsEnabled": _PREVIEWS,
    "previewPlan": _PREVIEWS,
    "previewsEnabled": _PREVIEWS,
    "previewsExpireAfterDays": _PREVIEWS,
    "schedule": (
        "it is about cron jobs, and this service answers HTTP",
        "see whether the app needs it",
    ),
    "maxmemoryPolicy": ("it is about Key Value stores", ""),
    "dockerCommand": (
        _IN_DOCKERFILE,
        "write it into the Dockerfile as CMD (for a prebuilt image: into one of your own that begins with FROM it)",
    ),
    "initialDeployHook": ("rehost runs no command after the first release", "run it by hand (rehost exec)"),
    "registryCredential": (
        "rehost holds no registry's password, and Render gives none out",
        "for a prebuilt image type `docker login` for its registry here: rehost hands that login on; a private base "
        'image of a Dockerfile needs on = "here" under [build], where the Docker of this computer builds',
    ),
    "scaling": ("rehost runs one machine per app", "choose a machine.type that carries the load"),
    "renderSubdomainPolicy": ("it is about Render's own subdomain", ""),
    "port": ("Render does not read it; rehost asks the Dockerfile", "see that run.port is right"),
}
