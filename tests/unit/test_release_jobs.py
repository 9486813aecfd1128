"""Scheduled jobs: their units, what is planned when one is amiss, and what the machine says of their runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from machine_state import APP, SERVING, container
from rehost.machine.probe import Unit, parse
from rehost.release import decide, jobs, runs
from rehost.release.container import Settings
from rehost.release.decide import HOLD
from rehost.release.jobs import Job
from rehost.run.errors import UsageError
from rehost.run.plan import Change
from test_machine_probe import texts
from test_release_container import SETTINGS, body
from test_release_decide import desired, record, settled

JOB = Job("python -m app.report", "0 3 1 * 1", 3600, 2**27)
WITH = SETTINGS._replace(jobs={"nightly": JOB})
TIMER = f"rehost-{APP}.job.nightly.timer"
SERVICE = f"rehost-{APP}.job.nightly.service"
UNITS = jobs.unit_files(APP, WITH.jobs, WITH.stop_grace)
WAITING = {TIMER: Unit("active", "waiting")}


def test_the_units() -> None:
    assert dict(UNITS) == {
        TIMER: (
            f"[Unit]\nDescription=rehost: when job nightly of {APP} runs (0 3 1 * 1)\n\n[Timer]\n"
            "OnCalendar=*-*-01 03:00:00 UTC\nOnCalendar=Mon *-*-* 03:00:00 UTC\nAccuracySec=1s\n\n"
            "[Install]\nWantedBy=timers.target\n"
        ),
        SERVICE: (
            f"[Unit]\nDescription=rehost: job nightly of {APP}\nWants=docker.service\nAfter=docker.service\n\n"
            f"[Service]\nType=oneshot\nExecStart=/bin/sh /var/lib/rehost/{APP}/jobs/run {APP} nightly 3600 30\n"
            f"ExecStopPost=/bin/sh /var/lib/rehost/{APP}/jobs/run {APP} nightly 3600 30 end\nUMask=0077\n"
            "TimeoutStartSec=infinity\nTimeoutStopSec=90\n"
        ),
    }


def test_the_files_of_a_release() -> None:
    web = body({"SECRET_KEY": "hunter2"})
    files = jobs.files(APP, web, WITH.jobs, 30)
    assert sorted(files) == ["job.nightly.json", "job.nightly.service", "job.nightly.timer", "job.sh"]
    assert files["job.nightly.json"]["Cmd"] == ["python", "-m", "app.report"]
    assert files["job.nightly.json"]["Labels"]["rehost.job"] == "nightly"
    assert files["job.nightly.json"]["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    # No value of the environment but in what Docker is asked for.
    assert [name for name, text in files.items() if "hunter2" in json.dumps(text)] == ["job.nightly.json"]
    assert jobs.files(APP, web, {}, 30) == {}


def test_they_are_settings() -> None:
    assert Settings.from_json(json.loads(json.dumps(WITH.as_json()))) == WITH
    assert "jobs" not in SETTINGS.as_json()


def changes(files: dict[str, str], units: dict[str, Unit], settings: Settings = WITH) -> list[Change]:
    wanted = desired(settings=settings)
    before = settled(releases=(record(wanted),), containers=(container(1),))
    state = before._replace(jobs=files, units={**before.units, **units})
    actions = decide.plan(wanted, state)
    assert [action.id for action in actions] in ([], [HOLD])
    return [change for action in actions for change in action.changes]


def test_timers_that_are_amiss_are_seen() -> None:
    assert changes(UNITS, WAITING) == []
    assert changes(UNITS, {}) == [Change(TIMER, "not waiting", "waiting")]
    assert changes({SERVICE: UNITS[SERVICE]}, WAITING) == [Change(TIMER, None, "as planned")]
    assert changes({**UNITS, SERVICE: "[Service]\n"}, WAITING) == [Change(SERVICE, "changed", "as planned")]
    assert changes(UNITS, WAITING, SETTINGS) == [
        Change(SERVICE, "there", None),
        Change(TIMER, "there", None),
    ]


def test_the_probe_reads_units_and_services() -> None:
    timer = f"/etc/systemd/system/{TIMER}"
    service = f"/var/lib/rehost/{APP}/services/redis/service.json"
    seen = parse(texts(SERVING, {timer: UNITS[TIMER], service: '{"image": "redis:7"}'}))
    assert dict(seen.jobs) == {TIMER: UNITS[TIMER]}
    assert dict(seen.services) == {"redis": {"image": "redis:7"}}
    assert (dict(parse(SERVING).jobs), dict(parse(SERVING).services)) == ({}, {})


# -- what the machine says ---------------------------------------------------------------------------------


def said(runs_: dict[int, str], now: str = "", timers: str = "[]", **job: Any) -> str:
    record = {"settings": {"jobs": {"nightly": {**JOB._asdict(), **job}}}}
    lines = [f"releases/4/release.json:{json.dumps(record)}"]
    lines += [f"jobs/nightly/now:{now}"] if now else []
    for number, text in runs_.items():
        lines += [f"jobs/nightly/runs/{number}/run:{line}" for line in text.split()]
    return "\n".join([*lines, "@timers", timers])


def test_jobs_and_their_runs() -> None:
    timers = json.dumps([{"next": 1795417860000000, "unit": f"rehost-{APP}.job.nightly.timer"}])
    text = said(
        {
            9: "started=100 by=timer release=3 status=0 ended=107",
            10: "started=200 by=ada@laptop release=4 status=timeout ended=290",
            11: "started=300 by=timer release=4",
            12: "started=400 by=timer release=4",
        },
        now="12",
        timers=timers,
    )
    (job,) = runs.parse(APP, text)
    assert (job.name, job.command, job.schedule, job.next) == (
        "nightly",
        JOB.command,
        "0 3 1 * 1",
        1795417860,
    )
    assert [(r.number, r.running, r.status, r.good, r.by, r.release) for r in job.runs] == [
        (12, True, "", True, "timer", 4),
        (11, False, "", False, "timer", 4),
        (10, False, "timeout", False, "ada@laptop", 4),
        (9, False, "0", True, "timer", 3),
    ]
    assert {run.status for run in job.runs if not run.status.isdecimal()} <= set(runs.WORDS)


@pytest.mark.parametrize("text", ["", "@timers\n[]", 'releases/4/release.json:{"settings": {}}\n@timers\n[]'])
def test_without_jobs(text: str) -> None:
    assert runs.parse(APP, text) == []


def test_a_timer_that_does_not_wait() -> None:
    gone = json.dumps([{"next": None, "unit": f"rehost-{APP}.job.nightly.timer"}])
    for timers in ("[]", gone, json.dumps([{"next": 5, "unit": "rehost-other.job.nightly.timer"}])):
        assert runs.parse(APP, said({}, timers=timers))[0].next == 0


@pytest.mark.parametrize("name", ["a b", "$(id)", "", "../x", "-x", "A"])
def test_what_is_no_name_never_reaches_a_script(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a job"):
        runs.checked(name)
