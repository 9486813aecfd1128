"""`rehost jobs`: what is typed, and how a run is told. And what `rehost status` says of what works beside the app."""

from __future__ import annotations

import pytest

from machine_state import APP, serving
from project_here import typed
from rehost.cli import jobs, status
from rehost.machine.probe import Container
from rehost.release.runs import WORDS, Run

RUN = Run(7, 1795417860, 1795417865, "0", "timer", 3, running=False)


def test_without_a_command_the_jobs_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    for words in ((), ("--json",), ("list",), ("run", "nightly"), ("log", "nightly", "3")):
        done = typed("jobs", *words)
        assert done.exit_code == 2
        assert "there is no rehost.toml" in done.output
    for words in (("--help",), ("run", "--help")):
        done = typed("jobs", *words)
        assert (done.exit_code, "Example: rehost jobs" in done.output) == (0, True)
    assert "Usage: rehost jobs [OPTIONS] COMMAND" in typed("jobs", "-h").output
    assert typed("jobs", "fun").exit_code == 2


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (RUN, "ended with 0 after 5 s"),
        (RUN._replace(status="", ended=0, running=True), "is running"),
        (RUN._replace(status="timeout"), f"{WORDS['timeout']} after 5 s"),
        (RUN._replace(status="", ended=0), WORDS[""]),
    ],
)
def test_how_a_run_is_told(run: Run, said: str) -> None:
    assert jobs._said(run) == said
    assert jobs._when(run.started) == "2026-11-23 07:11:00 UTC"


def test_status_tells_what_docker_says_of_processes_and_services() -> None:
    before = serving()
    (release,) = before.releases
    settings = {**release.record["settings"], "processes": {"worker": {}, "clock": {}}}
    here = [("worker", "Up 2 minutes", f"{APP}-1.worker", 1, "process:worker")]
    here.append(("redis", "Up 2 minutes (unhealthy)", f"{APP}.redis", 0, "service:redis"))
    state = before._replace(
        releases=(release._replace(record={**release.record, "settings": settings}),),
        containers=tuple(
            Container(key, name, APP, number, "running", says, "", (), part)
            for key, says, name, number, part in here
        ),
        services={"redis": {}, "db": {}},
    )
    assert status.processes_of(state, APP) == {"worker": "Up 2 minutes", "clock": "it has no container"}
    assert status.services_of(state, APP) == {
        "redis": "Up 2 minutes (unhealthy)",
        "db": "it has no container",
    }
    assert status.processes_of(before, APP) == {}
