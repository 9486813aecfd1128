"""What the cloud does to packets and to power: addresses, rules, networks, schedules, limits, preemption."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compute_api import ComputeApi, booted, init_of, inside
from suite import Lab, until

REGION = "regions/us-west1"
PORT = 8080
# Answers whoever connects with the machine's name.
SERVE = f"systemd-run --quiet --collect systemd-socket-activate --listen={PORT} --inetd --accept hostname"
PUBLIC = {"accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}


@dataclass
class Cloud:
    """The project with its machines: web (with the tag), plain, far (in a network of its own), and three that end."""

    lab: Lab
    api: ComputeApi

    def machine(self, name: str) -> Any:
        return self.api.get(f"instances/{name}")

    def internal(self, name: str) -> str:
        return str(self.machine(name)["networkInterfaces"][0]["networkIP"])

    def external(self, name: str) -> str:
        return str(self.machine(name)["networkInterfaces"][0]["accessConfigs"][0]["natIP"])

    def inside(self, name: str, command: str) -> str:
        return inside(self.lab.places, name, command)

    def asks(self, name: str, address: str) -> str:
        """What a machine is answered at that address; empty when packets get no answer."""
        talk = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{PORT}; cat <&3' 2>/dev/null || true"
        return self.inside(name, talk).strip()


def answered(address: str) -> str:
    """What this computer is answered at that address; empty when packets get no answer."""
    try:
        with socket.create_connection((address, PORT), timeout=1.5) as connection:
            connection.settimeout(5)
            return connection.makefile().read().strip()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[Cloud]:
    with ComputeApi(lab) as api:
        # Others' machines and rules are in this project too.
        others = {rule["name"] for rule in api.get("global/firewalls")["items"]}
        api.done("POST", "global/networks", {"name": "far", "autoCreateSubnetworks": False})
        subnet = {"name": "far", "network": "global/networks/far", "ipCidrRange": "10.9.0.0/24"}
        api.done("POST", f"{REGION}/subnetworks", subnet)
        # The next minute that is 10 s away or more.
        stop = datetime.now(UTC) + timedelta(seconds=70)
        schedule = {"timeZone": "UTC", "vmStopSchedule": {"schedule": f"{stop.minute} {stop.hour} * * *"}}
        api.done("POST", f"{REGION}/resourcePolicies", {"name": "stop", "instanceSchedulePolicy": schedule})
        spot = {"provisioningModel": "SPOT"}
        brief = {"maxRunDuration": {"seconds": "30"}, "instanceTerminationAction": "DELETE"}
        machines: dict[str, dict[str, Any]] = {
            "timed": {"resourcePolicies": [f"{REGION}/resourcePolicies/stop"]},
            "brief": {"scheduling": brief},
            "web": {"tags": {"items": ["web"]}, "networkInterfaces": [PUBLIC]},
            "plain": {},
            "far": {"networkInterfaces": [{"subnetwork": f"{REGION}/subnetworks/far", **PUBLIC}]},
            "spot": {"scheduling": spot},
        }
        made = Cloud(lab, api)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda item: api.insert(item[0], **item[1]), machines.items()))
            for name in ("web", "plain", "far"):
                booted(lab.places, name)
                made.inside(name, SERVE)
        yield made
        with ThreadPoolExecutor() as pool:
            left = [
                item["name"] for item in api.get("instances").get("items", []) if item["name"] in machines
            ]
            list(pool.map(lambda name: api.done("DELETE", f"instances/{name}"), left))
        for rule in api.get("global/firewalls")["items"]:
            if rule["name"] not in others:
                api.done("DELETE", f"global/firewalls/{rule['name']}")
        api.done("DELETE", f"{REGION}/resourcePolicies/stop")
        api.done("DELETE", f"{REGION}/subnetworks/far")
        api.done("DELETE", "global/networks/far")


def rule(name: str, action: str, **more: Any) -> dict[str, Any]:
    return {"name": name, action: [{"IPProtocol": "tcp", "ports": [str(PORT)]}], **more}


def test_rules_by_tag_and_priority_hold_for_packets(cloud: Cloud) -> None:
    address = cloud.external("web")
    assert answered(address) == ""  # a closed port of the default network
    cloud.api.done("POST", "global/firewalls", rule("open", "allowed", targetTags=["web"]))
    assert answered(address) == "web"
    cloud.api.done("POST", "global/firewalls", rule("shut", "denied", priority=900))
    assert answered(address) == ""
    cloud.api.done("PATCH", "global/firewalls/shut", {"name": "shut", "priority": 1100})
    assert answered(address) == "web"
    tags = cloud.machine("web")["tags"]
    cloud.api.done("POST", "instances/web/setTags", {"items": [], "fingerprint": tags["fingerprint"]})
    assert answered(address) == ""
    tags = cloud.machine("web")["tags"]
    cloud.api.done("POST", "instances/web/setTags", {"items": ["web"], "fingerprint": tags["fingerprint"]})
    assert answered(address) == "web"
    cloud.api.done("DELETE", "global/firewalls/shut")


def test_an_address_moves_from_one_machine_to_another(cloud: Cloud) -> None:
    cloud.api.done("POST", f"{REGION}/addresses", {"name": "ip"})
    static = cloud.api.get(f"{REGION}/addresses/ip")["address"]
    nic: dict[str, Any] = {"networkInterface": "nic0"}
    config = {"name": "External NAT", "type": "ONE_TO_ONE_NAT", "natIP": static}
    cloud.api.done("POST", "global/firewalls", rule("all", "allowed"))
    drop = ("POST", "instances/web/deleteAccessConfig")
    cloud.api.done(*drop, accessConfig="External NAT", **nic)
    cloud.api.done("POST", "instances/web/addAccessConfig", config, **nic)
    assert answered(static) == "web"
    assert "already in-use" in cloud.api.refused("POST", "instances/plain/addAccessConfig", config, **nic)
    cloud.api.done(*drop, accessConfig="External NAT", **nic)
    assert answered(static) == ""
    cloud.api.done("POST", "instances/plain/addAccessConfig", config, **nic)
    assert answered(static) == "plain"
    assert cloud.asks("web", static) == ""  # without an external address there is no way out to one
    cloud.api.done("POST", "instances/plain/deleteAccessConfig", accessConfig="External NAT", **nic)
    cloud.api.done("DELETE", f"{REGION}/addresses/ip")
    cloud.api.done("DELETE", "global/firewalls/all")


def test_machines_of_two_networks_do_not_reach_each_other(cloud: Cloud) -> None:
    web, far = cloud.internal("web"), cloud.internal("far")
    assert cloud.asks("plain", web) == "web"  # default-allow-internal
    everything = {"allowed": [{"IPProtocol": "all"}], "sourceRanges": ["0.0.0.0/0"]}
    for network in ("default", "far"):
        path = f"global/networks/{network}"
        cloud.api.done("POST", "global/firewalls", {"name": f"any-{network}", "network": path, **everything})
    assert cloud.asks("far", web) == ""
    assert cloud.asks("web", far) == ""
    assert answered(cloud.external("far")) == "far"  # from outside it is open
    assert "used by" in cloud.api.refused("DELETE", "global/networks/far")
    assert "used by" in cloud.api.refused("DELETE", f"{REGION}/subnetworks/far")


def test_a_preempted_machine_is_told_and_stops(cloud: Cloud) -> None:
    url = "http://metadata.google.internal/computeMetadata/v1/instance/preempted"
    ask = f"curl -sf -H Metadata-Flavor:Google '{url}"
    booted(cloud.lab.places, "spot")
    assert cloud.inside("spot", f"{ask}'") == "FALSE"
    # At a preemption the unit gets its stop signal as all others do; what it heard is on the disk by then.
    cloud.inside("spot", f'systemd-run --quiet sh -c "{ask}?wait_for_change=true\' > /root/told; sync"')
    until(lambda: cloud.inside("spot", "pgrep -c curl || true").strip() == "1", "the machine listens")
    cloud.api.done("POST", "instances/spot/simulateMaintenanceEvent")
    assert cloud.machine("spot")["status"] == "TERMINATED"
    kinds = [one["operationType"] for one in cloud.api.get("operations")["items"]]
    assert "compute.instances.preempted" in kinds
    cloud.api.done("POST", "instances/spot/start")
    booted(cloud.lab.places, "spot")
    assert cloud.inside("spot", "cat /root/told") == "TRUE"
    assert cloud.inside("spot", f"{ask}'") == "FALSE"


def test_time_limit_and_schedule_end_machines(cloud: Cloud) -> None:
    def names() -> list[str]:
        return [item["name"] for item in cloud.api.get("instances")["items"]]

    until(lambda: "brief" not in names(), "the machine that may run 30 s is deleted", 60)
    assert init_of(cloud.lab.places, "brief") is None
    until(lambda: cloud.machine("timed")["status"] == "TERMINATED", "the machine stops by its schedule", 100)
    assert init_of(cloud.lab.places, "timed") is None
    status = cloud.api.get(f"{REGION}/resourcePolicies/stop")["resourceStatus"]["instanceSchedulePolicy"]
    assert datetime.fromisoformat(status["lastRunStartTime"]).second == 0
