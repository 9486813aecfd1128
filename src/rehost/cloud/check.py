"""Is everything in place in the cloud? Every finding says what was looked at and, if it is not right, the cure."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from rehost.cloud import bodies
from rehost.cloud.client import Answer, Client
from rehost.cloud.errors import CONSOLE, NotFound, PermissionDenied
from rehost.cloud.model import Desired
from rehost.cloud.names import FREE_REGIONS, image_url
from rehost.cloud.observe import check_machine_type, check_zone, look_at_instance, together
from rehost.run.errors import RehostError
from rehost.run.findings import Finding

# Always Free: https://cloud.google.com/free/docs/free-cloud-features#compute
FREE_TYPE, FREE_DISK_GB, FREE_DISK_TYPE = "e2-micro", 30, "pd-standard"
# List prices in USD a month of 730 hours, from Google's Catalog API.
PRICES_OF = "2026-08-20"
MACHINES = {
    "us-central1": {"e2-micro": 6.11, "e2-small": 12.23, "e2-medium": 24.46},
    "asia-northeast3": {"e2-micro": 7.84, "e2-small": 15.69, "e2-medium": 31.38},
}
DISKS_PER_GB = {
    "us-central1": {"pd-standard": 0.04, "pd-balanced": 0.10},
    "asia-northeast3": {"pd-standard": 0.052, "pd-balanced": 0.13},
}
ADDRESS_IN_USE = 3.65


def from_error(error: RehostError) -> Finding:
    """An error as a finding."""
    return Finding("error", error.what, error.cure, error.where)


async def check(client: Client, desired: Desired) -> list[Finding]:
    """All findings. Nothing is changed; an error of one question does not hide the answers to the others."""
    try:
        await client.credentials.token()
    except RehostError as error:
        return [from_error(error)]
    found = [Finding("ok", f"credentials: {client.credentials.source.words}")]
    try:
        await client.get(client.path())
    except RehostError as error:
        return [*found, from_error(error)]
    found.append(Finding("ok", f"the project {desired.project} is there and has the Compute Engine API"))
    parts = await together(
        _billing(client, desired),
        _guarded(_place(client, desired)),
        _guarded(_image(client, desired)),
        _guarded(_open_to_all(client, desired)),
    )
    return [*found, *(finding for part in parts for finding in part), free_tier(desired)]


async def _guarded(part: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        return await part
    except RehostError as error:
        return [from_error(error)]


async def _billing(client: Client, desired: Desired) -> list[Finding]:
    """Who may use a project may often not see its billing, and the billing API may be off: then we don't know."""
    try:
        info = await client.billing()
    except PermissionDenied:
        why = "these credentials may not see it"
    except RehostError as error:
        why = error.what
    else:
        if info.get("billingEnabled"):
            return [Finding("ok", f"billing is enabled for {desired.project}")]
        return [
            Finding(
                "error",
                f"the project {desired.project} has no active billing account.",
                f"Link one at {CONSOLE}/billing/linkedaccount?project={desired.project}; even what is free needs it.",
            )
        ]
    return [
        Finding(
            "warning",
            f"whether billing is enabled could not be looked up: {why.rstrip('.')}.",
            f"See {CONSOLE}/billing/linkedaccount?project={desired.project}",
        )
    ]


async def _place(client: Client, desired: Desired) -> list[Finding]:
    """Zone, machine type, and the region's quotas: each needs the one before it."""
    await check_zone(client, desired)
    found = [Finding("ok", f"the zone {desired.zone} exists")]
    try:
        await check_machine_type(client, desired)
    except RehostError as error:
        return [*found, from_error(error)]
    kind = await client.get(client.path("zones", desired.zone, "machineTypes", desired.machine_type))
    cpus, memory = int(kind.get("guestCpus", 1)), int(kind.get("memoryMb", 0))
    found.append(Finding("ok", f"{desired.machine_type} is sold there: {cpus} vCPU, {memory} MB of memory"))
    if await look_at_instance(client, desired) is not None:
        return found  # it stands: its share of the quotas is used by itself
    region = await client.get(client.path("regions", desired.region))
    return [*found, *quotas(desired, region, cpus)]


def quotas(desired: Desired, region: Mapping[str, object], cpus: int) -> list[Finding]:
    """Whether the region's quotas leave room for one machine with one reserved address. Pure."""
    listed = region.get("quotas")
    known = {str(quota["metric"]): quota for quota in (listed if isinstance(listed, list) else ())}
    found = []
    for metric, need in (("CPUS", cpus), ("IN_USE_ADDRESSES", 1), ("STATIC_ADDRESSES", 1)):
        if metric not in known:
            continue
        used, limit = float(known[metric].get("usage", 0)), float(known[metric].get("limit", 0))
        what = f"quota {metric} in {desired.region}: {used:g} of {limit:g} used, {need} needed"
        if used + need <= limit:
            found.append(Finding("ok", what))
        else:
            cure = (
                "Delete what is not needed any more, take another region, or ask for more at "
                f"{CONSOLE}/iam-admin/quotas?project={desired.project}"
            )
            found.append(Finding("error", what, cure))
    return found


async def _image(client: Client, desired: Desired) -> list[Finding]:
    try:
        image = await client.get(image_url(desired.image))
    except NotFound:
        return [
            Finding(
                "error",
                f"there is no image family {desired.image!r}.",
                'Take "debian-12"; `gcloud compute images list` shows them all.',
                "rehost.toml, [machine] image",
            )
        ]
    return [Finding("ok", f"image {image.get('name', desired.image)}")]


async def _open_to_all(client: Client, desired: Desired) -> list[Finding]:
    """The default network's own rules. They are not ours, so they are named and left alone."""
    rules = await client.items(client.path("global", "firewalls"))
    return default_rules(desired, rules)


def default_rules(desired: Desired, rules: list[Answer]) -> list[Finding]:
    """What Google's default rules let in besides ours. Pure."""
    found = []
    for rule in (bodies.read_firewall(answer) for answer in rules):
        if rule.network != desired.network or rule.disabled or "0.0.0.0/0" not in rule.sources:
            continue
        remove = f"`gcloud compute firewall-rules delete {rule.name} --project {desired.project}` if nobody needs it."
        if rule.name == "default-allow-rdp":
            what = "the network's rule default-allow-rdp lets everybody reach port 3389 of every machine."
            found.append(Finding("warning", what, remove))
        elif rule.name == "default-allow-ssh" and "0.0.0.0/0" not in desired.ssh_sources:
            what = (
                "the network's rule default-allow-ssh lets everybody reach port 22 of every machine, "
                f"not only {', '.join(desired.ssh_sources)}."
            )
            found.append(Finding("warning", what, remove))
    return found


def free_tier(desired: Desired) -> Finding:
    """Whether the machine is free of charge, else what it costs a month. Pure."""
    why = []
    if desired.machine_type != FREE_TYPE:
        why.append(f"the type is {desired.machine_type}, not {FREE_TYPE}")
    if desired.region not in FREE_REGIONS:
        why.append(f"{desired.region} is not one of {', '.join(FREE_REGIONS)}")
    if desired.disk_type != FREE_DISK_TYPE:
        why.append(f"the disk is {desired.disk_type}, not {FREE_DISK_TYPE}")
    if desired.disk_gb > FREE_DISK_GB:
        why.append(f"the disk has {desired.disk_gb} GB, free are {FREE_DISK_GB}")
    if not why:
        return Finding("ok", f"free tier: one {FREE_TYPE} in {desired.region} and its disk cost nothing")
    return Finding("warning", f"not in the free tier: {'; '.join(why)}. {price(desired)}")


def price(desired: Desired) -> str:
    """The list price a month, where it is known. Pure."""
    machine = MACHINES.get(desired.region, {}).get(desired.machine_type)
    per_gb = DISKS_PER_GB.get(desired.region, {}).get(desired.disk_type)
    if machine is None or per_gb is None:
        return "Prices: https://cloud.google.com/compute/all-pricing"
    disk = per_gb * desired.disk_gb
    return (
        f"About {machine + disk + ADDRESS_IN_USE:.2f} USD a month: machine {machine:.2f}, disk {disk:.2f}, "
        f"address {ADDRESS_IN_USE:.2f} (list prices of {PRICES_OF}, without traffic)."
    )
