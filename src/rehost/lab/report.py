"""What `rehost lab status` tells of the cloud: its resources, and what was done last."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from rehost.lab.compute_power import external
from rehost.lab.state import Cloud, Resource, relative

LAST = 10  # operations that are told


def report(cloud: Cloud) -> dict[str, Any]:
    """Machines, addresses and disks by name; the last operations, newest first."""
    return {
        "instances": [_instance(path, one) for path, one in cloud.everywhere("instances")],
        "addresses": [_address(path, one) for path, one in cloud.everywhere("addresses")],
        "disks": [_disk(path, one) for path, one in cloud.everywhere("disks")],
        "operations": _operations(cloud),
    }


def _instance(path: str, instance: Resource) -> dict[str, Any]:
    return {
        "name": instance["name"],
        "zone": path.split("/")[3],
        "status": instance["status"],
        "machine_type": _last(instance["machineType"]),
        "internal": instance["networkInterfaces"][0]["networkIP"],
        "external": external(instance),
    }


def _address(path: str, address: Resource) -> dict[str, Any]:
    return {
        "name": address["name"],
        "region": path.split("/")[3],
        "address": address["address"],
        "status": address["status"],
        "users": [_last(user) for user in address.get("users", ())],
    }


def _disk(path: str, disk: Resource) -> dict[str, Any]:
    return {
        "name": disk["name"],
        "zone": path.split("/")[3],
        "size_gb": int(disk["sizeGb"]),
        "type": _last(disk["type"]),
        "users": [_last(user) for user in disk.get("users", ())],
    }


def _operations(cloud: Cloud) -> list[dict[str, Any]]:
    # In the order in which they were begun: their times have milliseconds, and several may begin in one.
    known = [one for path, one in cloud.resources.items() if path.split("/")[-2] == "operations"]
    newest = reversed(known)
    return [_operation(one) for one in islice(newest, LAST)]


def _operation(operation: Resource) -> dict[str, Any]:
    """seconds: from the call to the end; None while it runs. error: Google's code and message, or None."""
    asked = datetime.fromisoformat(operation["insertTime"])
    ended = operation.get("endTime")
    errors = operation.get("error", {}).get("errors", ())
    target = relative(operation["targetLink"])
    return {
        "at": operation["insertTime"],
        "type": operation["operationType"],
        "target": "/".join(target.split("/")[-2:]),
        "status": operation["status"],
        "seconds": (datetime.fromisoformat(ended) - asked).total_seconds() if ended else None,
        "error": "; ".join(f"{one['code']}: {one['message']}" for one in errors) or None,
    }


def _last(reference: str) -> str:
    return reference.rsplit("/", 1)[1]
