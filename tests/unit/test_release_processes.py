"""Processes beside the web process: what Docker is asked for, and what is planned when one is amiss."""

from __future__ import annotations

import json
from typing import Any

import pytest

from machine_state import APP, container
from rehost.machine.probe import Container
from rehost.machine.probe import _container as container_of
from rehost.release import decide, processes
from rehost.release.container import Settings, settings_changes
from rehost.release.decide import HOLD, RELEASE, TIDY
from rehost.release.processes import Process
from rehost.run.plan import Change
from test_release_container import SETTINGS, body
from test_release_decide import desired, record, settled

WORKER = Process("python -m app.worker 'two words'", 2**27)
WITH = SETTINGS._replace(processes={"worker": WORKER}, volumes=("data:/data",))


def worker(number: int, state: str = "running") -> Container:
    return Container(
        f"w{number}", f"{APP}-{number}.worker", APP, number, state, "Up", "", (), "process:worker"
    )


def test_a_process_is_the_web_process_with_another_command() -> None:
    web = body({"B": "2", "A": "$x"})
    made = processes.body(web, "worker", WORKER)
    host = made["HostConfig"]
    assert made["Cmd"] == ["python", "-m", "app.worker", "two words"]
    assert (made["Image"], made["Env"]) == (web["Image"], web["Env"])
    assert made["Labels"] == {**web["Labels"], "rehost.process": "worker"}
    assert "ExposedPorts" not in made
    assert not {"PortBindings", "CpuShares"} & host.keys()
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert (host["Memory"], host["MemorySwap"]) == (2**27, 2**28)
    for same in ("Mounts", "LogConfig", "RestartPolicy", "SecurityOpt"):
        assert host[same] == web["HostConfig"][same]
    assert processes.files(web, {"worker": WORKER}) == {"process.worker.json": made}


def test_they_are_settings_and_older_records_have_none() -> None:
    assert Settings.from_json(json.loads(json.dumps(WITH.as_json()))) == WITH
    assert "processes" not in SETTINGS.as_json()
    other = WITH._replace(processes={"worker": WORKER._replace(command="python -m app.other")})
    assert settings_changes(WITH.as_json(), other.as_json()) == [
        Change("processes.worker.command", WORKER.command, "python -m app.other")
    ]
    assert settings_changes(SETTINGS.as_json(), other.as_json())[0] == Change(
        "processes.worker.command", None, "python -m app.other"
    )


def state(*containers: Container) -> Any:
    wanted = desired(settings=WITH)
    return settled(releases=(record(wanted),), containers=containers)


def test_another_command_is_a_release_without_a_build() -> None:
    changed = WITH._replace(processes={"worker": WORKER._replace(command="other")})
    (action,) = decide.plan(desired(settings=changed), state(container(1), worker(1)))
    assert (action.id, action.changes) == (
        RELEASE,
        (Change("processes.worker.command", WORKER.command, "other"),),
    )


@pytest.mark.parametrize(("there", "before"), [((), None), ((worker(1, "exited"),), "exited")])
def test_a_process_that_does_not_run_is_started(there: tuple[Container, ...], before: str | None) -> None:
    (action,) = decide.plan(desired(settings=WITH), state(container(1), *there))
    assert (action.id, action.verb) == (HOLD, "update")
    assert action.changes == (Change("process worker", before, "running"),)


@pytest.mark.parametrize("status", ["running", "restarting"])
def test_one_that_is_started_again_and_again_is_left_alone(status: str) -> None:
    assert decide.plan(desired(settings=WITH), state(container(1), worker(1, status))) == []


def test_a_worker_of_another_release_is_stopped_before_ours_starts() -> None:
    tidy, hold = decide.plan(desired(settings=WITH), state(container(1), worker(2)))
    assert (tidy.id, tidy.changes) == (TIDY, (Change(f"{APP}-2.worker", "running", "stopped"),))
    assert (hold.id, hold.needs) == (HOLD, (TIDY,))


def test_jobs_and_services_are_no_leftovers() -> None:
    job = worker(2)._replace(part="job:nightly", name=f"{APP}.job.nightly")
    service = worker(0)._replace(part="service:redis", name=f"{APP}.redis")
    assert decide.leftovers(state(container(1), job, service), APP) == []


def test_a_worker_is_not_taken_for_the_web_process() -> None:
    seen = state(worker(1), container(1, "exited"))
    assert not decide.serving(seen, APP)
    assert seen.part(APP, 1, "process:worker") == worker(1)


@pytest.mark.parametrize(
    ("label", "part"),
    [({}, ""), ({"rehost.process": "worker"}, "process:worker"), ({"rehost.job": "nightly"}, "job:nightly")],
)
def test_the_probe_tells_them_apart(label: dict[str, str], part: str) -> None:
    labels = {"rehost.app": APP, "rehost.release": "3", **label}
    assert container_of({"Id": "1", "Names": ["/x"], "Labels": labels}).part == part
