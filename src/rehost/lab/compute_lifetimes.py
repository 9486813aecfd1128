"""How an instance's run ends without its user: preemption, time limits, maintenance; and setScheduling."""

from __future__ import annotations

import asyncio

from rehost.lab.compute_call import Call, method
from rehost.lab.compute_errors import ApiError, not_ready
from rehost.lab.compute_firewalls import Packets
from rehost.lab.compute_instances import remove
from rehost.lab.compute_operations import Operations
from rehost.lab.compute_power import find, power_off, power_on
from rehost.lab.compute_scheduling import limit_run, scheduling
from rehost.lab.state import Cloud, Resource

_AT = "/zones/{zone}/instances/{instance}"
# Seconds between the ACPI signal and the power cut of a preempted machine:
# cloud.google.com/compute/docs/instances/preemptible#preemption-process.
PREEMPTION_NOTICE = 30.0
# Seconds that a simulated migration shows in the machine's metadata. Compute Engine gives 60 s of notice.
MAINTENANCE = 2.0
SYSTEM = "system"  # the user of such operations


def preempt(cloud: Cloud, operations: Operations, packets: Packets, path: str) -> Resource:
    """Starts the preemption of an instance that runs. Raises ApiError 400 for one that does not."""
    instance = cloud.get(path)
    if instance["status"] != "RUNNING":
        raise not_ready(path)

    async def work() -> None:
        cloud.signals.setdefault(path, {})["preempted"] = "TRUE"
        cloud.touch()
        await _terminate(cloud, packets, path, instance, PREEMPTION_NOTICE)

    scope = path.rsplit("/", 2)[0]
    operation = operations.begin(scope, "compute.instances.preempted", path, work, user=SYSTEM)
    operation["statusMessage"] = "Instance was preempted."
    return operation


def end_run(cloud: Cloud, operations: Operations, packets: Packets, path: str) -> Resource:
    """A time limit is reached: stops or deletes, as the instance's scheduling says."""
    instance = cloud.get(path)
    kind = "delete" if instance["scheduling"].get("instanceTerminationAction") == "DELETE" else "stop"

    async def work() -> None:
        await _terminate(cloud, packets, path, instance, PREEMPTION_NOTICE)

    return operations.begin(path.rsplit("/", 2)[0], kind, path, work, user=SYSTEM)


async def _terminate(cloud: Cloud, packets: Packets, path: str, instance: Resource, patience: float) -> None:
    if instance["scheduling"].get("instanceTerminationAction") == "DELETE":
        await remove(cloud, packets, path, instance, patience)
    else:
        await power_off(cloud, packets, instance, patience)


@method(
    "instances.simulateMaintenanceEvent",
    "POST",
    f"{_AT}/simulateMaintenanceEvent",
    query=("withExtendedNotifications",),
)
def _simulate(call: Call) -> Resource:
    """A Spot machine is preempted, one that is to be terminated restarts, the others seem to migrate."""
    path, instance = find(call)
    cloud = call.cloud
    if instance["status"] != "RUNNING":
        raise not_ready(path)
    rules = instance["scheduling"]

    async def work() -> None:
        if rules["preemptible"]:
            ending = preempt(cloud, call.operations, call.packets, path)
            await call.operations.wait(f"{call.scope}/operations/{ending['name']}")
            return
        told = cloud.signals.setdefault(path, {})
        told["maintenanceEvent"] = f"{rules['onHostMaintenance']}_ON_HOST_MAINTENANCE"
        cloud.touch()
        await asyncio.sleep(MAINTENANCE * cloud.pace)
        if rules["onHostMaintenance"] == "TERMINATE":
            await power_off(cloud, call.packets, instance)
            if rules["automaticRestart"]:
                await power_on(cloud, call.packets, instance)
        told.pop("maintenanceEvent", None)
        cloud.touch()

    # On no target's lock: the preemption takes the instance's own.
    return call.operations.start(call, "simulateMaintenanceEvent", path, work, lock=f"{path}/maintenance")


@method("instances.setScheduling", "POST", f"{_AT}/setScheduling", body="Scheduling")
def _set_scheduling(call: Call) -> Resource:
    """Fields that are not given stay, those given as null go. Spot or not changes only while it is off."""
    path, instance = find(call)
    before = instance["scheduling"]
    kept = {key: value for key, value in before.items() if key not in _excluded(call)}
    wanted = scheduling(kept | call.body, call.cloud.clock(), "resource")
    changed = [key for key in ("preemptible", "provisioningModel") if wanted[key] != before[key]]
    if changed and instance["status"] != "TERMINATED":
        raise ApiError(
            400,
            "invalidResourceUsage",
            f"Invalid resource usage: 'Scheduling {changed[0]} can only be changed while the instance is "
            "TERMINATED.'.",
        )

    async def work() -> None:
        instance["scheduling"] = wanted
        if instance["status"] == "RUNNING":
            limit_run(instance, call.cloud.clock())
        call.cloud.touch()

    return call.operations.start(call, "setScheduling", path, work)


def _excluded(call: Call) -> frozenset[str]:
    """What was said before and goes with this change; the other kind of time limit, too."""
    pair = frozenset(("maxRunDuration", "terminationTime"))
    return call.cleared | (pair if pair & set(call.body) else frozenset())
