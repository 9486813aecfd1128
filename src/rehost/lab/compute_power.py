"""An instance and its machine: what the machine is made of, its boot and its end."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from rehost.lab.compute_call import Call
from rehost.lab.compute_catalog import MACHINE_TYPES, region_of
from rehost.lab.compute_errors import OperationError, quota_exceeded
from rehost.lab.compute_firewalls import Packets
from rehost.lab.compute_quotas import REGION_LIMITS, usage
from rehost.lab.compute_scheduling import limit_run
from rehost.lab.hardware import STOP_PATIENCE, MachineSpec, PluggedDisk
from rehost.lab.state import Cloud, Resource, relative, timestamp


def check_quota(cloud: Cloud, path: str) -> None:
    region = region_of(path)
    used = usage(cloud, region)
    for metric, limit in REGION_LIMITS.items():
        if used[metric] > limit:
            raise quota_exceeded(metric, limit, region)


def find(call: Call, word: str = "instance") -> tuple[str, Resource]:
    """(path, instance) of a call, by name or id. Raises ApiError 404."""
    wanted = call.path[word]
    path = f"{call.scope}/instances/{wanted}"
    if wanted.isdigit():
        for instance in call.cloud.under(f"{call.scope}/instances"):
            if instance["id"] == wanted:
                path = relative(instance["selfLink"])
    return path, call.cloud.get(path)


def spec(instance: Resource, disks: Iterable[PluggedDisk]) -> MachineSpec:
    nic = instance["networkInterfaces"][0]
    return MachineSpec(
        name=instance["name"],
        instance_id=instance["id"],
        internal=nic["networkIP"],
        external=external(instance),
        mac=mac(nic["networkIP"]),
        network=nic["network"].rsplit("/", 1)[1],
        hardware=MACHINE_TYPES[instance["machineType"].rsplit("/", 1)[1]].hardware,
        disks=tuple(disks),
    )


def mac(internal: str) -> str:
    """42:01 and the address, as Compute Engine builds it."""
    return "42:01:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(internal).packed)


def external(instance: Resource) -> str | None:
    configs: Iterable[Resource] = instance["networkInterfaces"][0].get("accessConfigs", ())
    return next((config.get("natIP") for config in configs), None)


def give_external(cloud: Cloud, instance: Resource) -> None:
    """An ephemeral address for an access config that has none."""
    for config in instance["networkInterfaces"][0].get("accessConfigs", ()):
        if "natIP" not in config:
            free = cloud.free_external()
            if free is None:
                raise OperationError(
                    "IP_SPACE_EXHAUSTED",
                    "The lab has no external address left.",
                    status=400,
                    phrase="BAD REQUEST",
                )
            config["natIP"] = free


def give_back_external(cloud: Cloud, instance: Resource) -> None:
    """Its ephemeral address; a static one stays."""
    static = {address["address"] for _, address in cloud.everywhere("addresses")}
    for config in instance["networkInterfaces"][0].get("accessConfigs", ()):
        if config.get("natIP") not in static:
            config.pop("natIP", None)


async def boot(cloud: Cloud, packets: Packets, instance: Resource) -> None:
    """Boots the machine; RUNNING when its process runs."""
    rules = packets.rules(instance)
    cloud.signals.pop(relative(instance["selfLink"]), None)
    await cloud.machines.boot(instance["name"], rules)
    instance |= {"status": "RUNNING", "cpuPlatform": "Intel Broadwell", "lastStartTimestamp": timestamp()}
    limit_run(instance, cloud.clock())
    packets.booted(instance, rules)
    cloud.touch()
    await packets.apply()  # the others may know it by its tags


async def power_on(cloud: Cloud, packets: Packets, instance: Resource) -> None:
    """The work of a start. Nothing to do for a machine that is not off."""
    if instance["status"] != "TERMINATED":
        return
    if not any(disk["boot"] for disk in instance["disks"]):
        raise OperationError(
            "UNSUPPORTED_OPERATION",
            "The instance has no boot disk. Attach one with boot set to true.",
            status=400,
            phrase="BAD REQUEST",
        )
    instance["status"] = "STAGING"
    try:
        check_quota(cloud, relative(instance["selfLink"]))
        give_external(cloud, instance)
        await cloud.machines.set_external(instance["name"], external(instance))
        await boot(cloud, packets, instance)
    except BaseException:
        ended(cloud, instance)
        raise


async def power_off(
    cloud: Cloud, packets: Packets, instance: Resource, patience: float = STOP_PATIENCE
) -> None:
    """The work of a stop. patience: seconds that the machine gets. Nothing to do for one that does not run."""
    if instance["status"] not in ("RUNNING", "SUSPENDED"):
        return
    instance["status"] = "STOPPING"
    packets.ended(instance["name"])
    await cloud.machines.stop(instance["name"], patience)
    ended(cloud, instance)


def ended(cloud: Cloud, instance: Resource) -> None:
    """The machine is off: TERMINATED, and its ephemeral address goes back."""
    give_back_external(cloud, instance)
    instance.pop("resourceStatus", None)
    instance |= {
        "status": "TERMINATED",
        "cpuPlatform": "Unknown CPU Platform",
        "lastStopTimestamp": timestamp(),
    }
    cloud.touch()
