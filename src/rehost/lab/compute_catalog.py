"""What stands in every project: regions with their limits, zones, machine types, the network."""

from __future__ import annotations

from dataclasses import dataclass

from rehost.lab.compute_call import AGGREGATED_QUERY, IMAGE_PROJECT, LIST_QUERY, Call, method
from rehost.lab.compute_errors import ApiError, invalid, not_found
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.hardware import Hardware
from rehost.lab.state import Cloud, Resource, fingerprint, link, relative, stable_id, timestamp

# A part of Google's regions: the free tier's three, and some of each continent.
ZONES = {
    "us-west1": "abc",
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-east4": "abc",
    "southamerica-east1": "abc",
    "europe-west1": "bcd",
    "europe-west3": "abc",
    "europe-north1": "abc",
    "asia-northeast1": "abc",
    "asia-northeast3": "abc",
    "asia-southeast1": "abc",
    "australia-southeast1": "abc",
}
ALL_ZONES = {f"{region}-{letter}": region for region, letters in ZONES.items() for letter in letters}


@dataclass(frozen=True)
class MachineType:
    """`cpus` is what Google says; `share` is the processors' time that a machine of the lab gets."""

    cpus: int
    memory_mib: int
    shared: bool
    share: float
    description: str

    @property
    def hardware(self) -> Hardware:
        return Hardware(memory_mib=self.memory_mib, cpus=self.share)


MACHINE_TYPES = {
    # Two vCPUs that may burst, on a sustained share of 0.25 of a core: a steady 0.75 lies between what a
    # short build sees and what a long one does.
    "e2-micro": MachineType(
        2, 1024, True, 0.75, "Efficient Instance, 2 vCPU (1/8 shared physical core) and 1 GB RAM"
    ),
    "e2-small": MachineType(
        2, 2048, True, 1.0, "Efficient Instance, 2 vCPU (1/4 shared physical core) and 2 GB RAM"
    ),
    "e2-medium": MachineType(
        2, 4096, True, 2.0, "Efficient Instance, 2 vCPU (1/2 shared physical core) and 4 GB RAM"
    ),
    "e2-standard-2": MachineType(2, 8192, False, 2.0, "Efficient Instance, 2 vCPUs, 8 GB RAM"),
    "e2-standard-4": MachineType(4, 16384, False, 4.0, "Efficient Instance, 4 vCPUs, 16 GB RAM"),
    "e2-standard-8": MachineType(8, 32768, False, 8.0, "Efficient Instance, 8 vCPUs, 32 GB RAM"),
    "e2-highmem-2": MachineType(2, 16384, False, 2.0, "Efficient Instance, 2 vCPUs, 16 GB RAM"),
    "e2-highcpu-2": MachineType(2, 2048, False, 2.0, "Efficient Instance, 2 vCPUs, 2 GB RAM"),
}

# Limits of a young project.
REGION_LIMITS = {
    "CPUS": 24.0,
    "INSTANCES": 24.0,
    "IN_USE_ADDRESSES": 8.0,
    "STATIC_ADDRESSES": 8.0,
    "DISKS_TOTAL_GB": 4096.0,
    "SSD_TOTAL_GB": 500.0,
}

_BORN = "2026-11-10T09:12:31.000-08:00"


def region_of(path_or_zone: str) -> str:
    """The region of a zone, or of a path with a zone or region in it."""
    parts = path_or_zone.split("/")
    if "regions" in parts:
        return parts[parts.index("regions") + 1]
    zone = parts[parts.index("zones") + 1] if "zones" in parts else parts[-1]
    return ALL_ZONES[zone]


def usage(cloud: Cloud, region: str) -> dict[str, float]:
    """How much of each regional limit is used now."""
    here = [i for path, i in cloud.everywhere("instances") if region_of(path) == region]
    disks = [d for path, d in cloud.everywhere("disks") if region_of(path) == region]
    static = [a for path, a in cloud.everywhere("addresses") if region_of(path) == region]
    live = [i for i in here if i["status"] != "TERMINATED"]
    used = [path for path in cloud.used_external().values() if region_of(path) == region]
    ssd = [d for d in disks if d["type"].rsplit("/", 1)[1] != "pd-standard"]
    return {
        "CPUS": float(sum(MACHINE_TYPES[i["machineType"].rsplit("/", 1)[1]].cpus for i in live)),
        "INSTANCES": float(len(here)),
        "IN_USE_ADDRESSES": float(len(used)),
        "STATIC_ADDRESSES": float(len(static)),
        "DISKS_TOTAL_GB": float(sum(int(d["sizeGb"]) for d in disks if d not in ssd)),
        "SSD_TOTAL_GB": float(sum(int(d["sizeGb"]) for d in ssd)),
    }


def fill(cloud: Cloud) -> None:
    """What a new project has. (Firewall rules of the default network: compute_firewalls.)"""
    cloud.resources[f"projects/{cloud.project}"] = {
        "kind": "compute#project",
        "id": cloud.number,
        "creationTimestamp": timestamp(),
        "name": cloud.project,
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": fingerprint([])},
        "defaultNetworkTier": "PREMIUM",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "vmDnsSetting": "ZONAL_ONLY",
        "selfLink": link(f"projects/{cloud.project}"),
    }
    network = f"projects/{cloud.project}/global/networks/default"
    subnets = [f"projects/{cloud.project}/regions/{region}/subnetworks/default" for region in ZONES]
    made = cloud.add(
        network,
        {
            "kind": "compute#network",
            "description": "Default network for the project",
            "autoCreateSubnetworks": True,
            "routingConfig": {"routingMode": "REGIONAL"},
            "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
            "subnetworks": [link(path) for path in subnets],
        },
    )
    made["selfLinkWithId"] = link(f"projects/{cloud.project}/global/networks/{made['id']}")
    for path in subnets:
        # One bridge serves all regions, so they all show its range.
        made = cloud.add(
            path,
            {
                "kind": "compute#subnetwork",
                "network": link(network),
                "ipCidrRange": cloud.subnet,
                "gatewayAddress": cloud.gateway,
                "region": link(path.rsplit("/", 2)[0]),
                "privateIpGoogleAccess": False,
                "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
                "purpose": "PRIVATE",
                "stackType": "IPV4_ONLY",
            },
        )
        made["fingerprint"] = fingerprint(made["id"])


# -- regions, zones, machine types -------------------------------------------------------------------------


def _region(call: Call, name: str) -> Resource:
    path = f"{call.project}/regions/{name}"
    used = usage(call.cloud, name)
    return {
        "kind": "compute#region",
        "id": stable_id(name),
        "creationTimestamp": _BORN,
        "name": name,
        "description": name,
        "status": "UP",
        "zones": [
            link(f"{call.project}/zones/{zone}") for zone, region in ALL_ZONES.items() if region == name
        ],
        "quotas": [{"metric": m, "limit": limit, "usage": used[m]} for m, limit in REGION_LIMITS.items()],
        "selfLink": link(path),
    }


@method("regions.get", "GET", "/regions/{region}")
def _region_get(call: Call) -> Resource:
    if call.path["region"] not in ZONES:
        raise not_found(call.scope)
    return _region(call, call.path["region"])


@method("regions.list", "GET", "/regions", query=LIST_QUERY)
def _region_list(call: Call) -> Resource:
    return page(call, "compute#regionList", (_region(call, name) for name in ZONES))


def _zone(call: Call, name: str) -> Resource:
    return {
        "kind": "compute#zone",
        "id": stable_id(name),
        "creationTimestamp": _BORN,
        "name": name,
        "description": name,
        "status": "UP",
        "region": link(f"{call.project}/regions/{ALL_ZONES[name]}"),
        "availableCpuPlatforms": ["Intel Broadwell"],
        "selfLink": link(f"{call.project}/zones/{name}"),
    }


@method("zones.get", "GET", "/zones/{zone}")
def _zone_get(call: Call) -> Resource:
    if call.path["zone"] not in ALL_ZONES:
        raise not_found(call.scope)
    return _zone(call, call.path["zone"])


@method("zones.list", "GET", "/zones", query=LIST_QUERY)
def _zone_list(call: Call) -> Resource:
    return page(call, "compute#zoneList", (_zone(call, name) for name in ALL_ZONES))


def _machine_type(call: Call, zone: str, name: str) -> Resource:
    kind = MACHINE_TYPES[name]
    return {
        "kind": "compute#machineType",
        "id": stable_id(name),
        "creationTimestamp": _BORN,
        "name": name,
        "description": kind.description,
        "guestCpus": kind.cpus,
        "memoryMb": kind.memory_mib,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 16 if kind.shared else 128,
        "maximumPersistentDisksSizeGb": "3072" if kind.shared else "263168",
        "isSharedCpu": kind.shared,
        "architecture": "X86_64",
        "zone": zone,
        "selfLink": link(f"{call.project}/zones/{zone}/machineTypes/{name}"),
    }


@method("machineTypes.get", "GET", "/zones/{zone}/machineTypes/{machineType}")
def _machine_type_get(call: Call) -> Resource:
    if call.path["machineType"] not in MACHINE_TYPES:
        raise not_found(f"{call.scope}/machineTypes/{call.path['machineType']}")
    return _machine_type(call, call.path["zone"], call.path["machineType"])


@method("machineTypes.list", "GET", "/zones/{zone}/machineTypes", query=LIST_QUERY)
def _machine_type_list(call: Call) -> Resource:
    return page(
        call,
        "compute#machineTypeList",
        (_machine_type(call, call.path["zone"], name) for name in MACHINE_TYPES),
    )


@method("machineTypes.aggregatedList", "GET", "/aggregated/machineTypes", query=AGGREGATED_QUERY)
def _machine_type_aggregated(call: Call) -> Resource:
    scopes = {
        f"zones/{zone}": [_machine_type(call, zone, name) for name in MACHINE_TYPES] for zone in ALL_ZONES
    }
    return aggregated(call, "compute#machineTypeAggregatedList", "machineTypes", scopes)


def machine_type(reference: str, project: str, zone: str, field: str) -> str:
    """The name in a reference to a machine type of this zone. Raises ApiError 400."""
    path = relative(reference)
    parts = path.split("/")
    where, name = ("/".join(parts[-4:-1]), parts[-1]) if len(parts) >= 4 else ("", "")
    if where != f"zones/{zone}/machineTypes" or path.removesuffix(f"{where}/{name}") not in (
        "",
        f"projects/{project}/",
    ):
        raise invalid(field, reference, "The URL is malformed.")
    if name not in MACHINE_TYPES:
        raise invalid(field, reference, f"Machine type with name '{name}' does not exist in zone '{zone}'.")
    return name


# -- networks ----------------------------------------------------------------------------------------------


@method("networks.get", "GET", "/global/networks/{network}")
def _network_get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/networks/{call.path['network']}")


@method("networks.list", "GET", "/global/networks", query=LIST_QUERY)
def _network_list(call: Call) -> Resource:
    return page(call, "compute#networkList", call.cloud.under(f"{call.scope}/networks"))


@method("subnetworks.get", "GET", "/regions/{region}/subnetworks/{subnetwork}")
def _subnetwork_get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/subnetworks/{call.path['subnetwork']}")


@method("subnetworks.list", "GET", "/regions/{region}/subnetworks", query=LIST_QUERY)
def _subnetwork_list(call: Call) -> Resource:
    return page(call, "compute#subnetworkList", call.cloud.under(f"{call.scope}/subnetworks"))


def default_network(project: str, reference: str, field: str) -> str:
    """The network's URL, for a reference to the project's only one. Raises ApiError 400."""
    path = f"projects/{project}/global/networks/default"
    if relative(reference) not in (path, "global/networks/default"):
        raise invalid(field, reference, "The referenced network resource cannot be found.")
    return link(path)


def check_place(call: Call) -> None:
    """Raises ApiError for a project, zone or region that the lab does not have."""
    project, zone, region = (call.path.get(word) for word in ("project", "zone", "region"))
    views = call.method.id.startswith("image")
    if project not in (call.cloud.project, call.cloud.number) and not (views and project == IMAGE_PROJECT):
        raise ApiError(404, "notFound", f"The resource 'projects/{project}' was not found")
    if call.method.id in ("zones.get", "regions.get"):
        return
    if zone is not None and zone not in ALL_ZONES and not (views and zone == "-"):
        raise invalid("zone", zone, "Unknown zone.")
    if region is not None and region not in ZONES:
        raise invalid("region", region, "Unknown region.")
