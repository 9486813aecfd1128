"""Services beside the app: what Docker is asked for, and which steps lead to them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from machine_state import APP, container
from rehost.machine.probe import Container
from rehost.release import decide, services
from rehost.release.container import fingerprints
from rehost.release.decide import RELEASE
from rehost.release.services import Service
from rehost.run.plan import Action, Change
from rehost.run.secret import Secret
from test_release_container import SETTINGS, body
from test_release_decide import desired, record, settled

VALUES = {"PASSWORD": Secret("hunter2hunter2")}
REDIS = Service("redis:7", "redis-server --save 60 1", 2**28, ("redis:/data",), "redis-cli ping", VALUES)
STORED = {**REDIS.as_json(), "salt": "salt", "env": fingerprints(VALUES, "salt")}
ON = SETTINGS._replace(network=True)


def running(state: str = "running") -> Container:
    return Container("r", f"{APP}.redis", APP, 0, state, "Up", "", (), "service:redis")


def planned(wanted: dict[str, Service], stored: dict[str, Any], *there: Container) -> list[Action]:
    release = desired(settings=ON, services=wanted)
    state = settled(releases=(record(release),), containers=(container(1), *there))
    return decide.plan(release, state._replace(services=stored))


def test_the_container() -> None:
    made = services.body(APP, "redis", REDIS)
    assert made["Image"] == "redis:7"
    assert made["Cmd"] == ["redis-server", "--save", "60", "1"]
    assert made["Env"] == ["PASSWORD=hunter2hunter2"]
    assert made["Labels"] == {"rehost.app": APP, "rehost.service": "redis"}
    assert made["Healthcheck"]["Test"] == ["CMD", "redis-cli", "ping"]
    assert made["NetworkingConfig"] == {"EndpointsConfig": {f"rehost-{APP}": {"Aliases": ["redis"]}}}
    host = made["HostConfig"]
    assert (host["NetworkMode"], host["Memory"]) == (f"rehost-{APP}", 2**28)
    assert host["Mounts"][0]["Source"] == f"{APP}.redis"
    assert not {"PortBindings", "PublishAllPorts"} & {*host}
    plain = services.body(APP, "redis", Service("redis:7", "", 2**28, (), "", {}))
    assert not {"Cmd", "Healthcheck"} & {*plain}


def test_an_app_without_services_is_asked_for_as_before() -> None:
    assert "NetworkMode" not in body({})["HostConfig"]
    assert "network" not in SETTINGS.as_json()
    assert ON.as_json()["network"] is True


def test_nothing_changed() -> None:
    assert planned({"redis": REDIS}, {"redis": STORED}, running()) == []


def test_a_service_is_there_before_the_release_that_needs_it() -> None:
    wanted = desired(settings=ON, services={"redis": REDIS})
    for state in (None, settled()):
        first, *rest = decide.plan(wanted, state)
        assert (first.id, first.verb) == ("service/redis", "create")
        assert Change("image", None, "redis:7") in first.changes
        release = next(action for action in rest if action.id == RELEASE)
        assert "service/redis" in release.needs


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        (REDIS._replace(image="redis:8"), Change("image", "redis:7", "redis:8")),
        (REDIS._replace(command=""), Change("command", REDIS.command, None)),
        (REDIS._replace(values={"PASSWORD": Secret("another")}), Change("env PASSWORD", "set", "changed")),
    ],
)
def test_a_change_is_an_update_that_says_that_it_interrupts(changed: Service, change: Change) -> None:
    (action,) = planned({"redis": changed}, {"redis": STORED}, running())
    assert (action.id, action.verb, action.changes) == ("service/redis", "update", (change,))
    assert "away while it starts anew" in action.what
    assert "another" not in str(action)


@pytest.mark.parametrize("there", [(), (running("exited"),)])
def test_one_that_does_not_run_is_started(there: tuple[Container, ...]) -> None:
    (action,) = planned({"redis": REDIS}, {"redis": STORED}, *there)
    assert action.changes == (Change("container", there[0].state if there else None, "running"),)


def test_one_that_is_wanted_no_more_goes_after_the_release() -> None:
    (action,) = planned({}, {"redis": STORED}, running())
    assert (action.verb, action.destructive) == ("delete", True)
    assert "volumes stay" in action.what
    wanted = desired()
    state = settled(releases=(record(desired(settings=ON)),), containers=(container(1), running()))
    release, gone = decide.plan(wanted, state._replace(services={"redis": STORED}))
    assert (release.id, release.changes) == (RELEASE, (Change("network", True, None),))
    assert RELEASE in gone.needs


def test_what_is_written_down_holds_values_only_for_docker() -> None:
    script = services.prepare(APP, "redis", REDIS)
    files = dict(
        re.findall(r"base64 -d >\$dir/(\S+) <<'REHOST_CONTENT' \|\| exit 1\n(\S+)\nREHOST_CONTENT", script)
    )
    assert json.loads(base64.b64decode(files["container.json"])) == services.body(APP, "redis", REDIS)
    kept = json.loads(base64.b64decode(files["service.json.new"]))
    assert "hunter2" not in json.dumps(kept)
    assert kept["env"] == fingerprints(VALUES, kept["salt"])
    assert {name: kept[name] for name in REDIS.as_json()} == REDIS.as_json()
