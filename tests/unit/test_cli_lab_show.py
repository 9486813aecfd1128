"""How `rehost lab status` looks, of a lab that is made up here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rehost.cli.lab_show import as_json, lines, not_up, size, span
from rehost.lab.control import LabInfo, Status

INFO = LabInfo(
    name="mine",
    api="http://127.0.0.1:40617/compute/v1/",
    project="lab-mine",
    gateway="10.80.0.1",
    database="mongodb://10.80.0.1:27017",
    image="stand-in image",
    since="2026-11-23T03:00:00.000+00:00",
    state=Path("/state/mine"),
)
NOW = datetime(2026, 11, 23, 3, 12, 30, tzinfo=UTC)
VM = {
    "name": "app",
    "zone": "us-west1-a",
    "status": "RUNNING",
    "machine_type": "e2-micro",
    "internal": "10.80.0.2",
    "external": None,
    "memory": 300 * 2**20,
}
FULL = Status(
    INFO,
    instances=(VM, VM | {"name": "longer-name", "status": "TERMINATED", "memory": 0}),
    addresses=(
        {"name": "ip", "region": "us-west1", "address": "10.80.0.100", "status": "IN_USE", "users": ["app"]},
    ),
    disks=(
        {"name": "app", "zone": "us-west1-a", "size_gb": 10, "type": "pd-standard", "users": ["app"]},
        {"name": "data", "zone": "us-west1-a", "size_gb": 50, "type": "pd-ssd", "users": []},
    ),
    operations=(
        {"at": "2026-11-23T03:10:00.000+00:00", "type": "start", "target": "instances/app", "status": "RUNNING",
         "seconds": None, "error": None},
        {"at": "2026-11-23T03:09:00.000+00:00", "type": "insert", "target": "instances/app", "status": "DONE",
         "seconds": 1.25, "error": "QUOTA_EXCEEDED: no more"},
    ),
    faults=({"method": "zones.get", "text": "zones.get: the next 2 calls answer 503"},),
    memory=2**30,
    disk=3 * 2**29,
)  # fmt: skip


def test_everything_is_told() -> None:
    shown = lines(INFO, FULL, NOW)
    text = "\n".join(shown)
    assert shown[0] == "lab        mine, project lab-mine, up 12 min"
    assert 'eval "$(rehost lab env --name mine)"' in text
    assert "memory 1.0 GB, disk 1.5 GB in /state/mine" in text
    assert "  app          us-west1-a  e2-micro  RUNNING     10.80.0.2  -  300 MB" in shown
    assert "  longer-name  us-west1-a  e2-micro  TERMINATED  10.80.0.2  -  -" in shown
    assert "  ip  us-west1  10.80.0.100  in use by app" in shown
    assert "  data  us-west1-a  pd-ssd  50 GB  READY" in shown
    assert not any("pd-standard" in line for line in shown)  # a machine's own boot disk
    ends = [line.partition("instances/app")[2].strip() for line in shown if "instances/app" in line]
    assert ends == ["RUNNING", "failed in 1.2 s: QUOTA_EXCEEDED"]
    assert shown[-2:] == ["faults in force", "  zones.get: the next 2 calls answer 503"]


def test_an_empty_lab_is_short() -> None:
    shown = lines(INFO, Status(INFO), NOW)
    assert shown[-1] == "machines: none"
    assert not any(line.startswith(("addresses", "disks", "last", "faults")) for line in shown)


def test_json_is_whole() -> None:
    told = json.loads(json.dumps(as_json(INFO, FULL)))
    assert told["instances"][0] == VM
    assert len(told["disks"]) == 2
    assert {"api", "project", "database", "since", "memory", "disk", "operations", "faults"} <= set(told)


def test_what_a_dead_lab_left_is_counted() -> None:
    assert not_up("mine", ()) == ["The lab mine is not up."]
    shown = not_up("mine", ("process 1: sh", "process 2: sh", "nft table inet x"))
    assert "3 things" in shown[0]
    assert shown[1].startswith("  process 2, nft 1 ")
    assert "rehost lab down --name mine" in shown[2]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MB"), (98 * 2**20, "98 MB"), (999 * 2**20, "999 MB"), (3 * 2**29, "1.5 GB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4 s"), (59, "59 s"), (61, "1 min"), (11100, "3 h 5 min")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
