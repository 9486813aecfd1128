"""Scheduled jobs: one-shot containers of the release that serves, started by systemd timers. As data.

The machine's side is job.sh (one run) and beside.sh (which timers there are).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rehost.project import schedule
from rehost.release import processes

UNITS: Final = "/etc/systemd/system"


class Job(NamedTuple):
    """A job of a release. schedule: cron's five fields, UTC. max_run in seconds, memory in bytes."""

    command: str
    schedule: str
    max_run: int
    memory: int


def unit(app: str, name: str, kind: str) -> str:
    """The name of a job's timer or service. No app's name holds a dot, so no two apps meet in one."""
    return f"rehost-{app}.job.{name}.{kind}"


def body(web: Mapping[str, Any], name: str, job: Job) -> dict[str, Any]:
    """Docker's container for one run of a job. Its log on the machine is bounded by 10 MB."""
    made = processes.beside(web, job.command, job.memory)
    log = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}}
    return {
        **made,
        "Labels": {**web["Labels"], "rehost.job": name},
        "HostConfig": {**made["HostConfig"], "LogConfig": log},
    }


def timer(app: str, name: str, job: Job) -> str:
    """The timer's unit file. A run that was due while the machine was off is left out, as cron does."""
    due = "".join(f"OnCalendar={event}\n" for event in schedule.parse(job.schedule).calendar())
    return (
        f"[Unit]\nDescription=rehost: when job {name} of {app} runs ({job.schedule})\n\n"
        f"[Timer]\n{due}AccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )


def service(app: str, name: str, job: Job, stop_grace: int) -> str:
    """The unit file of a run. systemd never starts a second one while it runs; job.sh holds the time limit."""
    run = f"/bin/sh /var/lib/rehost/{app}/jobs/run {app} {name} {job.max_run} {stop_grace}"
    return (
        f"[Unit]\nDescription=rehost: job {name} of {app}\nWants=docker.service\nAfter=docker.service\n\n"
        f"[Service]\nType=oneshot\nExecStart={run}\nExecStopPost={run} end\nUMask=0077\n"
        f"TimeoutStartSec=infinity\nTimeoutStopSec={stop_grace + 60}\n"
    )


def unit_files(app: str, jobs: Mapping[str, Job], stop_grace: int) -> dict[str, str]:
    """What must stand in UNITS while a release with these jobs serves, and nothing else of this app's jobs."""
    found = {}
    for name, job in jobs.items():
        found[unit(app, name, "timer")] = timer(app, name, job)
        found[unit(app, name, "service")] = service(app, name, job, stop_grace)
    return found


def files(app: str, web: Mapping[str, Any], jobs: Mapping[str, Job], stop_grace: int) -> dict[str, Any]:
    """The files of a release from which beside.sh makes timers, and job.sh containers. Texts stand as they are."""
    if not jobs:
        return {}
    units = unit_files(app, jobs, stop_grace)
    return {
        "job.sh": Path(__file__).with_name("job.sh").read_text(),
        **{f"job.{name}.json": body(web, name, job) for name, job in jobs.items()},
        **{name.removeprefix(f"rehost-{app}."): text for name, text in units.items()},
    }
