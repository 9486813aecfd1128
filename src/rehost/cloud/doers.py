"""Makes the planned changes in the cloud. Thin: each doer reads what it needs anew and can be repeated."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rehost.cloud import bodies
from rehost.cloud.client import Answer, Client
from rehost.cloud.errors import AlreadyExists, CloudError, Conflict412, NotFound, Stockout
from rehost.cloud.failures import zones_to_try
from rehost.cloud.model import Desired, Firewall, Instance, Observed
from rehost.cloud.names import LABEL, region_of
from rehost.cloud.observe import LEAVING, SETTLE_SECONDS, look_at_instance, wait_a_little
from rehost.cloud.plan import AT_REST, firewall_changes, firewall_replace

if TYPE_CHECKING:
    from rehost.run.engine import Doer, Doing

# Others may change metadata at the same moment (Google's console, another laptop): read anew and try again.
EDIT_ATTEMPTS = 5
ON_THE_WAY = (*LEAVING, "PENDING", "PROVISIONING", "STAGING", "REPAIRING")


def doers(client: Client, desired: Desired, observed: Observed) -> dict[str, Doer]:
    """What does the actions of `plan`, by action id."""
    name = desired.names.instance
    found: dict[str, Doer] = {
        f"address/{desired.names.address}": partial(_create_address, client, desired),
        f"instance/{name}": partial(_create_instance, client, desired, observed),
        f"metadata/{name}": partial(_edit, client, desired, "setMetadata", _metadata),
        f"labels/{name}": partial(_edit, client, desired, "setLabels", _labels),
        f"tags/{name}": partial(_edit, client, desired, "setTags", _tags),
        f"disk/{name}": partial(_resize, client, desired),
        f"external/{name}": partial(_readdress, client, desired),
        f"machine-type/{name}": partial(_retype, client, desired),
        f"power/{name}": partial(_start, client, desired),
    }
    for rule in bodies.wanted_firewalls(desired):
        found[f"firewall/{rule.name}"] = partial(_put_firewall, client, desired, rule)
    return {**_elsewhere(client, observed), **found}


def destroy_doers(client: Client, desired: Desired, observed: Observed) -> dict[str, Doer]:
    """What does the actions of `destroy_plan`, by action id."""
    names, zone = desired.names, desired.zone
    paths = {
        f"instance/{names.instance}": client.path("zones", zone, "instances", names.instance),
        f"disk/{names.disk}": client.path("zones", zone, "disks", names.disk),
        f"address/{names.address}": client.path("regions", desired.region, "addresses", names.address),
        f"firewall/{names.web}": client.path("global", "firewalls", names.web),
        f"firewall/{names.ssh}": client.path("global", "firewalls", names.ssh),
    }
    here: dict[str, Doer] = {id_: partial(_delete, client, path) for id_, path in paths.items()}
    return {**_elsewhere(client, observed), **here}


def _elsewhere(client: Client, observed: Observed) -> dict[str, Doer]:
    """Deletions of the app's machines in other zones and its addresses in other regions."""
    found: dict[str, Doer] = {}
    for one in observed.elsewhere:
        path = client.path("zones", one.zone, "instances", one.name)
        found[f"instance/{one.name}@{one.zone}"] = partial(_delete, client, path)
    for reserved in observed.addresses_elsewhere:
        path = client.path("regions", reserved.region, "addresses", reserved.name)
        found[f"address/{reserved.name}@{reserved.region}"] = partial(_delete, client, path)
    return found


async def _delete(client: Client, path: str, doing: Doing) -> None:
    try:
        await client.change("DELETE", path, progress=doing.progress)
    except NotFound:
        doing.unchanged()


async def _create(
    client: Client, collection: str, body: Answer, ours: Callable[[Answer], bool], doing: Doing
) -> None:
    """Creates a thing. One that is there by now and is ours (an earlier try arrived after all) is as good."""
    try:
        await client.change("POST", collection, body, progress=doing.progress)
    except AlreadyExists:
        there = await client.maybe(f"{collection}/{body['name']}")
        if there is None or not ours(there):
            raise
        doing.unchanged()


async def _create_address(client: Client, desired: Desired, doing: Doing) -> None:
    collection = client.path("regions", desired.region, "addresses")
    await _create(client, collection, bodies.address_body(desired), partial(_described, desired), doing)


def _described(desired: Desired, answer: Answer) -> bool:
    return bool(answer.get("description") == desired.names.description)


def _labelled(desired: Desired, answer: Answer) -> bool:
    return bool((answer.get("labels") or {}).get(LABEL) == desired.app)


async def _create_instance(client: Client, desired: Desired, observed: Observed, doing: Doing) -> None:
    for old in observed.elsewhere:
        doing.progress(f"deleting the machine in {old.zone}")
        await _delete(client, client.path("zones", old.zone, "instances", old.name), doing)
    disk = await client.maybe(client.path("zones", desired.zone, "disks", desired.names.disk))
    body = bodies.instance_body(
        desired,
        external=await _reserved(client, desired),
        existing_disk=disk is not None and _labelled(desired, disk) and not disk.get("users"),
    )
    collection = client.path("zones", desired.zone, "instances")
    await _or_where_to_go(client, _create(client, collection, body, partial(_labelled, desired), doing))


async def _or_where_to_go(client: Client, act: Awaitable[None]) -> None:
    """Adds the zones to try to a stockout that does not name them."""
    try:
        await act
    except Stockout as full:
        if full.told:
            raise
        try:
            zones = await client.items(client.path("zones"))
        except CloudError:
            raise full from None  # the zones are a help, not the news
        region = region_of(full.zone)
        known = [
            str(z["name"]) for z in zones if z.get("status") == "UP" and region_of(str(z["name"])) == region
        ]
        raise Stockout(zone=full.zone, zones=zones_to_try(full.zone, known), where=full.where) from full


async def _reserved(client: Client, desired: Desired) -> str:
    """The reserved address, which an earlier run may have asked for a moment ago."""
    path = client.path("regions", desired.region, "addresses", desired.names.address)
    end = time.monotonic() + SETTLE_SECONDS
    while not (address := str((await client.get(path)).get("address") or "")):
        if time.monotonic() > end:
            raise CloudError(
                f"the address {desired.names.address} is still being reserved.",
                where=f"project {desired.project}",
                cure="Run the same command again in a minute.",
                retryable=True,
            )
        await client.pause(1.0)
    return address


async def _put_firewall(client: Client, desired: Desired, wanted: Firewall, doing: Doing) -> None:
    collection = client.path("global", "firewalls")
    path = f"{collection}/{wanted.name}"
    answer = await client.maybe(path)
    if answer is not None:
        found = bodies.read_firewall(answer)
        if not firewall_replace(found, wanted):
            fields = [change.field for change in firewall_changes(found, wanted)]
            if not fields:
                doing.unchanged()
                return
            await client.change("PATCH", path, bodies.firewall_patch(wanted, fields), progress=doing.progress)
            return
        await client.change("DELETE", path, progress=doing.progress)
    body = bodies.firewall_body(desired, wanted)
    await _create(client, collection, body, partial(_described, desired), doing)


Edit = Callable[[Desired, Answer], Answer | None]


async def _edit(client: Client, desired: Desired, method: str, edit: Edit, doing: Doing) -> None:
    """Read, change, write with the fingerprint that was read; again when somebody else was faster."""
    path = client.path("zones", desired.zone, "instances", desired.names.instance)
    for attempt in range(1, EDIT_ATTEMPTS + 1):
        body = edit(desired, await client.get(path))
        if body is None:
            doing.unchanged()
            return
        try:
            await client.change("POST", f"{path}/{method}", body, progress=doing.progress)
        except Conflict412:
            if attempt == EDIT_ATTEMPTS:
                raise
            doing.progress("somebody else changed it at the same moment: reading it anew")
            await client.pause(0.2 * attempt)
        else:
            return


def _metadata(desired: Desired, answer: Answer) -> Answer | None:
    current = bodies.read_metadata(answer)
    wanted = bodies.wanted_metadata(desired, current)
    fingerprint = str((answer.get("metadata") or {}).get("fingerprint") or "")
    return None if wanted == current else bodies.metadata_body(wanted, fingerprint)


def _labels(desired: Desired, answer: Answer) -> Answer | None:
    current = dict(answer.get("labels") or {})
    wanted = bodies.wanted_labels(desired, current)
    fingerprint = answer.get("labelFingerprint", "")
    return None if wanted == current else {"labels": wanted, "labelFingerprint": fingerprint}


def _tags(desired: Desired, answer: Answer) -> Answer | None:
    tags: dict[str, Any] = answer.get("tags") or {}
    items = list(tags.get("items") or ())
    if desired.names.tag in items:
        return None
    return {"items": [*items, desired.names.tag], "fingerprint": tags.get("fingerprint", "")}


async def _resize(client: Client, desired: Desired, doing: Doing) -> None:
    path = client.path("zones", desired.zone, "disks", desired.names.disk)
    if bodies.read_disk(await client.get(path)).size_gb >= desired.disk_gb:
        doing.unchanged()
        return
    await client.change("POST", f"{path}/resize", {"sizeGb": str(desired.disk_gb)}, progress=doing.progress)


async def _readdress(client: Client, desired: Desired, doing: Doing) -> None:
    """An external address cannot be exchanged in place: the old one is taken off, then ours put on."""
    path = client.path("zones", desired.zone, "instances", desired.names.instance)
    address = await _reserved(client, desired)
    instance = bodies.read_instance(await client.get(path))
    if instance.external == address:
        doing.unchanged()
        return
    if instance.access_config:
        await client.change(
            "POST",
            f"{path}/deleteAccessConfig",
            progress=doing.progress,
            networkInterface="nic0",
            accessConfig=instance.access_config,
        )
    await client.change(
        "POST",
        f"{path}/addAccessConfig",
        bodies.access_config_body(address),
        progress=doing.progress,
        networkInterface="nic0",
    )


async def _settled(client: Client, desired: Desired, doing: Doing) -> Instance:
    """The machine once its status stays."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        instance = await look_at_instance(client, desired)
        if instance is None:
            raise NotFound(
                f"the machine {desired.names.instance} was deleted meanwhile.",
                where=f"{desired.zone}, project {desired.project}",
                cure="Run `rehost up` again: it makes a new one.",
            )
        if instance.status not in ON_THE_WAY:
            return instance
        await wait_a_little(client, instance, end, doing.progress)


async def _retype(client: Client, desired: Desired, doing: Doing) -> None:
    """Stop, change, start. When the new type is not to be had, the machine starts again as it was."""
    path = client.path("zones", desired.zone, "instances", desired.names.instance)
    before = await _settled(client, desired, doing)
    if before.status not in AT_REST:
        doing.progress("stopping the machine; the app is down until it has started again")
        await client.change("POST", f"{path}/stop", progress=doing.progress)
    try:
        await _set_type(client, desired, desired.machine_type, doing)
        await _start(client, desired, doing)
    except CloudError:
        doing.warning(f"the change failed; starting the machine again as {before.machine_type}")
        await _set_type(client, desired, before.machine_type, doing)
        await _start(client, desired, doing)
        raise


async def _set_type(client: Client, desired: Desired, machine_type: str, doing: Doing) -> None:
    if (await _settled(client, desired, doing)).machine_type == machine_type:
        return
    path = client.path("zones", desired.zone, "instances", desired.names.instance, "setMachineType")
    body = {"machineType": bodies.machine_type_path(desired, machine_type)}
    await client.change("POST", path, body, progress=doing.progress)


async def _start(client: Client, desired: Desired, doing: Doing) -> None:
    path = client.path("zones", desired.zone, "instances", desired.names.instance)
    status = (await _settled(client, desired, doing)).status
    if status not in AT_REST:
        doing.unchanged()
        return
    verb = "resume" if status == "SUSPENDED" else "start"
    await _or_where_to_go(client, client.change("POST", f"{path}/{verb}", progress=doing.progress))
