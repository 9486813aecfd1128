"""Instances: read, insert and delete. What else is done to one: compute_instance_calls."""

from __future__ import annotations

import re

from rehost.lab import compute_attach
from rehost.lab.compute_addresses import NAME, check_labels, check_name, check_tags
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES, machine_type, region_of
from rehost.lab.compute_errors import ApiError, already_exists, invalid, required
from rehost.lab.compute_firewalls import Packets
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_nics import interface
from rehost.lab.compute_policies import attachable
from rehost.lab.compute_power import boot, check_quota, find, give_external, spec
from rehost.lab.compute_project import check_items, metadata
from rehost.lab.compute_scheduling import scheduling
from rehost.lab.hardware import STOP_PATIENCE
from rehost.lab.state import Cloud, Resource, fingerprint, link

_HOSTNAME = rf"(?:{NAME}(?:\.{NAME})+)?"  # none is given: the name, the zone and the project


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
    disks = compute_attach.wanted_disks(call, name)
    instance = cloud.add(path, _described(call) | {"disks": [disk.shown for disk in disks]})
    compute_attach.claim(cloud, path, disks)
    cloud.touch()

    def undo() -> None:
        cloud.resources.pop(path, None)
        compute_attach.disclaim(cloud, path, disks)

    async def work() -> None:
        give_external(cloud, instance)
        check_quota(cloud, path)
        instance["status"] = "STAGING"
        try:
            await compute_attach.make(cloud, disks)
            await cloud.machines.create(spec(instance, map(compute_attach.plugged, instance["disks"])))
            await boot(cloud, call.packets, instance)
        except BaseException:
            call.packets.ended(name)
            await cloud.machines.delete(name)
            await compute_attach.unmake(cloud, disks)
            raise

    return call.operations.start(call, "insert", path, work, undo)


def _described(call: Call) -> Resource:
    """The instance as it will be, PROVISIONING. Raises ApiError 400."""
    cloud, body, zone = call.cloud, call.body, call.path["zone"]
    if "machineType" not in body:
        raise required("resource.machineType")
    kind = machine_type(body["machineType"], cloud.project, zone, "resource.machineType")
    check_items(body.get("metadata", {}), "resource.metadata.items")
    check_labels(body.get("labels", {}))
    check_tags(body.get("tags", {}).get("items", ()), "resource.tags.items")
    if not re.fullmatch(_HOSTNAME, body.get("hostname", "")):
        raise invalid(
            "resource.hostname", body["hostname"], "Must be a fully qualified domain name, as RFC 1035 says."
        )
    labels = body.get("labels", {})
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
        "networkInterfaces": [interface(call)],
        "metadata": metadata(body.get("metadata", {}).get("items", [])),
        "tags": tags(body.get("tags", {}).get("items", [])),
        "labelFingerprint": fingerprint(labels),
        "scheduling": scheduling(body.get("scheduling", {}), cloud.clock(), "resource.scheduling"),
        "shieldedInstanceConfig": shielded | body.get("shieldedInstanceConfig", {}),
        "shieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": True},
    }
    for key in ("serviceAccounts", "hostname"):
        if body.get(key):
            made[key] = body[key]
    if labels:
        made["labels"] = labels
    if policies := body.get("resourcePolicies"):
        made["resourcePolicies"] = attachable(
            cloud, policies, region_of(call.scope), "instanceSchedulePolicy", "resource.resourcePolicies"
        )
    made["fingerprint"] = fingerprint([made["networkInterfaces"], made["machineType"]])
    return made


def tags(items: list[str]) -> Resource:
    return {"fingerprint": fingerprint(items)} | ({"items": items} if items else {})


@method("instances.delete", "DELETE", "/zones/{zone}/instances/{instance}", query=("noGracefulShutdown",))
def _delete(call: Call) -> Resource:
    path, instance = find(call)
    cloud = call.cloud
    if instance["deletionProtection"]:
        raise ApiError(
            400,
            "invalidResourceUsage",
            "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'.",
        )

    return call.operations.start(call, "delete", path, lambda: remove(cloud, call.packets, path, instance))


async def remove(
    cloud: Cloud, packets: Packets, path: str, instance: Resource, patience: float = STOP_PATIENCE
) -> None:
    """The work of a delete: powers the machine off and takes it away with the disks that go with it."""
    if cloud.resources.get(path) is not instance:
        return  # a delete before this one
    name = instance["name"]
    if instance["status"] in ("RUNNING", "SUSPENDED"):
        instance["status"] = "STOPPING"
        await cloud.machines.stop(name, patience)
    packets.ended(name)
    await cloud.machines.delete(name)
    await compute_attach.leave(cloud, instance)
    del cloud.resources[path]
    cloud.guest_attributes.pop(path, None)
    await packets.apply()
