"""Disks in the lab's API, with and without a machine; machines and disks' contents are fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab_fake import FAMILY, ZONE, Lab, asynced, instance

APP = f"{ZONE}/instances/app"
DISKS = f"{ZONE}/disks"
OTHER_ZONE = ZONE.replace("us-west1-a", "us-west1-b")
BASE = "public/debian-12"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def disk(lab: Lab, name: str = "data", **more: Any) -> dict[str, Any]:
    await lab.done("POST", DISKS, {"name": name, "sizeGb": "20"} | more)
    return await lab.get(f"{DISKS}/{name}")


async def attach(lab: Lab, name: str = "data", machine: str = "app", **more: Any) -> None:
    path = f"{ZONE}/instances/{machine}/attachDisk"
    await lab.done("POST", path, {"source": f"{DISKS}/{name}", "deviceName": name} | more)


async def attached(lab: Lab, machine: str = "app") -> list[tuple[str, int, bool]]:
    disks = (await lab.get(f"{ZONE}/instances/{machine}"))["disks"]
    return [(one["deviceName"], one["index"], one["autoDelete"]) for one in disks]


def reason(error: dict[str, Any]) -> str:
    return f"{error['code']} {error['errors'][0]['reason']}"


# -- disks -------------------------------------------------------------------------------------------------


@asynced
async def test_disks_are_made_of_nothing_of_images_snapshots_and_disks(lab: Lab) -> None:
    blank = await disk(lab, type=f"{ZONE}/diskTypes/pd-ssd", labels={"a": "b"})
    assert (blank["status"], blank["sizeGb"], blank["labels"]) == ("READY", "20", {"a": "b"})
    assert blank["type"].endswith("/pd-ssd")
    await lab.done("POST", f"{DISKS}/data/createSnapshot", {"name": "s"})
    await disk(lab, "of-image", sizeGb="10", sourceImage=FAMILY)
    await disk(lab, "of-disk", sizeGb="30", sourceDisk=f"{DISKS}/of-image")
    await lab.done("POST", DISKS, {"name": "of-snapshot", "sourceSnapshot": "global/snapshots/s"})
    await lab.done("POST", DISKS, {"name": "of-query"}, sourceImage=FAMILY)
    await lab.done("POST", DISKS, {"name": "unsized"})
    assert lab.disks.contents == {
        "disks/us-west1-a/data": (20, "blank"),
        "disks/us-west1-a/of-image": (10, BASE),
        "disks/us-west1-a/of-disk": (30, BASE),
        "disks/us-west1-a/of-query": (10, BASE),
        "disks/us-west1-a/of-snapshot": (20, "blank"),
        "disks/us-west1-a/unsized": (500, "blank"),
        "snapshots/s": (20, "blank"),
    }
    of_image = await lab.get(f"{DISKS}/of-image")
    assert of_image["sourceImage"].endswith("/debian-12-bookworm-v20261110")
    assert of_image["licenses"]
    await lab.done("DELETE", f"{DISKS}/of-disk")
    assert "disks/us-west1-a/of-disk" not in lab.disks.contents
    listed = await lab.get(DISKS, filter="sizeGb>100")
    assert [one["name"] for one in listed["items"]] == ["unsized"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "data"}, "409 alreadyExists"),
        ({"name": "Data"}, "400 invalid"),
        ({}, "400 required"),
        ({"name": "x", "sizeGb": "0"}, "400 invalid"),
        ({"name": "x", "sizeGb": "-3"}, "400 invalid"),
        ({"name": "x", "sizeGb": "70000"}, "400 invalid"),
        ({"name": "x", "sizeGb": "5", "sourceImage": FAMILY}, "400 invalid"),
        ({"name": "x", "sizeGb": "19", "sourceSnapshot": "global/snapshots/s"}, "400 invalid"),
        ({"name": "x", "sourceSnapshot": "global/snapshots/none"}, "400 invalid"),
        ({"name": "x", "sourceSnapshot": "s"}, "400 invalid"),
        ({"name": "x", "sourceDisk": f"{OTHER_ZONE}/disks/far"}, "400 invalid"),
        ({"name": "x", "sourceDisk": f"{DISKS}/data", "sourceImage": FAMILY}, "400 invalid"),
        ({"name": "x", "sourceImage": FAMILY.replace("-12", "-99")}, "404 notFound"),
        ({"name": "x", "type": f"{ZONE}/diskTypes/pd-fast"}, "400 invalid"),
        ({"name": "x", "type": f"{OTHER_ZONE}/diskTypes/pd-ssd"}, "400 invalid"),
        ({"name": "x", "labels": {"A": "b"}}, "400 invalid"),
        ({"name": "x", "users": ["me"]}, "400 badRequest"),
    ],
)
@asynced
async def test_what_is_no_disk_is_refused(lab: Lab, body: dict[str, Any], said: str) -> None:
    await disk(lab)
    await lab.done("POST", f"{OTHER_ZONE}/disks", {"name": "far"})
    await lab.done("POST", f"{DISKS}/data/createSnapshot", {"name": "s"})
    before = dict(lab.disks.contents)
    assert reason(await lab.refused("POST", DISKS, body)) == said
    assert lab.disks.contents == before
    assert [one["name"] for one in (await lab.get(DISKS))["items"]] == ["data"]


@asynced
async def test_a_disk_over_the_quota_ends_in_the_operation(lab: Lab) -> None:
    operation = await lab.ended("POST", DISKS, {"name": "big", "sizeGb": "5000"})
    assert operation["error"]["errors"][0]["code"] == "QUOTA_EXCEEDED"
    assert (await lab.refused("GET", f"{DISKS}/big"))["code"] == 404
    await disk(lab, type="pd-ssd")
    operation = await lab.ended("POST", f"{DISKS}/data/resize", {"sizeGb": "501"})
    assert "SSD_TOTAL_GB" in operation["error"]["errors"][0]["message"]
    assert (await lab.get(f"{DISKS}/data"))["sizeGb"] == "20"


@asynced
async def test_disk_types(lab: Lab) -> None:
    kinds = await lab.get(f"{ZONE}/diskTypes")
    assert [one["name"] for one in kinds["items"]] == ["pd-balanced", "pd-ssd", "pd-standard"]
    assert (await lab.get(f"{ZONE}/diskTypes/pd-ssd"))["validDiskSize"] == "10GB-65536GB"
    assert (await lab.refused("GET", f"{ZONE}/diskTypes/pd-fast"))["code"] == 404
    everywhere = await lab.get("projects/lab-test/aggregated/diskTypes")
    assert len(everywhere["items"]["zones/us-east1-b"]["diskTypes"]) == 3


# -- disks in machines -------------------------------------------------------------------------------------


@asynced
async def test_a_machine_with_several_disks(lab: Lab) -> None:
    await disk(lab)
    boot = instance()["disks"][0]
    await lab.insert(
        disks=[
            boot,
            {"source": f"{DISKS}/data", "deviceName": "data"},
            {"autoDelete": True, "initializeParams": {"diskSizeGb": "30", "diskType": "pd-ssd"}},
        ]
    )
    assert await attached(lab) == [
        ("persistent-disk-0", 0, True),
        ("data", 1, False),
        ("persistent-disk-2", 2, True),
    ]
    assert [one.content for one in lab.machines.disks["app"]] == [
        "disks/us-west1-a/app",
        "disks/us-west1-a/data",
        "disks/us-west1-a/app-2",
    ]
    assert lab.disks.contents["disks/us-west1-a/app-2"] == (30, "blank")
    await lab.done("DELETE", APP)
    assert list(lab.disks.contents) == ["disks/us-west1-a/data"]
    left = await lab.get(f"{DISKS}/data")
    assert "users" not in left
    assert left["lastDetachTimestamp"]


BOOT = {"boot": True, "initializeParams": {"sourceImage": FAMILY}}


@pytest.mark.parametrize(
    ("disks", "said"),
    [
        (
            [{"initializeParams": {"sourceImage": FAMILY}}],
            "Boot disk must be the first disk attached to the instance.",
        ),
        ([BOOT, BOOT], "Boot disk must be the first disk attached to the instance."),
        ([{"boot": True}], "Boot disk must have a source specified"),
        ([BOOT, {"source": f"{DISKS}/none"}], "The referenced disk resource cannot be found."),
        ([BOOT, {"source": f"{DISKS}/data"}, {"source": f"{DISKS}/data"}], "The disk is named twice."),
        ([BOOT, {"source": f"{OTHER_ZONE}/disks/far"}], "The disk must be in the same zone as the instance."),
        ([BOOT, {"source": f"{DISKS}/data", "deviceName": "persistent-disk-0"}], "used by another disk"),
        ([BOOT, {"source": f"{DISKS}/data", "deviceName": "a b"}], "Must be a match of regex"),
        ([BOOT, {"source": f"{DISKS}/data", "type": "SCRATCH"}], "The lab has no local SSD."),
        ([BOOT, {"source": f"{DISKS}/data", "initializeParams": {}}], "Cannot specify both"),
        (
            [
                {
                    "boot": True,
                    "initializeParams": {"sourceImage": FAMILY, "sourceSnapshot": "global/snapshots/s"},
                }
            ],
            "Cannot specify both source image and source snapshot.",
        ),
    ],
)
@asynced
async def test_an_insert_with_wrong_disks_is_refused(
    lab: Lab, disks: list[dict[str, Any]], said: str
) -> None:
    await disk(lab)
    await lab.done("POST", f"{OTHER_ZONE}/disks", {"name": "far"})
    error = await lab.refused("POST", f"{ZONE}/instances", instance(disks=disks))
    assert (reason(error), said in error["message"]) == ("400 invalid", True), error
    assert "users" not in await lab.get(f"{DISKS}/data")


@asynced
async def test_a_failed_insert_frees_the_disk_that_it_was_given(lab: Lab) -> None:
    await disk(lab)
    lab.machines.broken = True
    disks = [BOOT, {"source": f"{DISKS}/data"}]
    operation = await lab.ended("POST", f"{ZONE}/instances", instance(disks=disks))
    assert "error" in operation
    assert list(lab.disks.contents) == ["disks/us-west1-a/data"]
    assert "users" not in await lab.get(f"{DISKS}/data")


@asynced
async def test_attach_and_detach(lab: Lab) -> None:
    await lab.insert()
    await lab.insert("other")
    made = await disk(lab)
    await attach(lab)
    assert await attached(lab) == [("persistent-disk-0", 0, True), ("data", 1, False)]
    assert (await lab.get(f"{DISKS}/data"))["users"] == [(await lab.get(APP))["selfLink"]]
    for machine in ("app", "other"):
        error = await lab.refused(
            "POST", f"{ZONE}/instances/{machine}/attachDisk", {"source": made["selfLink"]}
        )
        assert reason(error) == "400 resourceInUseByAnotherResource"
        assert error["message"] == f"The disk resource '{DISKS}/data' is already being used by '{APP}'"
    assert reason(await lab.refused("DELETE", f"{DISKS}/data")) == "400 resourceInUseByAnotherResource"
    error = await lab.refused("POST", f"{APP}/detachDisk", deviceName="none")
    assert error["message"] == (
        "Invalid value for field 'disk': 'none'. No attached disk found with device name 'none'"
    )
    error = await lab.refused("POST", f"{APP}/detachDisk", deviceName="persistent-disk-0")
    assert reason(error) == "400 invalidResourceUsage"
    assert "To detach the boot disk, the instance must be in TERMINATED state." in error["message"]
    assert reason(await lab.refused("POST", f"{APP}/detachDisk")) == "400 required"
    assert reason(await lab.refused("POST", f"{APP}/attachDisk", {"deviceName": "x"})) == "400 required"
    await lab.done("POST", f"{APP}/detachDisk", deviceName="data")
    assert [one.name for one in lab.machines.disks["app"]] == ["persistent-disk-0"]
    await attach(lab, machine="other")
    assert [one.content for one in lab.machines.disks["other"]] == [
        "disks/us-west1-a/other",
        "disks/us-west1-a/data",
    ]


@asynced
async def test_many_machines_read_one_disk(lab: Lab) -> None:
    await disk(lab)
    for machine in ("app", "other"):
        await lab.insert(machine)
        await attach(lab, machine=machine, mode="READ_ONLY")
    assert len((await lab.get(f"{DISKS}/data"))["users"]) == 2
    assert lab.machines.disks["other"][1].read_only
    await lab.insert("third")
    error = await lab.refused("POST", f"{ZONE}/instances/third/attachDisk", {"source": f"{DISKS}/data"})
    assert reason(error) == "400 resourceInUseByAnotherResource"
    await lab.done("POST", f"{APP}/setDiskAutoDelete", deviceName="data", autoDelete="true")
    await lab.done("DELETE", APP)
    assert len((await lab.get(f"{DISKS}/data"))["users"]) == 1, "others read it still"


@asynced
async def test_a_boot_disk_is_taken_out_of_a_machine_that_is_off_and_put_back(lab: Lab) -> None:
    await lab.insert()
    await lab.done("POST", f"{APP}/stop")
    await lab.done("POST", f"{APP}/detachDisk", deviceName="persistent-disk-0")
    operation = await lab.ended("POST", f"{APP}/start")
    assert "no boot disk" in operation["error"]["errors"][0]["message"]
    await disk(lab)
    await attach(lab)
    await attach(lab, "app", boot=True, autoDelete=True)
    assert await attached(lab) == [("app", 0, True), ("data", 1, False)]
    assert lab.machines.disks["app"][0].content == "disks/us-west1-a/app"
    error = await lab.refused("POST", f"{APP}/attachDisk", {"source": f"{DISKS}/data", "boot": True})
    assert reason(error) == "400 resourceInUseByAnotherResource"
    await lab.done("POST", f"{APP}/start")
    assert (await lab.get(APP))["status"] == "RUNNING"


@asynced
async def test_a_machine_type_takes_so_many_disks(lab: Lab) -> None:
    await lab.insert()
    for number in range(15):
        await disk(lab, f"d{number}", sizeGb="1")
        await attach(lab, f"d{number}")
    await disk(lab, "one-more", sizeGb="1")
    operation = await lab.ended("POST", f"{APP}/attachDisk", {"source": f"{DISKS}/one-more"})
    error = operation["error"]["errors"][0]
    assert (error["code"], error["message"]) == (
        "LIMIT_EXCEEDED",
        f"Exceeded limit 'maximum_persistent_disks' on resource '{APP}'. Limit: 16",
    )
    assert len(await attached(lab)) == 16
    assert "users" not in await lab.get(f"{DISKS}/one-more")


@asynced
async def test_auto_delete_is_set_and_counts(lab: Lab) -> None:
    await lab.insert()
    await disk(lab)
    await attach(lab)
    set_it = f"{APP}/setDiskAutoDelete"
    await lab.done("POST", set_it, deviceName="persistent-disk-0", autoDelete="false")
    await lab.done("POST", set_it, deviceName="data", autoDelete="true")
    for query in ({"deviceName": "data"}, {"autoDelete": "true"}):
        assert reason(await lab.refused("POST", set_it, **query)) == "400 required"
    for query in (
        {"deviceName": "data", "autoDelete": "maybe"},
        {"deviceName": "none", "autoDelete": "true"},
    ):
        assert reason(await lab.refused("POST", set_it, **query)) == "400 invalid"
    await lab.done("DELETE", APP)
    assert list(lab.disks.contents) == ["disks/us-west1-a/app"]
    await lab.insert(disks=[{"boot": True, "source": f"{DISKS}/app"}])
    assert lab.disks.contents == {"disks/us-west1-a/app": (10, BASE)}
