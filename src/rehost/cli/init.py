"""`rehost init`: rehost.toml from what is there."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost init --service content-api")
@click.option("--service", metavar="NAME", help="Which service of render.yaml moves, when it has several.")
@common()
async def command(session: Session, service: str | None) -> None:
    """Write rehost.toml from render.yaml, env files and the Dockerfile of this directory.

    Says of every field of the blueprint what became of it. Nothing that is there is overwritten.
    """
    from rehost.run.engine import Doing
    from rehost.run.plan import Action, Plan
    from rehost.source import init

    draft = init.draft(init.find(session.here), service)
    session.bus.scrubber.add(draft.additions.values())
    report = draft.report
    new = False

    async def write(doing: Doing) -> None:
        nonlocal new
        new = init.write(draft)
        if not new:
            doing.unchanged()
        for differently in report.differently:
            doing.note(f"carried over differently: {differently.field}: {differently.how}")
        for left in report.left:
            doing.note(f"not carried over: {left.field}: {left.why} {left.todo}", open_point=bool(left.todo))
        for note in report.notes:
            doing.note(note, open_point=True)

    session.open_journal(session.here)
    plan = Plan.of([Action("project/rehost.toml", "create", "rehost.toml")])
    session.bus.emit("plan", actions=[action.as_json() for action in plan.actions])
    await session.apply(plan, {"project/rehost.toml": write})
    session.out(
        f"{session.here / 'rehost.toml'} {'is written' if new else 'stands already, and says the same'}."
    )
    if draft.additions:
        session.out(f"Variables added to {draft.env_file}: {', '.join(sorted(draft.additions))}.")
    if report.carried:
        session.out("\nCarried over:")
        for carried in report.carried:
            session.out(f"  {carried.field} → {carried.to}")
    session.out("\nNext: read rehost.toml, then `rehost check`.")
    session.result(written=new, env_file=draft.env_file, added=[*sorted(draft.additions)], **report.as_json())
