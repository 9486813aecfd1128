"""What `rehost check` finds in the files alone: env files, Dockerfile, context, the sources and who calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rehost.cli import reaching
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.project import dockerfile, dotenv, platform, secret_files
from rehost.project.config import Project
from rehost.release import check as release_check
from rehost.release import context
from rehost.run.errors import Refused, RehostError, UsageError
from rehost.run.findings import Finding
from rehost.source import callers, contract, contract_files, parity, parity_blueprint
from rehost.source.contract_files import Sources
from rehost.source.reach_url import Database
from rehost.source.yaml_text import Mapped


def findings(project: Project, elsewhere: Sequence[Path] = ()) -> list[Finding]:
    """elsewhere: other checkouts in which to look for callers. Reads files, changes none but the hashes' cache.

    Raises UsageError when one of those is no directory.
    """
    for directory in elsewhere:
        if not directory.is_dir():
            raise UsageError(
                "there is no such directory.", cure="Name the checkout of a caller.", where=str(directory)
            )
    here = contract_files.load(project.directory.resolve())
    services = (
        parity_blueprint.services(project.directory / project.source.blueprint, project.app)
        if project.source.blueprint
        else ()
    )
    return [
        *release_check.findings(project),
        *_shipped(project),
        *_sources(project, here, services),
        *_callers(project, here, services, elsewhere),
    ]


def databases(project: Project) -> tuple[Database, ...]:
    """The databases that the env files name. None where a file cannot be read: that is told already."""
    try:
        return reaching.tried(project, dotenv.read_env(project).values)
    except UsageError:
        return ()


async def reached(session: Session, here: Site) -> list[Finding]:
    """Whether each database lets the machine in; what cannot be known before there is one is said.

    Raises RehostError when the connection to the machine breaks.
    """
    named = databases(here.project)
    if not named:
        return []
    if here.machine is None:
        names = ", ".join(each.variable for each in named)
        return [Finding("ok", f"{names}: tried from the machine, as soon as it stands", where="env")]
    session.progress("logging in to the databases from the machine")
    try:
        files = secret_files.read(here.project)
    except UsageError:
        files = {}  # told already
    return await reaching.findings(here, named, files)


def _shipped(project: Project) -> list[Finding]:
    """The secret files, and whether the image would hold one."""
    found = secret_files.findings(project)
    try:
        secret_files.refuse_shipped(
            project,
            context.names(
                project.directory, context=project.build.context, dockerfile=project.build.dockerfile
            ),
        )
    except UsageError:
        return found  # the context cannot be read: told already
    except Refused as refused:
        return [*found, Finding("error", refused.what, refused.cure, refused.where)]
    return found


def _sources(project: Project, here: Sources, services: tuple[Mapped, ...]) -> list[Finding]:
    """What the code demands, and what it relied on. Says nothing where another finding tells why it cannot."""
    try:
        root = project.context.resolve()
        built = (here if root == here.root else contract_files.load(root)).only(
            context.names(
                project.directory, context=project.build.context, dockerfile=project.build.dockerfile
            )
        )
        environment = dotenv.read_env(project)
    except UsageError:
        return []  # the context, or an env file: told already, with its cure
    try:
        image = dockerfile.read(project.dockerfile, project.build.dockerfile, project.build.args)
    except RehostError:
        image = None  # told already
    found = contract.examples(contract.read(built), here)
    # That a required variable is empty is told already.
    given = {
        name: bool(value.reveal()) or name in project.env.required
        for name, value in environment.values.items()
    }
    named = {name for path, text in built.texts.items() for name in platform.mentioned(path, text)}
    by_others = {"PORT", *(image.env if image else {}), *platform.values(named, project)}
    app = parity.App(
        project,
        built,
        image,
        frozenset(given),
        services,
        parity.atlas({name: value.reveal() for name, value in environment.values.items()}),
    )
    all_found = [
        *contract.findings(found, given, by_others, contract.words(built, given)),
        *parity.findings(app),
    ]
    left = built.left + found.left
    if left:
        all_found.append(
            Finding("ok", f"{left} files were too large, or too many, to look for variables in", where="env")
        )
    return all_found


def _callers(
    project: Project, here: Sources, services: tuple[Mapped, ...], elsewhere: Sequence[Path]
) -> list[Finding]:
    own = callers.old_names(project.source.url, [str(each.get("name", "")) for each in services[:1]])
    # The env files' values are looked at by name already.
    here = here.only({path for path in here.texts if path not in project.env.files})
    found = callers.findings(callers.find(here, own), own)
    for directory in elsewhere:
        there: Sources = contract_files.load(directory.resolve())
        of_it = callers.find(there, own)
        found += callers.findings(of_it, own, str(directory))
        if not of_it:
            names = ", ".join(sorted(own)) or "onrender.com"
            found.append(Finding("ok", f"nothing in {directory} names {names}", where=str(directory)))
    return found
