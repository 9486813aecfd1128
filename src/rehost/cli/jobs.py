"""`rehost jobs`: the scheduled jobs, their last runs, and running one now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rehost.cli.session import Session, common
from rehost.run.events import Json

if TYPE_CHECKING:
    from rehost.release import runs

SHOWN = 5  # runs of each job; --json has all that are kept


class _Jobs(click.Group):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not {"-h", "--help"} & {*args} and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Jobs, epilog="Example: rehost jobs, then rehost jobs run nightly")
def command() -> None:
    """List the scheduled jobs with their last runs; run one now; show what a run wrote."""


@command.command("list", epilog="Example: rehost jobs list --json")
@common()
async def list_(session: Session) -> int:
    """List the jobs: schedule, next run, and the last runs. Ends with 1 when the last run of a job was not good."""
    from rehost.cli import visit

    arriving = await visit.start(session.directory, visit.Ahead(1), look=False)
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import runs

    project = config.load(session.directory)
    async with site(project, arriving) as here:
        machine = await here.connect(session.progress)
        found = await runs.listed(machine, project.app)
    if not found:
        session.out("The release that serves has no jobs; [jobs.NAME] in rehost.toml makes one.")
    told: list[Json] = []
    for job in found:
        due = f"next {_when(job.next)}" if job.next else "its timer does not wait; `rehost up` starts it"
        session.out(f"{job.name}: {job.schedule} UTC, {due}: {job.command}")
        for run in job.runs[:SHOWN]:
            session.out(
                f"  {run.number:>5}  {_when(run.started)}  {_said(run)}; release {run.release}, by {run.by}"
            )
        if not job.runs:
            session.out("         has not run yet")
        told.append({**job._asdict(), "runs": [run._asdict() for run in job.runs]})
    session.result(jobs=told)
    return 0 if all(job.runs[0].good for job in found if job.runs) else 1


@command.command("run", epilog="Example: rehost jobs run nightly")
@click.argument("name")
@common(journal=True)
async def run_(session: Session, name: str) -> int:
    """Run job NAME now, show its log as it is written, and end with its exit status.

    The run goes on when this command is ended. A run that is under way already is followed: there are never two.
    """
    from rehost.cli import visit

    arriving = await visit.start(session.directory, visit.Ahead(1), look=False)
    from rehost.cli import making
    from rehost.cli.doing import whoami
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import runs
    from rehost.run.errors import RehostError

    project = config.load(session.directory)
    making.learn_secrets(session, project)
    async with site(project, arriving) as here:
        machine = await here.connect(session.progress)
        session.progress(f"job {name} runs on the machine; `rehost jobs log {name}` shows it too")
        seen = await runs.run(machine, project.app, name, whoami(), session.out)
        where = here.label
    if seen.joined:
        session.note(f"run {seen.number} was under way already, and was followed")
    session.result(run=seen.number, status=seen.status)
    if not seen.status.isdecimal():
        raise RehostError(
            f"run {seen.number} of job {name} {runs.WORDS[seen.status]}.",
            where=where,
            cure=f"`rehost jobs log {name}` shows what it wrote.",
        )
    if seen.status != "0":
        session.warning(f"run {seen.number} of job {name} ended with status {seen.status}")
    return int(seen.status)


@command.command("log", epilog="Example: rehost jobs log nightly 12")
@click.argument("name")
@click.argument("run", type=int, required=False)
@common()
async def log_(session: Session, name: str, run: int | None) -> None:
    """Show what RUN of job NAME wrote, or its last run; the last megabyte of it. Values of secrets are masked."""
    from rehost.cli import visit

    arriving = await visit.start(session.directory, visit.Ahead(1), look=False)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import runs

    project = config.load(session.directory)
    making.learn_secrets(session, project)
    async with site(project, arriving) as here:
        machine = await here.connect(session.progress)
        await runs.log(machine, project.app, name, run, session.out)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _said(run: runs.Run) -> str:
    from rehost.release.runs import WORDS

    if run.running:
        return "is running"
    took = f" after {run.ended - run.started} s" if run.ended else ""
    return (f"ended with {run.status}" if run.status.isdecimal() else WORDS[run.status]) + took
