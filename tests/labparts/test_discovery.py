"""The judge of all traffic, judged: what fits passes, and every kind of deviation is named."""

from __future__ import annotations

import copy
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import discovery
from lab_fake import ISSUER, ZONE, Lab, asynced, instance
from lab_serving import serving
from rehost.lab.exchanges import Exchanges

Json = dict[str, Any]
INSTANCES = f"{ZONE}/instances"
OPERATION = {
    "kind": "compute#operation",
    "id": "1234567890123456789",
    "name": "operation-1",
    "status": "RUNNING",
    "progress": 0,
    "insertTime": "2026-11-23T03:00:00.000-08:00",
}
ERROR = {
    "error": {
        "code": 404,
        "message": "The resource 'x' was not found",
        "errors": [{"message": "The resource 'x' was not found", "domain": "global", "reason": "notFound"}],
    }
}


def exchange(**more: Any) -> Json:
    """An insert that went well."""
    return {
        "agent": "rehost", "verb": "POST", "path": INSTANCES, "query": {"requestId": "1"},
        "request": instance(), "status": 200, "answer": OPERATION, "wire": None, **more,
    }  # fmt: skip


def without(key: str) -> Json:
    body = instance()
    del body[key]
    return body


def wrong_error(change: Callable[[Json], object]) -> Json:
    body = copy.deepcopy(ERROR)
    change(body["error"])
    return exchange(status=404, answer=body)


def test_what_fits_passes() -> None:
    assert discovery.exchange_faults(exchange()) == []
    assert discovery.exchange_faults(exchange(status=404, answer=ERROR)) == []
    cut_off = exchange(status=502, answer={}, wire="reset")
    assert discovery.exchange_faults(cut_off) == []


DEVIATIONS: list[tuple[str, Json]] = [
    ("no method", exchange(path=f"{ZONE}/machines")),
    ("does not match", exchange(path="projects/lab-test/zones/West_1/instances")),
    ("no query parameter 'force'", exchange(query={"force": "true"})),
    ("is not one of", exchange(path=f"{INSTANCES}/a/stop", query={"alt": "csv"}, request=None)),
    ("a integer is needed", exchange(verb="GET", query={"maxResults": "ten"}, request=None)),
    ("is not within", exchange(verb="GET", query={"maxResults": "-1"}, request=None)),
    ("'deviceName' is required", exchange(path=f"{INSTANCES}/a/setDiskAutoDelete", query={}, request=None)),
    ("takes no body", exchange(path=f"{INSTANCES}/a/start", request={"force": True})),
    ("a body of Instance is needed", exchange(request="name=app")),
    ("field 'name' is required", exchange(request=without("name"))),
    ("does not match", exchange(request=instance("App"))),
    ("no field 'colour'", exchange(request=instance(colour="blue"))),
    ("only answers have this field", exchange(request=instance(status="RUNNING"))),
    ("a boolean is needed", exchange(request=instance(canIpForward="yes"))),
    ("a list is needed", exchange(request=instance(disks={}))),
    ("an object is needed", exchange(request=instance(labels=["a"]))),
    ("is not within", exchange(request=instance(disks=[{"index": 2**31}]))),
    ("written as digits", exchange(request=instance(disks=[{"diskSizeGb": "ten"}]))),
    ("is not base64", exchange(request=instance(labelFingerprint="?"))),
    ("written as digits", exchange(request=instance(scheduling={"maxRunDuration": {"seconds": "1e3"}}))),
    (
        "no moment",
        exchange(answer=OPERATION | {"getHealthOperationMetadata": {"healthInfo": {"updateTime": "now"}}}),
    ),
    ("no field 'state'", exchange(answer=OPERATION | {"state": "RUNNING"})),
    ("is not one of", exchange(answer=OPERATION | {"status": "SLEEPING"})),
    ("'compute#operation' is needed", exchange(answer=OPERATION | {"kind": "compute#op"})),
    ("is no uint64", exchange(answer=OPERATION | {"id": str(2**64)})),
    ("a string is needed", exchange(answer=OPERATION | {"id": 5})),
    ("without an error", exchange(status=500, answer={})),
    ("error.code is 403", wrong_error(lambda error: error.update(code=403))),
    ("error.errors is empty", wrong_error(lambda error: error.update(errors=[]))),
    ("'reason' is missing", wrong_error(lambda error: error["errors"][0].pop("reason"))),
    ("no field 'hint'", wrong_error(lambda error: error.update(hint="?"))),
    ("error.message", wrong_error(lambda error: error.pop("message"))),
    ("no type", wrong_error(lambda error: error.update(details=[{"reason": "x"}]))),
]


@pytest.mark.parametrize(("said", "deviating"), DEVIATIONS)
def test_a_deviation_is_caught(said: str, deviating: Json) -> None:
    lines = discovery.exchange_faults(deviating)
    assert any(said in line for line in lines), lines


def test_others_may_ask_what_is_refused() -> None:
    """A bad request is the client's fault: held against ours, not against a curl that got its 400."""
    refused = exchange(request=instance(colour="blue"), status=404, answer=ERROR)
    assert discovery.exchange_faults(refused | {"agent": "curl/8"}) == []
    assert discovery.exchange_faults(refused) != []
    carried_out = exchange(request=instance(colour="blue"), agent="curl/8")
    assert discovery.exchange_faults(carried_out) != []
    ignored = exchange(request=instance(status="RUNNING"), agent="google-cloud-sdk gcloud/528")
    assert discovery.exchange_faults(ignored) == []


def test_every_method_of_google_s_is_found_by_its_path() -> None:
    for family, described in discovery.document()["resources"].items():
        for name, method in described["methods"].items():
            path = re.sub(r"{\+?(\w+)}", r"a-\1", method["flatPath"])
            found = discovery.find(method["httpMethod"], path)
            assert found is not None
            assert found[0] == f"{family}.{name}"


@asynced
async def test_the_record_of_a_lab_shows_a_deviation(tmp_path: Path) -> None:
    """From the wire to the verdict: what the lab answers wrongly on purpose is found in its own record."""
    lab, record = Lab(tmp_path), tmp_path / "exchanges.jsonl"
    exchanges = Exchanges(record)
    async with (
        serving(lab, tmp_path, exchanges) as url,
        httpx.AsyncClient(
            base_url=f"{url}/compute/v1/", headers={"Authorization": f"Bearer {ISSUER.token()}"}
        ) as client,
    ):
        await lab.insert()
        for path in (f"{INSTANCES}/app", f"{INSTANCES}/none", f"{INSTANCES}/app?access_token=secret"):
            await client.get(path)
        lab.cloud.resources[f"{INSTANCES}/app"]["status"] = "SLEEPING"
        await client.get(f"{INSTANCES}/app")
        await client.post(INSTANCES, content=b"no json")
    exchanges.close()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    text = record.read_text()
    assert "secret" not in text
    assert "Bearer" not in text
    assert "ya29" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["status"] for line in lines] == [200, 404, 200, 200, 400]
    verdicts = [discovery.exchange_faults(line) for line in lines]
    assert [len(verdict) for verdict in verdicts] == [0, 0, 0, 1, 0]
    assert "Instance.status: 'SLEEPING' is not one of" in verdicts[3][0]


def test_no_record_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REHOST_LAB_EXCHANGES", raising=False)
    assert Exchanges.asked_for() is None
    monkeypatch.setenv("REHOST_LAB_EXCHANGES", str(tmp_path / "record"))
    asked = Exchanges.asked_for()
    assert asked is not None
    asked.close()
    assert (tmp_path / "record").exists()
