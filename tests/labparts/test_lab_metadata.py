"""The lab's metadata server: what Google's guest agent and startup scripts ask, and what they must not get."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lab_fake import ZONE, Lab, asynced
from rehost.lab import metadata
from rehost.lab.metadata import Asked, Told

GOOGLE = {"metadata-flavor": "Google"}
APP = f"{ZONE}/instances/app"
ITEMS = [
    {"key": "ssh-keys", "value": "deploy:ssh-ed25519 AAAA"},
    {"key": "enable-guest-attributes", "value": "TRUE"},
]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def ask(lab: Lab, path: str, verb: str = "GET", **more: Any) -> Told:
    query = more.pop("query", {})
    asked = {"headers": GOOGLE, "source": "10.70.1.2", **more}
    return await metadata.answer(lab.cloud, Asked(verb, f"/computeMetadata/v1/{path}", query, **asked))


@asynced
async def test_single_values(lab: Lab) -> None:
    made = await lab.insert(metadata={"items": ITEMS}, tags={"items": ["web"]})
    nic = "instance/network-interfaces/0"
    for path, text in {
        "project/project-id": "lab-test",
        "instance/name": "app",
        "instance/id": made["id"],
        "instance/zone": f"projects/{lab.cloud.number}/zones/us-west1-a",
        "instance/hostname": "app.us-west1-a.c.lab-test.internal",
        "instance/attributes/ssh-keys": "deploy:ssh-ed25519 AAAA",
        f"{nic}/ip": "10.70.1.2",
        f"{nic}/mac": "42:01:0a:46:01:02",
        f"{nic}/access-configs/0/external-ip": "10.70.1.100",
        "/instance/name": "app",
    }.items():
        told = await ask(lab, path)
        assert (told.status, told.text) == (200, text), path
    tags = await ask(lab, "instance/tags", query={"alt": "json", "recursive": "true"})
    assert json.loads(tags.text) == ["web"]


@asynced
async def test_the_whole_tree_as_the_agent_asks_for_it(lab: Lab) -> None:
    made = await lab.insert(metadata={"items": ITEMS})
    told = await ask(lab, "/", query={"recursive": "true", "alt": "json", "last_etag": "NONE"})
    tree = json.loads(told.text)
    assert (told.kind, bool(told.headers["ETag"])) == ("application/json", True)
    assert tree["project"]["projectId"] == "lab-test"
    assert tree["instance"]["id"] == int(made["id"])
    assert tree["instance"]["attributes"]["ssh-keys"] == "deploy:ssh-ed25519 AAAA"
    assert tree["instance"]["networkInterfaces"][0]["accessConfigs"][0]["externalIp"] == "10.70.1.100"
    only = await ask(
        lab, "instance/attributes/", query={"recursive": "true", "alt": "json", "last_etag": "NONE"}
    )
    assert json.loads(only.text) == {item["key"]: item["value"] for item in ITEMS}


@asynced
async def test_directories(lab: Lab) -> None:
    await lab.insert(metadata={"items": ITEMS})
    assert (await ask(lab, "")).text == "instance/\nproject/\n"
    assert (await ask(lab, "instance/attributes/")).text == "ssh-keys\nenable-guest-attributes\n"
    assert "network-interfaces/\n" in (await ask(lab, "instance/")).text
    moved = await ask(lab, "instance/attributes")
    assert (moved.status, moved.headers["Location"]) == (301, "/computeMetadata/v1/instance/attributes/")
    lines = (await ask(lab, "instance/scheduling/", query={"recursive": "true", "alt": "text"})).text
    assert "on-host-maintenance MIGRATE\n" in lines


@pytest.mark.parametrize(
    "path",
    [
        "instance/nothing",
        "instance/name/more",
        "instance/network-interfaces/1/ip",
        "instance/network-interfaces/x",
        "instance/attributes/none",
        "instance/service-accounts/default/token",
        "oslogin/users",
    ],
)
@asynced
async def test_what_is_not_there_is_404(lab: Lab, path: str) -> None:
    await lab.insert()
    assert (await ask(lab, path)).status == 404


@asynced
async def test_who_may_ask(lab: Lab) -> None:
    await lab.insert()
    assert (await ask(lab, "instance/name", headers={})).status == 403
    assert (await ask(lab, "instance/name", headers={**GOOGLE, "x-forwarded-for": "1.2.3.4"})).status == 403
    assert (await ask(lab, "instance/name", source="10.70.1.77")).status == 404
    assert (await ask(lab, "instance/name", source="10.70.1.100")).text == "app"
    assert (await ask(lab, "instance/name", verb="POST")).status == 405


@asynced
async def test_every_machine_sees_itself(lab: Lab) -> None:
    await lab.insert("app")
    await lab.insert("second")
    assert (await ask(lab, "instance/name", source="10.70.1.2")).text == "app"
    assert (await ask(lab, "instance/name", source="10.70.1.3")).text == "second"


@asynced
async def test_a_change_wakes_those_who_wait(lab: Lab) -> None:
    made = await lab.insert(metadata={"items": ITEMS})
    path = "instance/attributes/"
    query = {"recursive": "true", "alt": "json", "wait_for_change": "true", "timeout_sec": "60"}
    now = await ask(lab, path, query={**query, "last_etag": "NONE"})  # never equal: answers at once
    waiting = asyncio.create_task(ask(lab, path, query={**query, "last_etag": now.headers["ETag"]}))
    from_now = asyncio.create_task(ask(lab, path, query=query))
    lab.cloud.touch()  # something else changed: not for these
    await asyncio.sleep(0)
    assert not waiting.done()
    items = [{"key": "a", "value": "b"}]
    body = {"items": items, "fingerprint": made["metadata"]["fingerprint"]}
    await lab.done("POST", f"{APP}/setMetadata", body)
    for task in (waiting, from_now):
        told = await asyncio.wait_for(task, 5)
        assert json.loads(told.text) == {"a": "b"}
        assert told.headers["ETag"] != now.headers["ETag"]


@asynced
async def test_a_wait_ends_with_its_time(lab: Lab) -> None:
    await lab.insert()
    query = {"wait_for_change": "true", "timeout_sec": "0.05"}
    told = await asyncio.wait_for(ask(lab, "instance/name", query=query), 5)
    assert (told.status, told.text) == (200, "app")
    assert (
        await ask(lab, "instance/name", query={"wait_for_change": "true", "timeout_sec": "x"})
    ).status == 400


@asynced
async def test_a_waiting_machine_that_is_deleted_gets_an_answer(lab: Lab) -> None:
    await lab.insert()
    told = await ask(lab, "instance/name")
    query = {"wait_for_change": "true", "last_etag": told.headers["ETag"]}
    waiting = asyncio.create_task(ask(lab, "instance/name", query=query))
    await asyncio.sleep(0)
    await lab.done("DELETE", APP)
    assert (await asyncio.wait_for(waiting, 5)).status == 404


@asynced
async def test_guest_attributes_reach_the_api(lab: Lab) -> None:
    await lab.insert(metadata={"items": ITEMS})
    key = "instance/guest-attributes/hostkeys/ssh-ed25519"
    assert (await ask(lab, key)).status == 404
    assert (await ask(lab, key, verb="PUT", body=b"AAAA")).status == 200
    assert (await ask(lab, key)).text == "AAAA"
    assert (await ask(lab, "instance/guest-attributes/hostkeys/")).text == "ssh-ed25519\n"
    found = await lab.get(f"{APP}/getGuestAttributes", queryPath="hostkeys/")
    assert found["queryValue"]["items"] == [{"namespace": "hostkeys", "key": "ssh-ed25519", "value": "AAAA"}]
    assert (await ask(lab, key, verb="PUT", body=b"\xff")).status == 400
    assert (await ask(lab, key, verb="PUT", body=b"x" * 262145)).status == 413
    assert (await ask(lab, "instance/guest-attributes/alone", verb="PUT", body=b"x")).status == 404
    assert (await ask(lab, key, verb="DELETE")).status == 200
    assert (await ask(lab, key, verb="DELETE")).status == 404


@asynced
async def test_guest_attributes_must_be_enabled(lab: Lab) -> None:
    await lab.insert()
    key = "instance/guest-attributes/hostkeys/ssh-rsa"
    assert (await ask(lab, key, verb="PUT", body=b"x")).status == 403
    assert (await ask(lab, "instance/guest-attributes/")).status == 403
    project = await lab.get("projects/lab-test")
    items = {"items": ITEMS, "fingerprint": project["commonInstanceMetadata"]["fingerprint"]}
    await lab.done("POST", "projects/lab-test/setCommonInstanceMetadata", items)
    assert (await ask(lab, key, verb="PUT", body=b"x")).status == 200
