"""Instances: read, insert and delete. What else is done to one: compute_instance_calls."""

from __future__ import annotations

import re

from rehost.lab.compute_addresses import check_labels, check_name
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES, default_network, machine_type, region_of
from rehost.lab.compute_disks import LARGEST_GB
from rehost.lab.compute_errors import ApiError, already_exists, invalid, required
from rehost.lab.compute_images import GUEST_FEATURES, IMAGE_GB, LICENSE, image_from
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_power import boot, check_quota, give_external, spec
from rehost.lab.compute_project import check_items, metadata
from rehost.lab.state import Resource, fingerprint, link, relative, timestamp

_TAG = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd")


def find(call: Call, word: str = "instance") -> tuple[str, Resource]:
    """(path, instance) of a call, by name or id. Raises ApiError 404."""
    wanted = call.path[word]
    path = f"{call.scope}/instances/{wanted}"
    if wanted.isdigit():
        for instance in call.cloud.under(f"{call.scope}/instances"):
            if instance["id"] == wanted:
                path = relative(instance["selfLink"])
    return path, call.cloud.get(path)


@method("instances.get", "GET", "/zones/{zone}/instances/{instance}")
def _get(call: Call) -> Resource:
    return find(call)[1]


@method("instances.list", "GET", "/zones/{zone}/instances", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    return page(call, "compute#instanceList", call.cloud.under(f"{call.scope}/instances"))


@method("instances.aggregatedList", "GET", "/aggregated/instances", query=AGGREGATED_QUERY)
def _aggregated(call: Call) -> Resource:
    scopes = {
        f"zones/{zone}": call.cloud.under(f"{call.project}/zones/{zone}/instances") for zone in ALL_ZONES
    }
    return aggregated(call, "compute#instanceAggregatedList", "instances", scopes)


# -- insert ------------------------------------------------------------------------------------------------


@method("instances.insert", "POST", "/zones/{zone}/instances", body="Instance")
def _insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    name = check_name(body)
    path = f"{call.scope}/instances/{name}"
    if path in cloud.resources:
        raise already_exists(path)
    for other, instance in cloud.everywhere("instances"):
        if instance["name"] == name:
            raise invalid("resource.name", name, f"The lab has this name once, and '{other}' has it already.")
    instance = _described(call, name)
    disk_path, disk = _boot_disk(call, name, link(path))
    cloud.add(path, instance)
    cloud.add(disk_path, disk)
    instance = cloud.resources[path]
    cloud.touch()

    def undo() -> None:
        cloud.resources.pop(path, None)
        cloud.resources.pop(disk_path, None)

    async def work() -> None:
        give_external(cloud, instance)
        check_quota(cloud, path)
        instance["status"] = "STAGING"
        cloud.resources[disk_path]["status"] = "READY"
        await cloud.machines.create(spec(instance, int(disk["sizeGb"])))
        try:
            await boot(call, instance)
        except BaseException:
            call.packets.ended(name)
            await cloud.machines.delete(name)
            raise

    return call.operations.start(call, "insert", path, work, undo)


def _described(call: Call, name: str) -> Resource:
    """The instance as it will be, PROVISIONING. Raises ApiError 400."""
    cloud, body, zone = call.cloud, call.body, call.path["zone"]
    if "machineType" not in body:
        raise required("resource.machineType")
    kind = machine_type(body["machineType"], cloud.project, zone, "resource.machineType")
    check_items(body.get("metadata", {}), "resource.metadata.items")
    check_labels(body.get("labels", {}))
    check_tags(body.get("tags", {}), "resource.tags.items")
    labels, scheduling = body.get("labels", {}), body.get("scheduling", {})
    shielded = {"enableSecureBoot": False, "enableVtpm": True, "enableIntegrityMonitoring": True}
    made: Resource = {
        "kind": "compute#instance",
        "description": body.get("description", ""),
        "zone": link(call.scope),
        "machineType": link(f"{call.scope}/machineTypes/{kind}"),
        "status": "PROVISIONING",
        "cpuPlatform": "Unknown CPU Platform",
        "canIpForward": body.get("canIpForward", False),
        "deletionProtection": body.get("deletionProtection", False),
        "startRestricted": False,
        "networkInterfaces": [_interface(call)],
        "disks": [_attached(call, name)],
        "metadata": metadata(body.get("metadata", {}).get("items", [])),
        "tags": tags(body.get("tags", {}).get("items", [])),
        "labelFingerprint": fingerprint(labels),
        "scheduling": {
            "automaticRestart": True,
            "onHostMaintenance": "MIGRATE",
            "preemptible": False,
            "provisioningModel": "STANDARD",
        }
        | scheduling,
        "shieldedInstanceConfig": shielded | body.get("shieldedInstanceConfig", {}),
        "shieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": True},
    }
    for key in ("serviceAccounts", "hostname"):
        if body.get(key):
            made[key] = body[key]
    if labels:
        made["labels"] = labels
    made["fingerprint"] = fingerprint([made["networkInterfaces"], made["machineType"]])
    return made


def tags(items: list[str]) -> Resource:
    return {"fingerprint": fingerprint(items)} | ({"items": items} if items else {})


def check_tags(given: Resource, at: str) -> None:
    """Raises ApiError 400."""
    for i, tag in enumerate(given.get("items", ())):
        if not _TAG.fullmatch(tag):
            raise invalid(f"{at}[{i}]", tag, f"Must be a match of regex '(?:{_TAG.pattern})'")


def _interface(call: Call) -> Resource:
    nics = call.body.get("networkInterfaces", [])
    at = "resource.networkInterfaces"
    if not nics:
        raise invalid(at, "", "At least one network interface is required.")
    if len(nics) > 1:
        raise invalid(at, len(nics), "The lab gives a machine one network interface.")
    given, at = nics[0], f"{at}[0]"
    network = default_network(
        call.cloud.project, given.get("network", "global/networks/default"), f"{at}.network"
    )
    subnet = f"projects/{call.cloud.project}/regions/{region_of(call.scope)}/subnetworks/default"
    if relative(given.get("subnetwork", subnet)) not in (subnet, subnet.split("/", 2)[2]):
        raise invalid(
            f"{at}.subnetwork", given["subnetwork"], "The referenced subnetwork resource cannot be found."
        )
    if "networkIP" in given:
        raise invalid(f"{at}.networkIP", given["networkIP"], "The lab chooses the internal addresses.")
    address = call.cloud.free_internal()
    if address is None:
        raise ApiError(503, "backendError", "The lab has no internal address left.")
    made: Resource = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": network,
        "subnetwork": link(subnet),
        "networkIP": address,
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint(address),
    }
    configs = given.get("accessConfigs", [])
    if len(configs) > 1:
        raise invalid(f"{at}.accessConfigs", len(configs), "At most one access config currently supported.")
    if configs:
        made["accessConfigs"] = [access_config(call, configs[0], f"{at}.accessConfigs[0]")]
    return made


def access_config(call: Call, given: Resource, at: str) -> Resource:
    """An access config with its defaults; natIP only if one was given. Raises ApiError 400."""
    made: Resource = {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": given.get("name", "External NAT"),
        "networkTier": given.get("networkTier", "PREMIUM"),
    }
    wanted = given.get("natIP")
    if wanted:
        region = region_of(call.scope)
        here = call.cloud.under(f"{call.project}/regions/{region}/addresses")
        if not any(address["address"] == wanted for address in here):
            raise invalid(
                f"{at}.natIP",
                wanted,
                f"The specified external IP address '{wanted}' was not found in region '{region}'.",
            )
        if wanted in call.cloud.used_external():
            raise ApiError(400, "externalIpAddressInUse", f"External IP address: {wanted} is already in-use.")
        made["natIP"] = wanted
    return made


def _attached(call: Call, name: str) -> Resource:
    """The boot disk as the instance shows it. Raises ApiError 400."""
    at = "resource.disks"
    disks = call.body.get("disks", [])
    if not disks:
        raise invalid(at, "", "At least one disk is required.")
    if len(disks) > 1 or not disks[0].get("boot"):
        raise invalid(at, len(disks), "The lab gives a machine one disk, the one that it boots from.")
    given = disks[0]
    if "source" in given or "initializeParams" not in given:
        raise invalid(
            f"{at}[0].source", given.get("source", ""), "The lab makes a new boot disk for every instance."
        )
    if not given.get("autoDelete"):
        raise invalid(f"{at}[0].autoDelete", False, "A boot disk of the lab goes with its instance.")
    disk_name = given["initializeParams"].get("diskName", name)
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "boot": True,
        "autoDelete": True,
        "index": 0,
        "interface": "SCSI",
        "deviceName": given.get("deviceName", "persistent-disk-0"),
        "source": link(f"{call.scope}/disks/{disk_name}"),
        "diskSizeGb": str(_disk_gb(given)),
        "licenses": [LICENSE],
        "guestOsFeatures": GUEST_FEATURES,
        "architecture": "X86_64",
    }


def _disk_gb(given: Resource) -> int:
    size = int(given["initializeParams"].get("diskSizeGb", given.get("diskSizeGb", IMAGE_GB)))
    at = "resource.disks[0].initializeParams.diskSizeGb"
    if size < IMAGE_GB:
        raise invalid(at, size, f"Requested disk size cannot be smaller than the image size ({IMAGE_GB} GB)")
    if size > LARGEST_GB:
        raise invalid(at, size, f"Requested disk size cannot be larger than {LARGEST_GB} GB")
    return size


def _boot_disk(call: Call, name: str, user: str) -> tuple[str, Resource]:
    given = call.body["disks"][0]
    params, at = given["initializeParams"], "resource.disks[0].initializeParams"
    if "sourceImage" not in params:
        raise required(f"{at}.sourceImage")
    image = image_from(params["sourceImage"], f"{at}.sourceImage")
    disk_name = check_name({"name": params.get("diskName", name)})
    path = f"{call.scope}/disks/{disk_name}"
    if path in call.cloud.resources:
        raise already_exists(path)
    kind = params.get("diskType", "pd-standard").rsplit("/", 1)[-1]
    if kind not in _DISK_TYPES:
        raise invalid(
            f"{at}.diskType", params["diskType"], "The referenced diskType resource cannot be found."
        )
    labels = params.get("labels", {})
    check_labels(labels, f"{at}.labels")
    disk: Resource = {
        "kind": "compute#disk",
        "description": params.get("description", ""),
        "zone": link(call.scope),
        "sizeGb": str(_disk_gb(given)),
        "status": "CREATING",
        "type": link(f"{call.scope}/diskTypes/{kind}"),
        "sourceImage": image["selfLink"],
        "sourceImageId": image["id"],
        "licenses": [LICENSE],
        "guestOsFeatures": GUEST_FEATURES,
        "architecture": "X86_64",
        "physicalBlockSizeBytes": "4096",
        "labelFingerprint": fingerprint(labels),
        "lastAttachTimestamp": timestamp(),
        "users": [user],
    }
    return path, disk | ({"labels": labels} if labels else {})


@method("instances.delete", "DELETE", "/zones/{zone}/instances/{instance}", query=("noGracefulShutdown",))
def _delete(call: Call) -> Resource:
    path, instance = find(call)
    cloud, name = call.cloud, instance["name"]
    if instance["deletionProtection"]:
        raise ApiError(
            400,
            "invalidResourceUsage",
            "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'.",
        )

    async def work() -> None:
        if cloud.resources.get(path) is not instance:
            return  # a delete before this one
        if instance["status"] == "RUNNING":
            instance["status"] = "STOPPING"
            await cloud.machines.stop(name)
        call.packets.ended(name)
        await cloud.machines.delete(name)
        for disk in instance["disks"]:
            cloud.resources.pop(relative(disk["source"]), None)
        del cloud.resources[path]
        cloud.guest_attributes.pop(path, None)
        await call.packets.apply()

    return call.operations.start(call, "delete", path, work)
