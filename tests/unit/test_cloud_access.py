"""How a machine in the cloud is reached: host keys waited for, refusals, the serial console."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloud_fake import ROOT, ZONE, FakeCloud, desired, error
from rehost.cloud import bodies
from rehost.cloud.access import reach, serial
from rehost.cloud.errors import CloudError, NotFound
from rehost.run.errors import Refused

INSTANCE = f"{ROOT}/zones/{ZONE}/instances/content-api"


def _standing() -> FakeCloud:
    cloud = FakeCloud()
    body = bodies.instance_body(desired(), external="203.0.113.7", existing_disk=False)
    cloud.put(INSTANCE, **body, zone=f"{ROOT}/zones/{ZONE}", status="RUNNING")
    return cloud


def _publish(cloud: FakeCloud) -> None:
    items = [
        {"namespace": "hostkeys", "key": "ssh-ed25519", "value": "AAAAhost"},
        {"namespace": "hostkeys", "key": "ssh-rsa", "value": "AAAArsa\n"},
    ]
    cloud.put(f"{INSTANCE}/getGuestAttributes", queryValue={"items": items})


def test_reach_waits_for_host_keys() -> None:
    cloud = _standing()
    told: list[str] = []

    def told_once(text: str) -> None:
        told.append(text)
        _publish(cloud)

    async def run() -> Any:
        async with cloud.client() as client:
            return await reach(client, desired(), told_once)

    found = asyncio.run(run())
    assert (found.address, found.user) == ("203.0.113.7", "ada")
    assert found.host_keys == ("ssh-ed25519 AAAAhost", "ssh-rsa AAAArsa")
    assert found.instance_id == cloud.resources[INSTANCE]["id"]
    assert told == ["content-api is RUNNING; waiting for its host keys"]


def test_reach_gives_up_with_the_consoles_last_lines() -> None:
    cloud = _standing()
    cloud.put(f"{INSTANCE}/serialPort", contents="boot\npanic: no disk\n", next="17")

    async def run() -> None:
        async with cloud.client() as client:
            assert await serial(client, desired()) == ("boot\npanic: no disk\n", 17)
            await reach(client, desired(), deadline=-1)

    with pytest.raises(CloudError, match="host keys") as caught:
        asyncio.run(run())
    assert caught.value.detail == "boot\npanic: no disk"
    assert "`rehost down`" in caught.value.cure  # waiting longer may never help


def test_reach_refuses_what_is_not_there_stopped_or_not_ours() -> None:
    cloud = _standing()

    async def run() -> None:
        async with cloud.client() as client:
            await reach(client, desired())

    cloud.resources[INSTANCE]["status"] = "TERMINATED"
    with pytest.raises(CloudError, match="TERMINATED"):
        asyncio.run(run())
    cloud.resources[INSTANCE]["labels"] = {}
    with pytest.raises(Refused, match="did not make it"):
        asyncio.run(run())
    del cloud.resources[INSTANCE]
    with pytest.raises(NotFound, match="there is no machine"):
        asyncio.run(run())


def test_serial_of_a_machine_that_is_not_ready() -> None:
    cloud = _standing()
    cloud.fault = lambda _method, path: error(400, "resourceNotReady", f"The resource '{path}' is not ready")

    async def run() -> tuple[str, int]:
        async with cloud.client() as client:
            return await serial(client, desired(), 5)

    assert asyncio.run(run()) == ("", 5)
