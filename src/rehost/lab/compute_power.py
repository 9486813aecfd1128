"""An instance and its machine: what the machine is made of, its boot and its end."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from rehost.lab.compute_call import Call
from rehost.lab.compute_catalog import MACHINE_TYPES, REGION_LIMITS, region_of, usage
from rehost.lab.compute_errors import OperationError, quota_exceeded
from rehost.lab.hardware import MachineSpec
from rehost.lab.state import Cloud, Resource, timestamp


def check_quota(cloud: Cloud, path: str) -> None:
    region = region_of(path)
    used = usage(cloud, region)
    for metric, limit in REGION_LIMITS.items():
        if used[metric] > limit:
            raise quota_exceeded(metric, limit, region)


def spec(instance: Resource, disk_gb: int) -> MachineSpec:
    nic = instance["networkInterfaces"][0]
    return MachineSpec(
        name=instance["name"],
        instance_id=instance["id"],
        internal=nic["networkIP"],
        external=external(instance),
        mac=mac(nic["networkIP"]),
        hardware=MACHINE_TYPES[instance["machineType"].rsplit("/", 1)[1]].hardware,
        disk_gb=disk_gb,
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


async def boot(call: Call, instance: Resource) -> None:
    """Boots the machine; RUNNING when its process runs."""
    rules = call.packets.rules(instance)
    await call.cloud.machines.boot(instance["name"], rules)
    instance |= {"status": "RUNNING", "cpuPlatform": "Intel Broadwell", "lastStartTimestamp": timestamp()}
    call.packets.booted(instance, rules)
    call.cloud.touch()
    await call.packets.apply()  # the others may know it by its tags


def ended(cloud: Cloud, instance: Resource) -> None:
    """The machine is off: TERMINATED, and its ephemeral address goes back."""
    static = {address["address"] for _, address in cloud.everywhere("addresses")}
    for config in instance["networkInterfaces"][0].get("accessConfigs", ()):
        if config.get("natIP") not in static:
            config.pop("natIP", None)
    instance |= {
        "status": "TERMINATED",
        "cpuPlatform": "Unknown CPU Platform",
        "lastStopTimestamp": timestamp(),
    }
    cloud.touch()
