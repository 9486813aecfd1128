"""Resource policies, time limits and preemption of the lab's API, by a clock of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab_fake import GLOBAL, REGION, ZONE, Lab, asynced, instance
from rehost.lab.compute_plans import plans
from rehost.lab.compute_schedules import Schedules
from rehost.lab.state import relative
from rehost.run.errors import UsageError

APP = f"{ZONE}/instances/app"
POLICIES = f"{REGION}/resourcePolicies"
HOURS = {
    "timeZone": "Asia/Seoul",
    "vmStartSchedule": {"schedule": "0 9 * * MON-FRI"},
    "vmStopSchedule": {"schedule": "0 18 * * MON-FRI"},
}
NIGHTLY = {
    "schedule": {"dailySchedule": {"daysInCycle": 1, "startTime": "04:00"}},
    "retentionPolicy": {"maxRetentionDays": 2},
    "snapshotProperties": {"labels": {"kind": "nightly"}},
}


class TimedLab(Lab):
    """A lab whose schedules go by `now`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.at("2026-11-23T00:00:00Z")  # Monday, 09:00 in Seoul
        self.cloud.clock = lambda: self.now
        self.api.schedules = Schedules(self.cloud, self.api.operations, self.api.packets)

    def at(self, moment: str) -> None:
        self.now = datetime.fromisoformat(moment)

    async def settle(self) -> list[dict[str, Any]]:
        """What a look at the clock starts, DONE."""
        started = self.api.schedules.tick()
        return [
            (await self.call("POST", relative(operation["selfLink"]) + "/wait")).body for operation in started
        ]


@pytest.fixture
def lab(tmp_path: Path) -> TimedLab:
    return TimedLab(tmp_path)


async def attach(lab: Lab, policy: dict[str, Any]) -> None:
    await lab.done("POST", POLICIES, {"name": "hours", **policy})
    wanted = {"resourcePolicies": [f"{POLICIES}/hours"]}
    kind = "disks" if "snapshotSchedulePolicy" in policy else "instances"
    await lab.done("POST", f"{ZONE}/{kind}/app/addResourcePolicies", wanted)


# -- instance schedules ------------------------------------------------------------------------------------


@asynced
async def test_a_schedule_stops_and_starts_a_machine_at_its_minute(lab: TimedLab) -> None:
    await lab.insert()
    await attach(lab, {"instanceSchedulePolicy": HOURS})
    shown = await lab.get(f"{POLICIES}/hours")
    assert shown["resourceStatus"]["instanceSchedulePolicy"] == {
        "nextRunStartTime": "2026-11-23T09:00:00.000+00:00"
    }
    lab.at("2026-11-23T08:59:59Z")
    assert await lab.settle() == []
    lab.at("2026-11-23T09:00:00Z")  # 18:00 in Seoul
    [stopped] = await lab.settle()
    assert (stopped["operationType"], stopped["name"][:12]) == ("stop", "systemevent-")
    assert stopped["user"].endswith("@compute-system.iam.gserviceaccount.com")
    assert (await lab.get(APP))["status"] == "TERMINATED"
    assert not lab.machines.running("app")
    assert await lab.settle() == []
    lab.at("2026-11-24T00:00:20Z")
    [started] = await lab.settle()
    assert started["operationType"] == "start"
    assert lab.machines.running("app")
    status = (await lab.get(f"{POLICIES}/hours"))["resourceStatus"]["instanceSchedulePolicy"]
    assert status["lastRunStartTime"] == "2026-11-24T00:00:00.000+00:00"
    lab.at("2026-11-25T00:00:00Z")  # the stop and the start of a day passed at once
    assert [one["operationType"] for one in await lab.settle()] == ["stop"]


@asynced
async def test_a_schedule_leaves_alone_what_is_as_it_should_be_and_ends(lab: TimedLab) -> None:
    await lab.insert()
    await attach(lab, {"instanceSchedulePolicy": {**HOURS, "expirationTime": "2026-11-24T08:59:59Z"}})
    await lab.done("POST", f"{APP}/stop")
    lab.at("2026-11-23T09:00:00Z")
    assert await lab.settle() == []
    await lab.done("POST", f"{APP}/start")
    lab.at("2026-11-24T09:00:00Z")
    assert await lab.settle() == []
    assert lab.machines.running("app")


@asynced
async def test_a_machine_is_born_with_a_policy(lab: TimedLab) -> None:
    await lab.done("POST", POLICIES, {"name": "hours", "instanceSchedulePolicy": HOURS})
    made = await lab.insert(resourcePolicies=["regions/us-west1/resourcePolicies/hours"])
    assert [link.rsplit("/", 1)[1] for link in made["resourcePolicies"]] == ["hours"]
    error = await lab.refused("POST", f"{ZONE}/instances", instance("b", resourcePolicies=["hours"]))
    assert "cannot be found" in error["message"]


@asynced
async def test_a_policy_is_in_use_while_it_is_attached(lab: TimedLab) -> None:
    await lab.insert()
    await attach(lab, {"instanceSchedulePolicy": HOURS})
    error = await lab.refused("DELETE", f"{POLICIES}/hours")
    assert error["message"] == (
        f"The resource_policy resource '{POLICIES}/hours' is already being used by '{APP}'"
    )
    await lab.done("POST", POLICIES, {"name": "other", "instanceSchedulePolicy": HOURS})
    second = {"resourcePolicies": [f"{POLICIES}/other"]}
    error = await lab.refused("POST", f"{APP}/addResourcePolicies", second)
    assert "has the policy" in error["message"]
    error = await lab.refused("POST", f"{APP}/removeResourcePolicies", second)
    assert "not attached" in error["message"]
    await lab.done("POST", f"{APP}/removeResourcePolicies", {"resourcePolicies": [f"{POLICIES}/hours"]})
    assert "resourcePolicies" not in await lab.get(APP)
    await lab.done("DELETE", f"{POLICIES}/hours")
    listed = await lab.get("projects/lab-test/aggregated/resourcePolicies")
    assert [one["name"] for one in listed["items"]["regions/us-west1"]["resourcePolicies"]] == ["other"]
    error = await lab.refused(
        "POST", f"{APP}/addResourcePolicies", {"resourcePolicies": [f"{POLICIES}/none"]}
    )
    assert "cannot be found" in error["message"]
    elsewhere = POLICIES.replace("us-west1", "us-east1")
    await lab.done("POST", elsewhere, {"name": "far", "instanceSchedulePolicy": HOURS})
    error = await lab.refused(
        "POST", f"{APP}/addResourcePolicies", {"resourcePolicies": [f"{elsewhere}/far"]}
    )
    assert "must be in the region 'us-west1'" in error["message"]
    error = await lab.refused(
        "POST", f"{ZONE}/disks/app/addResourcePolicies", {"resourcePolicies": [f"{POLICIES}/other"]}
    )
    assert "snapshotSchedulePolicy is needed" in error["message"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({}, "Exactly one policy must be specified."),
        ({"instanceSchedulePolicy": HOURS, "snapshotSchedulePolicy": NIGHTLY}, "Exactly one policy"),
        ({"instanceSchedulePolicy": {"timeZone": "UTC"}}, "Required field 'resource.instanceSchedulePolicy"),
        ({"instanceSchedulePolicy": {**HOURS, "timeZone": "Mars/Base"}}, "the time zone database"),
        ({"instanceSchedulePolicy": {**HOURS, "timeZone": "../etc/passwd"}}, "the time zone database"),
        (
            {"instanceSchedulePolicy": {**HOURS, "vmStopSchedule": {"schedule": "0 25 * * *"}}},
            "cron expression",
        ),
        ({"instanceSchedulePolicy": {**HOURS, "vmStopSchedule": {}}}, "cron expression"),
        ({"instanceSchedulePolicy": {**HOURS, "startTime": "tomorrow"}}, "RFC 3339"),
        ({"snapshotSchedulePolicy": {}}, "Exactly one schedule"),
        ({"snapshotSchedulePolicy": {"schedule": {"weeklySchedule": {}}}}, "dayOfWeeks"),
        (
            {
                "snapshotSchedulePolicy": {
                    "schedule": {"dailySchedule": {"daysInCycle": 2, "startTime": "04:00"}}
                }
            },
            "Must be between 1 and 1.",
        ),
        (
            {
                "snapshotSchedulePolicy": {
                    "schedule": {"dailySchedule": {"daysInCycle": 1, "startTime": "24:00"}}
                }
            },
            "in the format HH:MM",
        ),
    ],
)
@asynced
async def test_policies_that_are_refused(lab: TimedLab, policy: dict[str, Any], said: str) -> None:
    error = await lab.refused("POST", POLICIES, {"name": "hours", **policy})
    assert error["code"] == 400
    assert said in error["message"]
    assert "items" not in await lab.get(POLICIES)


# -- snapshot schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "moments"),
    [
        ({"dailySchedule": {"daysInCycle": 1, "startTime": "4:30"}}, ["23T04", "24T04", "25T04"]),
        ({"hourlySchedule": {"hoursInCycle": 12, "startTime": "03:00"}}, ["23T03", "23T15", "24T03"]),
        (
            {
                "weeklySchedule": {
                    "dayOfWeeks": [
                        {"day": "TUESDAY", "startTime": "01:00"},
                        {"day": "SUNDAY", "startTime": "02:00"},
                    ]
                }
            },
            ["24T01", "29T02", "30T"],
        ),
    ],
)
@asynced
async def test_the_moments_of_a_snapshot_schedule(
    lab: TimedLab, schedule: dict[str, Any], moments: list[str]
) -> None:
    await lab.done("POST", POLICIES, {"name": "hours", "snapshotSchedulePolicy": {"schedule": schedule}})
    plan = plans(await lab.get(f"{POLICIES}/hours"))["snapshot"]
    moment = lab.now
    for wanted in moments[:2]:
        following = plan.after(moment)
        assert following is not None
        assert following.isoformat().startswith(f"2026-11-{wanted}:00:00")
        moment = following


@asynced
async def test_a_snapshot_schedule_may_be_patched(lab: TimedLab) -> None:
    await lab.done("POST", POLICIES, {"name": "hours", "snapshotSchedulePolicy": NIGHTLY})
    hourly = {"schedule": {"hourlySchedule": {"hoursInCycle": 6, "startTime": "01:00"}}}
    await lab.done("PATCH", f"{POLICIES}/hours", {"snapshotSchedulePolicy": hourly, "description": "often"})
    changed = await lab.get(f"{POLICIES}/hours")
    assert changed["description"] == "often"
    assert changed["snapshotSchedulePolicy"]["schedule"]["hourlySchedule"]["duration"] == "PT14400S"
    assert changed["snapshotSchedulePolicy"]["retentionPolicy"]["maxRetentionDays"] == 2
    error = await lab.refused("PATCH", f"{POLICIES}/hours", {"instanceSchedulePolicy": HOURS})
    assert "cannot be updated" in error["message"]


@asynced
async def test_a_disk_is_snapshotted_at_its_hour_and_old_snapshots_go(lab: TimedLab) -> None:
    await lab.insert()
    await attach(lab, {"snapshotSchedulePolicy": NIGHTLY})
    assert await lab.settle() == []
    lab.at("2026-11-23T04:00:00Z")
    [taken] = await lab.settle()
    assert (taken["operationType"], taken["targetLink"][-10:]) == ("createSnapshot", "/disks/app")
    [snapshot] = (await lab.get(f"{GLOBAL}/snapshots"))["items"]
    assert snapshot["name"].startswith("app-us-west1-a-20261123040000-")
    assert (snapshot["autoCreated"], snapshot["labels"]) == (True, {"kind": "nightly"})
    assert snapshot["sourceSnapshotSchedulePolicy"].endswith("/resourcePolicies/hours")
    assert await lab.settle() == []
    # The snapshot's own age counts from the computer's clock.
    born = datetime.fromisoformat(snapshot["creationTimestamp"])
    lab.now = born + timedelta(days=2)
    kinds = sorted(one["operationType"] for one in await lab.settle())
    assert kinds == ["createSnapshot", "delete"]
    [left] = (await lab.get(f"{GLOBAL}/snapshots"))["items"]
    assert left["name"] != snapshot["name"]


# -- time limits -------------------------------------------------------------------------------------------


@asynced
async def test_a_machine_ends_after_its_longest_run(lab: TimedLab) -> None:
    made = await lab.insert(scheduling={"maxRunDuration": {"seconds": "3600"}})
    assert made["scheduling"]["instanceTerminationAction"] == "STOP"
    assert made["resourceStatus"]["scheduling"]["terminationTimestamp"] == "2026-11-23T01:00:00.000+00:00"
    lab.at("2026-11-23T00:59:59Z")
    assert await lab.settle() == []
    lab.at("2026-11-23T01:00:00Z")
    [ended] = await lab.settle()
    assert (ended["operationType"], ended["user"]) == ("stop", "system")
    off = await lab.get(APP)
    assert off["status"] == "TERMINATED"
    assert "terminationTimestamp" not in off.get("resourceStatus", {}).get("scheduling", {})
    await lab.done("POST", f"{APP}/start")
    again = (await lab.get(APP))["resourceStatus"]["scheduling"]["terminationTimestamp"]
    assert again == "2026-11-23T02:00:00.000+00:00"


@asynced
async def test_a_machine_is_deleted_at_its_termination_time(lab: TimedLab) -> None:
    limit = {"terminationTime": "2026-11-23T18:00:00+09:00", "instanceTerminationAction": "DELETE"}
    await lab.insert(scheduling=limit)
    lab.at("2026-11-23T09:00:01Z")
    assert [one["operationType"] for one in await lab.settle()] == ["delete"]
    assert (await lab.refused("GET", APP))["code"] == 404
    assert lab.machines.specs == {}


@asynced
async def test_a_preemptible_machine_that_is_not_spot_lives_a_day(lab: TimedLab) -> None:
    made = await lab.insert(scheduling={"preemptible": True})
    assert made["scheduling"] == {
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "preemptible": True,
        "provisioningModel": "STANDARD",
    }
    lab.now += timedelta(hours=24)
    assert [one["operationType"] for one in await lab.settle()] == ["stop"]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"preemptible": True, "automaticRestart": True},
            "preemptible be false when AutomaticRestart is true.",
        ),
        (
            {"provisioningModel": "SPOT", "onHostMaintenance": "MIGRATE"},
            "preemptible be false when OnHostMaintenance isn't TERMINATE.",
        ),
        ({"provisioningModel": "SPOT", "preemptible": False}, "Spot instances must be preemptible."),
        ({"instanceTerminationAction": "DELETE"}, "You cannot specify a termination action"),
        ({"maxRunDuration": {"seconds": "29"}}, "between 30 seconds and 120 days"),
        ({"maxRunDuration": {}}, "between 30 seconds and 120 days"),
        ({"terminationTime": "2026-11-22T00:00:00Z"}, "30 seconds or more from now"),
        ({"terminationTime": "2027-01-01"}, "RFC 3339"),
        ({"terminationTime": "2027-01-01T00:00:00Z", "maxRunDuration": {"seconds": "60"}}, "Only one of"),
    ],
)
@asynced
async def test_schedulings_that_are_refused(lab: TimedLab, rules: dict[str, Any], said: str) -> None:
    error = await lab.refused("POST", f"{ZONE}/instances", instance(scheduling=rules))
    assert error["code"] == 400
    assert said in error["message"]


@asynced
async def test_set_scheduling(lab: TimedLab) -> None:
    await lab.insert()
    await lab.done("POST", f"{APP}/setScheduling", {"automaticRestart": False})
    assert (await lab.get(APP))["scheduling"]["automaticRestart"] is False
    error = await lab.refused(
        "POST", f"{APP}/setScheduling", {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE"}
    )
    assert "preemptible" in error["message"]
    await lab.done("POST", f"{APP}/setScheduling", {"maxRunDuration": {"seconds": "60"}})
    assert (await lab.get(APP))["resourceStatus"]["scheduling"]["terminationTimestamp"].startswith(
        "2026-11-23T00:01:00"
    )
    await lab.done("POST", f"{APP}/setScheduling", {"terminationTime": "2026-11-23T05:00:00Z"})
    changed = await lab.get(APP)
    assert "maxRunDuration" not in changed["scheduling"]
    await lab.done("POST", f"{APP}/setScheduling", {"instanceTerminationAction": "DELETE"})
    gone = {"terminationTime": None, "instanceTerminationAction": None}  # as gcloud clears them
    await lab.done("POST", f"{APP}/setScheduling", gone)
    assert set((await lab.get(APP))["scheduling"]) == {
        "automaticRestart",
        "onHostMaintenance",
        "preemptible",
        "provisioningModel",
    }
    lab.at("2026-11-23T05:00:00Z")
    assert await lab.settle() == []


# -- preemption and maintenance ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["STOP", "DELETE"])
@asynced
async def test_a_spot_machine_is_preempted(lab: TimedLab, action: str) -> None:
    made = await lab.insert(scheduling={"provisioningModel": "SPOT", "instanceTerminationAction": action})
    assert made["scheduling"]["preemptible"] is True
    operation = await lab.api.preempt("app")
    waited = await lab.call("POST", relative(operation["selfLink"]) + "/wait")
    assert waited.body["operationType"] == "compute.instances.preempted"
    assert (waited.body["statusMessage"], waited.body["user"]) == ("Instance was preempted.", "system")
    assert lab.machines.patience == 30.0
    if action == "DELETE":
        assert (await lab.refused("GET", APP))["code"] == 404
        return
    assert (await lab.get(APP))["status"] == "TERMINATED"
    with pytest.raises(UsageError, match="no machine app runs"):
        await lab.api.preempt("app")
    assert lab.cloud.signals[APP] == {"preempted": "TRUE"}
    await lab.done("POST", f"{APP}/start")
    assert APP not in lab.cloud.signals


@asynced
async def test_simulated_maintenance(lab: TimedLab) -> None:
    await lab.insert()
    await lab.insert("spot", scheduling={"provisioningModel": "SPOT"})
    await lab.insert("ends", scheduling={"onHostMaintenance": "TERMINATE"})
    for name, status in (("app", "RUNNING"), ("spot", "TERMINATED"), ("ends", "RUNNING")):
        await lab.done("POST", f"{ZONE}/instances/{name}/simulateMaintenanceEvent")
        assert (await lab.get(f"{ZONE}/instances/{name}"))["status"] == status
    kinds = [one["operationType"] for one in (await lab.get(f"{ZONE}/operations"))["items"]]
    assert "compute.instances.preempted" in kinds
    error = await lab.refused("POST", f"{ZONE}/instances/spot/simulateMaintenanceEvent")
    assert error["errors"][0]["reason"] == "resourceNotReady"


def test_the_clock_is_the_computers() -> None:
    assert abs(Lab(Path()).cloud.clock() - datetime.now(UTC)) < timedelta(minutes=1)
