"""Instances of the lab's API, and the packet rules that its firewalls come to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lab_fake import FAMILY, GLOBAL, REGION, ZONE, Lab, asynced, instance
from rehost.lab.compute_firewalls import compile_rules
from rehost.lab.hardware import Hardware, PacketRule

APP = f"{ZONE}/instances/app"
ANY = ("0.0.0.0/0",)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@asynced
async def test_an_instance_from_insert_to_delete(lab: Lab) -> None:
    made = await lab.insert(
        tags={"items": ["web"]},
        labels={"rehost-app": "app"},
        metadata={"items": [{"key": "startup-script", "value": "echo"}]},
        scheduling={"automaticRestart": False},
        shieldedInstanceConfig={"enableSecureBoot": True},
    )
    assert made["status"] == "RUNNING"
    assert made["scheduling"]["automaticRestart"] is False
    assert made["shieldedInstanceConfig"]["enableSecureBoot"] is True
    assert made["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == "10.70.1.100"
    spec = lab.machines.specs["app"]
    assert (spec.internal, spec.external) == ("10.70.1.2", "10.70.1.100")
    assert spec.mac == "42:01:0a:46:01:02"
    assert spec.instance_id == made["id"]
    assert spec.hardware == Hardware(1024, 2.0, share=0.25)
    disk = await lab.get(f"{ZONE}/disks/app")
    assert (disk["status"], disk["users"]) == ("READY", [made["selfLink"]])
    assert (await lab.refused("DELETE", f"{ZONE}/disks/app"))["errors"][0]["reason"].startswith(
        "resourceInUse"
    )
    by_id = await lab.get(f"{ZONE}/instances/{made['id']}")
    assert by_id["name"] == "app"
    await lab.done("DELETE", APP)
    assert lab.machines.specs == {}
    assert (await lab.refused("GET", APP))["code"] == 404
    assert (await lab.refused("GET", f"{ZONE}/disks/app"))["code"] == 404


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "App"}, "Invalid value for field 'resource.name': 'App'. Must be a match of regex"),
        (
            {"machineType": f"{ZONE}/machineTypes/e2-nano"},
            "Machine type with name 'e2-nano' does not exist in zone 'us-west1-a'.",
        ),
        ({"machineType": "e2-micro"}, "The URL is malformed."),
        ({"machineType": "zones/us-west1-b/machineTypes/e2-micro"}, "The URL is malformed."),
        ({"networkInterfaces": []}, "At least one network interface is required."),
        ({"disks": []}, "At least one disk is required."),
        ({"metadata": {"items": [{"key": "a"}, {"key": "a"}]}}, "Metadata has duplicate key: a"),
        ({"metadata": {"items": [{"key": "a b"}]}}, "[a-zA-Z0-9-_]{1,128}"),
        ({"tags": {"items": ["Web"]}}, "Must be a match of regex"),
        ({"labels": {"App": "x"}}, "Label keys must be"),
        ({"labels": {f"l{number}": "" for number in range(65)}}, "64 labels at most"),
        ({"hostname": "nodots"}, "fully qualified domain name"),
        (
            {"networkInterfaces": [{"accessConfigs": [{"natIP": "1.2.3.4"}]}]},
            "was not found in region 'us-west1'.",
        ),
        (
            {"disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": "x/y"}}]},
            "The referenced image resource cannot be found.",
        ),
        (
            {
                "disks": [
                    {
                        "boot": True,
                        "autoDelete": True,
                        "initializeParams": {"sourceImage": FAMILY, "diskSizeGb": "5"},
                    }
                ]
            },
            "Requested disk size cannot be smaller than the image size (10 GB)",
        ),
    ],
)
@asynced
async def test_an_insert_that_is_refused_leaves_nothing(lab: Lab, change: dict[str, Any], said: str) -> None:
    error = await lab.refused("POST", f"{ZONE}/instances", instance() | change)
    assert (error["code"], error["errors"][0]["reason"]) == (400, "invalid")
    assert said in error["message"]
    assert "items" not in await lab.get(f"{ZONE}/instances")
    assert "items" not in await lab.get(f"{ZONE}/disks")


@asynced
async def test_an_unknown_image_family_is_404(lab: Lab) -> None:
    family = FAMILY.replace("debian-12", "debian-99")
    disks = [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": family}}]
    error = await lab.refused("POST", f"{ZONE}/instances", instance(disks=disks))
    assert error["message"] == f"The resource '{family}' was not found"


@asynced
async def test_a_machine_that_does_not_boot_leaves_nothing(lab: Lab) -> None:
    lab.machines.broken = True
    operation = await lab.ended("POST", f"{ZONE}/instances", instance())
    assert operation["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    assert "no power" in operation["error"]["errors"][0]["message"]
    assert lab.machines.specs == {}
    assert (await lab.refused("GET", APP))["code"] == 404
    await lab.insert()


@asynced
async def test_the_quota_of_processors(lab: Lab) -> None:
    for number in range(8):
        await lab.insert(f"m{number}")
    operation = await lab.ended("POST", f"{ZONE}/instances", instance("m8"))
    error = operation["error"]["errors"][0]
    assert error["code"] == "QUOTA_EXCEEDED"
    assert error["message"] == "Quota 'IN_USE_ADDRESSES' exceeded.  Limit: 8.0 in region us-west1."
    assert operation["httpErrorStatusCode"] == 403
    assert (await lab.refused("GET", f"{ZONE}/instances/m8"))["code"] == 404


@asynced
async def test_a_start_needs_its_quota_again(lab: Lab) -> None:
    nic = [{"network": "global/networks/default"}]
    large = f"{ZONE}/machineTypes/e2-highcpu-16"
    await lab.insert("a", machineType=large, networkInterfaces=nic)
    await lab.done("POST", f"{ZONE}/instances/a/stop")
    await lab.insert("b", machineType=large, networkInterfaces=nic)
    operation = await lab.ended("POST", f"{ZONE}/instances/a/start")
    error = operation["error"]["errors"][0]
    assert error["message"] == "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-west1."
    assert (await lab.get(f"{ZONE}/instances/a"))["status"] == "TERMINATED"
    await lab.done("DELETE", f"{ZONE}/instances/b")
    await lab.done("POST", f"{ZONE}/instances/a/start")


@asynced
async def test_the_same_name_twice(lab: Lab) -> None:
    first, second = await asyncio.gather(
        lab.call("POST", f"{ZONE}/instances", instance()), lab.call("POST", f"{ZONE}/instances", instance())
    )
    assert sorted((first.status, second.status)) == [200, 409]


@asynced
async def test_stop_and_start(lab: Lab) -> None:
    await lab.insert()
    await lab.done("POST", f"{APP}/stop")
    off = await lab.get(APP)
    assert off["status"] == "TERMINATED"
    assert "natIP" not in off["networkInterfaces"][0]["accessConfigs"][0]  # ephemeral addresses go back
    assert not lab.machines.running("app")
    await lab.done("POST", f"{APP}/stop")  # again: nothing to do
    assert (await lab.refused("POST", f"{APP}/reset"))["errors"][0]["reason"] == "resourceNotReady"
    await lab.done("POST", f"{APP}/start")
    on = await lab.get(APP)
    assert on["status"] == "RUNNING"
    assert on["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == "10.70.1.101"
    assert lab.machines.external["app"] == "10.70.1.101"
    await lab.done("POST", f"{APP}/reset")
    assert lab.machines.resets == 1


@asynced
async def test_a_machine_that_powers_itself_off_is_terminated(lab: Lab) -> None:
    await lab.insert()
    lab.machines.on.clear()
    lab.api.machine_ended("app")
    assert (await lab.get(APP))["status"] == "TERMINATED"
    await lab.done("POST", f"{APP}/start")
    assert lab.machines.running("app")


@asynced
async def test_the_machine_type_changes_only_when_off(lab: Lab) -> None:
    await lab.insert()
    body = {"machineType": f"{ZONE}/machineTypes/e2-small"}
    assert (await lab.refused("POST", f"{APP}/setMachineType", body))["code"] == 400
    await lab.done("POST", f"{APP}/stop")
    await lab.done("POST", f"{APP}/setMachineType", body)
    assert lab.machines.hardware["app"] == Hardware(2048, 2.0, share=0.5)
    assert (await lab.get(APP))["machineType"].endswith("/e2-small")


@asynced
async def test_a_disk_only_grows(lab: Lab) -> None:
    await lab.insert()
    resize = f"{ZONE}/disks/app/resize"
    for size in ("10", "5", "65537"):
        assert (await lab.refused("POST", resize, {"sizeGb": size}))["errors"][0]["reason"] == "invalid"
    await lab.done("POST", resize, {"sizeGb": "12"})
    assert lab.disks.contents["disks/us-west1-a/app"][0] == 12
    assert (await lab.get(f"{ZONE}/disks/app"))["sizeGb"] == "12"
    assert (await lab.get(APP))["disks"][0]["diskSizeGb"] == "12"


@asynced
async def test_fingerprints(lab: Lab) -> None:
    made = await lab.insert()
    for call, part, key, value in [
        ("setMetadata", "metadata", "items", [{"key": "a", "value": "b"}]),
        ("setTags", "tags", "items", ["web"]),
    ]:
        body = {key: value, "fingerprint": made[part]["fingerprint"]}
        # Two at once with the same fingerprint: one is too late, in the answer or in its operation.
        first, second = await asyncio.gather(
            lab.ended("POST", f"{APP}/{call}", body), lab.ended("POST", f"{APP}/{call}", body)
        )
        late = [one for one in (first, second) if "error" in one]
        assert [one["httpErrorStatusCode"] for one in late] == [412]
        assert late[0]["error"]["errors"][0]["code"] == "CONDITION_NOT_MET"
        assert (await lab.get(APP))[part][key] == value
        error = await lab.refused("POST", f"{APP}/{call}", body)
        assert (error["code"], error["errors"][0]["reason"]) == (412, "conditionNotMet")
    labels = {"labels": {"a": "b"}, "labelFingerprint": made["labelFingerprint"]}
    await lab.done("POST", f"{APP}/setLabels", labels)
    assert (await lab.get(APP))["labels"] == {"a": "b"}
    assert (await lab.refused("POST", f"{APP}/setLabels", labels))["code"] == 412


@asynced
async def test_deletion_protection(lab: Lab) -> None:
    await lab.insert(deletionProtection=True)
    error = await lab.refused("DELETE", APP)
    assert "protected against deletion" in error["message"]
    await lab.done("POST", f"{APP}/setDeletionProtection", deletionProtection="false")
    await lab.done("DELETE", APP)


@asynced
async def test_access_configs(lab: Lab) -> None:
    await lab.insert()
    nic = {"networkInterface": "nic0"}
    error = await lab.refused("POST", f"{APP}/addAccessConfig", {"type": "ONE_TO_ONE_NAT"}, **nic)
    assert "At most one access config" in error["message"]
    await lab.done("POST", f"{APP}/deleteAccessConfig", accessConfig="External NAT", **nic)
    assert lab.machines.external["app"] is None
    assert "accessConfigs" not in (await lab.get(APP))["networkInterfaces"][0]
    await lab.done("POST", f"{REGION}/addresses", {"name": "app-ip"})
    address = (await lab.get(f"{REGION}/addresses/app-ip"))["address"]
    await lab.done("POST", f"{APP}/addAccessConfig", {"name": "External NAT", "natIP": address}, **nic)
    assert lab.machines.external["app"] == address
    assert (await lab.get(f"{REGION}/addresses/app-ip"))["status"] == "IN_USE"


@asynced
async def test_an_address_in_use_can_be_made_static(lab: Lab) -> None:
    made = await lab.insert()
    address = made["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    await lab.done("POST", f"{REGION}/addresses", {"name": "app-ip", "address": address})
    await lab.done("POST", f"{APP}/stop")
    assert (await lab.get(APP))["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == address


@asynced
async def test_the_serial_port_goes_on_where_it_was(lab: Lab) -> None:
    await lab.insert()
    text = "één\n".encode()
    lab.machines.serial("app").write_bytes(text[:-3])  # the second é is cut in the middle
    first = await lab.get(f"{APP}/serialPort", port="1", start="0")
    assert (first["contents"], first["start"]) == ("é", "0")
    lab.machines.serial("app").write_bytes(text)
    rest = await lab.get(f"{APP}/serialPort", port="1", start=first["next"])
    assert (rest["contents"], rest["next"]) == ("én\n", str(len(text)))
    assert (await lab.get(f"{APP}/serialPort", start=rest["next"]))["contents"] == ""
    assert (await lab.get(f"{APP}/serialPort", port="2"))["contents"] == ""
    assert (await lab.refused("GET", f"{APP}/serialPort", port="5"))["code"] == 400


@asynced
async def test_guest_attributes(lab: Lab) -> None:
    await lab.insert()
    error = await lab.refused("GET", f"{APP}/getGuestAttributes", queryPath="hostkeys/")
    assert error["code"] == 404
    assert "The resource 'hostkeys/' of type 'Guest Attribute' was not found." in error["message"]
    lab.cloud.guest_attributes[APP] = {"hostkeys": {"ssh-ed25519": "AAAA", "ssh-rsa": "BBBB"}}
    all_keys = await lab.get(f"{APP}/getGuestAttributes", queryPath="hostkeys/")
    assert [item["key"] for item in all_keys["queryValue"]["items"]] == ["ssh-ed25519", "ssh-rsa"]
    one = await lab.get(f"{APP}/getGuestAttributes", queryPath="hostkeys/ssh-rsa")
    assert one["queryValue"]["items"] == [{"namespace": "hostkeys", "key": "ssh-rsa", "value": "BBBB"}]
    assert (await lab.get(f"{APP}/getGuestAttributes", variableKey="hostkeys/ssh-rsa"))[
        "variableValue"
    ] == "BBBB"


# -- firewalls ---------------------------------------------------------------------------------------------


@asynced
async def test_a_firewall_rule_reaches_the_machines_that_it_names(lab: Lab) -> None:
    await lab.insert("web", tags={"items": ["web"]})
    await lab.insert("other")
    web = PacketRule("allow", "tcp", ("80", "443"), ANY)
    rule = {"name": "web", "allowed": [{"IPProtocol": "TCP", "ports": ["80", "443"]}], "targetTags": ["web"]}
    await lab.done("POST", f"{GLOBAL}/firewalls", rule)
    assert web in lab.machines.rules["web"]
    assert web not in lab.machines.rules["other"]
    await lab.done("PATCH", f"{GLOBAL}/firewalls/web", {"targetTags": None})
    assert web in lab.machines.rules["other"]
    await lab.done("PATCH", f"{GLOBAL}/firewalls/web", {"disabled": True})
    assert web not in lab.machines.rules["web"]
    await lab.done("PUT", f"{GLOBAL}/firewalls/web", {**rule, "sourceRanges": ["10.1.0.0/16"]})
    assert PacketRule("allow", "tcp", ("80", "443"), ("10.1.0.0/16",)) in lab.machines.rules["web"]
    tags = (await lab.get(f"{ZONE}/instances/other"))["tags"]
    await lab.done(
        "POST", f"{ZONE}/instances/other/setTags", {"items": ["web"], "fingerprint": tags["fingerprint"]}
    )
    assert lab.machines.rules["other"] == lab.machines.rules["web"]
    await lab.done("DELETE", f"{GLOBAL}/firewalls/web")
    assert all(rule.ports != ("80", "443") for rule in lab.machines.rules["web"])
    error = await lab.refused("PATCH", f"{GLOBAL}/firewalls/web", {"disabled": True})
    assert error["code"] == 404


@asynced
async def test_the_default_network_is_open_as_googles_is(lab: Lab) -> None:
    await lab.insert()
    assert lab.machines.rules["app"] == [
        PacketRule("allow", "icmp", (), ANY),
        PacketRule("allow", "tcp", ("0-65535",), ("10.70.1.2/32",)),
        PacketRule("allow", "udp", ("0-65535",), ("10.70.1.2/32",)),
        PacketRule("allow", "icmp", (), ("10.70.1.2/32",)),
        PacketRule("allow", "tcp", ("3389",), ANY),
        PacketRule("allow", "tcp", ("22",), ANY),
    ]
    await lab.insert("second")
    internal = ("10.70.1.2/32", "10.70.1.3/32")
    assert PacketRule("allow", "tcp", ("0-65535",), internal) in lab.machines.rules["app"]
    await lab.done("DELETE", f"{ZONE}/instances/second")
    assert PacketRule("allow", "tcp", ("0-65535",), ("10.70.1.2/32",)) in lab.machines.rules["app"]


def _rule(action: str, priority: int, port: str, **more: Any) -> dict[str, Any]:
    return {
        "priority": priority,
        action: [{"IPProtocol": "6", "ports": [port]}],
        "sourceRanges": list(ANY),
        **more,
    }


def test_rules_stand_by_priority_and_deny_before_allow() -> None:
    rules = compile_rules(
        [_rule("allowed", 1000, "1"), _rule("denied", 1000, "2"), _rule("allowed", 5, "3")], [], {}
    )
    assert [(rule.action, rule.protocol, rule.ports) for rule in rules] == [
        ("allow", "tcp", ("3",)),
        ("deny", "tcp", ("2",)),
        ("allow", "tcp", ("1",)),
    ]


def test_source_tags_stand_for_the_machines_that_have_them() -> None:
    rule = _rule("allowed", 1000, "1", sourceRanges=[], sourceTags=["db"])
    members = {"10.70.1.2": ["db"], "10.70.1.3": ["web"]}
    assert [rule.sources for rule in compile_rules([rule], [], members)] == [("10.70.1.2/32",)]
    # Nobody has the tag: the rule must vanish, not open up to everybody.
    assert compile_rules([rule], [], {"10.70.1.3": []}) == []


def test_an_address_of_the_internet_is_not_internal() -> None:
    rule = _rule("allowed", 1000, "1", sourceRanges=["10.0.0.0/8", "203.0.113.7"])
    found = compile_rules([rule], [], {"10.70.1.2": []})
    assert found[0].sources == ("10.70.1.2/32", "203.0.113.7/32")
