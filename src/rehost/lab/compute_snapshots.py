"""Snapshots: a disk's content at one moment."""

from __future__ import annotations

from rehost.lab.compute_addresses import check_labels, check_name, set_labels
from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import LIST_QUERY, Call, method
from rehost.lab.compute_errors import already_exists, not_ready, required
from rehost.lab.compute_lists import page
from rehost.lab.compute_operations import Operations, Work
from rehost.lab.compute_quotas import check_room
from rehost.lab.compute_sources import content, referenced
from rehost.lab.state import Cloud, Resource, fingerprint, relative

_INHERITED = ("licenses", "guestOsFeatures", "architecture")
TABLES["Snapshot"] = {
    "kind": "string",
    "name": "string",
    "description": "string",
    "labels": "{string}",
    "sourceDisk": "string",
    "storageLocations": "[string]",
    "guestFlush": "bool",
    "snapshotType": "STANDARD|ARCHIVE",
}


@method("snapshots.get", "GET", "/global/snapshots/{snapshot}")
def _get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/snapshots/{call.path['snapshot']}")


@method("snapshots.list", "GET", "/global/snapshots", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    return page(call, "compute#snapshotList", call.cloud.under(f"{call.scope}/snapshots"))


@method(
    "snapshots.setLabels", "POST", "/global/snapshots/{resource}/setLabels", body="GlobalSetLabelsRequest"
)
def _set_labels(call: Call) -> Resource:
    return set_labels(call, f"{call.scope}/snapshots/{call.path['resource']}", "setLabels")


@method("snapshots.insert", "POST", "/global/snapshots", body="Snapshot")
def _insert(call: Call) -> Resource:
    if "sourceDisk" not in call.body:
        raise required("resource.sourceDisk")
    disk = referenced(call.cloud, "disk", call.body["sourceDisk"], "resource.sourceDisk")
    path, work = _begun(call.cloud, relative(disk["selfLink"]), check_name(call.body), _chosen(call.body))
    return call.operations.start(call, "insert", path, work, undo=lambda: call.cloud.remove(path))


@method(
    "disks.createSnapshot",
    "POST",
    "/zones/{zone}/disks/{disk}/createSnapshot",
    body="Snapshot",
    query=("guestFlush",),
)
def _create_snapshot(call: Call) -> Resource:
    disk_path = f"{call.scope}/disks/{call.path['disk']}"
    call.cloud.get(disk_path)
    path, work = _begun(call.cloud, disk_path, check_name(call.body), _chosen(call.body))
    return call.operations.start(
        call, "createSnapshot", disk_path, work, undo=lambda: call.cloud.remove(path)
    )


@method("snapshots.delete", "DELETE", "/global/snapshots/{snapshot}")
def _delete(call: Call) -> Resource:
    path = f"{call.scope}/snapshots/{call.path['snapshot']}"
    return call.operations.start(call, "delete", path, _dropped(call.cloud, path))


def take(cloud: Cloud, operations: Operations, disk_path: str, name: str, more: Resource) -> Resource:
    """A schedule's snapshot: starts the operation. `more` goes into the snapshot's resource."""
    path, work = _begun(cloud, disk_path, name, more)
    scope = disk_path.rsplit("/", 2)[0]
    return operations.begin(
        scope, "createSnapshot", disk_path, work, undo=lambda: cloud.remove(path), user="system"
    )


def drop(cloud: Cloud, operations: Operations, path: str) -> Resource:
    """A snapshot whose time is over: starts the operation."""
    scope = path.rsplit("/", 2)[0]
    return operations.begin(scope, "delete", path, _dropped(cloud, path), user="system")


def _chosen(body: Resource) -> Resource:
    """What a body says of the snapshot. Raises ApiError 400."""
    check_labels(body.get("labels", {}))
    return {key: body[key] for key in body if key not in ("kind", "name", "sourceDisk")}


def _begun(cloud: Cloud, disk_path: str, name: str, more: Resource) -> tuple[str, Work]:
    """(path, work) of a snapshot that stands in the project from now on, CREATING. Raises ApiError."""
    disk = cloud.get(disk_path)
    if disk["status"] != "READY":
        raise not_ready(disk_path)
    path = f"projects/{cloud.project}/global/snapshots/{name}"
    if path in cloud.resources:
        raise already_exists(path)
    check_room(cloud, "SNAPSHOTS")
    more = {key: value for key, value in more.items() if value not in ({}, None)}
    snapshot = cloud.add(
        path,
        {
            "kind": "compute#snapshot",
            "description": "",
            "status": "CREATING",
            "sourceDisk": disk["selfLink"],
            "sourceDiskId": disk["id"],
            "diskSizeGb": disk["sizeGb"],
            "storageBytesStatus": "UPDATING",
            "storageLocations": ["us"],
            "snapshotType": "STANDARD",
            "labelFingerprint": fingerprint(more.get("labels", {})),
            **{key: disk[key] for key in _INHERITED if key in disk},
            **more,
        },
    )

    async def work() -> None:
        stored = str(await cloud.disks.copy(content(disk_path), content(path)))
        snapshot.update(
            status="READY",
            diskSizeGb=disk["sizeGb"],
            storageBytes=stored,
            downloadBytes=stored,
            creationSizeBytes=stored,
            storageBytesStatus="UP_TO_DATE",
        )

    return path, work


def _dropped(cloud: Cloud, path: str) -> Work:
    """The work of a delete. Raises ApiError 404."""
    cloud.get(path)

    async def work() -> None:
        cloud.remove(path)
        await cloud.disks.delete(content(path))

    return work
