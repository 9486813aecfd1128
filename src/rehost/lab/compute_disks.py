"""Disks: those that machines boot from."""

from __future__ import annotations

from rehost.lab.compute_addresses import set_labels
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES
from rehost.lab.compute_errors import in_use, invalid
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.state import Resource, relative

LARGEST_GB = 65536


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


@method("disks.resize", "POST", "/zones/{zone}/disks/{disk}/resize", body="DisksResizeRequest")
def _resize(call: Call) -> Resource:
    path = f"{call.scope}/disks/{call.path['disk']}"
    disk = call.cloud.get(path)
    size = call.body.get("sizeGb", 0)
    if not int(disk["sizeGb"]) < size <= LARGEST_GB:
        raise invalid(
            "sizeGb",
            size,
            f"New disk size '{size}' GiB must be larger than existing size '{disk['sizeGb']}' GiB.",
        )

    async def work() -> None:
        for user in disk.get("users", ()):
            instance = call.cloud.get(relative(user))
            await call.cloud.machines.grow_disk(instance["name"], size)
            for attached in instance["disks"]:
                attached["diskSizeGb"] = str(size)
        disk["sizeGb"] = str(size)

    return call.operations.start(call, "resizeDisk", path, work)


@method("disks.delete", "DELETE", "/zones/{zone}/disks/{disk}")
def _delete(call: Call) -> Resource:
    path = f"{call.scope}/disks/{call.path['disk']}"
    disk = call.cloud.get(path)
    if disk.get("users"):
        raise in_use(path, relative(disk["users"][0]))

    async def work() -> None:
        del call.cloud.resources[path]

    return call.operations.start(call, "delete", path, work)
