"""`rehost init`: rehost.toml from what is there, and from what stands at Render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rehost.cli.session import Session, common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rehost.source.init import Found
    from rehost.source.render_export import Live
    from rehost.source.report import Import


@click.command(epilog="Example: rehost init --render srv-d1k2m3n4p5q6r7s8t9u0")
@click.option(
    "--from",
    "file",
    metavar="FILE",
    help="The file that says where the app runs today, when several are there: render.yaml, fly.toml, app.json, "
    "Procfile, heroku.yml, docker-compose.yml. They count in this order.",
)
@click.option("--service", metavar="NAME", help="Which service of that file moves, when it has several.")
@click.option(
    "--config-vars",
    "config_vars",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Variables with their values as JSON, as `heroku config --json` prints them.",
)
@click.option(
    "--render",
    metavar="[SERVICE]",
    is_flag=False,
    flag_value="",
    help="Read the service from Render's API: its ID or name; alone, the one that --service or render.yaml names.",
)
@click.option("--callers", is_flag=True, help="Look in all variables at Render for the app's old address.")
@common()
async def command(
    session: Session,
    file: str | None,
    service: str | None,
    config_vars: Path | None,
    render: str | None,
    callers: bool,
) -> None:
    """Write rehost.toml from render.yaml, fly.toml, Heroku's or a compose file, env files and the Dockerfile.

    With a key for Render's API in RENDER_API_KEY (or in the system's keyring) the service is read as it stands
    there: its values go into the env file, and what was changed in the dashboard since render.yaml is shown.

    Says of every field of the file what became of it. Nothing that is there is overwritten.
    """
    from rehost.run.engine import Doing
    from rehost.run.errors import UsageError
    from rehost.run.plan import Action, Plan
    from rehost.source import heroku, init, init_write

    found = init.find(session.here, file)
    given = heroku.config_vars(session.here / config_vars) if config_vars is not None else {}
    session.bus.scrubber.add(given.values())
    live = await _live(session, found, service, render, callers)
    if callers and live is None:
        raise UsageError(
            "--callers looks at Render, and no service of it is known.",
            cure="Add --render and its ID or name.",
        )
    draft = init.draft(found, service, live, given)
    session.bus.scrubber.add(draft.additions.values())
    report = draft.report
    new = False

    async def write(doing: Doing) -> None:
        nonlocal new
        new = init_write.write(draft)
        if not new:
            doing.unchanged()
        for text, to_do in _points(report, found.blueprint):
            doing.note(text, open_point=to_do, listed=True)

    session.open_journal(session.here)
    _show(session, report, found.blueprint)
    plan = Plan.of([Action("project/rehost.toml", "create", "rehost.toml")])
    session.bus.emit("plan", actions=[action.as_json() for action in plan.actions])
    await session.apply(plan, {"project/rehost.toml": write})
    session.out(
        f"\n{session.here / 'rehost.toml'} {'is written' if new else 'stands already, and says the same'}."
    )
    if draft.additions:
        session.out(f"Variables added to {draft.env_file}: {', '.join(sorted(draft.additions))}.")
    if draft.image is not None:
        session.out(
            f"\n{draft.image_path}, made from the build and start commands; it is yours from here on:\n"
        )
        session.out("\n".join(f"  {line}".rstrip() for line in draft.image.dockerfile.splitlines()))
    session.out("\nNext: read rehost.toml, then `rehost check`.")
    session.result(written=new, env_file=draft.env_file, added=[*sorted(draft.additions)], **report.as_json())


def _points(report: Import, file: str | None) -> Iterator[tuple[str, bool]]:
    """All that the record keeps of an import: a sentence, and whether it leaves something to do."""
    for changed in report.changed:
        yield (
            f"changed at Render: {changed.field}: {changed.file} in {file}, {changed.there} at Render",
            False,
        )
    for carried in report.carried:
        yield f"carried over: {carried.field} → {carried.to}", False
    for differently in report.differently:
        yield f"carried over differently: {differently.field}: {differently.how}", False
    for left in report.left:
        yield f"not carried over: {left.field}: {left.why} {left.todo}".rstrip(), bool(left.todo)
    for note in report.notes:
        yield note, True


def _show(session: Session, report: Import, file: str | None) -> None:
    """The same in lists; what is carried over as it is, by where it stands now."""
    homes: dict[str, list[str]] = {}
    for carried in report.carried:
        homes.setdefault(carried.to, []).append(carried.field)
    lists = {
        "Carried over:": [f"{', '.join(fields)} → {home}" for home, fields in homes.items()],
        "Carried over differently:": [f"{each.field}: {each.how}" for each in report.differently],
        "Not carried over:": [f"{each.field}: {each.why} {each.todo}".rstrip() for each in report.left],
        f"Changed at Render, and not in {file}:": [
            f"{each.field}: {each.file} in {file}, {each.there} at Render" for each in report.changed
        ],
        "To do:": list(report.notes),
    }
    for title, lines in lists.items():
        if lines:
            session.out("\n".join([f"\n{title}", *(f"  {line}" for line in lines)]))


async def _live(
    session: Session, found: Found, service: str | None, named: str | None, callers: bool
) -> Live | None:
    """The service as it stands at Render: when --render asks for it, or a key and a blueprint are there."""
    import os

    from rehost.run.errors import RehostError
    from rehost.source import blueprint

    asked = named is not None
    if not asked and not (found.blueprint and os.environ.get("RENDER_API_KEY", "").strip()):
        return None
    wanted = named or ""
    if not wanted and found.blueprint:  # the file may know it by its environment as well: shop/production/api
        path = found.directory / found.blueprint
        wanted = blueprint.service_name(blueprint.text_of(path), service, found.blueprint)
    wanted = wanted or service or ""
    try:
        return await _read(session, wanted, callers)
    except RehostError as error:
        if asked:
            raise
        # The key may be there for something else: the file alone is a way, as long as that is said.
        session.warning(f"{found.blueprint} was not compared with Render: {error}", open_point=True)
        return None


async def _read(session: Session, wanted: str, callers: bool) -> Live:
    import os

    from rehost.source import render_export, render_live
    from rehost.source.render_api import Render, needed_key

    key = needed_key(os.environ)
    session.bus.scrubber.add([key])
    async with Render(key, progress=session.progress) as api:
        session.progress("asking Render for the service")
        service = await render_export.find(api, wanted)
        live = await render_export.export(api, service, session.progress)
        session.bus.scrubber.add(live.secrets)
        if callers:
            identity = str(service.get("id") or "")
            addresses = render_live.old_addresses(service)
            for found in await render_export.mentions(api, addresses, identity, session.progress):
                session.note(
                    f"{found.owner} at Render has the app's old address in {found.variable}: change it when the "
                    "app has moved",
                    open_point=True,
                )
    return live
