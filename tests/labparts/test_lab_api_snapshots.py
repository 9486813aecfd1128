"""Snapshots, images and suspension in the lab's API; machines and disks' contents are fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab_fake import GLOBAL, ZONE, Lab, asynced
from rehost.lab.compute_snapshots import drop, take
from test_lab_api_disks import APP, BASE, DISKS, disk, reason


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@asynced
async def test_a_snapshot_from_begin_to_end(lab: Lab) -> None:
    await disk(lab)
    body = {"name": "s", "description": "first", "labels": {"a": "b"}, "storageLocations": ["us-west1"]}
    operation = await lab.done("POST", f"{DISKS}/data/createSnapshot", body)
    assert (operation["operationType"], operation["targetLink"].rsplit("/", 1)[1]) == (
        "createSnapshot",
        "data",
    )
    made = await lab.get(f"{GLOBAL}/snapshots/s")
    assert (made["status"], made["diskSizeGb"], made["storageBytes"]) == ("READY", "20", "4096")
    assert (made["description"], made["labels"], made["storageLocations"]) == (
        "first",
        {"a": "b"},
        ["us-west1"],
    )
    assert made["sourceDiskId"] == (await lab.get(f"{DISKS}/data"))["id"]
    assert reason(await lab.refused("POST", f"{DISKS}/data/createSnapshot", body)) == "409 alreadyExists"
    assert reason(await lab.refused("POST", f"{GLOBAL}/snapshots", {"name": "t"})) == "400 required"
    wrong = {"name": "t", "sourceDisk": f"{DISKS}/none"}
    assert reason(await lab.refused("POST", f"{GLOBAL}/snapshots", wrong)) == "400 invalid"
    await lab.done("POST", f"{GLOBAL}/snapshots", {"name": "t", "sourceDisk": f"{DISKS}/data"})
    labels = {"labels": {"c": "d"}, "labelFingerprint": made["labelFingerprint"]}
    await lab.done("POST", f"{GLOBAL}/snapshots/s/setLabels", labels)
    assert (
        reason(await lab.refused("POST", f"{GLOBAL}/snapshots/s/setLabels", labels)) == "412 conditionNotMet"
    )
    await lab.done("DELETE", f"{DISKS}/data")  # a snapshot does not need its disk
    assert [one["name"] for one in (await lab.get(f"{GLOBAL}/snapshots"))["items"]] == ["s", "t"]
    await lab.done("DELETE", f"{GLOBAL}/snapshots/s")
    assert list(lab.disks.contents) == ["snapshots/t"]
    assert reason(await lab.refused("DELETE", f"{GLOBAL}/snapshots/s")) == "404 notFound"


@asynced
async def test_a_schedule_takes_and_drops_snapshots(lab: Lab) -> None:
    await disk(lab)
    operation = take(
        lab.cloud, lab.api.operations, f"{DISKS}/data", "auto", {"autoCreated": True, "labels": {}}
    )
    await lab.call("POST", operation["selfLink"].split("/v1/")[1] + "/wait")
    made = await lab.get(f"{GLOBAL}/snapshots/auto")
    assert (made["status"], made["autoCreated"], "labels" in made) == ("READY", True, False)
    operation = drop(lab.cloud, lab.api.operations, f"{GLOBAL}/snapshots/auto")
    await lab.call("POST", operation["selfLink"].split("/v1/")[1] + "/wait")
    assert list(lab.disks.contents) == ["disks/us-west1-a/data"]


@asynced
async def test_an_image_of_a_disk_boots(lab: Lab) -> None:
    await lab.insert()
    images = f"{GLOBAL}/images"
    body = {"name": "v1", "family": "gold", "sourceDisk": f"{DISKS}/app", "labels": {"a": "b"}}
    error = await lab.refused("POST", images, body)
    assert reason(error) == "400 resourceInUseByAnotherResource"
    await lab.done("POST", images, body, forceCreate="true")
    await lab.done("POST", f"{APP}/stop")
    await lab.done("POST", images, body | {"name": "v2"})
    newest = await lab.get(f"{images}/family/gold")
    assert (newest["name"], newest["status"], newest["archiveSizeBytes"]) == ("v2", "READY", "4096")
    assert [one["name"] for one in (await lab.get(images))["items"]] == ["v1", "v2"]
    assert (await lab.get(f"{ZONE}/imageFamilyViews/gold"))["image"]["name"] == "v2"
    disks = [
        {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": "global/images/family/gold"}}
    ]
    await lab.insert("child", disks=disks)
    assert lab.disks.contents["disks/us-west1-a/child"] == (10, BASE)
    assert (await lab.get(f"{DISKS}/child"))["sourceImage"].endswith("/images/v2")
    await lab.done("DELETE", f"{images}/v2")
    assert (await lab.get(f"{images}/family/gold"))["name"] == "v1"
    assert "images/v2" not in lab.disks.contents


@pytest.mark.parametrize(
    ("verb", "path", "body", "said"),
    [
        ("POST", f"{GLOBAL}/images", {"name": "x"}, "400 required"),
        ("POST", f"{GLOBAL}/images", {"name": "x", "sourceDisk": f"{DISKS}/none"}, "400 invalid"),
        ("POST", f"{GLOBAL}/images", {"name": "x", "rawDisk": {"source": "gs://a"}}, "400 badRequest"),
        ("DELETE", f"{GLOBAL}/images/none", None, "404 notFound"),
        ("GET", f"{GLOBAL}/images/family/none", None, "404 notFound"),
        ("DELETE", "projects/debian-cloud/global/images/debian-12-bookworm-v20261110", None, "403 forbidden"),
        ("POST", "projects/debian-cloud/global/images", {"name": "x"}, "403 forbidden"),
    ],
)
@asynced
async def test_what_is_no_image_is_refused(lab: Lab, verb: str, path: str, body: object, said: str) -> None:
    assert reason(await lab.refused(verb, path, body)) == said


# -- suspend and resume ------------------------------------------------------------------------------------


@asynced
async def test_suspend_and_resume(lab: Lab) -> None:
    first = (await lab.insert())["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    await lab.done("POST", f"{APP}/suspend")
    asleep = await lab.get(APP)
    assert (asleep["status"], lab.machines.suspended) == ("SUSPENDED", {"app"})
    assert asleep["lastSuspendedTimestamp"]
    assert "natIP" not in asleep["networkInterfaces"][0]["accessConfigs"][0]
    await lab.done("POST", f"{APP}/suspend")  # again: nothing to do
    await disk(lab)
    error = await lab.refused("POST", f"{APP}/attachDisk", {"source": f"{DISKS}/data"})
    assert reason(error) == "400 resourceNotReady"
    await lab.done("POST", f"{APP}/resume")
    awake = await lab.get(APP)
    assert (awake["status"], lab.machines.suspended) == ("RUNNING", set())
    assert awake["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == lab.machines.external["app"] != first
    await lab.done("POST", f"{APP}/stop")
    for act in ("suspend", "resume"):
        assert reason(await lab.refused("POST", f"{APP}/{act}")) == "400 resourceNotReady"


@asynced
async def test_a_suspended_machine_is_stopped_and_deleted(lab: Lab) -> None:
    await lab.insert()
    await lab.done("POST", f"{APP}/suspend")
    await lab.done("POST", f"{APP}/stop")
    assert (await lab.get(APP))["status"] == "TERMINATED"
    await lab.done("POST", f"{APP}/start")
    await lab.done("POST", f"{APP}/suspend")
    await lab.done("DELETE", APP)
    assert lab.machines.specs == {}
