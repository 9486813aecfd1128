"""`rehost env`: the app's variables. Values are never shown, and never taken from the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from rehost.cli.session import Session, common
from rehost.run.events import Json
from rehost.run.plan import Change

if TYPE_CHECKING:
    from rehost.project.config import Project
    from rehost.run.secret import Secret


# A change of the environment takes effect by a new release, as everything else does.
_NEXT = "The app has it after `rehost deploy`; `rehost env diff` shows what it does not have yet."


@click.group(epilog="Example: rehost env diff")
def command() -> None:
    """List, set, unset and compare the app's environment variables."""


@command.command("list", epilog="Example: rehost env list --json")
@common()
async def list_(session: Session) -> None:
    """List the variables by name, with the file and line that each comes from."""
    from rehost.project import config, dotenv

    project = config.load(session.directory)
    found = dotenv.read_env(project)
    width = max((len(name) for name in found.values), default=0)
    for name in sorted(found.values):
        session.out(f"{name:<{width}}  {found.origin[name]}")
    for name in found.missing:
        session.warning(f"{name} is required and missing; `rehost env set {name}` adds it")
    session.result(variables=dict(found.origin), missing=list(found.missing))


@command.command("set", epilog="Example: openssl rand -hex 32 | rehost env set SECRET_KEY")
@click.argument("name")
@common()
async def set_(session: Session, name: str) -> None:
    """Set the variable NAME to what is typed at the prompt, or comes on standard input.

    It changes in the file that it stands in, else in the last of the env files, and the app does not see it yet:
    `rehost deploy` then makes a release of it, and does not build code again that has not changed.
    """
    from rehost.project import config, dotenv
    from rehost.run.errors import UsageError
    from rehost.run.secret import Secret

    project = config.load(session.directory)
    if "=" in name:
        raise UsageError(
            "a value on the command line would be read by every process and kept in the shell's history.",
            cure=f"Type `rehost env set {name.partition('=')[0]}` and the value at the prompt, or pipe it in.",
        )
    if sys.stdin.isatty():
        session.display.pause()
        value = click.prompt(f"Value of {name}", hide_input=True, default="", show_default=False)
    else:
        # As bytes: text would turn "\r\n" into "\n".
        value = dotenv.decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")
    session.bus.scrubber.add([Secret(value)])
    file = _file_of(project, name)
    changed = dotenv.write(project.directory / file, {name: Secret(value)})
    session.out(f"{name} is {'set in' if changed else 'as it was in'} {file}. {_NEXT}")
    session.result(changed=changed, file=file)


@command.command(epilog="Example: rehost env unset OLD_FLAG")
@click.argument("name")
@common()
async def unset(session: Session, name: str) -> int:
    """Take the variable NAME out of every env file."""
    from rehost.project import config, dotenv

    project = config.load(session.directory)
    changed = [
        file
        for file in project.env.files
        if (project.directory / file).exists() and dotenv.write(project.directory / file, {name: None})
    ]
    session.out(
        f"{name} is gone from {', '.join(changed)}. {_NEXT}" if changed else f"{name} stands in no env file."
    )
    session.result(changed=bool(changed), files=list(changed))
    return 0


@command.command(epilog="Example: rehost env diff")
@common()
async def diff(session: Session) -> int:
    """Compare the env files here with the release that serves, by name. Ends with 1 when they differ.

    Where [source] in rehost.toml names a service at Render and RENDER_API_KEY is set, it is compared, too; what
    differs there does not count for the exit code, since a moved app has addresses of its own.
    """
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.project import config, dotenv
    from rehost.release import decide
    from rehost.release.container import environment_changes, fingerprints

    project = config.load(session.directory)
    values = making.read_values(session, project)
    read = making.read_context(project)
    values = making.with_platform(project, values, read)
    files = making.read_files(session, project, read)
    async with site(project) as here:
        session.progress("reading the machine")
        await here.reach_only()
        now = decide.current(making.state_of(here))
    record = now.record if now else {}
    salt = str(record.get("salt", ""))
    changes = environment_changes(record.get("env", {}), fingerprints(values, salt))
    changes += environment_changes(record.get("files", {}), fingerprints(files, salt), "secret file")
    for change in changes:
        session.out(_line(change))
    if not changes:
        session.out(f"The env files say what release {now.number if now else 0} has.")
    else:
        session.out("(+ only in the files here, - only in the release, ~ another value)")
    at_render = await _against_render(session, project, dotenv.read_env(project).values)
    for change in at_render or ():
        session.out(f"at Render: {_line(change)}")
    if at_render == []:
        session.out("Render has the same.")
    session.result(changes=_as_json(changes), at_render=None if at_render is None else _as_json(at_render))
    return 1 if changes else 0


def _line(change: Change) -> str:
    sign = "+" if change.before is None else "-" if change.after is None else "~"
    return f"{sign} {change.field.removeprefix('env ')}"


def _as_json(changes: list[Change]) -> list[Json]:
    return [{"name": c.field.removeprefix("env "), "before": c.before, "after": c.after} for c in changes]


async def _against_render(
    session: Session, project: Project, values: Mapping[str, Secret]
) -> list[Change] | None:
    """What the env files have otherwise than Render; None when Render is not to be asked."""
    import os

    if project.source.render is None:
        return None
    from rehost.release.container import environment_changes, fingerprints
    from rehost.source import render_export
    from rehost.source.render_api import Render, key_of

    key = key_of(os.environ, ask_keyring=False)
    if key is None:
        return None
    session.bus.scrubber.add([key])
    async with Render(key, progress=session.progress) as api:
        session.progress("asking Render for the service's variables")
        service = await render_export.find(api, project.source.render)
        live = await render_export.export(api, service, session.progress)
    session.bus.scrubber.add(live.secrets)
    return environment_changes(fingerprints(live.effective, ""), fingerprints(values, ""))


def _file_of(project: Project, name: str) -> str:
    from rehost.project import dotenv
    from rehost.run.errors import UsageError

    if not project.env.files:
        raise UsageError("rehost.toml names no env file.", cure='Add files = [".env.prod"] under [env].')
    for file in reversed(project.env.files):
        path = project.directory / file
        if path.exists() and name in dotenv.read(path, file).variables:
            return file
    return project.env.files[-1]
