"""The service as it stands at Render in a blueprint's words, and what was changed there since the file was written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rehost.run.secret import Secret
from rehost.source.leaves import plain
from rehost.source.render_export import Item, Live
from rehost.source.report import Changed
from rehost.source.service import kind_of
from rehost.source.yaml_text import Mapped, Text

# Of the API's answer: a blueprint's key, and the way to it. What a service lacks is left out.
_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("name", ("name",)),
    ("repo", ("repo",)),
    ("branch", ("branch",)),
    ("rootDir", ("rootDir",)),
    ("buildFilter", ("buildFilter",)),
    ("runtime", ("serviceDetails", "env")),  # the older of the two names first: the newer wins
    ("runtime", ("serviceDetails", "runtime")),
    ("plan", ("serviceDetails", "plan")),
    ("region", ("serviceDetails", "region")),
    ("numInstances", ("serviceDetails", "numInstances")),
    ("healthCheckPath", ("serviceDetails", "healthCheckPath")),
    ("maxShutdownDelaySeconds", ("serviceDetails", "maxShutdownDelaySeconds")),
    ("schedule", ("serviceDetails", "schedule")),
    ("staticPublishPath", ("serviceDetails", "publishPath")),
    ("renderSubdomainPolicy", ("serviceDetails", "renderSubdomainPolicy")),
    ("buildCommand", ("serviceDetails", "buildCommand")),
    ("buildCommand", ("serviceDetails", "envSpecificDetails", "buildCommand")),
    ("startCommand", ("serviceDetails", "envSpecificDetails", "startCommand")),
    ("preDeployCommand", ("serviceDetails", "envSpecificDetails", "preDeployCommand")),
    ("dockerCommand", ("serviceDetails", "envSpecificDetails", "dockerCommand")),
    ("dockerContext", ("serviceDetails", "envSpecificDetails", "dockerContext")),
    ("dockerfilePath", ("serviceDetails", "envSpecificDetails", "dockerfilePath")),
)
# What Render takes where a file is silent (Blueprint reference), for the comparison.
_DEFAULTS: Mapping[str, str] = {
    "plan": "starter",
    "region": "oregon",
    "numInstances": "1",
    "rootDir": "",
    "maxShutdownDelaySeconds": "30",
    "healthCheckPath": "",
    "dockerCommand": "",
    "preDeployCommand": "",
    "buildCommand": "",
    "startCommand": "",
}
_PATHS = ("rootDir", "dockerfilePath", "dockerContext", "staticPublishPath")
_COMPARED = (
    *("type", "runtime", "plan", "region", "branch", "repo", "rootDir", "dockerfilePath", "dockerContext"),
    *("dockerCommand", "buildCommand", "startCommand", "preDeployCommand", "healthCheckPath", "numInstances"),
    *("maxShutdownDelaySeconds", "staticPublishPath", "schedule"),
)


def service_of(live: Live, variables: Mapping[str, Secret]) -> Mapped:
    """The live service as one service of a blueprint, with `variables` as its only ones."""
    found: Mapped = {"type": live.kind}
    for key, path in _KEYS:
        value = plain(_at(live.service, path))
        if value not in ("", {}, []):
            found[key] = value
    details = live.service.get("serviceDetails")
    details = details if isinstance(details, dict) else {}
    if live.service.get("imagePath"):
        found["image"] = {"url": str(live.service["imagePath"])}
    credential = _at(live.service, ("registryCredential", "name"))
    if credential:
        found["registryCredential"] = {"fromRegistryCreds": {"name": str(credential)}}
    if live.service.get("autoDeploy"):
        found["autoDeploy"] = str(live.service["autoDeploy"])
    if _at(details, ("autoscaling", "enabled")) is True:
        found["scaling"] = {
            "minInstances": plain(_at(details, ("autoscaling", "min"))),
            "maxInstances": plain(_at(details, ("autoscaling", "max"))),
        }
    disk = details.get("disk")
    if isinstance(disk, dict):
        found["disk"] = {key: plain(disk[key]) for key in ("name", "mountPath", "sizeGB") if key in disk}
    if _at(details, ("maintenanceMode", "enabled")) is True:
        found["maintenanceMode"] = plain(details["maintenanceMode"])
    allowed = details.get("ipAllowList")
    # What Render makes by itself says "everybody".
    if isinstance(allowed, list) and [_at(each, ("cidrBlock",)) for each in allowed] not in (
        [],
        ["0.0.0.0/0"],
    ):
        found["ipAllowList"] = plain(allowed)
    if live.domains:
        found["domains"] = [
            str(each.get("name") or "") for each in live.domains if not each.get("redirectForName")
        ]
    for name, rules, keys in (("routes", live.routes, _ROUTE), ("headers", live.headers, _HEADER)):
        if rules:
            found[name] = [{key: plain(each.get(key)) for key in keys} for each in rules]
    found["envVars"] = [{"key": key, "value": value.reveal()} for key, value in variables.items()]
    return found


_ROUTE, _HEADER = ("type", "source", "destination"), ("path", "name", "value")


def _at(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def changes(written: Mapped, given: Mapping[str, Text], live: Live) -> tuple[Changed, ...]:
    """What the file says otherwise than Render. written: the file's service; given: the values of its variables
    and of its groups' by name, None where the file has none.

    Variables are told by name alone.
    """
    there = service_of(live, {})
    found = [
        Changed(key, _shown(key, _compared(key, written)), _shown(key, _compared(key, there)))
        for key in _COMPARED
        if _compared(key, written) != _compared(key, there)
        # Without a word in the file these depend on the account or the repository.
        and (key in _DEFAULTS or _compared(key, written))
    ]
    found += _changed_parts(written, there)
    at_render = live.effective
    for key in sorted(given.keys() | at_render.keys()):
        if key not in given:
            found.append(Changed(f"envVars.{key}", "not there", "set"))
        elif key not in at_render:
            found.append(Changed(f"envVars.{key}", "set", "not there"))
        elif isinstance(given[key], str) and given[key] != at_render[key].reveal():
            found.append(Changed(f"envVars.{key}", "set", "another value"))
    return tuple(found)


def _compared(key: str, service: Mapped) -> str:
    """One field in a form in which equal things are equal."""
    value = service.get(key)
    if key == "type":
        return kind_of(service)
    if key == "runtime" and not value:
        value = service.get("env")  # its name in old files
    written = value.strip() if isinstance(value, str) else ""
    written = written or _DEFAULTS.get(key, "")
    if key == "plan":
        return written.casefold().replace("-", " ").replace("_", " ")
    if key in _PATHS and written:
        return posixpath.normpath(written.lstrip("/") or ".").removeprefix("./").removesuffix("/")
    if key == "repo":
        return written.removesuffix("/").removesuffix(".git").casefold()
    return written


# A command may hold a password that somebody wrote into it.
_HIDDEN = ("dockerCommand", "buildCommand", "startCommand", "preDeployCommand")


def _shown(key: str, plain: str) -> str:
    if key in _HIDDEN and plain:
        return "a command"
    return f'"{plain}"' if plain else "none"


class _Part(NamedTuple):
    """A field with an inside; how it is read for the comparison, and shown."""

    key: str
    read: Callable[[Mapped], str]


def _domains(service: Mapped) -> str:
    value = service.get("domains") or service.get("domain") or []
    return ", ".join(sorted(str(each) for each in (value if isinstance(value, list) else [value])))


def _disk(service: Mapped) -> str:
    disk = service.get("disk")
    if not isinstance(disk, dict):
        return ""
    # 10 GB where the file is silent (Blueprint reference).
    return f"{str(disk.get('mountPath') or '').rstrip('/')}, {disk.get('sizeGB') or '10'} GB"


def _scaling(service: Mapped) -> str:
    found = service.get("scaling")
    if not isinstance(found, dict):
        return ""
    return f"{found.get('minInstances') or '1'} to {found.get('maxInstances') or '1'}"


def _deploys(service: Mapped) -> str:
    """ "yes" or "no": does a push deploy? It does where nothing is said."""
    trigger = service.get("autoDeployTrigger")
    if isinstance(trigger, str) and trigger:
        return "no" if trigger == "off" else "yes"
    written = str(service.get("autoDeploy") or "yes").casefold()
    return "no" if written in ("no", "false", "off") else "yes"


def _image(service: Mapped) -> str:
    image = service.get("image")
    return str(image.get("url") or "") if isinstance(image, dict) else ""


def _rules(key: str, keys: Sequence[str]) -> Callable[[Mapped], str]:
    def read(service: Mapped) -> str:
        listed = service.get(key)
        rules = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        return ", ".join(" ".join(str(each.get(part) or "") for part in keys) for each in rules)

    return read


_PARTS = (
    _Part("routes", _rules("routes", _ROUTE)),
    _Part("headers", _rules("headers", _HEADER)),
    _Part("domains", _domains),
    _Part("disk", _disk),
    _Part("scaling", _scaling),
    _Part("autoDeploy", _deploys),
    _Part("image", _image),
)


def _changed_parts(written: Mapped, there: Mapped) -> list[Changed]:
    return [
        Changed(part.key, _shown(part.key, part.read(written)), _shown(part.key, part.read(there)))
        for part in _PARTS
        if part.read(written) != part.read(there)
    ]


def old_addresses(service: Item) -> tuple[str, ...]:
    """The host names at Render that end with the move."""
    url = _at(service, ("serviceDetails", "url"))
    host = str(url or "").partition("://")[2].partition("/")[0]
    return (host,) if host else ()


def url_of(service: Item) -> str | None:
    """The address that the service has at Render, when it is one of the web."""
    url = str(_at(service, ("serviceDetails", "url")) or "")
    return url if url.startswith("https://") else None


def moves_of(service: Item, volumes: Sequence[str]) -> dict[str, str]:
    """Where the content of the disk is, for [moves]. sshAddress is there only where ssh is (API reference)."""
    address = str(_at(service, ("serviceDetails", "sshAddress")) or "")
    if re.fullmatch(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+", address) is None:
        return {}
    return {name: f"{address}:{path}" for name, _, path in (each.partition(":") for each in volumes)}


def ports(service: Item) -> tuple[int, ...]:
    """The TCP ports that Render found open."""
    found = _at(service, ("serviceDetails", "openPorts"))
    listed = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return tuple(
        each["port"]
        for each in listed
        if isinstance(each.get("port"), int) and str(each.get("protocol") or "TCP") == "TCP"
    )
