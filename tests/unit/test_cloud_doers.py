"""Observe, plan and apply against a small cloud in memory that judges every request by Google's own schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cloud_fake import KEY, REGION, ROOT, ZONE, FakeCloud, desired, error
from rehost.cloud.client import Client
from rehost.cloud.doers import destroy_doers, doers
from rehost.cloud.errors import Conflict412, Stockout
from rehost.cloud.model import Desired, Observed
from rehost.cloud.observe import observe
from rehost.cloud.plan import destroy_plan, plan
from rehost.run.engine import Outcome, apply
from rehost.run.errors import UsageError
from rehost.run.events import Bus, Event
from rehost.run.plan import Plan

INSTANCE = f"{ROOT}/zones/{ZONE}/instances/content-api"
DISK = f"{ROOT}/zones/{ZONE}/disks/content-api"
WEB = f"{ROOT}/global/firewalls/content-api-web"


async def _no_sleep(_seconds: float) -> None:
    return None


async def _up(client: Client, wanted: Desired) -> tuple[list[str], Outcome]:
    observed = await observe(client, wanted)
    actions = plan(wanted, observed)
    outcome = await apply(Plan.of(actions), doers(client, wanted, observed), Bus(), sleep=_no_sleep)
    return [f"{action.verb} {action.id}" for action in actions], outcome


async def _converge(cloud: FakeCloud, wanted: Desired) -> list[str]:
    """Applies, then shows that nothing is left to do. Returns what was planned at first."""
    async with cloud.client() as client:
        planned, outcome = await _up(client, wanted)
        assert outcome.ok, outcome.first_error
        again = plan(wanted, await observe(client, wanted))
        assert again == []
    return planned


def _standing(wanted: Desired | None = None) -> FakeCloud:
    cloud = FakeCloud()
    asyncio.run(_converge(cloud, wanted or desired()))
    cloud.seen.clear()
    return cloud


def test_creates_everything_and_then_has_nothing_to_do() -> None:
    cloud = FakeCloud()
    planned = asyncio.run(_converge(cloud, desired()))
    assert planned == [
        "create address/content-api-ip",
        "create firewall/content-api-web",
        "create firewall/content-api-ssh",
        "create instance/content-api",
    ]
    machine = cloud.body(f"POST zones/{ZONE}/instances")
    items = {item["key"]: item["value"] for item in machine["metadata"]["items"]}
    assert items["ssh-keys"] == f"ada:{KEY} ada"
    assert items["enable-guest-attributes"] == "TRUE"
    assert items["block-project-ssh-keys"] == "TRUE"
    assert items["enable-oslogin"] == "FALSE"
    assert machine["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == "203.0.113.7"
    assert machine["shieldedInstanceConfig"]["enableSecureBoot"] is True
    assert "serviceAccounts" not in machine
    web = cloud.body("POST global/firewalls")
    rules = [b for m, p, _, b in cloud.seen if (m, p) == ("POST", f"{ROOT}/global/firewalls")]
    web = next(rule for rule in rules if rule["name"] == "content-api-web")
    assert web["allowed"] == [
        {"IPProtocol": "tcp", "ports": ["443", "80"]},
        {"IPProtocol": "udp", "ports": ["443"]},
    ]
    assert web["targetTags"] == ["rehost-content-api"] == machine["tags"]["items"]


def _reopen(cloud: FakeCloud) -> None:
    cloud.resources[WEB]["allowed"].append({"IPProtocol": "tcp", "ports": ["8080"]})


def _source_tag(cloud: FakeCloud) -> None:
    cloud.resources[WEB]["sourceTags"] = ["others"]


def _deny(cloud: FakeCloud) -> None:
    cloud.resources[WEB]["denied"] = cloud.resources[WEB].pop("allowed")


def _drop_metadata(cloud: FakeCloud) -> None:
    metadata = cloud.resources[INSTANCE]["metadata"]
    metadata["items"] = [
        {"key": "ssh-keys", "value": "eve:ssh-rsa AAAA eve"},
        {"key": "their-own", "value": "stays"},
    ]


def _stop(cloud: FakeCloud) -> None:
    cloud.resources[INSTANCE]["status"] = "TERMINATED"


def _suspend(cloud: FakeCloud) -> None:
    cloud.resources[INSTANCE]["status"] = "SUSPENDED"


def _untag(cloud: FakeCloud) -> None:
    cloud.resources[INSTANCE]["tags"]["items"] = ["theirs"]


def _other_address(cloud: FakeCloud) -> None:
    cloud.resources[INSTANCE]["networkInterfaces"][0]["accessConfigs"][0]["natIP"] = "198.51.100.1"


def _lose_machine(cloud: FakeCloud) -> None:
    del cloud.resources[INSTANCE]
    cloud.resources[DISK]["users"] = []


DRIFT: list[tuple[Callable[[FakeCloud], None], dict[str, Any], list[str], list[str]]] = [
    (_reopen, {}, ["update firewall/content-api-web"], ["PATCH global/firewalls/content-api-web"]),
    (_source_tag, {}, ["update firewall/content-api-web"], ["PATCH global/firewalls/content-api-web"]),
    (
        _deny,
        {},
        ["replace firewall/content-api-web"],
        ["DELETE global/firewalls/content-api-web", "POST global/firewalls"],
    ),
    (
        _drop_metadata,
        {},
        ["update metadata/content-api"],
        [f"POST zones/{ZONE}/instances/content-api/setMetadata"],
    ),
    (_stop, {}, ["update power/content-api"], [f"POST zones/{ZONE}/instances/content-api/start"]),
    (_suspend, {}, ["update power/content-api"], [f"POST zones/{ZONE}/instances/content-api/resume"]),
    (_untag, {}, ["update tags/content-api"], [f"POST zones/{ZONE}/instances/content-api/setTags"]),
    (
        _other_address,
        {},
        ["update external/content-api"],
        [
            f"POST zones/{ZONE}/instances/content-api/deleteAccessConfig",
            f"POST zones/{ZONE}/instances/content-api/addAccessConfig",
        ],
    ),
    (_lose_machine, {}, ["create instance/content-api"], [f"POST zones/{ZONE}/instances"]),
    (
        lambda _cloud: None,
        {"labels": {"team": "web"}},
        ["update labels/content-api"],
        [f"POST zones/{ZONE}/instances/content-api/setLabels"],
    ),
    (
        lambda _cloud: None,
        {"disk_gb": 25},
        ["update disk/content-api"],
        [f"POST zones/{ZONE}/disks/content-api/resize"],
    ),
    (
        lambda _cloud: None,
        {"machine_type": "e2-small"},
        ["update machine-type/content-api"],
        [f"POST zones/{ZONE}/instances/content-api/{verb}" for verb in ("stop", "setMachineType", "start")],
    ),
    (
        _stop,
        {"machine_type": "e2-small"},
        ["update machine-type/content-api"],
        [f"POST zones/{ZONE}/instances/content-api/{verb}" for verb in ("setMachineType", "start")],
    ),
    (
        lambda _cloud: None,
        {"zone": "us-west1-b"},
        ["replace instance/content-api"],
        [f"DELETE zones/{ZONE}/instances/content-api", "POST zones/us-west1-b/instances"],
    ),
]


@pytest.mark.parametrize(("drift", "changes", "planned", "calls"), DRIFT)
def test_puts_drift_right(
    drift: Callable[[FakeCloud], None], changes: dict[str, Any], planned: list[str], calls: list[str]
) -> None:
    cloud = _standing()
    drift(cloud)
    assert asyncio.run(_converge(cloud, desired(**changes))) == planned
    assert cloud.changes() == calls


def test_other_peoples_metadata_and_keys_stay() -> None:
    cloud = _standing()
    _drop_metadata(cloud)
    asyncio.run(_converge(cloud, desired()))
    items = {i["key"]: i["value"] for i in cloud.resources[INSTANCE]["metadata"]["items"]}
    assert items["their-own"] == "stays"
    assert items["ssh-keys"].splitlines() == ["eve:ssh-rsa AAAA eve", f"ada:{KEY} ada"]


def test_a_machine_that_was_lost_boots_from_its_own_disk() -> None:
    cloud = _standing()
    _lose_machine(cloud)
    asyncio.run(_converge(cloud, desired()))
    assert cloud.body(f"POST zones/{ZONE}/instances")["disks"] == [
        {"boot": True, "autoDelete": True, "source": DISK}
    ]


def test_moving_to_another_region_takes_a_new_address_and_gives_the_old_one_back() -> None:
    cloud = _standing()
    planned = asyncio.run(_converge(cloud, desired(zone="asia-northeast3-a")))
    assert planned == [
        "create address/content-api-ip",
        "replace instance/content-api",
        f"delete address/content-api-ip@{REGION}",
    ]
    assert cloud.changes()[-1] == f"DELETE regions/{REGION}/addresses/content-api-ip"


def test_a_stale_fingerprint_is_read_anew() -> None:
    cloud = _standing()
    _drop_metadata(cloud)
    once = iter([True])

    def somebody_is_faster(method: str, path: str) -> httpx.Response | None:
        if path.endswith("setMetadata") and next(once, False):
            cloud.resources[INSTANCE]["metadata"] = {
                "fingerprint": "bTk=",
                "items": [{"key": "theirs", "value": "new"}],
            }
        return None

    cloud.fault = somebody_is_faster
    asyncio.run(_converge(cloud, desired()))
    items = {i["key"]: i["value"] for i in cloud.resources[INSTANCE]["metadata"]["items"]}
    assert items["theirs"] == "new"
    assert len(cloud.changes()) == 2


def test_a_fingerprint_that_is_always_stale_ends_in_an_error() -> None:
    cloud = _standing()
    _drop_metadata(cloud)
    cloud.fault = lambda _method, path: (
        error(412, "conditionNotMet", "Supplied fingerprint does not match.")
        if "setMetadata" in path
        else None
    )

    async def run() -> None:
        async with cloud.client() as client:
            _, outcome = await _up(client, desired())
            assert isinstance(outcome.first_error, Conflict412)
            assert "changed by somebody else" in str(outcome.first_error)

    asyncio.run(run())


def test_what_appeared_meanwhile_and_is_ours_is_taken() -> None:
    cloud = FakeCloud()

    async def run() -> None:
        async with cloud.client() as client:
            wanted = desired()
            observed = Observed()  # what an earlier look saw: nothing
            (await _up(client, wanted))[1]
            cloud.seen.clear()
            actions = plan(wanted, observed)
            outcome = await apply(Plan.of(actions), doers(client, wanted, observed), Bus(), sleep=_no_sleep)
            assert outcome.ok, outcome.first_error
            assert cloud.changes() == [f"POST regions/{REGION}/addresses", f"POST zones/{ZONE}/instances"]

    asyncio.run(run())


def test_stockout_names_zones_of_the_region_first() -> None:
    cloud = FakeCloud()
    cloud.failing_operations[f"POST zones/{ZONE}/instances"] = {
        "code": "ZONE_RESOURCE_POOL_EXHAUSTED",
        "message": f"The zone '{ROOT}/zones/{ZONE}' does not have enough resources available.",
    }

    async def run() -> Exception | None:
        async with cloud.client() as client:
            return (await _up(client, desired()))[1].first_error

    full = asyncio.run(run())
    assert isinstance(full, Stockout)
    assert full.zones[:3] == ("us-west1-b", "us-west1-c", "us-central1-a")
    assert ZONE not in full.zones


def test_a_machine_type_that_is_not_to_be_had_leaves_the_machine_running_as_it_was() -> None:
    cloud = _standing()
    start = f"POST zones/{ZONE}/instances/content-api/start"
    full = {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "does not have enough resources available"}
    cloud.failing_operations[start] = full

    def only_the_new_type_is_sold_out(_method: str, path: str) -> httpx.Response | None:
        if path.endswith("/start") and cloud.resources[INSTANCE]["machineType"].endswith("/e2-micro"):
            cloud.failing_operations.clear()
        return None

    cloud.fault = only_the_new_type_is_sold_out

    async def run() -> Exception | None:
        async with cloud.client() as client:
            return (await _up(client, desired(machine_type="e2-small")))[1].first_error

    assert isinstance(asyncio.run(run()), Stockout)
    assert cloud.resources[INSTANCE]["status"] == "RUNNING"
    assert cloud.resources[INSTANCE]["machineType"].endswith("/e2-micro")


UNKNOWN_ZONE = error(400, "invalid", "Invalid value for field 'zone': 'us-west1-x'. Unknown zone.")


@pytest.mark.parametrize("answer", [None, UNKNOWN_ZONE])
def test_an_unknown_zone_names_the_nearest_however_google_words_it(answer: httpx.Response | None) -> None:
    cloud = FakeCloud()
    cloud.fault = lambda _method, path: answer if "/zones/us-west1-x/" in path else None

    async def run() -> None:
        async with cloud.client() as client:
            await observe(client, desired(zone="us-west1-x"))

    with pytest.raises(UsageError, match="Did you mean us-west1-"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "said", "cure"),
    [
        ({"zone": "us-west1-x"}, "there is no zone 'us-west1-x'", "us-west1-a"),
        ({"machine_type": "e2-mikro"}, "no machine type 'e2-mikro'", "e2-micro"),
        ({"zone": "Portland"}, "'Portland' is not a zone", "us-west1-a"),
        ({"app": "Content_API"}, "'Content_API' is not allowed", "small letters"),
    ],
)
def test_wrong_names_are_usage_errors_and_create_nothing(
    changes: dict[str, Any], said: str, cure: str
) -> None:
    cloud = FakeCloud()

    async def run() -> None:
        async with cloud.client() as client:
            await observe(client, desired(**changes))

    with pytest.raises(UsageError) as caught:
        asyncio.run(run())
    assert said in str(caught.value)
    assert cure in caught.value.cure
    assert caught.value.where.startswith("rehost.toml")
    assert cloud.changes() == []


def test_a_machine_that_is_being_deleted_is_waited_for() -> None:
    cloud = _standing()
    cloud.resources[INSTANCE]["status"] = "STOPPING"
    looks = iter(range(100))

    def gone_after_a_while(method: str, path: str) -> httpx.Response | None:
        if path == INSTANCE and next(looks) == 2:
            del cloud.resources[INSTANCE], cloud.resources[DISK]
        return None

    cloud.fault = gone_after_a_while
    assert asyncio.run(_converge(cloud, desired())) == ["create instance/content-api"]
    assert len(cloud.paused) >= 2


def test_down_removes_what_is_ours_and_only_that() -> None:
    cloud = _standing()
    theirs = {**cloud.resources[WEB], "name": "content-api-ssh", "description": "by hand"}
    cloud.resources[f"{ROOT}/global/firewalls/content-api-ssh"] = theirs

    async def run() -> list[str]:
        async with cloud.client() as client:
            observed = await observe(client, desired())
            actions = destroy_plan(desired(), observed)
            made = destroy_doers(client, desired(), observed)
            outcome = await apply(Plan.of(actions), made, Bus(), sleep=_no_sleep)
            assert outcome.ok, outcome.first_error
            assert destroy_plan(desired(), await observe(client, desired())) == []
        return [action.id for action in actions]

    assert asyncio.run(run()) == [
        "instance/content-api",
        "firewall/content-api-web",
        "address/content-api-ip",
    ]
    assert f"{ROOT}/global/firewalls/content-api-ssh" in cloud.resources
    assert INSTANCE not in cloud.resources
    assert DISK not in cloud.resources


def test_down_may_be_repeated_when_things_vanish_meanwhile() -> None:
    cloud = _standing()

    async def run() -> list[Event]:
        events: list[Event] = []
        async with cloud.client() as client:
            observed = await observe(client, desired())
            actions = Plan.of(destroy_plan(desired(), observed))
            made = destroy_doers(client, desired(), observed)
            await apply(actions, made, Bus(), sleep=_no_sleep)
            outcome = await apply(actions, made, Bus(events.append), sleep=_no_sleep)
            assert outcome.ok, outcome.first_error
        return events

    results = [event.data["result"] for event in asyncio.run(run()) if event.kind == "end"]
    assert results == ["unchanged"] * 4
