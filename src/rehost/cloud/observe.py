"""Looks at what stands in the project: a handful of GETs at the same time, where 404 means absent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from rehost.cloud.bodies import read_address, read_disk, read_firewall, read_instance
from rehost.cloud.client import Answer, Client, Progress
from rehost.cloud.errors import CloudError, OperationTimeout
from rehost.cloud.failures import no_zone
from rehost.cloud.model import Desired, Instance, Observed
from rehost.cloud.names import region_of
from rehost.run.errors import UsageError

# States that a machine passes through on its way down: what it will be is not known before it is there.
LEAVING = ("STOPPING", "SUSPENDING", "DEPROVISIONING", "PENDING_STOP")
SETTLE_SECONDS = 300.0
POLL_SECONDS = 1.0

T = TypeVar("T")


async def together(*awaitables: Awaitable[T]) -> list[T]:
    """All results; the first error cancels the rest, so that nothing goes on behind the caller's back."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def observe(client: Client, desired: Desired, progress: Progress | None = None) -> Observed:
    """What stands there. Waits for a machine that is just stopping or being deleted.

    Raises UsageError when project, zone or machine type do not exist, before anything is planned; `CloudError`s.
    """
    region_of(desired.zone)  # what cannot be a zone is not asked for
    try:
        observed = await _look(client, desired)
        end = time.monotonic() + SETTLE_SECONDS
        while observed.instance is not None and observed.instance.status in LEAVING:
            await wait_a_little(client, observed.instance, end, progress)
            observed = await _look(client, desired)
    except (CloudError, UsageError):
        # A wrong zone makes other questions fail in odd ways: say what is behind it, if it is that.
        await check_zone(client, desired)
        raise
    if observed.instance is None:
        await together(check_zone(client, desired), check_machine_type(client, desired))
    elif observed.instance.machine_type != desired.machine_type:
        await check_machine_type(client, desired)
    return observed


async def _look(client: Client, desired: Desired) -> Observed:
    names, zone, region = desired.names, desired.zone, desired.region
    instance, disk, address, web, ssh, machines, addresses = await together(
        _one(client, client.path("zones", zone, "instances", names.instance)),
        _one(client, client.path("zones", zone, "disks", names.disk)),
        _one(client, client.path("regions", region, "addresses", names.address)),
        _one(client, client.path("global", "firewalls", names.web)),
        _one(client, client.path("global", "firewalls", names.ssh)),
        client.aggregated("instances", filter=f"name={names.instance}"),
        client.aggregated("addresses", filter=f"name={names.address}"),
    )
    elsewhere = [read_instance(one) for one in machines if one.get("name") == names.instance]
    reserved = [read_address(one) for one in addresses if one.get("name") == names.address]
    return Observed(
        instance=read_instance(instance[0]) if instance else None,
        disk=read_disk(disk[0]) if disk else None,
        address=read_address(address[0]) if address else None,
        firewalls={str(rule["name"]): read_firewall(rule) for rule in (*web, *ssh)},
        elsewhere=tuple(one for one in elsewhere if one.zone != zone and one.ours()),
        addresses_elsewhere=tuple(
            one for one in reserved if one.region != region and one.description == names.description
        ),
    )


async def _one(client: Client, path: str) -> list[Answer]:
    """One resource as a list that is empty when it is absent."""
    answer = await client.maybe(path)
    return [] if answer is None else [answer]


async def look_at_instance(client: Client, desired: Desired) -> Instance | None:
    """The machine alone."""
    answer = await client.maybe(client.path("zones", desired.zone, "instances", desired.names.instance))
    return read_instance(answer) if answer else None


async def wait_a_little(client: Client, instance: Instance, end: float, progress: Progress | None) -> None:
    """One pause while a machine changes its state. end: time.monotonic() at which patience ends."""
    if time.monotonic() > end:
        raise OperationTimeout(
            f"the machine {instance.name} is still {instance.status}.",
            where=instance.zone,
            cure="Run the same command again in a minute.",
            retryable=True,
        )
    if progress is not None:
        progress(f"{instance.name} is {instance.status}")
    await client.pause(POLL_SECONDS)


async def check_zone(client: Client, desired: Desired) -> None:
    """Raises UsageError with the nearest names when the zone does not exist."""
    zones = {str(zone["name"]): zone for zone in await client.items(client.path("zones"))}
    if desired.zone not in zones:
        raise no_zone(desired.zone, desired.project, nearest(desired.zone, zones))


async def check_machine_type(client: Client, desired: Desired) -> None:
    """Raises UsageError with the nearest names when the zone has no such machine type."""
    if await client.maybe(client.path("zones", desired.zone, "machineTypes", desired.machine_type)) is None:
        known = await client.items(client.path("zones", desired.zone, "machineTypes"))
        near = nearest(desired.machine_type, [str(one["name"]) for one in known])
        raise UsageError(
            f"the zone {desired.zone} has no machine type {desired.machine_type!r}.",
            where="rehost.toml, [machine] type",
            cure=f"Did you mean {', '.join(near)}?"
            if near
            else "Take one that the zone has, such as e2-micro.",
        )


def nearest(name: str, known: dict[str, Answer] | list[str]) -> tuple[str, ...]:
    """The names most like this one, at most three."""
    import difflib  # noqa: PLC0415  # for an error alone

    return tuple(difflib.get_close_matches(name, list(known), n=3, cutoff=0.5))
