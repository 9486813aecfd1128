"""Networks, subnetworks and moved addresses of the lab's API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from lab_fake import GLOBAL, REGION, ZONE, Lab, asynced, instance
from lab_serving import serving
from rehost.lab.hardware import PacketRule

APP, OTHER = f"{ZONE}/instances/app", f"{ZONE}/instances/other"
NETWORKS, SUBNETS = f"{GLOBAL}/networks", f"{REGION}/subnetworks"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def private(lab: Lab) -> None:
    """A network "private" with a subnetwork of the same name."""
    await lab.done("POST", NETWORKS, {"name": "private", "autoCreateSubnetworks": False})
    subnet = {"name": "private", "network": f"{NETWORKS}/private", "ipCidrRange": "10.1.0.0/24"}
    await lab.done("POST", SUBNETS, subnet)


@asynced
async def test_a_network_of_ones_own(lab: Lab) -> None:
    await private(lab)
    network = await lab.get(f"{NETWORKS}/private")
    assert [link.rsplit("/", 1)[1] for link in network["subnetworks"]] == ["private"]
    subnet = await lab.get(f"{SUBNETS}/private")
    assert (subnet["ipCidrRange"], subnet["gatewayAddress"]) == ("10.1.0.0/24", "10.1.0.1")
    listed = await lab.get("projects/lab-test/aggregated/subnetworks", filter="name=private")
    assert [one["name"] for one in listed["items"]["regions/us-west1"]["subnetworks"]] == ["private"]
    nic = {"subnetwork": f"{SUBNETS}/private"}
    made = await lab.insert(networkInterfaces=[nic])
    assert made["networkInterfaces"][0]["network"].endswith("/global/networks/private")
    assert lab.machines.specs["app"].network == "private"
    for path in (f"{NETWORKS}/private", f"{SUBNETS}/private"):
        error = await lab.refused("DELETE", path)
        assert error["errors"][0]["reason"] == "resourceInUseByAnotherResource"
        assert error["message"].endswith(f"is already being used by '{APP}'")
    await lab.done("DELETE", APP)
    error = await lab.refused("DELETE", f"{NETWORKS}/private")
    assert f"used by '{SUBNETS}/private'" in error["message"]
    await lab.done("DELETE", f"{SUBNETS}/private")
    await lab.done("DELETE", f"{NETWORKS}/private")
    assert [one["name"] for one in (await lab.get(NETWORKS))["items"]] == ["default"]


@asynced
async def test_an_automatic_network_has_a_subnetwork_in_every_region(lab: Lab) -> None:
    await lab.done("POST", NETWORKS, {"name": "auto", "autoCreateSubnetworks": True})
    assert len((await lab.get(f"{NETWORKS}/auto"))["subnetworks"]) == 12
    made = await lab.insert(networkInterfaces=[{"network": "global/networks/auto"}])
    assert made["networkInterfaces"][0]["subnetwork"].endswith("/us-west1/subnetworks/auto")
    assert "Cannot delete auto subnetwork" in (await lab.refused("DELETE", f"{SUBNETS}/auto"))["message"]
    await lab.done("DELETE", APP)
    await lab.done("DELETE", f"{NETWORKS}/auto")
    assert [one["name"] for one in (await lab.get(SUBNETS))["items"]] == ["default"]


@asynced
async def test_firewall_rules_hold_in_their_own_network(lab: Lab) -> None:
    await private(lab)
    await lab.insert()
    await lab.insert("other", networkInterfaces=[{"subnetwork": f"{SUBNETS}/private"}])
    assert lab.machines.rules["other"] == []  # a new network lets nothing in
    rule = {"name": "inside", "network": f"{NETWORKS}/private", "allowed": [{"IPProtocol": "all"}]}
    await lab.done("POST", f"{GLOBAL}/firewalls", rule | {"sourceRanges": ["10.0.0.0/8"]})
    assert lab.machines.rules["other"] == [PacketRule("allow", "all", (), ("10.70.1.3/32",))]
    assert len(lab.machines.rules["app"]) == 6
    error = await lab.refused("DELETE", f"{NETWORKS}/private")
    assert f"used by '{OTHER}'" in error["message"]
    await lab.done("DELETE", OTHER)
    assert "/firewalls/inside'" in (await lab.refused("DELETE", f"{NETWORKS}/private"))["message"]
    error = await lab.refused(
        "POST", f"{GLOBAL}/firewalls", rule | {"name": "b", "network": "global/networks/no"}
    )
    assert (error["code"], error["message"]) == (404, f"The resource '{NETWORKS}/no' was not found")


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (NETWORKS, {"name": "n"}, "Required field 'resource.autoCreateSubnetworks'"),
        (NETWORKS, {"name": "private", "autoCreateSubnetworks": True}, "already exists"),
        (NETWORKS, {"name": "n", "autoCreateSubnetworks": True, "mtu": 100}, "between 1300 and 8896"),
        (SUBNETS, {"name": "s", "ipCidrRange": "10.2.0.0/24"}, "Required field 'resource.network'"),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/private"},
            "Required field 'resource.ipCidrRange'",
        ),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/no", "ipCidrRange": "10.2.0.0/24"},
            "cannot be found",
        ),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/default", "ipCidrRange": "10.2.0.0/24"},
            "auto subnet",
        ),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/private", "ipCidrRange": "10.2.0.1/24"},
            "canonical",
        ),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/private", "ipCidrRange": "10.2.0.0/30"},
            "4 and 29",
        ),
        (
            SUBNETS,
            {"name": "s", "network": "global/networks/private", "ipCidrRange": "10.1.0.128/25"},
            "Invalid IPCidrRange: 10.1.0.128/25 conflicts with existing subnetwork 'private' in region 'us-west1'.",
        ),
    ],
)
@asynced
async def test_networks_that_are_refused(lab: Lab, path: str, body: dict[str, Any], said: str) -> None:
    await private(lab)
    assert said in (await lab.refused("POST", path, body))["message"]


@pytest.mark.parametrize(
    ("nic", "said"),
    [
        (
            {"network": "global/networks/private"},
            "Subnetwork should be specified for custom subnetmode network",
        ),
        ({"network": "global/networks/none"}, "The referenced network resource cannot be found."),
        ({"subnetwork": f"{SUBNETS}/none"}, "The referenced subnetwork resource cannot be found."),
        ({"subnetwork": "regions/us-east1/subnetworks/default"}, "must be in the region 'us-west1'"),
        ({"network": "global/networks/default", "subnetwork": f"{SUBNETS}/private"}, "is not in the network"),
    ],
)
@asynced
async def test_interfaces_that_are_refused(lab: Lab, nic: dict[str, Any], said: str) -> None:
    await private(lab)
    error = await lab.refused("POST", f"{ZONE}/instances", instance(networkInterfaces=[nic]))
    assert (error["code"], said in error["message"]) == (400, True)


@asynced
async def test_networks_have_a_quota(lab: Lab) -> None:
    for number in range(4):
        await lab.done("POST", NETWORKS, {"name": f"n{number}", "autoCreateSubnetworks": False})
    error = await lab.refused("POST", NETWORKS, {"name": "n4", "autoCreateSubnetworks": False})
    assert (error["code"], error["message"]) == (403, "Quota 'NETWORKS' exceeded.  Limit: 5.0 globally.")
    quotas = {one["metric"]: one["usage"] for one in (await lab.get("projects/lab-test"))["quotas"]}
    assert quotas["NETWORKS"] == 5.0


@asynced
async def test_an_address_moves_from_one_machine_to_another(lab: Lab) -> None:
    await lab.done("POST", f"{REGION}/addresses", {"name": "ip"})
    static = (await lab.get(f"{REGION}/addresses/ip"))["address"]
    config = {"name": "External NAT", "type": "ONE_TO_ONE_NAT", "natIP": static}
    await lab.insert(networkInterfaces=[{"accessConfigs": [config]}])
    await lab.insert("other", networkInterfaces=[{"network": "global/networks/default"}])
    nic = {"networkInterface": "nic0"}
    error = await lab.refused("POST", f"{OTHER}/addAccessConfig", config, **nic)
    assert error["errors"][0]["reason"] == "externalIpAddressInUse"
    error = await lab.refused("POST", f"{APP}/addAccessConfig", config, **nic)
    assert "At most one access config" in error["message"]
    error = await lab.refused("POST", f"{APP}/deleteAccessConfig", accessConfig="no", **nic)
    assert "does not exist" in error["message"]
    error = await lab.refused("POST", f"{APP}/updateAccessConfig", config | {"natIP": "10.70.1.200"}, **nic)
    assert "cannot be updated" in error["message"]
    await lab.done("POST", f"{APP}/updateAccessConfig", config, **nic)
    await lab.done("POST", f"{APP}/deleteAccessConfig", accessConfig="External NAT", **nic)
    assert lab.machines.external["app"] is None
    assert (await lab.get(f"{REGION}/addresses/ip"))["status"] == "RESERVED"
    await lab.done("POST", f"{OTHER}/addAccessConfig", config, **nic)
    assert lab.machines.external["other"] == static
    assert (await lab.get(f"{REGION}/addresses/ip"))["users"][0].endswith("/other")


@asynced
async def test_addresses_are_of_their_region(lab: Lab) -> None:
    far = REGION.replace("us-west1", "us-east1")
    await lab.done("POST", f"{far}/addresses", {"name": "ip"})
    static = (await lab.get(f"{far}/addresses/ip"))["address"]
    nic = {"accessConfigs": [{"natIP": static}]}
    error = await lab.refused("POST", f"{ZONE}/instances", instance(networkInterfaces=[nic]))
    assert f"'{static}' was not found in region 'us-west1'." in error["message"]
    made = await lab.insert()
    own = made["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    error = await lab.refused("POST", f"{far}/addresses", {"name": "kept", "address": own})
    assert "not in use here" in error["message"]
    await lab.done("POST", f"{REGION}/addresses", {"name": "kept", "address": own})
    await lab.done("POST", f"{APP}/stop")
    kept = (await lab.get(APP))["networkInterfaces"][0]["accessConfigs"][0]
    assert kept["natIP"] == own  # static now


@asynced
async def test_operations_are_listed_everywhere_and_deleted(lab: Lab) -> None:
    await lab.insert()
    await lab.done("POST", f"{REGION}/addresses", {"name": "ip"})
    await private(lab)
    found = (await lab.get("projects/lab-test/aggregated/operations"))["items"]
    assert [
        len(found[scope].get("operations", ())) for scope in ("zones/us-west1-a", "regions/us-west1")
    ] == [1, 2]
    [operation] = found["zones/us-west1-a"]["operations"]
    path = f"{ZONE}/operations/{operation['name']}"
    answer = await lab.call("DELETE", path)
    assert (answer.status, answer.body) == (204, {})
    assert (await lab.refused("GET", path))["code"] == 404
    newest = await lab.get(f"{REGION}/operations", orderBy="creationTimestamp desc", maxResults="1")
    assert newest["items"][0]["targetLink"].endswith("/subnetworks/private")
    assert "nextPageToken" in newest


@asynced
async def test_a_deleted_operation_is_answered_without_a_body(lab: Lab, tmp_path: Path) -> None:
    made = await lab.done("POST", f"{REGION}/addresses", {"name": "ip"})
    path = f"compute/v1/{REGION}/operations/{made['name']}"
    async with serving(lab, tmp_path) as url, httpx.AsyncClient(trust_env=False) as client:
        headers = {"Authorization": f"Bearer {lab.bearer}"}
        answer = await client.delete(f"{url}/{path}", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        again = await client.delete(f"{url}/{path}", headers=headers)
        assert again.status_code == 404
