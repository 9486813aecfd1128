"""`rehost history`: the releases that the machine keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from rehost.cli.session import Session, common
from rehost.run.events import Json
from rehost.run.plan import Change


@click.command(epilog="Example: rehost history --json")
@common()
async def command(session: Session) -> None:
    """List the releases: number, state, when, who, which code, and what changed from the one before (by name)."""
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import decide

    project = config.load(session.directory)
    async with site(project) as here:
        session.progress("reading the machine")
        await here.reach_only()
        state = here.state
    releases: list[Json] = []
    before = None
    for release in state.releases if state else ():
        data = release.record
        changes = decide.between(before.record, data) if before is not None else list[Change]()
        before = release
        serving = state is not None and release.number == state.current
        when = datetime.fromtimestamp(data["created"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        code = (data["commit"] or "no commit") + (" + changes" if data["commit"] and data["dirty"] else "")
        mark = "*" if serving else " "
        what = "; ".join(f"{c.field} {c.before} → {c.after}" for c in changes) or "nothing changed"
        if not changes and len(releases) == 0:
            what = "the first that is kept"
        session.out(f"{mark}{release.number:>4}  {release.state:<9} {when}  {data['by']}  {code}  {what}")
        releases.append(
            {
                "number": release.number,
                "state": release.state,
                "serving": serving,
                "created": data["created"],
                "by": data["by"],
                "commit": data["commit"],
                "dirty": data["dirty"],
                "image": data["image"],
                "changes": [{"field": c.field, "before": c.before, "after": c.after} for c in changes],
            }
        )
    if not releases:
        session.out("No release yet; `rehost up` makes one.")
    session.result(releases=releases)
