"""Faults on order, and the wire: real sockets, google-auth's own token exchange."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import httpx
import pytest
import requests
from google.oauth2 import service_account

from lab_fake import GLOBAL, ISSUER, ZONE, Lab, asynced, instance
from lab_serving import serving
from rehost.lab.fault_kinds import OF_CALLS
from rehost.lab.faults import Faults
from rehost.lab.server import write_private
from rehost.lab.tokens import GRANT, Issuer, TokenError
from rehost.run.errors import UsageError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# -- orders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("accessNotConfigured", 403, "accessNotConfigured"),
        ("billing", 403, "forbidden"),
        ("rateLimitExceeded", 403, "rateLimitExceeded"),
        ("401", 401, "authError"),
        ("404", 404, "notFound"),
        ("409", 409, "alreadyExists"),
        ("412", 412, "conditionNotMet"),
        ("429", 429, "rateLimitExceeded"),
        ("500", 500, "backendError"),
        ("503", 503, "backendError"),
    ],
)
@asynced
async def test_a_fault_is_answered_as_often_as_ordered(lab: Lab, fault: str, code: int, reason: str) -> None:
    lab.api.faults.order("zones.*", fault, times=2)
    for _ in range(2):
        error = await lab.refused("GET", ZONE)
        assert (error["code"], error["errors"][0]["reason"]) == (code, reason)
    await lab.get(ZONE)
    await lab.get("projects/lab-test")


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("stockout", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", 503),
        ("quota", "QUOTA_EXCEEDED", 403),
        ("operation-409", "RESOURCE_ALREADY_EXISTS", 409),
        ("operation-412", "CONDITION_NOT_MET", 412),
    ],
)
@asynced
async def test_a_fault_in_the_operation_leaves_nothing(lab: Lab, fault: str, code: str, status: int) -> None:
    lab.api.faults.order("instances.insert", fault)
    operation = await lab.ended("POST", f"{ZONE}/instances", instance())
    assert operation["error"]["errors"][0]["code"] == code
    assert operation["httpErrorStatusCode"] == status
    assert (await lab.refused("GET", f"{ZONE}/instances/app"))["code"] == 404
    assert lab.machines.specs == {}
    await lab.insert()


@pytest.mark.parametrize(
    ("method", "fault", "times"),
    [
        ("instances.insert", "flood", 1),
        ("instance.insert", "500", 1),
        ("zones.get", "stockout", 1),
        ("*", "500", 0),
    ],
)
def test_an_order_that_cannot_be_served_is_refused(method: str, fault: str, times: int) -> None:
    with pytest.raises(UsageError):
        Faults().order(method, fault, times)


def test_every_fault_can_be_ordered() -> None:
    faults = Faults()
    for fault in OF_CALLS:
        faults.order("instances.insert", fault)
    taken = [faults.take("instances.insert") for _ in OF_CALLS]
    assert [order.fault for order in taken if order] == list(OF_CALLS)
    assert faults.take("instances.insert") is None


@pytest.mark.parametrize(
    ("method", "fault", "said"),
    [
        ("instances.insert", "stockot", "stockout"),
        ("instances.inser", "stockout", "instances.insert"),
        ("instances.insert", "disk-full", "machine NAME disk-full"),
        ("zones.get", "stockout", "instances.insert"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(method: str, fault: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Faults().order(method, fault)
    assert said in refused.value.cure


@asynced
async def test_an_operation_that_never_ends_ends_when_it_is_let_go(lab: Lab) -> None:
    lab.api.faults.order("firewalls.insert", "endless")
    body = {"name": "web", "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}]}
    operation = (await lab.call("POST", f"{GLOBAL}/firewalls", body)).body
    path = f"{GLOBAL}/operations/{operation['name']}"
    end = asyncio.get_running_loop().time() + 5
    while (seen := await lab.get(path))["status"] != "RUNNING":
        assert asyncio.get_running_loop().time() < end, seen
        await asyncio.sleep(0)
    assert [one["text"] for one in lab.api.faults.listed()] == [
        "an operation of firewalls.insert is held: endless"
    ]
    # What is done to something else, or to the same thing, is not held.
    await lab.done("POST", f"{GLOBAL}/firewalls", {**body, "name": "other"})
    assert (await lab.get(path))["status"] == "RUNNING"
    assert lab.api.faults.clear("firewalls.insert") == 1
    assert (await lab.call("POST", f"{path}/wait")).body["status"] == "DONE"
    assert (await lab.get(f"{GLOBAL}/firewalls/web"))["name"] == "web"


@asynced
async def test_a_slow_operation_is_done_later(lab: Lab) -> None:
    lab.api.faults.order("firewalls.insert", "slow", seconds=0.05)
    body = {"name": "web", "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}]}
    await lab.done("POST", f"{GLOBAL}/firewalls", body)
    assert lab.api.faults.listed() == []


# -- tokens ------------------------------------------------------------------------------------------------


def _assertion(issuer: Issuer, **claims: Any) -> str:
    info = issuer.service_account("http://127.0.0.1/token")
    credentials: Any = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        info, scopes=["x"], additional_claims=claims
    )
    made = credentials._make_authorization_grant_assertion()
    return made.decode() if isinstance(made, bytes) else str(made)


def test_a_signed_assertion_earns_a_token() -> None:
    form = {"grant_type": GRANT, "assertion": _assertion(ISSUER)}
    earned = ISSUER.exchange(form, "http://127.0.0.1/token")
    assert ISSUER.valid(earned["access_token"])
    assert earned["expires_in"] > 3000


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": GRANT}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": "a.b.c"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(ISSUER)[:-6] + "AAAAAA"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(ISSUER, exp=1)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(ISSUER, iss="someone@else")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(ISSUER, aud="https://other")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _assertion(ISSUER, scope="")}, "invalid_scope"),
    ],
)
def test_other_forms_earn_none(form: dict[str, str], error: str) -> None:
    with pytest.raises(TokenError) as refused:
        ISSUER.exchange(form, "http://127.0.0.1/token")
    assert refused.value.error == error


def test_another_key_earns_none() -> None:
    form = {"grant_type": GRANT, "assertion": _assertion(Issuer("lab-test"))}
    with pytest.raises(TokenError, match="Invalid JWT Signature"):
        ISSUER.exchange(form, "http://127.0.0.1/token")


# -- the wire ----------------------------------------------------------------------------------------------


def _client(url: str, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=5)


@asynced
async def test_google_auth_gets_a_token_and_is_let_in(lab: Lab, tmp_path: Path) -> None:
    async with serving(lab, tmp_path) as url:
        info = ISSUER.service_account(f"{url}/token")
        credentials: Any = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            info, scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        with requests.Session() as session:
            request = google.auth.transport.requests.Request(session)
            await asyncio.to_thread(credentials.refresh, request)
        async with _client(url, credentials.token) as client:
            assert (await client.get("/compute/v1/projects/lab-test")).json()["name"] == "lab-test"
            billing = await client.get("/v1/projects/lab-test/billingInfo")
            assert billing.json()["billingEnabled"] is True
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/compute/v1/projects/lab-test")).status_code == 401
            assert (await client.get("/v1/projects/lab-test/billingInfo")).status_code == 401
            assert (await client.get("/lab/v1/control")).status_code == 403
            refused = await client.post("/token", data={"grant_type": "x"})
            assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize("fault", ["reset", "lost", "truncated"])
@asynced
async def test_a_broken_connection(lab: Lab, tmp_path: Path, fault: str) -> None:
    body = {"name": "web", "allowed": [{"IPProtocol": "tcp"}]}
    async with serving(lab, tmp_path) as url, _client(url, ISSUER.token()) as client:
        lab.api.faults.order("firewalls.insert", fault)
        with pytest.raises(httpx.TransportError):
            await client.post(f"/compute/v1/{GLOBAL}/firewalls", json=body)
        after = await client.get(f"/compute/v1/{GLOBAL}/firewalls/web")
        # "reset" breaks before anything is done, the others after: a client must cope with both.
        assert after.status_code == (404 if fault == "reset" else 200)


@asynced
async def test_a_call_that_hangs_and_a_page_of_html(lab: Lab, tmp_path: Path) -> None:
    async with serving(lab, tmp_path) as url, _client(url, ISSUER.token()) as client:
        lab.api.faults.order("zones.get", "hang")
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"/compute/v1/{ZONE}", timeout=0.2)
        lab.api.faults.order("zones.get", "502")
        answer = await client.get(f"/compute/v1/{ZONE}")
        assert answer.status_code == 502
        assert "<title>" in answer.text
        assert (await client.get(f"/compute/v1/{ZONE}")).status_code == 200


@asynced
async def test_faults_are_ordered_over_the_control_path(lab: Lab, tmp_path: Path) -> None:
    async with serving(lab, tmp_path) as url, _client(url, "control") as client:
        order = {"method": "zones.get", "fault": "500", "times": 3}
        (standing,) = (await client.post("/lab/v1/control", json=order)).json()["faults"]
        assert standing == {**order, "text": "the next 3 calls of zones.get: 500"}
        refused = await client.post("/lab/v1/control", json=order | {"fault": "flood"})
        assert refused.status_code == 400
        assert "--list" in refused.json()["cure"]
        refused = await client.post("/lab/v1/control", json={"machine": "app", "fault": "disk-full"})
        assert refused.status_code == 400
        taken_back = (await client.request("DELETE", "/lab/v1/control", json={"method": "zones.get"})).json()
        assert (taken_back["faults"], taken_back["cleared"]) == ([], 1)


@asynced
async def test_the_log_holds_no_secret(lab: Lab, tmp_path: Path) -> None:
    token = ISSUER.token()
    async with serving(lab, tmp_path) as url, _client(url, token) as client:
        metadata = {"items": [{"key": "startup-script", "value": "hush-hush"}]}
        await client.post(
            f"/compute/v1/{ZONE}/instances",
            json=instance(metadata=metadata),
            params={"access_token": "hush-hush"},
        )
        await client.get("/lab/v1/control")
    lines = (tmp_path / "api.log").read_text().splitlines()
    assert [line.split()[1:4] for line in lines] == [
        ["POST", f"/compute/v1/{ZONE}/instances", "200"],
        ["GET", "/lab/v1/control", "403"],
    ]
    assert not any(secret in line for line in lines for secret in ("hush-hush", token))


def test_private_files_are_private(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    write_private(file, json.dumps(ISSUER.service_account("http://127.0.0.1/token")))
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]
