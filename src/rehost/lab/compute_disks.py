"""Disks and their types. What a machine does with a disk: compute_attach."""

from __future__ import annotations

from rehost.lab.compute_addresses import check_labels, check_name, set_labels
from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES, BORN, region_of
from rehost.lab.compute_errors import already_exists, in_use, invalid, not_found
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_policies import attachable
from rehost.lab.compute_power import check_quota
from rehost.lab.compute_sources import Source, content, find_source, source
from rehost.lab.state import Resource, fingerprint, link, relative, stable_id

LARGEST_GB = 65536
BLANK_GB = 500  # of a disk for which nobody names a size
DISK_TYPES = {
    "pd-standard": "Standard Persistent Disk",
    "pd-balanced": "Balanced Persistent Disk",
    "pd-ssd": "SSD Persistent Disk",
}

TABLES["Disk"] = {
    "kind": "string",
    "name": "string",
    "description": "string",
    "zone": "string",
    "sizeGb": "int64",
    "type": "string",
    "labels": "{string}",
    "sourceImage": "string",
    "sourceSnapshot": "string",
    "sourceDisk": "string",
    "licenses": "[string]",
    "guestOsFeatures": "[GuestOsFeature]",
    "architecture": "ARCHITECTURE_UNSPECIFIED|ARM64|X86_64",
    "physicalBlockSizeBytes": "int64",
    "resourcePolicies": "[string]",
}


@method("disks.get", "GET", "/zones/{zone}/disks/{disk}")
def _get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/disks/{call.path['disk']}")


@method("disks.list", "GET", "/zones/{zone}/disks", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    return page(call, "compute#diskList", call.cloud.under(f"{call.scope}/disks"))


@method("disks.aggregatedList", "GET", "/aggregated/disks", query=AGGREGATED_QUERY)
def _aggregated(call: Call) -> Resource:
    scopes = {f"zones/{zone}": call.cloud.under(f"{call.project}/zones/{zone}/disks") for zone in ALL_ZONES}
    return aggregated(call, "compute#diskAggregatedList", "disks", scopes)


@method("disks.setLabels", "POST", "/zones/{zone}/disks/{resource}/setLabels", body="ZoneSetLabelsRequest")
def _set_labels(call: Call) -> Resource:
    return set_labels(call, f"{call.scope}/disks/{call.path['resource']}", "setLabels")


# -- making ------------------------------------------------------------------------------------------------


@method("disks.insert", "POST", "/zones/{zone}/disks", body="Disk", query=("sourceImage",))
def _insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    if "sourceImage" in call.query:
        made_of: Source | None = find_source(call, "image", call.query["sourceImage"], "sourceImage")
    else:
        made_of = source(call, body, "resource")
    path, disk = described(
        call,
        check_name(body),
        body,
        made_of,
        size=disk_gb(body.get("sizeGb"), made_of, "resource.sizeGb"),
        kind=disk_type(call, body.get("type"), "resource.type"),
        at="resource",
    )
    if made_of and made_of.word == "disk" and not made_of.path.startswith(f"{call.scope}/"):
        raise invalid("resource.sourceDisk", body["sourceDisk"], "The disks must be in the same zone.")
    disk = cloud.add(path, disk)

    async def work() -> None:
        check_quota(cloud, path)
        await cloud.disks.make(content(path), int(disk["sizeGb"]), made_of.content if made_of else None)
        disk["status"] = "READY"

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


def described(
    call: Call, name: str, given: Resource, made_of: Source | None, *, size: int, kind: str, at: str
) -> tuple[str, Resource]:
    """(path, disk) as it will be, CREATING. `given`: description, labels, ... Raises ApiError 400 or 409."""
    path = f"{call.scope}/disks/{check_name({'name': name})}"
    if path in call.cloud.resources:
        raise already_exists(path)
    labels = given.get("labels", {})
    check_labels(labels, f"{at}.labels")
    disk: Resource = {
        "kind": "compute#disk",
        "description": given.get("description", ""),
        "zone": link(call.scope),
        "sizeGb": str(size),
        "status": "CREATING",
        "type": link(f"{call.scope}/diskTypes/{kind}"),
        "physicalBlockSizeBytes": "4096",
        "labelFingerprint": fingerprint(labels),
        **(made_of.fields() if made_of else {}),
        **{key: given[key] for key in ("licenses", "guestOsFeatures", "architecture") if key in given},
    }
    if labels:
        disk["labels"] = labels
    if given.get("resourcePolicies"):
        disk["resourcePolicies"] = attachable(
            call.cloud,
            given["resourcePolicies"],
            region_of(call.scope),
            "snapshotSchedulePolicy",
            f"{at}.resourcePolicies",
        )
    return path, disk


def disk_gb(wanted: int | None, made_of: Source | None, field: str) -> int:
    """The size of a new disk. Raises ApiError 400."""
    size = wanted if wanted is not None else made_of.gigabytes if made_of else BLANK_GB
    if size < 1:
        raise invalid(field, size, "Disk size cannot be smaller than 1 GB.")
    if made_of and size < made_of.gigabytes:
        least = f"the {made_of.word} size ({made_of.gigabytes} GB)"
        raise invalid(field, size, f"Requested disk size cannot be smaller than {least}")
    if size > LARGEST_GB:
        raise invalid(field, size, f"Requested disk size cannot be larger than {LARGEST_GB} GB")
    return size


def disk_type(call: Call, reference: str | None, field: str) -> str:
    """The name in a reference to a disk type of this zone. Raises ApiError 400."""
    if reference is None:
        return "pd-standard"
    path = relative(reference)
    name = path.rsplit("/", 1)[-1]
    # Compute Engine takes the type's bare name here, too.
    if path not in (name, f"zones/{call.path['zone']}/diskTypes/{name}", f"{call.scope}/diskTypes/{name}"):
        raise invalid(field, reference, "The URL is malformed.")
    if name not in DISK_TYPES:
        raise invalid(field, reference, "The referenced diskType resource cannot be found.")
    return name


# -- changing ----------------------------------------------------------------------------------------------


@method("disks.resize", "POST", "/zones/{zone}/disks/{disk}/resize", body="DisksResizeRequest")
def _resize(call: Call) -> Resource:
    cloud = call.cloud
    path = f"{call.scope}/disks/{call.path['disk']}"
    disk = cloud.get(path)
    size = call.body.get("sizeGb", 0)
    if not int(disk["sizeGb"]) < size <= LARGEST_GB:
        raise invalid(
            "sizeGb",
            size,
            f"New disk size '{size}' GiB must be larger than existing size '{disk['sizeGb']}' GiB.",
        )

    async def work() -> None:
        before = disk["sizeGb"]
        disk["sizeGb"] = str(size)
        try:
            check_quota(cloud, path)
            await cloud.disks.grow(content(path), size)
        except BaseException:
            disk["sizeGb"] = before
            raise
        for user in disk.get("users", ()):
            for attached in cloud.get(relative(user))["disks"]:
                if relative(attached["source"]) == path:
                    attached["diskSizeGb"] = str(size)

    return call.operations.start(call, "resizeDisk", path, work)


@method("disks.delete", "DELETE", "/zones/{zone}/disks/{disk}")
def _delete(call: Call) -> Resource:
    path = f"{call.scope}/disks/{call.path['disk']}"
    disk = call.cloud.get(path)
    if disk.get("users"):
        raise in_use(path, relative(disk["users"][0]))

    async def work() -> None:
        if call.cloud.resources.get(path) is disk:
            call.cloud.remove(path)
            await call.cloud.disks.delete(content(path))

    return call.operations.start(call, "delete", path, work)


# -- types -------------------------------------------------------------------------------------------------


def _type(call: Call, zone: str, name: str) -> Resource:
    return {
        "kind": "compute#diskType",
        "id": stable_id(name),
        "creationTimestamp": BORN,
        "name": name,
        "description": DISK_TYPES[name],
        "validDiskSize": f"10GB-{LARGEST_GB}GB",
        "defaultDiskSizeGb": str(BLANK_GB if name == "pd-standard" else 100),
        "zone": link(f"{call.project}/zones/{zone}"),
        "selfLink": link(f"{call.project}/zones/{zone}/diskTypes/{name}"),
    }


@method("diskTypes.get", "GET", "/zones/{zone}/diskTypes/{diskType}")
def _type_get(call: Call) -> Resource:
    if call.path["diskType"] not in DISK_TYPES:
        raise not_found(f"{call.scope}/diskTypes/{call.path['diskType']}")
    return _type(call, call.path["zone"], call.path["diskType"])


@method("diskTypes.list", "GET", "/zones/{zone}/diskTypes", query=LIST_QUERY)
def _type_list(call: Call) -> Resource:
    return page(call, "compute#diskTypeList", (_type(call, call.path["zone"], name) for name in DISK_TYPES))


@method("diskTypes.aggregatedList", "GET", "/aggregated/diskTypes", query=AGGREGATED_QUERY)
def _type_aggregated(call: Call) -> Resource:
    scopes = {f"zones/{zone}": [_type(call, zone, name) for name in DISK_TYPES] for zone in ALL_ZONES}
    return aggregated(call, "compute#diskTypeAggregatedList", "diskTypes", scopes)
