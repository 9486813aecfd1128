"""Limits of a young project and what is used of them; regions, which show theirs."""

from __future__ import annotations

from collections.abc import Iterable

from rehost.lab.compute_call import LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES, BORN, MACHINE_TYPES, ZONES, region_of
from rehost.lab.compute_errors import ApiError, not_found
from rehost.lab.compute_lists import page
from rehost.lab.state import Cloud, Resource, link, stable_id

REGION_LIMITS = {
    "CPUS": 24.0,
    "PREEMPTIBLE_CPUS": 24.0,
    "INSTANCES": 24.0,
    "IN_USE_ADDRESSES": 8.0,
    "STATIC_ADDRESSES": 8.0,
    "DISKS_TOTAL_GB": 4096.0,
    "SSD_TOTAL_GB": 500.0,
    "RESOURCE_POLICIES": 50.0,
    "IN_USE_SNAPSHOT_SCHEDULES": 50.0,
}
PROJECT_LIMITS = {
    "NETWORKS": 5.0,
    "SUBNETWORKS": 100.0,
    "FIREWALLS": 100.0,
    "IMAGES": 100.0,
    "SNAPSHOTS": 1000.0,
    "CPUS_ALL_REGIONS": 32.0,
}


def usage(cloud: Cloud, region: str) -> dict[str, float]:
    """How much of each regional limit is used now."""
    here = [i for path, i in cloud.everywhere("instances") if region_of(path) == region]
    disks = [d for path, d in cloud.everywhere("disks") if region_of(path) == region]
    static = [a for path, a in cloud.everywhere("addresses") if region_of(path) == region]
    used = [path for path in cloud.used_external().values() if region_of(path) == region]
    ssd = [d for d in disks if d["type"].rsplit("/", 1)[1] != "pd-standard"]
    policies = [p for path, p in cloud.everywhere("resourcePolicies") if region_of(path) == region]
    return {
        "CPUS": _cpus(i for i in here if not i["scheduling"]["preemptible"]),
        "PREEMPTIBLE_CPUS": _cpus(i for i in here if i["scheduling"]["preemptible"]),
        "INSTANCES": float(len(here)),
        "IN_USE_ADDRESSES": float(len(used)),
        "STATIC_ADDRESSES": float(len(static)),
        "DISKS_TOTAL_GB": float(sum(int(d["sizeGb"]) for d in disks if d not in ssd)),
        "SSD_TOTAL_GB": float(sum(int(d["sizeGb"]) for d in ssd)),
        "RESOURCE_POLICIES": float(len(policies)),
        "IN_USE_SNAPSHOT_SCHEDULES": float(
            len({name for d in disks for name in d.get("resourcePolicies", ())})
        ),
    }


def project_usage(cloud: Cloud) -> dict[str, float]:
    """How much of each limit of the whole project is used now."""
    counted = {
        "NETWORKS": "networks",
        "SUBNETWORKS": "subnetworks",
        "FIREWALLS": "firewalls",
        "IMAGES": "images",
        "SNAPSHOTS": "snapshots",
    }
    used = {metric: float(len(list(cloud.everywhere(word)))) for metric, word in counted.items()}
    return used | {"CPUS_ALL_REGIONS": _cpus(i for _, i in cloud.everywhere("instances"))}


def _cpus(instances: Iterable[Resource]) -> float:
    """A machine that is off holds none."""
    live = [i for i in instances if i["status"] != "TERMINATED"]
    return float(sum(MACHINE_TYPES[i["machineType"].rsplit("/", 1)[1]].cpus for i in live))


def check_room(cloud: Cloud, metric: str, region: str = "") -> None:
    """Raises ApiError 403 when one more does not fit. Without a region it is a limit of the project."""
    limits, used = (REGION_LIMITS, usage(cloud, region)) if region else (PROJECT_LIMITS, project_usage(cloud))
    if used[metric] + 1 > limits[metric]:
        where = f"in region {region}" if region else "globally"
        raise ApiError(
            403,
            "quotaExceeded",
            f"Quota '{metric}' exceeded.  Limit: {limits[metric]} {where}.",
            domain="usageLimits",
        )


def quotas(limits: dict[str, float], used: dict[str, float]) -> list[Resource]:
    return [{"metric": metric, "limit": limit, "usage": used[metric]} for metric, limit in limits.items()]


def _region(call: Call, name: str) -> Resource:
    zones = [zone for zone, region in ALL_ZONES.items() if region == name]
    return {
        "kind": "compute#region",
        "id": stable_id(name),
        "creationTimestamp": BORN,
        "name": name,
        "description": name,
        "status": "UP",
        "zones": [link(f"{call.project}/zones/{zone}") for zone in zones],
        "quotas": quotas(REGION_LIMITS, usage(call.cloud, name)),
        "selfLink": link(f"{call.project}/regions/{name}"),
    }


@method("regions.get", "GET", "/regions/{region}")
def _region_get(call: Call) -> Resource:
    if call.path["region"] not in ZONES:
        raise not_found(call.scope)
    return _region(call, call.path["region"])


@method("regions.list", "GET", "/regions", query=LIST_QUERY)
def _region_list(call: Call) -> Resource:
    return page(call, "compute#regionList", (_region(call, name) for name in ZONES))
