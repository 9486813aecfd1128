"""Suspending an instance, and resuming it where it was."""

from __future__ import annotations

from rehost.lab.compute_call import Call, method
from rehost.lab.compute_errors import not_ready
from rehost.lab.compute_power import external, find, give_back_external, give_external
from rehost.lab.compute_scheduling import limit_run
from rehost.lab.state import Resource, timestamp

_AT = "/zones/{zone}/instances/{instance}"


@method("instances.suspend", "POST", f"{_AT}/suspend", query=("discardLocalSsd",))
def _suspend(call: Call) -> Resource:
    """Its memory is kept; an ephemeral external address goes back, as at a stop."""
    path, instance = find(call)
    if instance["status"] not in ("RUNNING", "SUSPENDED"):
        raise not_ready(path)
    machines = call.cloud.machines

    async def work() -> None:
        if instance["status"] != "RUNNING":
            return
        instance["status"] = "SUSPENDING"
        try:
            await machines.suspend(instance["name"])
        except BaseException:
            instance["status"] = "RUNNING"
            raise
        call.packets.ended(instance["name"])
        give_back_external(call.cloud, instance)
        await machines.set_external(instance["name"], None)
        instance.pop("resourceStatus", None)  # the end of a limited run
        instance.update(status="SUSPENDED", lastSuspendedTimestamp=timestamp())
        call.cloud.touch()

    return call.operations.start(call, "suspend", path, work)


@method("instances.resume", "POST", f"{_AT}/resume")
def _resume(call: Call) -> Resource:
    path, instance = find(call)
    if instance["status"] not in ("SUSPENDED", "RUNNING"):
        raise not_ready(path)
    machines = call.cloud.machines

    async def work() -> None:
        if instance["status"] != "SUSPENDED":
            return
        instance["status"] = "PROVISIONING"
        try:
            give_external(call.cloud, instance)
            rules = call.packets.rules(instance)
            await machines.set_external(instance["name"], external(instance))
            await machines.set_rules(instance["name"], rules)
            await machines.resume(instance["name"])
        except BaseException:
            instance["status"] = "SUSPENDED"
            raise
        instance["status"] = "RUNNING"
        limit_run(instance, call.cloud.clock())
        call.packets.booted(instance, rules)
        call.cloud.touch()
        await call.packets.apply()

    return call.operations.start(call, "resume", path, work)
