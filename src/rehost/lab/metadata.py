"""The metadata server, as a machine of Compute Engine meets it at 169.254.169.254.

Who asks is known by the source address. Paths are written in kebab-case, keys of JSON answers in camelCase; names of
attributes stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rehost.lab.compute_power import external, mac
from rehost.lab.state import Cloud, Resource, relative

LONGEST_POLL = 3600.0  # seconds of wait_for_change when no timeout_sec is given
LARGEST_GUEST_VALUE = 262144
_VERBATIM = ("attributes", "guestAttributes", "service-accounts")
_ROOT = re.compile(r"/*(computeMetadata/v1|computeMetadata/v1beta1)?(/.*)?")


@dataclass(frozen=True)
class Asked:
    """A request of a machine. `headers` have small letters."""

    verb: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    source: str
    body: bytes = b""


@dataclass(frozen=True)
class Told:
    status: int
    text: str
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


class Harm(Protocol):
    """What can be made to go wrong here: the part of machine_faults.MachineFaults that is used."""

    def held_up(self, instance: Resource) -> float: ...
    def refuses_host_keys(self, name: str) -> bool: ...
    def startup_script(self, name: str, script: str) -> str: ...


async def answer(cloud: Cloud, asked: Asked, harm: Harm | None = None) -> Told:
    """The answer, at once or when what is asked for has changed."""
    refusal = _refused(asked)
    if refusal:
        return refusal
    found = _instance(cloud, asked.source)
    match = _ROOT.fullmatch(asked.path)
    if found is None or match is None:
        return Told(404, "Not Found")
    path, instance = found
    await _hold_up(cloud, path, harm)
    if match[1] is None:
        return (
            Told(200, "computeMetadata/\n", "application/text")
            if not (match[2] or "").strip("/")
            else _missing()
        )
    rest = re.sub(r"/+", "/", match[2] or "").removeprefix("/")
    if rest.startswith("instance/guest-attributes/") and asked.verb in ("PUT", "DELETE"):
        if (
            harm
            and rest.startswith("instance/guest-attributes/hostkeys/")
            and harm.refuses_host_keys(instance["name"])
        ):
            return Told(503, "The lab was asked to refuse host keys.")
        return _write_guest_attribute(cloud, path, rest.split("/")[2:], asked)
    if asked.verb != "GET":
        return Told(405, "Method Not Allowed")
    if rest.startswith("instance/guest-attributes") and not guest_attributes_enabled(cloud, instance):
        return Told(403, "Guest attributes endpoint access is disabled.")
    return await _read(cloud, path, rest, asked, harm)


async def _hold_up(cloud: Cloud, path: str, harm: Harm | None) -> None:
    """Returns when the machine may be answered; at once when it is gone."""
    while harm is not None and path in cloud.resources:
        left = harm.held_up(cloud.resources[path])
        if left <= 0:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cloud.changed(), left)


def _refused(asked: Asked) -> Told | None:
    # Forwarded requests are refused because they may come from outside through a proxy on the machine.
    if "x-forwarded-for" in asked.headers:
        return Told(403, "Forbidden: X-Forwarded-For is not allowed.")
    if asked.headers.get("metadata-flavor", "").lower() != "google":
        return Told(403, "Missing Metadata-Flavor:Google header.")
    return None


def _missing() -> Told:
    return Told(404, "The requested URL was not found on this server.")


def _instance(cloud: Cloud, source: str) -> tuple[str, Resource] | None:
    for path, instance in cloud.everywhere("instances"):
        if source in (instance["networkInterfaces"][0]["networkIP"], external(instance)):
            return path, instance
    return None


async def _read(cloud: Cloud, path: str, rest: str, asked: Asked, harm: Harm | None) -> Told:
    waits = asked.query.get("wait_for_change", "").lower() == "true"
    try:
        patience = float(asked.query.get("timeout_sec", LONGEST_POLL) or LONGEST_POLL)
    except ValueError:
        return Told(400, "timeout_sec must be a number.")
    deadline = asyncio.get_running_loop().time() + (patience if waits else 0)
    last: str | None = asked.query.get("last_etag")
    while True:
        instance = cloud.resources.get(path)
        told = _now(cloud, path, instance, rest, asked.query, harm) if instance else _missing()
        etag = told.headers.get("ETag")
        if last is None:
            last = etag  # no etag given: any change from now on
        elif not waits or etag is None or etag != last:
            return told
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return told
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cloud.changed(), left)


def _now(
    cloud: Cloud, path: str, instance: Resource, rest: str, query: Mapping[str, str], harm: Harm | None
) -> Told:
    whole = tree(cloud, path, instance)
    attributes = whole["instance"]["attributes"]
    if harm is not None and "startup-script" in attributes:
        attributes["startup-script"] = harm.startup_script(instance["name"], attributes["startup-script"])
    try:
        value = _walk(whole, [part for part in rest.split("/") if part])
    except KeyError:
        return _missing()
    recursive = query.get("recursive", "").lower() == "true"
    directory = isinstance(value, dict | list)
    if directory and rest and not rest.endswith("/") and not recursive:
        return Told(301, "", headers={"Location": f"/computeMetadata/v1/{rest}/"})
    text_wanted = query.get("alt", "json" if recursive else "text") == "text"
    if not text_wanted and (recursive or not directory):
        kind, text = "application/json", json.dumps(value, separators=(",", ":"))
    elif recursive and directory:
        kind, text = "application/text", "".join(f"{key} {leaf}\n" for key, leaf in _lines(value, ""))
    elif directory:
        kind, text = "application/text", _listing(value)
    else:
        kind, text = "application/text", _leaf(value)
    return Told(200, text, kind, {"ETag": hashlib.sha256(text.encode()).hexdigest()[:16]})


def _leaf(value: Any) -> str:
    return str(value).upper() if isinstance(value, bool) else str(value)


def _listing(value: Any) -> str:
    """A directory: one name a line, with a slash after those that are directories themselves."""
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    return "".join(f"{_kebab(str(k))}{'/' if isinstance(v, dict | list) else ''}\n" for k, v in pairs)


def _lines(value: Any, before: str) -> list[tuple[str, str]]:
    if not isinstance(value, dict | list):
        return [(before.removesuffix("/"), _leaf(value))]
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    return [line for key, part in pairs for line in _lines(part, f"{before}{_kebab(str(key))}/")]


def _walk(value: Any, parts: list[str]) -> Any:
    """Raises KeyError."""
    verbatim = False
    for part in parts:
        if isinstance(value, list):
            if not part.isdigit() or int(part) >= len(value):
                raise KeyError(part)
            value = value[int(part)]
        elif isinstance(value, dict):
            key = part if verbatim or part in value else _camel(part)
            value = value[key]
            verbatim = verbatim or key in _VERBATIM
        else:
            raise KeyError(part)
    return value


def _camel(kebab: str) -> str:
    head, *rest = kebab.split("-")
    return head + "".join(word.capitalize() for word in rest)


def _kebab(camel: str) -> str:
    """networkInterfaces -> network-interfaces; names of attributes hold hyphens already, or stay as they are."""
    return camel if "-" in camel or "_" in camel else re.sub(r"(?<=[a-z])(?=[A-Z])", "-", camel).lower()


# -- what a machine sees -----------------------------------------------------------------------------------


def tree(cloud: Cloud, path: str, instance: Resource) -> dict[str, Any]:
    """The whole of the metadata, with the keys of the recursive JSON answer."""
    nic = instance["networkInterfaces"][0]
    project = cloud.get(f"projects/{cloud.project}")
    zone = path.split("/")[3]
    home = f"projects/{cloud.number}"
    public = external(instance)
    signals = cloud.signals.get(path, {})
    made: dict[str, Any] = {
        "attributes": items(instance["metadata"]),
        "cpuPlatform": "Intel Broadwell",
        "description": instance["description"],
        "disks": [
            {
                "deviceName": disk["deviceName"],
                "index": disk["index"],
                "interface": disk["interface"],
                "mode": disk["mode"],
                "type": "PERSISTENT-BALANCED",
            }
            for disk in instance["disks"]
        ],
        "hostname": instance.get("hostname", f"{instance['name']}.{zone}.c.{cloud.project}.internal"),
        "id": int(instance["id"]),
        "image": f"projects/{relative(_source_image(cloud, instance)).removeprefix('projects/')}",
        "licenses": [{"id": "5543610867827062957"}],
        "machineType": f"{home}/machineTypes/{instance['machineType'].rsplit('/', 1)[1]}",
        "maintenanceEvent": signals.get("maintenanceEvent", "NONE"),
        "name": instance["name"],
        "networkInterfaces": [
            {
                "accessConfigs": [{"externalIp": public or "", "type": "ONE_TO_ONE_NAT"}]
                if "accessConfigs" in nic
                else [],
                "dnsServers": ["169.254.169.254"],
                "forwardedIps": [],
                "gateway": cloud.gateway,
                "ip": nic["networkIP"],
                "ipAliases": [],
                "mac": mac(nic["networkIP"]),
                "mtu": 1460,
                "network": f"{home}/networks/{nic['network'].rsplit('/', 1)[1]}",
                "subnetmask": "255.255.255.0",
                "targetInstanceIps": [],
            }
        ],
        "preempted": signals.get("preempted", "FALSE"),
        "remainingCpuTime": -1,
        "scheduling": {
            "automaticRestart": str(instance["scheduling"]["automaticRestart"]).upper(),
            "onHostMaintenance": instance["scheduling"]["onHostMaintenance"],
            "preemptible": str(instance["scheduling"]["preemptible"]).upper(),
        },
        # The lab gives machines no identity of their own: a token path answers 404.
        "serviceAccounts": {},
        "tags": instance["tags"].get("items", []),
        "virtualClock": {"driftToken": "0"},
        "zone": f"{home}/zones/{zone}",
    }
    if guest_attributes_enabled(cloud, instance):
        made["guestAttributes"] = cloud.guest_attributes.get(path, {})
    return {
        "instance": made,
        "project": {
            "attributes": items(project["commonInstanceMetadata"]),
            "numericProjectId": int(cloud.number),
            "projectId": cloud.project,
        },
    }


def _source_image(cloud: Cloud, instance: Resource) -> str:
    disk = cloud.resources.get(relative(instance["disks"][0]["source"]), {})
    return str(disk.get("sourceImage", ""))


def items(metadata: Resource) -> dict[str, str]:
    """The items of a metadata resource as a map."""
    return {item["key"]: item.get("value", "") for item in metadata.get("items", ())}


def guest_attributes_enabled(cloud: Cloud, instance: Resource) -> bool:
    """enable-guest-attributes of the instance, or else of the project."""
    project = cloud.get(f"projects/{cloud.project}")["commonInstanceMetadata"]
    value = (items(project) | items(instance["metadata"])).get("enable-guest-attributes", "")
    return value.upper() == "TRUE"


def _write_guest_attribute(cloud: Cloud, path: str, parts: list[str], asked: Asked) -> Told:
    if not guest_attributes_enabled(cloud, cloud.get(path)):
        return Told(403, "Guest attributes endpoint access is disabled.")
    if len(parts) != 2 or not all(parts):
        return Told(404, "A guest attribute has a namespace and a key.")
    space, key = parts
    kept = cloud.guest_attributes.setdefault(path, {})
    if asked.verb == "DELETE":
        if kept.get(space, {}).pop(key, None) is None:
            return _missing()
    else:
        if len(asked.body) > LARGEST_GUEST_VALUE:
            return Told(413, "The value is too large.")
        try:
            kept.setdefault(space, {})[key] = asked.body.decode()
        except UnicodeDecodeError:
            return Told(400, "The value is not UTF-8.")
    cloud.touch()
    return Told(200, "")
