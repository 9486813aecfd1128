"""Between Google's JSON and `model`: request bodies from what is desired, facts from answers. Pure.

Field names and types: Google's discovery document of the Compute Engine API, v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rehost.cloud.model import Address, Desired, Disk, Firewall, Instance
from rehost.cloud.names import LABEL, image_url, last

Json = dict[str, Any]
ACCESS_CONFIG = "External NAT"  # the name that Google's own tools give it
PRIORITY = 1000


def address_body(desired: Desired) -> Json:
    return {
        "name": desired.names.address,
        "description": desired.names.description,
        "addressType": "EXTERNAL",
        "networkTier": "PREMIUM",
    }


def instance_body(desired: Desired, *, external: str, existing_disk: bool) -> Json:
    """The machine. external: its reserved address. existing_disk: boot from the app's disk that stands."""
    project, zone, names = desired.project, desired.zone, desired.names
    disk: Json = {"boot": True, "autoDelete": True}
    if existing_disk:
        disk["source"] = f"projects/{project}/zones/{zone}/disks/{names.disk}"
    else:
        disk["initializeParams"] = {
            "diskName": names.disk,
            "diskSizeGb": str(desired.disk_gb),
            "diskType": f"projects/{project}/zones/{zone}/diskTypes/{desired.disk_type}",
            "sourceImage": image_url(desired.image),
            "labels": wanted_labels(desired, {}),
        }
    return {
        "name": names.instance,
        "description": names.description,
        "machineType": machine_type_path(desired, desired.machine_type),
        "disks": [disk],
        "networkInterfaces": [
            {
                "network": network_path(desired),
                "accessConfigs": [access_config_body(external)],
            }
        ],
        "metadata": metadata_body(wanted_metadata(desired, {})),
        "tags": {"items": [names.tag]},
        "labels": wanted_labels(desired, {}),
        "shieldedInstanceConfig": {
            "enableSecureBoot": True,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        },
        "deletionProtection": False,
    }


def access_config_body(external: str) -> Json:
    return {"name": ACCESS_CONFIG, "type": "ONE_TO_ONE_NAT", "natIP": external, "networkTier": "PREMIUM"}


def metadata_body(items: Mapping[str, str], fingerprint: str = "") -> Json:
    body: Json = {"items": [{"key": key, "value": value} for key, value in sorted(items.items())]}
    return {**body, "fingerprint": fingerprint} if fingerprint else body


def machine_type_path(desired: Desired, machine_type: str) -> str:
    return f"projects/{desired.project}/zones/{desired.zone}/machineTypes/{machine_type}"


def network_path(desired: Desired) -> str:
    return f"projects/{desired.project}/global/networks/{desired.network}"


def wanted_labels(desired: Desired, current: Mapping[str, str]) -> dict[str, str]:
    """The labels that are there, with ours."""
    return {**current, **desired.labels, LABEL: desired.app}


def wanted_metadata(desired: Desired, current: Mapping[str, str]) -> dict[str, str]:
    """The metadata that is there with ours in it: other people's items and keys stay.

    Guest attributes are where the machine publishes its host keys. OS Login would switch ssh-keys off; the keys of
    the whole project are kept out, so that the machine's own list says who may come in.
    """
    return {
        **current,
        "startup-script": desired.startup_script,
        "ssh-keys": with_key(current.get("ssh-keys", ""), desired.ssh_user, desired.ssh_public_key),
        "enable-guest-attributes": "TRUE",
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
    }


def with_key(lines: str, user: str, public_key: str) -> str:
    """The ssh-keys item with this key for this user. Keys that Google's tools added expire, so they don't count.

    A line is "USER:TYPE BASE64 COMMENT": https://cloud.google.com/compute/docs/connect/add-ssh-keys
    """
    kind, blob = public_key.split()[:2]
    kept = [line for line in lines.splitlines() if line.strip()]
    for line in kept:
        name, _, key = line.strip().partition(":")
        parts = key.split()
        if name == user and parts[:2] == [kind, blob] and parts[2:3] != ["google-ssh"]:
            return lines
    return "\n".join((*kept, f"{user}:{kind} {blob} {user}"))


def wanted_firewalls(desired: Desired) -> tuple[Firewall, Firewall]:
    """Two rules on the app's own tag: the web's ports for everybody, ssh for its sources. Nothing else is opened."""
    names = desired.names
    allowed = {f"tcp:{port}" for port in desired.ports}
    if 443 in desired.ports:
        allowed.add("udp:443")  # HTTP/3
    return (
        _rule(desired, names.web, allowed, ("0.0.0.0/0",)),
        _rule(desired, names.ssh, {"tcp:22"}, desired.ssh_sources),
    )


def _rule(desired: Desired, name: str, allowed: Iterable[str], sources: Iterable[str]) -> Firewall:
    return Firewall(
        name=name,
        network=desired.network,
        description=desired.names.description,
        direction="INGRESS",
        priority=PRIORITY,
        disabled=False,
        allowed=tuple(sorted(allowed)),
        denied=(),
        sources=tuple(sorted(sources)),
        source_tags=(),
        target_tags=(desired.names.tag,),
    )


def firewall_body(desired: Desired, rule: Firewall) -> Json:
    return {
        "description": rule.description,
        "network": network_path(desired),
        "direction": rule.direction,
        **firewall_patch(rule, ("priority", "disabled", "allowed", "sources", "target_tags")),
    }


def firewall_patch(rule: Firewall, fields: Iterable[str]) -> Json:
    """The fields of a rule, in Google's words, and its name, which Google's schema wants in a patch, too. An empty
    list clears."""
    body: Json = {
        "priority": rule.priority,
        "disabled": rule.disabled,
        "allowed": _protocols(rule.allowed),
        "sources": list(rule.sources),
        "source_tags": list(rule.source_tags),
        "target_tags": list(rule.target_tags),
    }
    google = {"sources": "sourceRanges", "source_tags": "sourceTags", "target_tags": "targetTags"}
    return {"name": rule.name, **{google.get(field, field): body[field] for field in fields}}


def _protocols(entries: Iterable[str]) -> list[Json]:
    """["tcp:443", "tcp:80", "icmp"] -> [{"IPProtocol": "tcp", "ports": ["443", "80"]}, {"IPProtocol": "icmp"}]."""
    ports: dict[str, list[str]] = {}
    for entry in entries:
        protocol, colon, port = entry.partition(":")
        ports.setdefault(protocol, []).extend([port] if colon else [])
    return [{"IPProtocol": name, **({"ports": listed} if listed else {})} for name, listed in ports.items()]


def read_firewall(answer: Mapping[str, Any]) -> Firewall:
    return Firewall(
        name=str(answer["name"]),
        network=last(str(answer.get("network", ""))),
        description=str(answer.get("description", "")),
        direction=str(answer.get("direction", "INGRESS")),
        priority=int(answer.get("priority", PRIORITY)),
        disabled=bool(answer.get("disabled", False)),
        allowed=_entries(answer.get("allowed")),
        denied=_entries(answer.get("denied")),
        sources=tuple(sorted(answer.get("sourceRanges") or ())),
        source_tags=tuple(sorted(answer.get("sourceTags") or ())),
        target_tags=tuple(sorted(answer.get("targetTags") or ())),
        service_accounts=bool(answer.get("sourceServiceAccounts") or answer.get("targetServiceAccounts")),
    )


def _entries(listed: Iterable[Mapping[str, Any]] | None) -> tuple[str, ...]:
    found: set[str] = set()
    for entry in listed or ():
        protocol = str(entry["IPProtocol"])
        found.update(f"{protocol}:{port}" for port in entry.get("ports") or ())
        if not entry.get("ports"):
            found.add(protocol)
    return tuple(sorted(found))


def read_instance(answer: Mapping[str, Any]) -> Instance:
    interfaces = answer.get("networkInterfaces") or [{}]
    configs = interfaces[0].get("accessConfigs") or [{}]
    return Instance(
        name=str(answer["name"]),
        id=str(answer["id"]),
        zone=last(str(answer.get("zone", ""))),
        status=str(answer.get("status", "")),
        machine_type=last(str(answer.get("machineType", ""))),
        labels=dict(answer.get("labels") or {}),
        tags=tuple((answer.get("tags") or {}).get("items") or ()),
        metadata=read_metadata(answer),
        internal=str(interfaces[0].get("networkIP") or ""),
        external=str(configs[0].get("natIP") or ""),
        access_config=str(configs[0].get("name") or ""),
        deletion_protection=bool(answer.get("deletionProtection", False)),
    )


def read_metadata(answer: Mapping[str, Any]) -> dict[str, str]:
    items = (answer.get("metadata") or {}).get("items") or ()
    return {str(item["key"]): str(item.get("value", "")) for item in items}


def read_disk(answer: Mapping[str, Any]) -> Disk:
    return Disk(
        name=str(answer["name"]),
        size_gb=int(answer["sizeGb"]),
        type=last(str(answer.get("type", ""))),
        labels=dict(answer.get("labels") or {}),
        users=tuple(last(str(user)) for user in answer.get("users") or ()),
    )


def read_address(answer: Mapping[str, Any]) -> Address:
    return Address(
        name=str(answer["name"]),
        region=last(str(answer.get("region", ""))),
        address=str(answer.get("address") or ""),
        description=str(answer.get("description") or ""),
        users=tuple(last(str(user)) for user in answer.get("users") or ()),
    )
