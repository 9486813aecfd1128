"""Random sequences of API calls leave the lab's project equal to a simple model's.

25 sequences by default; REHOST_SEQUENCES sets the number.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lab_fake import GLOBAL, REGION, ZONE, Lab
from lab_model import (
    Json,
    Model,
    Run,
    add_access,
    add_network,
    add_policy,
    allow,
    delete,
    disable,
    disallow,
    drop_access,
    drop_disk,
    drop_network,
    drop_policy,
    drop_snapshot,
    follow,
    grow,
    insert,
    keep_disk,
    label_address,
    make_disk,
    plug,
    power,
    protect,
    release,
    reserve,
    set_part,
    set_type,
    snap,
    unplug,
)

SEQUENCES = int(os.environ.get("REHOST_SEQUENCES", "25"))
LENGTH = 50
NAMES = ("a", "b")  # few, so that steps meet each other
POWER = ("start", "stop", "reset", "simulateMaintenanceEvent", "suspend", "resume")
TYPES = st.sampled_from(["e2-micro", "e2-small", "e2-nano"])
WORDS = st.lists(st.sampled_from(["web", "db", "x-1"]), max_size=2, unique=True)
LABELS = st.dictionaries(st.sampled_from(["app", "stage"]), st.sampled_from(["", "one", "two"]), max_size=2)
YES = st.sampled_from([True, True, False])


class Which(NamedTuple):
    """One of the model's, mostly of those that are there. turn: a number that chooses."""

    kind: str
    turn: int

    def name(self, model: Model) -> str:
        there = sorted(getattr(model, self.kind))
        names: list[str] = [*there * 3, *NAMES]
        return names[self.turn % len(names)]


Step = tuple[Any, ...]


def which(kind: str) -> st.SearchStrategy[Which]:
    return st.builds(Which, st.just(kind), st.integers(0, 59))


def call(does: Callable[..., Any], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(does), *arguments)


ANY = st.sampled_from(NAMES)
MACHINE, DISK, ADDRESS, SNAPSHOT = map(which, ("instances", "disks", "addresses", "snapshots"))
FIREWALL, NETWORK, POLICY = map(which, ("firewalls", "networks", "policies"))
STEPS = st.one_of(
    call(insert, ANY, st.none() | st.just("") | ADDRESS, st.just("default") | NETWORK, WORDS, LABELS),
    call(delete, MACHINE),
    *(call(power, MACHINE, st.just(verb)) for verb in POWER),
    call(set_part, MACHINE, st.just("tags"), WORDS, YES),
    call(set_part, MACHINE, st.sampled_from(["labels", "items"]), LABELS, YES),
    call(set_type, MACHINE, TYPES),
    call(protect, MACHINE, YES.map(lambda yes: not yes)),
    call(add_access, MACHINE, st.just("") | ADDRESS),
    call(drop_access, MACHINE),
    call(grow, DISK, st.sampled_from([5, 10, 12, 20])),
    call(drop_disk, DISK),
    call(make_disk, st.sampled_from([*NAMES, "c"]), st.sampled_from([5, 10, 20]), st.none() | SNAPSHOT),
    call(plug, MACHINE, DISK),
    call(unplug, MACHINE, DISK),
    call(keep_disk, MACHINE, YES),
    call(snap, DISK, ANY),
    call(drop_snapshot, SNAPSHOT),
    call(reserve, ANY),
    call(label_address, ADDRESS, LABELS),
    call(release, ADDRESS),
    call(allow, ANY, st.sampled_from([80, 443]), st.just("default") | NETWORK),
    call(disable, FIREWALL, YES),
    call(disallow, FIREWALL),
    call(add_network, ANY),
    call(drop_network, NETWORK),
    call(add_policy, ANY),
    call(drop_policy, POLICY),
    call(follow, MACHINE, POLICY, st.just(True)),
    call(follow, MACHINE, POLICY, st.just(False)),
)


# -- what is there in the end ------------------------------------------------------------------------------


async def listed(lab: Lab, path: str) -> list[Json]:
    """All of a collection, by small pages."""
    found: list[Json] = []
    query = {"maxResults": "2"}
    while True:
        page = await lab.get(path, **query)
        found += page.get("items", [])
        if "nextPageToken" not in page:
            return found
        query["pageToken"] = page["nextPageToken"]


def last(link: str) -> str:
    return link.rsplit("/", 1)[1]


async def seen(lab: Lab) -> Model:
    """The lab's project in the model's words."""
    found = Model()
    names = {one["address"]: one["name"] for one in await listed(lab, f"{REGION}/addresses")}
    for one in await listed(lab, f"{ZONE}/instances"):
        nic = one["networkInterfaces"][0]
        nats = [names.get(config.get("natIP", ""), "") for config in nic.get("accessConfigs", ())]
        found.instances[one["name"]] = {
            "status": one["status"],
            "nat": nats[0] if nats else None,
            "network": last(nic["network"]),
            "tags": one["tags"].get("items", []),
            "labels": one.get("labels", {}),
            "items": {item["key"]: item["value"] for item in one["metadata"].get("items", ())},
            "type": last(one["machineType"]),
            "policy": last(one["resourcePolicies"][0]) if "resourcePolicies" in one else None,
            "protected": one["deletionProtection"],
            "disks": {last(disk["source"]): disk["autoDelete"] for disk in one["disks"]},
        }
    for one in await listed(lab, f"{ZONE}/disks"):
        users = [last(user) for user in one.get("users", ())]
        assert len(users) <= 1
        found.disks[one["name"]] = {"size": one["sizeGb"], "user": users[0] if users else None}
    for one in await listed(lab, f"{GLOBAL}/snapshots"):
        found.snapshots[one["name"]] = {"size": one["diskSizeGb"]}
    for one in await listed(lab, f"{REGION}/addresses"):
        found.addresses[one["name"]] = {"labels": one.get("labels", {})}
    for one in await listed(lab, f"{GLOBAL}/firewalls"):
        if not one["name"].startswith("default-"):
            found.firewalls[one["name"]] = {
                "ports": one["allowed"][0]["ports"],
                "disabled": one["disabled"],
                "network": last(one["network"]),
            }
    for one in await listed(lab, f"{GLOBAL}/networks"):
        if one["name"] != "default":
            found.networks[one["name"]] = {}
    for one in await listed(lab, f"{REGION}/resourcePolicies"):
        found.policies[one["name"]] = {}
    return found


async def holds(run: Run) -> None:
    """The lab's project is the model's, and its machines are as the project says."""
    lab, model = run.lab, run.model
    assert await seen(lab) == model
    assert set(lab.machines.specs) == set(model.instances)
    states = {name: one["status"] for name, one in model.instances.items()}
    assert lab.machines.on == {name for name, status in states.items() if status != "TERMINATED"}
    assert lab.machines.suspended == {name for name, status in states.items() if status == "SUSPENDED"}
    assert {key.rsplit("/", 1)[1] for key in lab.disks.contents if "/snapshots/" not in f"/{key}"} == set(
        model.disks
    )
    for name, plugged in lab.machines.disks.items():
        assert {disk.content.rsplit("/", 1)[1] for disk in plugged} == set(model.instances[name]["disks"])
    for name in lab.machines.on - lab.machines.suspended:
        shown = await lab.get(f"{ZONE}/instances/{name}")
        configs = shown["networkInterfaces"][0].get("accessConfigs", [{}])
        assert lab.machines.external[name] == configs[0].get("natIP")
        ports = {port for rule in lab.machines.rules[name] for port in rule.ports} & {"80", "443"}
        rules = [
            rule for rule in model.firewalls.values() if rule["network"] == model.instances[name]["network"]
        ]
        assert ports == {port for rule in rules if not rule["disabled"] for port in rule["ports"]}
    quotas = {quota["metric"]: quota["usage"] for quota in (await lab.get(REGION))["quotas"]}
    assert quotas["INSTANCES"] == len(model.instances)
    assert quotas["STATIC_ADDRESSES"] == len(model.addresses)
    assert quotas["CPUS"] == 2 * len(lab.machines.on)
    assert quotas["DISKS_TOTAL_GB"] == sum(int(one["size"]) for one in model.disks.values())


class Project(RuleBasedStateMachine):
    """The lab's project and its model, step by step. Hypothesis looks for the shortest sequence that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete(self.begin())

    async def begin(self) -> Run:
        return Run(Lab(Path(self.home.name)))

    @initialize(labels=LABELS)
    def machine(self, labels: Json) -> None:
        self.loop.run_until_complete(insert(self.run, "a", "", "default", [], labels))

    @rule(step=STEPS)
    def takes(self, step: Step) -> None:
        does, *drawn = step
        arguments = [one.name(self.run.model) if isinstance(one, Which) else one for one in drawn]
        self.loop.run_until_complete(does(self.run, *arguments))

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(holds(self.run))
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            self.home.cleanup()


TestASequenceOfCallsLeavesWhatTheModelSays = Project.TestCase
TestASequenceOfCallsLeavesWhatTheModelSays.settings = settings(
    max_examples=SEQUENCES, stateful_step_count=LENGTH
)
