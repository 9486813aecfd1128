"""What the command line asks of a lab, without booting one: the record, the lock, faults over the control path."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab_fake import GLOBAL, REGION, Lab, asynced
from lab_serving import serving
from rehost.lab import clean, control, needs, trees
from rehost.lab.needs import Need
from rehost.lab.places import Places
from rehost.lab.report import LAST, report
from rehost.run.errors import RehostError, UsageError

ALL = [{"IPProtocol": "tcp"}]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@contextmanager
def server_lives(places: Places, port: int) -> Iterator[None]:
    """What the server process leaves for others to see."""
    record = {
        "pid": 1,
        "port": port,
        "control_token": "control",
        "project": "lab-test",
        "gateway": places.gateway,
        "database": "mongodb://10.0.0.1:27017",
        "image": "stand-in image",
        "since": "2026-11-23T03:00:00.000+00:00",
    }
    (places.state / control.RECORD).write_text(json.dumps(record))
    with (places.state / control.LOCK).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_a_lab_that_is_not_there() -> None:
    assert control.status("none") == control.Status(None)
    assert control.down("none") is False
    for ask in (control.environment, control.clear_faults):
        with pytest.raises(RehostError) as refused:
            ask("none")
        assert refused.value.cure == "Type `rehost lab up --name none`."


def test_a_wrong_name_tells_which_labs_are_up() -> None:
    with server_lives(Places.claim("mine"), 1), server_lives(Places.claim("yours"), 1):
        Places.claim("dead")
        assert control.names_up() == ["mine", "yours"]
        with pytest.raises(RehostError) as refused:
            control.environment("my")
    assert "mine, yours" in refused.value.cure


def test_a_computer_that_lacks_something_is_left_as_it_is(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        needs, "missing", lambda: [Need("packages: lxcfs", "sudo apt-get install --yes lxcfs")]
    )
    with pytest.raises(RehostError) as refused:
        control.up("mine")
    assert "packages: lxcfs" in refused.value.what
    assert "sudo apt-get install --yes lxcfs" in refused.value.cure
    assert not Places.of("mine").claimed
    assert not (state / "cache").exists()


def test_two_commands_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with control._locked(Places.of("mine")), pytest.raises(RehostError, match="another command"):
        control.up("mine")


def test_a_server_that_dies_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are shown, and nothing of it is left."""
    monkeypatch.setattr(needs, "missing", list)
    monkeypatch.setattr(trees, "prepare", lambda _: None)
    monkeypatch.setattr(clean, "leftovers", lambda _: [])
    swept: list[str] = []
    monkeypatch.setattr(clean, "sweep", lambda places: swept.append(places.name))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RehostError, match="ended while it was starting"):
        control.up("mine")
    assert swept == ["mine"]


def test_a_record_without_a_server_is_a_dead_lab() -> None:
    places = Places.claim("mine")
    with server_lives(places, 1):
        assert control.running(places)
        assert control.up("mine").fresh is False  # up already: nothing is done
    assert not control.running(places)
    assert control.status("mine").info is None
    assert f"directory {places.state}" in control.status("mine").leftovers


@asynced
async def test_a_lab_that_is_up(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    places = Places.claim("mine")
    async with serving(lab, tmp_path) as url:
        with server_lives(places, int(url.rsplit(":", 1)[1])):
            values = control.environment("mine")
            assert values["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"] == f"{url}/compute/v1/"
            assert values["CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"] == f"{url}/"
            assert values["CLOUDSDK_CORE_PROJECT"] == "lab-test"
            await lab.insert()
            found = await asyncio.to_thread(control.status, "mine")
            assert found.info is not None
            assert found.info.project == "lab-test"
            assert [(one["name"], one["status"]) for one in found.instances] == [("app", "RUNNING")]
            order = {"method": "instances.insert", "fault": "stockout", "times": 2}
            standing = await asyncio.to_thread(lambda: control.order_fault("mine", **order))
            assert [one.items() >= order.items() for one in standing] == [True]
            with pytest.raises(UsageError, match="flood"):
                await asyncio.to_thread(lambda: control.order_fault("mine", **order | {"fault": "flood"}))
            assert (await asyncio.to_thread(control.status, "mine")).faults == standing
            assert await asyncio.to_thread(control.clear_faults, "mine") == 1
            assert (await asyncio.to_thread(control.status, "mine")).faults == ()


@asynced
async def test_the_report_of_a_lab(tmp_path: Path) -> None:
    """What `rehost lab status` asks of the server: resources by name, the last operations with their end."""
    lab = Lab(tmp_path)
    lab.api.faults.order("firewalls.insert", "quota")
    await lab.insert()
    await lab.ended("POST", f"{GLOBAL}/firewalls", {"name": "web", "allowed": ALL})
    await lab.done("POST", f"{REGION}/addresses", {"name": "spare"})
    told = report(lab.cloud)
    assert [(one["name"], one["machine_type"], one["status"]) for one in told["instances"]] == [
        ("app", "e2-micro", "RUNNING")
    ]
    assert [(one["name"], one["status"], one["users"]) for one in told["addresses"]] == [
        ("spare", "RESERVED", [])
    ]
    assert [(one["name"], one["size_gb"], one["users"]) for one in told["disks"]] == [("app", 10, ["app"])]
    ends = {one["target"]: (one["status"], one["error"]) for one in told["operations"]}
    assert ends["instances/app"] == ("DONE", None)
    assert ends["addresses/spare"] == ("DONE", None)
    status, error = ends["firewalls/web"]
    assert status == "DONE"
    assert error is not None
    assert error.startswith("QUOTA_EXCEEDED: ")
    assert all(one["seconds"] >= 0 for one in told["operations"])
    for number in range(LAST):
        await lab.done("POST", f"{GLOBAL}/firewalls", {"name": f"more-{number}", "allowed": ALL})
    told = report(lab.cloud)
    assert len(told["operations"]) == LAST
    assert told["operations"][0]["target"] == f"firewalls/more-{LAST - 1}"
