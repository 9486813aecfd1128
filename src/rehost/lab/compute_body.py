"""Which fields a request's body may have, and of which type: the part of Google's schema that the lab knows.

A test compares every line with Google's discovery document. A field that is not here is refused in the words that
Google has for a field that does not exist: silence would let a client believe that it had an effect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rehost.lab.compute_call import COMMON_QUERY, Method
from rehost.lab.compute_errors import ApiError, bad_payload, required, too_large
from rehost.lab.state import Resource

LARGEST_VALUE = 262144  # of a metadata item: 256 KiB

# Types: string, bytes (base64), bool, int32, int64 (a string or a number in JSON), a table's name, [X] a list,
# {X} a map, a|b one of these words.
TABLES: dict[str, dict[str, str]] = {
    "Instance": {
        "name": "string",
        "description": "string",
        "hostname": "string",
        "kind": "string",
        "zone": "string",
        "machineType": "string",
        "canIpForward": "bool",
        "deletionProtection": "bool",
        "disks": "[AttachedDisk]",
        "networkInterfaces": "[NetworkInterface]",
        "metadata": "Metadata",
        "tags": "Tags",
        "labels": "{string}",
        "scheduling": "Scheduling",
        "serviceAccounts": "[ServiceAccount]",
        "shieldedInstanceConfig": "ShieldedInstanceConfig",
        "shieldedInstanceIntegrityPolicy": "ShieldedInstanceIntegrityPolicy",
        "confidentialInstanceConfig": "ConfidentialInstanceConfig",
        "reservationAffinity": "ReservationAffinity",
        "resourcePolicies": "[string]",
        "displayDevice": "DisplayDevice",
        "keyRevocationActionType": "KEY_REVOCATION_ACTION_TYPE_UNSPECIFIED|NONE|STOP",
    },
    "AttachedDisk": {
        "kind": "string",
        "type": "PERSISTENT|SCRATCH",
        "mode": "READ_WRITE|READ_ONLY",
        "boot": "bool",
        "autoDelete": "bool",
        "deviceName": "string",
        "index": "int32",
        "interface": "NVME|SCSI",
        "source": "string",
        "diskSizeGb": "int64",
        "initializeParams": "AttachedDiskInitializeParams",
    },
    "AttachedDiskInitializeParams": {
        "sourceImage": "string",
        "diskName": "string",
        "diskSizeGb": "int64",
        "diskType": "string",
        "labels": "{string}",
        "description": "string",
        "replicaZones": "[string]",
        "resourceManagerTags": "{string}",
    },
    "NetworkInterface": {
        "kind": "string",
        "name": "string",
        "network": "string",
        "subnetwork": "string",
        "networkIP": "string",
        "nicType": "GVNIC|VIRTIO_NET|UNSPECIFIED_NIC_TYPE",
        "stackType": "IPV4_ONLY",
        "accessConfigs": "[AccessConfig]",
    },
    "AccessConfig": {
        "kind": "string",
        "type": "ONE_TO_ONE_NAT",
        "name": "string",
        "natIP": "string",
        "networkTier": "PREMIUM|STANDARD",
        "setPublicPtr": "bool",
    },
    "Metadata": {"kind": "string", "fingerprint": "bytes", "items": "[Item]"},
    "Item": {"key": "string", "value": "string"},
    "Tags": {"fingerprint": "bytes", "items": "[string]"},
    "Scheduling": {
        "automaticRestart": "bool",
        "onHostMaintenance": "MIGRATE|TERMINATE",
        "preemptible": "bool",
        "provisioningModel": "STANDARD|SPOT",
        "instanceTerminationAction": "DELETE|STOP|INSTANCE_TERMINATION_ACTION_UNSPECIFIED",
    },
    "ServiceAccount": {"email": "string", "scopes": "[string]"},
    "ShieldedInstanceConfig": {
        "enableSecureBoot": "bool",
        "enableVtpm": "bool",
        "enableIntegrityMonitoring": "bool",
    },
    "ShieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": "bool"},
    "ConfidentialInstanceConfig": {"enableConfidentialCompute": "bool"},
    "ReservationAffinity": {
        "consumeReservationType": "ANY_RESERVATION|NO_RESERVATION|SPECIFIC_RESERVATION|UNSPECIFIED",
        "key": "string",
        "values": "[string]",
    },
    "DisplayDevice": {"enableDisplay": "bool"},
    "InstancesSetLabelsRequest": {"labels": "{string}", "labelFingerprint": "bytes"},
    "RegionSetLabelsRequest": {"labels": "{string}", "labelFingerprint": "bytes"},
    "ZoneSetLabelsRequest": {"labels": "{string}", "labelFingerprint": "bytes"},
    "InstancesSetMachineTypeRequest": {"machineType": "string"},
    "DisksResizeRequest": {"sizeGb": "int64"},
    "Address": {
        "kind": "string",
        "name": "string",
        "description": "string",
        "address": "string",
        "addressType": "EXTERNAL",
        "ipVersion": "IPV4|UNSPECIFIED_VERSION",
        "networkTier": "PREMIUM|STANDARD",
        "region": "string",
        "labels": "{string}",
        "labelFingerprint": "bytes",
    },
    "Firewall": {
        "kind": "string",
        "id": "int64",
        "creationTimestamp": "string",
        "selfLink": "string",
        "name": "string",
        "description": "string",
        "network": "string",
        "priority": "int32",
        "direction": "INGRESS|EGRESS",
        "disabled": "bool",
        "allowed": "[FirewallItem]",
        "denied": "[FirewallItem]",
        "sourceRanges": "[string]",
        "sourceTags": "[string]",
        "targetTags": "[string]",
        "logConfig": "FirewallLogConfig",
    },
    "FirewallItem": {"IPProtocol": "string", "ports": "[string]"},
    "FirewallLogConfig": {"enable": "bool", "metadata": "EXCLUDE_ALL_METADATA|INCLUDE_ALL_METADATA"},
}
_JSON_NAMES = {
    "string": "TYPE_STRING",
    "bytes": "TYPE_BYTES",
    "bool": "TYPE_BOOL",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}


# Query parameters that are not text.
_QUERY = {
    **dict.fromkeys(
        (
            "deletionProtection",
            "discardLocalSsd",
            "includeAllScopes",
            "noGracefulShutdown",
            "returnPartialSuccess",
            "withExtendedNotifications",
        ),
        "bool",
    ),
    **dict.fromkeys(("maxResults", "port"), "int32"),
    **dict.fromkeys(("serviceProjectNumber", "start"), "int64"),
}


def check_query(method: Method, query: Mapping[str, str]) -> None:
    """Raises ApiError 400 for a parameter that the method does not have, or of another type."""
    for name, value in query.items():
        if name not in method.query and name not in COMMON_QUERY:
            raise bad_payload(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                f"Field '{name}' could not be found in request message."
            )
        kind = _QUERY.get(name, "string")
        pattern = {"bool": "(?i)true|false", "int32": r"-?[0-9]{1,10}", "int64": r"-?[0-9]{1,19}"}.get(
            kind, "(?s).*"
        )
        if not re.fullmatch(pattern, value):
            raise _wrong_value(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), _JSON_NAMES[kind], value)


_BASE64 = re.compile(r"(?:[\w+/-]{4})*(?:[\w+/-]{2,3}={0,2})?", re.ASCII)


def parse(raw: bytes, table: str) -> Resource:
    """The body, checked against a table; null counts as absent. Without a table a body has nothing in it.

    Raises ApiError 400.
    """
    if not raw.strip():
        if not table:
            return {}
        raise required("resource")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(
            400, "parseError", f"Invalid JSON payload received. {error}", rpc="INVALID_ARGUMENT"
        ) from error
    if not isinstance(body, dict):
        raise bad_payload('Invalid JSON payload received. Unknown name "": Root element must be a message.')
    checked = _message(body, table, "resource")
    for at, item in _metadata_items(checked, table):
        if len(item.get("value", "").encode()) > LARGEST_VALUE:
            raise too_large(f"{at}.value", LARGEST_VALUE, len(item["value"].encode()))
    return checked


def cleared(raw: bytes) -> frozenset[str]:
    """Fields that a body `parse` has taken gives as null: a change that keeps what is not given clears these."""
    body = json.loads(raw) if raw.strip() else {}
    return frozenset(name for name, value in body.items() if value is None)


def _metadata_items(body: Resource, table: str) -> list[tuple[str, Resource]]:
    inside = body if table == "Metadata" else body.get("metadata", {}) if table == "Instance" else {}
    start = "resource" if table == "Metadata" else "resource.metadata"
    return [(f"{start}.items[{i}]", item) for i, item in enumerate(inside.get("items", ()))]


def _message(value: Any, table: str, at: str) -> Resource:
    if not isinstance(value, dict):
        raise _wrong_value(at, f"type.googleapis.com/google.cloud.compute.v1.{table}", value)
    checked = {}
    for name, part in value.items():
        if name not in TABLES.get(table, ()):
            raise bad_payload(
                f"Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field."
            )
        if part is not None:
            checked[name] = _value(part, TABLES[table][name], f"{at}.{name}")
    return checked


def _value(value: Any, kind: str, at: str) -> Any:
    if kind.startswith("["):
        if not isinstance(value, list):
            raise _wrong_value(at, kind[1:-1], value)
        return [_value(part, kind[1:-1], f"{at}[{i}]") for i, part in enumerate(value)]
    if kind.startswith("{"):
        if not isinstance(value, dict):
            raise _wrong_value(at, "map", value)
        return {key: _value(part, kind[1:-1], f"{at}.{key}") for key, part in value.items()}
    if kind in TABLES:
        return _message(value, kind, at)
    return _scalar(value, kind, at)


def _scalar(value: Any, kind: str, at: str) -> Any:
    if kind in ("int32", "int64"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value)):
            raise _wrong_value(at, _JSON_NAMES[kind], value)
        return int(value)
    wanted = bool if kind == "bool" else str
    if not isinstance(value, wanted):
        raise _wrong_value(at, _JSON_NAMES.get(kind, "TYPE_ENUM"), value)
    if kind == "bytes" and not _BASE64.fullmatch(str(value)):
        raise bad_payload(
            f"Invalid value at '{at}' (TYPE_BYTES), Base64 decoding failed for {json.dumps(value)}"
        )
    if kind not in _JSON_NAMES and value not in kind.split("|"):
        raise ApiError(
            400,
            "invalid",
            f"Invalid value for field '{at}': '{value}'. Must be one of [{', '.join(kind.split('|'))}].",
        )
    return value


def _wrong_value(at: str, kind: str, value: Any) -> ApiError:
    return bad_payload(f"Invalid value at '{at}' ({kind}), {json.dumps(value)}")
