"""`rehost check` in the cloud: what is found, with its cure, against a small cloud in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from cloud_fake import REGION, ROOT, ZONE, FakeCloud, desired, error
from rehost.cloud.check import check, free_tier, price
from rehost.cloud.host import HostDesired
from rehost.cloud.host import reach as host_reach
from rehost.cloud.model import Reach
from rehost.run.findings import Finding


def _check(cloud: FakeCloud, **changes: Any) -> list[Finding]:
    async def run() -> list[Finding]:
        async with cloud.client() as client:
            return await check(client, desired(**changes))

    return asyncio.run(run())


def _not_ok(findings: list[Finding]) -> list[tuple[str, str]]:
    return [
        (finding.severity, f"{finding.what} {finding.cure}")
        for finding in findings
        if finding.severity != "ok"
    ]


def test_all_is_well() -> None:
    cloud = FakeCloud()
    findings = _check(cloud)
    assert _not_ok(findings) == []
    assert [finding.what for finding in findings] == [
        "credentials: the access token in CLOUDSDK_AUTH_ACCESS_TOKEN",
        "the project my-project is there and has the Compute Engine API",
        "billing is enabled for my-project",
        "the zone us-west1-a exists",
        "e2-micro is sold there: 2 vCPU, 1024 MB of memory",
        "quota CPUS in us-west1: 0 of 8 used, 2 needed",
        "image debian-12-bookworm-v20261110",
        "free tier: one e2-micro in us-west1 and its disk cost nothing",
    ]
    assert cloud.changes() == []


def _answers(path_end: str, response: httpx.Response) -> Any:
    return lambda _method, path: response if path.endswith(path_end) else None


FAULTS: list[tuple[str, httpx.Response, str, str]] = [
    (ROOT, error(404, "notFound", "The resource 'projects/my-project' was not found"), "error", "no project"),
    (
        ROOT,
        error(403, "accessNotConfigured", "Compute Engine API has not been used in project 1 before."),
        "error",
        "some minutes",
    ),
    (
        "billingInfo",
        error(403, "forbidden", "The caller does not have permission"),
        "warning",
        "may not see it",
    ),
    (
        "billingInfo",
        error(403, "accessNotConfigured", "Cloud Billing API has not been used in project 1 before."),
        "warning",
        "could not be looked up",
    ),
    ("billingInfo", httpx.Response(200, json={"billingEnabled": False}), "error", "linkedaccount"),
    ("family/debian-12", error(404, "notFound", "The resource was not found"), "error", "no image family"),
    (
        "/firewalls",
        error(403, "forbidden", "Required 'compute.firewalls.list' permission for 'projects/my-project'"),
        "error",
        "compute.firewalls.list",
    ),
]


@pytest.mark.parametrize(("path_end", "response", "severity", "said"), FAULTS)
def test_each_fault_is_one_finding(path_end: str, response: httpx.Response, severity: str, said: str) -> None:
    cloud = FakeCloud()
    cloud.fault = _answers(path_end, response)
    ((found, text),) = _not_ok(_check(cloud))
    assert found == severity
    assert said in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zone": "us-west1-q"}, "Did you mean us-west1-"),
        ({"machine_type": "e2-mirco"}, "Did you mean e2-micro"),
        ({"image": "debian-99"}, "no image family 'debian-99'"),
    ],
)
def test_wrong_names(changes: dict[str, Any], said: str) -> None:
    (severity, text), *_ = _not_ok(_check(FakeCloud(), **changes))
    assert severity == "error"
    assert said in text


def test_a_quota_that_is_used_up_matters_only_before_the_machine_stands() -> None:
    cloud = FakeCloud()
    quotas = [
        {"metric": "CPUS", "usage": 7.0, "limit": 8.0},
        {"metric": "IN_USE_ADDRESSES", "usage": 4.0, "limit": 8.0},
        {"metric": "STATIC_ADDRESSES", "usage": 8.0, "limit": 8.0},
    ]
    cloud.resources[f"{ROOT}/regions/{REGION}"]["quotas"] = quotas
    assert [text.split(",")[0] for _, text in _not_ok(_check(cloud))] == [
        "quota CPUS in us-west1: 7 of 8 used",
        "quota STATIC_ADDRESSES in us-west1: 8 of 8 used",
    ]
    cloud.put(f"{ROOT}/zones/{ZONE}/instances/content-api", status="RUNNING")
    assert _not_ok(_check(cloud)) == []


def test_the_default_networks_rules_are_named_and_left_alone() -> None:
    cloud = FakeCloud()
    for name, port in (("default-allow-ssh", "22"), ("default-allow-rdp", "3389")):
        cloud.put(
            f"{ROOT}/global/firewalls/{name}",
            network=f"{ROOT}/global/networks/default",
            direction="INGRESS",
            priority=65534,
            allowed=[{"IPProtocol": "tcp", "ports": [port]}],
            sourceRanges=["0.0.0.0/0"],
        )
    assert ["default-allow-rdp" in text for _, text in _not_ok(_check(cloud))] == [True]
    narrow = _not_ok(_check(cloud, ssh_sources=("198.51.100.0/24",)))
    assert ["not only 198.51.100.0/24" in text for _, text in narrow] == [True, False]
    assert cloud.changes() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zone": "asia-northeast3-a"}, "About 12.53 USD a month: machine 7.84, disk 1.04, address 3.65"),
        ({"zone": "us-central1-a", "machine_type": "e2-small"}, "the type is e2-small, not e2-micro"),
        ({"zone": "us-central1-a", "disk_gb": 40}, "free are 30. About 11.36 USD"),
        ({"disk_type": "pd-ssd"}, "Prices: https://cloud.google.com/"),
    ],
)
def test_what_is_not_free_says_its_price(changes: dict[str, Any], said: str) -> None:
    found = free_tier(desired(**changes))
    assert found.severity == "warning"
    assert said in found.what


def test_prices_carry_their_date() -> None:
    assert "list prices of 2026-08-20" in price(desired(zone="us-central1-a"))


def test_a_finding_as_json() -> None:
    assert Finding("ok", "fine").as_json() == {"severity": "ok", "what": "fine"}
    assert Finding("error", "broken", "mend it", "x.toml").as_json()["cure"] == "mend it"


def test_a_host_that_stands_is_only_reached() -> None:
    assert host_reach(HostDesired("203.0.113.9", "ada", 2222)) == Reach("203.0.113.9", "ada", (), "", 2222)
