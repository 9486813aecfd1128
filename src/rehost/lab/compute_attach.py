"""Disks in an instance: those that it is made with, and attaching, detaching, keeping and deleting them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import Call, method
from rehost.lab.compute_catalog import MACHINE_TYPES
from rehost.lab.compute_disks import described, disk_gb, disk_type
from rehost.lab.compute_errors import ApiError, OperationError, in_use, invalid, not_ready, required
from rehost.lab.compute_power import find
from rehost.lab.compute_sources import Source, content, referenced, source
from rehost.lab.hardware import PluggedDisk
from rehost.lab.state import Cloud, Resource, link, relative, timestamp

TABLES["AttachedDiskInitializeParams"] |= {"sourceSnapshot": "string", "resourcePolicies": "[string]"}
_AT = "/zones/{zone}/instances/{instance}"
_DEVICE = re.compile(r"[a-zA-Z0-9][-._a-zA-Z0-9]{0,62}")
_SHOWN = ("licenses", "guestOsFeatures", "architecture")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A disk of an instance that is being made. shown: the attached disk as the instance shows it; path, disk: the
    disk itself; new: whether it is made with the instance, of `made_of` (None: blank)."""

    shown: Resource
    path: str
    disk: Resource
    new: bool
    made_of: Source | None


# -- an instance that is being made ------------------------------------------------------------------------


def wanted_disks(call: Call, name: str) -> list[Wanted]:
    """What `disks` in the body of an insert comes to. Changes nothing. Raises ApiError."""
    given = call.body.get("disks", [])
    if not given:
        raise invalid("resource.disks", "", "At least one disk is required.")
    if not given[0].get("boot") or any(one.get("boot") for one in given[1:]):
        raise invalid("resource.disks[0]", "", "Boot disk must be the first disk attached to the instance.")
    found: list[Wanted] = []
    for index, one in enumerate(given):
        at = f"resource.disks[{index}]"
        wanted = _existing(call, one, index, at) if "source" in one else _new(call, one, index, name, at)
        _check_unique(wanted, found, at)
        found.append(wanted)
    return found


def _existing(call: Call, given: Resource, index: int, at: str) -> Wanted:
    if "initializeParams" in given:
        raise invalid(at, "", "Cannot specify both source and initializeParams.")
    disk = usable(call, given, at)
    path = relative(disk["selfLink"])
    return Wanted(_shown(given, disk, index, at), path, disk, new=False, made_of=None)


def _new(call: Call, given: Resource, index: int, name: str, at: str) -> Wanted:
    params, inner = given.get("initializeParams", {}), f"{at}.initializeParams"
    made_of = source(call, params, inner)
    if made_of is None and given.get("boot"):
        raise invalid(f"{inner}.sourceImage", "", "Boot disk must have a source specified")
    size = params.get("diskSizeGb", given.get("diskSizeGb"))
    path, disk = described(
        call,
        params.get("diskName", name if index == 0 else f"{name}-{index}"),
        params,
        made_of,
        size=disk_gb(size, made_of, f"{inner}.diskSizeGb"),
        kind=disk_type(call, params.get("diskType"), f"{inner}.diskType"),
        at=inner,
    )
    disk["selfLink"] = link(path)
    return Wanted(_shown(given, disk, index, at), path, disk, new=True, made_of=made_of)


def _check_unique(wanted: Wanted, others: list[Wanted], at: str) -> None:
    if wanted.path in [other.path for other in others]:
        raise invalid(at, wanted.path, "The disk is named twice.")
    names = [other.shown["deviceName"] for other in others]
    _check_device_name(wanted.shown["deviceName"], names, at)


def _check_device_name(name: str, taken: list[str], at: str) -> None:
    if not _DEVICE.fullmatch(name):
        raise invalid(f"{at}.deviceName", name, f"Must be a match of regex '{_DEVICE.pattern}'")
    if name in taken:
        raise invalid(f"{at}.deviceName", name, "The device name is used by another disk of the instance.")


def usable(call: Call, given: Resource, at: str) -> Resource:
    """The disk that `source` names, if this instance may have it. Raises ApiError 400."""
    disk = referenced(call.cloud, "disk", given["source"], f"{at}.source")
    path = relative(disk["selfLink"])
    if not path.startswith(f"{call.scope}/"):
        raise invalid(f"{at}.source", given["source"], "The disk must be in the same zone as the instance.")
    if disk["status"] != "READY":
        raise not_ready(path)
    for user in disk.get("users", ()):
        modes = [a["mode"] for a in call.cloud.get(relative(user))["disks"] if relative(a["source"]) == path]
        if given.get("mode") != "READ_ONLY" or "READ_WRITE" in modes:
            raise in_use(path, relative(user))
    return disk


def _shown(given: Resource, disk: Resource, index: int, at: str) -> Resource:
    if given.get("type") == "SCRATCH":
        raise invalid(f"{at}.type", "SCRATCH", "The lab has no local SSD.")
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": given.get("mode", "READ_WRITE"),
        "boot": given.get("boot", False),
        "autoDelete": given.get("autoDelete", False),
        "index": index,
        "interface": given.get("interface", "SCSI"),
        "deviceName": given.get("deviceName", f"persistent-disk-{index}"),
        "source": disk["selfLink"],
        "diskSizeGb": disk["sizeGb"],
        **{key: disk[key] for key in _SHOWN if key in disk},
    }


def claim(cloud: Cloud, path: str, disks: list[Wanted]) -> None:
    """The instance at `path` has these disks from now on: nobody else gets them."""
    for wanted in disks:
        disk = cloud.add(wanted.path, wanted.disk) if wanted.new else wanted.disk
        _used(disk, link(path))


def disclaim(cloud: Cloud, path: str, disks: list[Wanted]) -> None:
    """The instance did not come to be."""
    for wanted in disks:
        if wanted.new:
            cloud.remove(wanted.path)
        else:
            _unused(wanted.disk, link(path))


async def make(cloud: Cloud, disks: list[Wanted]) -> None:
    """The contents of those that are new."""
    for wanted in disks:
        if wanted.new:
            made_of = wanted.made_of.content if wanted.made_of else None
            await cloud.disks.make(content(wanted.path), int(wanted.disk["sizeGb"]), made_of)
            cloud.get(wanted.path)["status"] = "READY"


async def unmake(cloud: Cloud, disks: list[Wanted]) -> None:
    for wanted in disks:
        if wanted.new:
            await cloud.disks.delete(content(wanted.path))


def plugged(attached: Resource) -> PluggedDisk:
    """An attached disk as the machine has it."""
    return PluggedDisk(
        content(relative(attached["source"])), attached["deviceName"], attached["mode"] == "READ_ONLY"
    )


async def leave(cloud: Cloud, instance: Resource) -> None:
    """The instance is gone: its disks go with it, or are free."""
    for attached in instance["disks"]:
        path = relative(attached["source"])
        disk = cloud.get(path)
        _unused(disk, instance["selfLink"])
        if attached["autoDelete"] and "users" not in disk:
            cloud.remove(path)
            await cloud.disks.delete(content(path))


def _used(disk: Resource, user: str) -> None:
    disk["users"] = [*disk.get("users", ()), user]
    disk["lastAttachTimestamp"] = timestamp()


def _unused(disk: Resource, user: str) -> None:
    users = [other for other in disk.get("users", ()) if other != user]
    disk["lastDetachTimestamp"] = timestamp()
    if users:
        disk["users"] = users
    else:
        disk.pop("users", None)


# -- an instance that stands -------------------------------------------------------------------------------


@method("instances.attachDisk", "POST", f"{_AT}/attachDisk", body="AttachedDisk")
def _attach(call: Call) -> Resource:
    path, instance = find(call)
    given = call.body
    if instance["status"] not in ("RUNNING", "TERMINATED"):
        raise not_ready(path)
    if "source" not in given:
        raise required("resource.source")
    if "initializeParams" in given:
        raise invalid("resource.initializeParams", "", "Only disks that exist can be attached.")
    disk = usable(call, given, "resource")
    indices = [attached["index"] for attached in instance["disks"]]
    index = 0 if given.get("boot") else next(i for i in range(1, 1000) if i not in indices)
    if given.get("boot") and (0 in indices or instance["status"] != "TERMINATED"):
        raise ApiError(
            400,
            "invalidResourceUsage",
            "Invalid resource usage: 'To attach a boot disk, the instance must be in TERMINATED state and have none.'.",
        )
    shown = _shown(given, disk, index, "resource")
    _check_device_name(shown["deviceName"], [a["deviceName"] for a in instance["disks"]], "resource")
    _used(disk, instance["selfLink"])
    instance["disks"] = sorted([*instance["disks"], shown], key=lambda attached: int(attached["index"]))

    async def work() -> None:
        _check_room(path, instance)
        await call.cloud.machines.attach(instance["name"], plugged(shown), first=bool(shown["boot"]))
        call.cloud.touch()

    def undo() -> None:
        _taken_out(instance, shown, disk)

    return call.operations.start(call, "attachDisk", path, work, undo)


def _check_room(path: str, instance: Resource) -> None:
    """Raises OperationError when the machine type takes no more disks."""
    limit = 16 if MACHINE_TYPES[instance["machineType"].rsplit("/", 1)[1]].shared else 128
    if len(instance["disks"]) > limit:
        raise OperationError(
            "LIMIT_EXCEEDED",
            f"Exceeded limit 'maximum_persistent_disks' on resource '{path}'. Limit: {limit}",
            status=413,
            phrase="REQUEST ENTITY TOO LARGE",
        )


def _taken_out(instance: Resource, shown: Resource, disk: Resource) -> None:
    instance["disks"] = [attached for attached in instance["disks"] if attached is not shown]
    _unused(disk, instance["selfLink"])


def _attached(call: Call, instance: Resource) -> Resource:
    """The disk that `deviceName` names. Raises ApiError 400."""
    name = call.query.get("deviceName")
    if name is None:
        raise required("deviceName")
    for attached in instance["disks"]:
        if attached["deviceName"] == name:
            found: Resource = attached
            return found
    raise invalid("disk", name, f"No attached disk found with device name '{name}'")


@method("instances.detachDisk", "POST", f"{_AT}/detachDisk", query=("deviceName",))
def _detach(call: Call) -> Resource:
    path, instance = find(call)
    attached = _attached(call, instance)
    if instance["status"] not in ("RUNNING", "TERMINATED"):
        raise not_ready(path)
    if attached["boot"] and instance["status"] != "TERMINATED":
        raise ApiError(
            400,
            "invalidResourceUsage",
            "Invalid resource usage: 'To detach the boot disk, the instance must be in TERMINATED state.'.",
        )

    async def work() -> None:
        if attached not in instance["disks"]:
            return  # a detach before this one
        await call.cloud.machines.detach(instance["name"], attached["deviceName"])
        _taken_out(instance, attached, call.cloud.get(relative(attached["source"])))
        call.cloud.touch()

    return call.operations.start(call, "detachDisk", path, work)


@method("instances.setDiskAutoDelete", "POST", f"{_AT}/setDiskAutoDelete", query=("autoDelete", "deviceName"))
def _set_auto_delete(call: Call) -> Resource:
    path, instance = find(call)
    attached = _attached(call, instance)
    wanted = call.query.get("autoDelete")
    if wanted is None:
        raise required("autoDelete")
    if wanted not in ("true", "false"):
        raise invalid("autoDelete", wanted, "Must be true or false.")

    async def work() -> None:
        attached["autoDelete"] = wanted == "true"

    return call.operations.start(call, "setDiskAutoDelete", path, work)
