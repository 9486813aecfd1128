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
    from rehost.source import init

    draft = init.draft(init.find(session.here), service)
    session.bus.scrubber.add(draft.additions.values())
    new = init.write(draft)
    report = draft.report
    session.open_journal(session.here)
    session.out(
        f"{session.here / 'rehost.toml'} {'is written' if new else 'stands already, and says the same'}."
    )
    if draft.additions:
        session.out(f"Variables added to {draft.env_file}: {', '.join(sorted(draft.additions))}.")
    if report.carried:
        session.out("\nCarried over:")
        for carried in report.carried:
            session.out(f"  {carried.field} → {carried.to}")
    if report.differently:
        session.out("\nCarried over, differently:")
        for differently in report.differently:
            session.note(f"carried over differently: {differently.field}: {differently.how}")
    if report.left:
        session.out("\nNot carried over:")
        for left in report.left:
            session.note(
                f"not carried over: {left.field}: {left.why} {left.todo}", open_point=bool(left.todo)
            )
    for note in report.notes:
        session.note(note, open_point=True)
    session.out("\nNext: read rehost.toml, then `rehost check`.")
    session.result(written=new, env_file=draft.env_file, added=[*sorted(draft.additions)], **report.as_json())
