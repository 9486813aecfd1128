"""Random sequences of API calls leave the lab's project equal to a simple model's.

25 sequences by default; REHOST_SEQUENCES sets the number.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

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
POWER = ("start", "start", "stop", "reset", "simulateMaintenanceEvent", "suspend", "resume")
DISKS = (*NAMES, "c")


def step(dice: random.Random) -> tuple[Any, ...]:
    """A step and its arguments. Inserts are many, so that there is something to do things to."""
    name, other, yes = dice.choice(NAMES), dice.choice(NAMES), dice.random() < 0.7
    words = dice.sample(["web", "db", "x-1"], dice.randrange(3))
    labels = {
        key: dice.choice(["", "one", "two"]) for key in dice.sample(["app", "stage"], dice.randrange(3))
    }
    network, disk = dice.choice(["default", "default", *NAMES]), dice.choice(DISKS)
    return dice.choice(
        [
            *[(insert, name, dice.choice([None, "", other]), network, words, labels)] * 4,
            (delete, name),
            *[(power, name, dice.choice(POWER))] * 2,
            (set_part, name, "tags", words, yes),
            (set_part, name, "labels", labels, yes),
            (set_part, name, "items", labels, yes),
            (set_type, name, dice.choice(["e2-micro", "e2-small", "e2-nano"])),
            (protect, name, not yes),
            (add_access, name, dice.choice(["", other])),
            (drop_access, name),
            (grow, disk, dice.choice([5, 10, 12, 20])),
            (drop_disk, disk),
            (make_disk, disk, dice.choice([5, 10, 20]), dice.choice([None, None, *NAMES])),
            *[(plug, name, disk)] * 2,
            (unplug, name, disk),
            (keep_disk, name, yes),
            (snap, disk, other),
            (drop_snapshot, name),
            *[(reserve, name)] * 2,
            (label_address, name, labels),
            (release, name),
            *[(allow, name, dice.choice([80, 443]), dice.choice(["default", *NAMES]))] * 2,
            (disable, name, yes),
            (disallow, name),
            *[(add_network, name)] * 2,
            (drop_network, name),
            *[(add_policy, name)] * 2,
            (drop_policy, name),
            *[(follow, name, other, yes)] * 2,
        ]
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


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_a_sequence_of_calls_leaves_what_the_model_says(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)  # noqa: S311

    async def main() -> None:
        run = Run(Lab(tmp_path))
        for _ in range(LENGTH):
            does, *arguments = step(dice)
            await does(run, *arguments)
        await holds(run)

    asyncio.run(main())
