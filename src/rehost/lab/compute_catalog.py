"""What stands in every project: zones and machine types."""

from __future__ import annotations

from dataclasses import dataclass

from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, PUBLIC_PROJECTS, Call, method
from rehost.lab.compute_errors import ApiError, invalid, not_found
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.hardware import Hardware
from rehost.lab.state import Resource, link, relative, stable_id

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
    """`share`: the processors' time that a shared core gets in the long run; it may burst to all its vCPUs."""

    cpus: int
    memory_mib: int
    share: float | None
    description: str

    @property
    def shared(self) -> bool:
        return self.share is not None

    @property
    def hardware(self) -> Hardware:
        return Hardware(memory_mib=self.memory_mib, cpus=float(self.cpus), share=self.share)


def _shared(fraction: str, memory_gb: int, share: float) -> MachineType:
    text = f"Efficient Instance, 2 vCPU ({fraction} shared physical core) and {memory_gb} GB RAM"
    return MachineType(2, memory_gb * 1024, share, text)


def _whole(cpus: int, memory_gb: int) -> MachineType:
    text = f"Efficient Instance, {cpus} vCPUs, {memory_gb} GB RAM"
    return MachineType(cpus, memory_gb * 1024, None, text)


# The E2 family: cloud.google.com/compute/docs/general-purpose-machines, "E2 machine types".
MACHINE_TYPES = {
    # A core has two vCPUs: an eighth of one is a quarter of a vCPU.
    "e2-micro": _shared("1/8", 1, 0.25),
    "e2-small": _shared("1/4", 2, 0.5),
    "e2-medium": _shared("1/2", 4, 1.0),
    **{f"e2-standard-{cpus}": _whole(cpus, cpus * 4) for cpus in (2, 4, 8, 16, 32)},
    **{f"e2-highmem-{cpus}": _whole(cpus, cpus * 8) for cpus in (2, 4, 8, 16)},
    **{f"e2-highcpu-{cpus}": _whole(cpus, cpus) for cpus in (2, 4, 8, 16, 32)},
}

BORN = "2026-11-10T09:12:31.000-08:00"


def region_of(path_or_zone: str) -> str:
    """The region of a zone, or of a path with a zone or region in it."""
    parts = path_or_zone.split("/")
    if "regions" in parts:
        return parts[parts.index("regions") + 1]
    zone = parts[parts.index("zones") + 1] if "zones" in parts else parts[-1]
    return ALL_ZONES[zone]


def _zone(call: Call, name: str) -> Resource:
    return {
        "kind": "compute#zone",
        "id": stable_id(name),
        "creationTimestamp": BORN,
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
        "creationTimestamp": BORN,
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


def check_place(call: Call) -> None:
    """Raises ApiError for a project, zone or region that the lab does not have."""
    project, zone, region = (call.path.get(word) for word in ("project", "zone", "region"))
    images = call.method.id.startswith(
        "image"
    )  # who changes other people's is refused by the methods themselves
    views = images and call.method.verb == "GET"
    if project not in (call.cloud.project, call.cloud.number) and not (images and project in PUBLIC_PROJECTS):
        raise ApiError(404, "notFound", f"The resource 'projects/{project}' was not found")
    if call.method.id in ("zones.get", "regions.get"):
        return
    if zone is not None and zone not in ALL_ZONES and not (views and zone == "-"):
        raise invalid("zone", zone, "Unknown zone.")
    if region is not None and region not in ZONES:
        raise invalid("region", region, "Unknown region.")
