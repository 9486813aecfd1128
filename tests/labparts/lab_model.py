"""A simple model of the lab's project, and steps: each sends one call and says what the model expects of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab_fake import GLOBAL, REGION, ZONE, Lab, instance
from rehost.lab.state import relative

Json = dict[str, Any]


@dataclass
class Model:
    """What should be there: name -> fields that a user sees. External addresses are by name, "" for any."""

    instances: dict[str, Json] = field(default_factory=dict)
    disks: dict[str, Json] = field(default_factory=dict)
    addresses: dict[str, Json] = field(default_factory=dict)
    firewalls: dict[str, Json] = field(default_factory=dict)
    networks: dict[str, Json] = field(default_factory=dict)
    policies: dict[str, Json] = field(default_factory=dict)
    snapshots: dict[str, Json] = field(default_factory=dict)

    def user_of(self, address: str) -> str | None:
        return next((name for name, one in self.instances.items() if one["nat"] == address), None)

    def user_of_policy(self, policy: str) -> str | None:
        return next((name for name, one in self.instances.items() if one["policy"] == policy), None)


Answered = tuple[int, str]  # status; the reason of a refusal, "" for what went well
OK: Answered = (200, "")
MISSING: Answered = (404, "notFound")
EXISTS: Answered = (409, "alreadyExists")
INVALID: Answered = (400, "invalid")
USED: Answered = (400, "resourceInUseByAnotherResource")
STALE: Answered = (412, "conditionNotMet")
NOT_READY: Answered = (400, "resourceNotReady")
WRONG_USE: Answered = (400, "invalidResourceUsage")


@dataclass
class Run:
    """One sequence: the lab, the model, and what of the lab the calls need to know."""

    lab: Lab
    model: Model = field(default_factory=Model)

    async def send(self, verb: str, path: str, body: object = None, **query: str) -> Answered:
        answer = await self.lab.call(verb, path, body, **query)
        if answer.status != 200:
            return answer.status, answer.body["error"]["errors"][0]["reason"]
        ended = await self.lab.call("POST", relative(answer.body["selfLink"]) + "/wait")
        assert ended.body["status"] == "DONE"
        assert "error" not in ended.body, ended.body
        return OK

    async def fingerprint(self, path: str, *keys: str) -> str:
        answer = await self.lab.call("GET", path)
        found: Any = answer.body
        for key in keys:
            found = found.get(key, {}) if isinstance(found, dict) else ""
        return found if isinstance(found, str) else ""

    async def address(self, name: str) -> str:
        return await self.fingerprint(f"{REGION}/addresses/{name}", "address") or "10.9.9.9"


# -- steps -------------------------------------------------------------------------------------------------


async def insert(run: Run, name: str, nat: str | None, network: str, tags: list[str], labels: Json) -> None:
    """nat: None for no external address, "" for any, else a static one."""
    model = run.model
    nic: Json = {} if network == "default" else {"network": f"{GLOBAL}/networks/{network}"}
    if nat is not None:
        nic["accessConfigs"] = [{"natIP": await run.address(nat)} if nat else {}]
    body = instance(name, networkInterfaces=[nic], tags={"items": tags}, labels=labels)
    expected = OK
    if name in model.instances or name in model.disks:  # a boot disk may have stayed
        expected = EXISTS
    elif network not in {"default", *model.networks} or (nat and nat not in model.addresses):
        expected = INVALID
    elif nat and model.user_of(nat):
        expected = (400, "externalIpAddressInUse")
    assert await run.send("POST", f"{ZONE}/instances", body) == expected
    if expected == OK:
        made = {"status": "RUNNING", "nat": nat, "network": network, "tags": tags, "labels": labels}
        model.instances[name] = made | {"items": {}, "type": "e2-micro", "policy": None, "protected": False}
        model.disks[name] = {"size": "10", "user": name}
        model.instances[name]["disks"] = {name: True}  # whether it goes with the instance


async def delete(run: Run, name: str) -> None:
    one = run.model.instances.get(name)
    expected = MISSING if one is None else WRONG_USE if one["protected"] else OK
    assert await run.send("DELETE", f"{ZONE}/instances/{name}") == expected
    if one and expected == OK:
        for disk, goes in one["disks"].items():
            run.model.disks[disk]["user"] = None
            if goes:
                del run.model.disks[disk]
        del run.model.instances[name]


async def power(run: Run, name: str, verb: str) -> None:
    one = run.model.instances.get(name)
    expected = MISSING if one is None else OK
    status = one["status"] if one else ""
    if one and verb in ("reset", "simulateMaintenanceEvent") and status != "RUNNING":
        expected = NOT_READY
    if verb in ("suspend", "resume") and status == "TERMINATED":
        expected = NOT_READY
    assert await run.send("POST", f"{ZONE}/instances/{name}/{verb}") == expected
    changes = {
        ("start", "TERMINATED"): "RUNNING",
        ("stop", "RUNNING"): "TERMINATED",
        ("stop", "SUSPENDED"): "TERMINATED",
        ("suspend", "RUNNING"): "SUSPENDED",
        ("resume", "SUSPENDED"): "RUNNING",
    }
    if one:
        one["status"] = changes.get((verb, status), status)


async def set_part(run: Run, name: str, part: str, value: Any, fresh: bool) -> None:
    """part: "tags", "labels" or "items" (metadata)."""
    path, one = f"{ZONE}/instances/{name}", run.model.instances.get(name)
    keys = {
        "tags": ("tags", "fingerprint"),
        "labels": ("labelFingerprint",),
        "items": ("metadata", "fingerprint"),
    }
    stamp = await run.fingerprint(path, *keys[part]) if fresh else "AAAAAAAAAAA="
    if part == "tags":
        verb, body = "setTags", {"items": value, "fingerprint": stamp}
    elif part == "labels":
        verb, body = "setLabels", {"labels": value, "labelFingerprint": stamp}
    else:
        items = [{"key": key, "value": text} for key, text in value.items()]
        verb, body = "setMetadata", {"items": items, "fingerprint": stamp}
    expected = MISSING if one is None else OK if fresh else STALE
    assert await run.send("POST", f"{path}/{verb}", body) == expected
    if one and fresh:
        one[part] = value


async def set_type(run: Run, name: str, kind: str) -> None:
    one = run.model.instances.get(name)
    expected = MISSING if one is None else OK if one["status"] == "TERMINATED" else WRONG_USE
    if one and kind == "e2-nano":
        expected = INVALID
    body = {"machineType": f"{ZONE}/machineTypes/{kind}"}
    assert await run.send("POST", f"{ZONE}/instances/{name}/setMachineType", body) == expected
    if one and expected == OK:
        one["type"] = kind


async def protect(run: Run, name: str, wanted: bool) -> None:
    one = run.model.instances.get(name)
    query = {"deletionProtection": str(wanted).lower()}
    answer = await run.send("POST", f"{ZONE}/instances/{name}/setDeletionProtection", **query)
    assert answer == (MISSING if one is None else OK)
    if one:
        one["protected"] = wanted


async def add_access(run: Run, name: str, nat: str) -> None:
    model, one = run.model, run.model.instances.get(name)
    expected = OK
    if one is None:
        expected = MISSING
    elif one["nat"] is not None or (nat and nat not in model.addresses):
        expected = INVALID
    elif nat and model.user_of(nat):
        expected = (400, "externalIpAddressInUse")
    body = {"natIP": await run.address(nat)} if nat else {}
    path = f"{ZONE}/instances/{name}/addAccessConfig"
    assert await run.send("POST", path, body, networkInterface="nic0") == expected
    if one and expected == OK:
        one["nat"] = nat


async def drop_access(run: Run, name: str) -> None:
    one = run.model.instances.get(name)
    expected = MISSING if one is None else INVALID if one["nat"] is None else OK
    query = {"networkInterface": "nic0", "accessConfig": "External NAT"}
    assert await run.send("POST", f"{ZONE}/instances/{name}/deleteAccessConfig", **query) == expected
    if one:
        one["nat"] = None


async def grow(run: Run, name: str, size: int) -> None:
    one = run.model.disks.get(name)
    expected = MISSING if one is None else OK if size > int(one["size"]) else INVALID
    assert await run.send("POST", f"{ZONE}/disks/{name}/resize", {"sizeGb": str(size)}) == expected
    if one and expected == OK:
        one["size"] = str(size)


async def drop_disk(run: Run, name: str) -> None:
    one = run.model.disks.get(name)
    expected = MISSING if one is None else USED if one["user"] else OK
    assert await run.send("DELETE", f"{ZONE}/disks/{name}") == expected
    if expected == OK:
        del run.model.disks[name]


async def make_disk(run: Run, name: str, size: int, snapshot: str | None) -> None:
    """Blank, or from a snapshot."""
    model = run.model
    made_of = model.snapshots.get(snapshot or "")
    body = {"name": name, "sizeGb": str(size)}
    if snapshot:
        body["sourceSnapshot"] = f"global/snapshots/{snapshot}"
    expected = OK
    if (snapshot and not made_of) or (made_of and size < int(made_of["size"])):
        expected = INVALID
    elif name in model.disks:
        expected = EXISTS
    assert await run.send("POST", f"{ZONE}/disks", body) == expected
    if expected == OK:
        model.disks[name] = {"size": str(size), "user": None}


async def plug(run: Run, name: str, disk: str) -> None:
    one, there = run.model.instances.get(name), run.model.disks.get(disk)
    expected = MISSING if one is None else INVALID if there is None else OK
    if one and one["status"] == "SUSPENDED":
        expected = NOT_READY
    elif one and there and there["user"]:
        expected = USED
    body = {"source": f"{ZONE}/disks/{disk}", "deviceName": disk}
    assert await run.send("POST", f"{ZONE}/instances/{name}/attachDisk", body) == expected
    if one and there and expected == OK:
        one["disks"][disk] = False
        there["user"] = name


async def unplug(run: Run, name: str, disk: str) -> None:
    one = run.model.instances.get(name)
    expected = MISSING if one is None else OK if disk in one["disks"] and disk != name else INVALID
    if one and expected == OK and one["status"] == "SUSPENDED":
        expected = NOT_READY
    assert await run.send("POST", f"{ZONE}/instances/{name}/detachDisk", deviceName=disk) == expected
    if one and expected == OK:
        del one["disks"][disk]
        run.model.disks[disk]["user"] = None


async def keep_disk(run: Run, name: str, goes: bool) -> None:
    """Whether the boot disk goes with the instance."""
    one = run.model.instances.get(name)
    query = {"deviceName": "persistent-disk-0", "autoDelete": str(goes).lower()}
    answer = await run.send("POST", f"{ZONE}/instances/{name}/setDiskAutoDelete", **query)
    assert answer == (MISSING if one is None else OK)
    if one:
        one["disks"][name] = goes


async def snap(run: Run, disk: str, name: str) -> None:
    one = run.model.disks.get(disk)
    expected = MISSING if one is None else EXISTS if name in run.model.snapshots else OK
    assert await run.send("POST", f"{ZONE}/disks/{disk}/createSnapshot", {"name": name}) == expected
    if one and expected == OK:
        run.model.snapshots[name] = {"size": one["size"]}


async def drop_snapshot(run: Run, name: str) -> None:
    expected = OK if name in run.model.snapshots else MISSING
    assert await run.send("DELETE", f"{GLOBAL}/snapshots/{name}") == expected
    run.model.snapshots.pop(name, None)


async def reserve(run: Run, name: str) -> None:
    expected = EXISTS if name in run.model.addresses else OK
    assert await run.send("POST", f"{REGION}/addresses", {"name": name}) == expected
    run.model.addresses.setdefault(name, {"labels": {}})


async def label_address(run: Run, name: str, labels: Json) -> None:
    path, one = f"{REGION}/addresses/{name}", run.model.addresses.get(name)
    body = {"labels": labels, "labelFingerprint": await run.fingerprint(path, "labelFingerprint")}
    assert await run.send("POST", f"{path}/setLabels", body) == (MISSING if one is None else OK)
    if one:
        one["labels"] = labels


async def release(run: Run, name: str) -> None:
    known = name in run.model.addresses
    expected = MISSING if not known else USED if run.model.user_of(name) else OK
    assert await run.send("DELETE", f"{REGION}/addresses/{name}") == expected
    if expected == OK:
        del run.model.addresses[name]


async def allow(run: Run, name: str, port: int, network: str) -> None:
    there = network == "default" or network in run.model.networks
    expected = EXISTS if name in run.model.firewalls else OK if there else MISSING
    rule = {"IPProtocol": "tcp", "ports": [str(port)]}
    body = {"name": name, "allowed": [rule], "network": f"{GLOBAL}/networks/{network}"}
    assert await run.send("POST", f"{GLOBAL}/firewalls", body) == expected
    if expected == OK:
        run.model.firewalls[name] = {"ports": [str(port)], "disabled": False, "network": network}


async def disable(run: Run, name: str, wanted: bool) -> None:
    one = run.model.firewalls.get(name)
    expected = MISSING if one is None else OK
    assert await run.send("PATCH", f"{GLOBAL}/firewalls/{name}", {"disabled": wanted}) == expected
    if one:
        one["disabled"] = wanted


async def disallow(run: Run, name: str) -> None:
    expected = OK if name in run.model.firewalls else MISSING
    assert await run.send("DELETE", f"{GLOBAL}/firewalls/{name}") == expected
    run.model.firewalls.pop(name, None)


async def add_network(run: Run, name: str) -> None:
    expected = EXISTS if name in run.model.networks else OK
    body = {"name": name, "autoCreateSubnetworks": True}
    assert await run.send("POST", f"{GLOBAL}/networks", body) == expected
    run.model.networks.setdefault(name, {})


async def drop_network(run: Run, name: str) -> None:
    model = run.model
    users = [one for one in (*model.instances.values(), *model.firewalls.values()) if one["network"] == name]
    expected = MISSING if name not in model.networks else USED if users else OK
    assert await run.send("DELETE", f"{GLOBAL}/networks/{name}") == expected
    if expected == OK:
        del model.networks[name]


async def add_policy(run: Run, name: str) -> None:
    expected = EXISTS if name in run.model.policies else OK
    schedule = {"timeZone": "Asia/Seoul", "vmStopSchedule": {"schedule": "0 1 1 1 *"}}
    body = {"name": name, "instanceSchedulePolicy": schedule}
    assert await run.send("POST", f"{REGION}/resourcePolicies", body) == expected
    run.model.policies.setdefault(name, {})


async def drop_policy(run: Run, name: str) -> None:
    known = name in run.model.policies
    expected = MISSING if not known else USED if run.model.user_of_policy(name) else OK
    assert await run.send("DELETE", f"{REGION}/resourcePolicies/{name}") == expected
    if expected == OK:
        del run.model.policies[name]


async def follow(run: Run, name: str, policy: str, wanted: bool) -> None:
    one, known = run.model.instances.get(name), policy in run.model.policies
    expected = MISSING if one is None else OK if known else INVALID
    if one and known:
        if wanted and one["policy"] not in (None, policy):
            expected = WRONG_USE
        if not wanted and one["policy"] != policy:
            expected = INVALID
    verb = "addResourcePolicies" if wanted else "removeResourcePolicies"
    body = {"resourcePolicies": [f"{REGION}/resourcePolicies/{policy}"]}
    assert await run.send("POST", f"{ZONE}/instances/{name}/{verb}", body) == expected
    if one and expected == OK:
        one["policy"] = policy if wanted else None
