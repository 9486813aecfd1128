"""What `rehost check` finds in the files alone: env files, Dockerfile, context, the sources and who calls them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from rehost.cli import reaching
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.project import dockerfile, dotenv, env_check, platform, secret_files
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
    demanded = _sources(project, here, services)
    return [
        *_without(release_check.findings(project), demanded),
        *_shipped(project),
        *demanded,
        *_callers(project, here, services, elsewhere),
        *_moves(project),
    ]


def _without(found: list[Finding], demanded: list[Finding]) -> list[Finding]:
    """`found` without what is told of a missing variable again, by the place in the code that demands it."""
    errors = [each.what.partition(":")[0] for each in demanded if each.severity == "error"]
    again = {env_check.missing(name) for names in errors for name in names.split(" or ")}
    return [each for each in found if each.what not in again]


def _moves(project: Project) -> list[Finding]:
    """What `rehost move` will do, and what it lacks for it."""
    try:
        given = {*dotenv.read_env(project).values, *os.environ}
    except UsageError:
        return []  # told already
    found = []
    for name, origin in project.moves.items():
        if str(origin) in project.origins and str(origin) not in given:
            cure = f"Type `rehost env set {origin}` before `rehost move`; the containers don't get it."
            what = f"{name}: {origin} is to say where its content is, and is not given."
            found.append(Finding("warning", what, cure, "rehost.toml, [moves]"))
        else:
            said = f"{name}: `rehost move` brings its content from {origin}, once the app runs on the machine"
            found.append(Finding("ok", said, where="moves"))
    return found


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
    return softened(await reaching.findings(here, named, files), named, here.project)


def softened(found: Sequence[Finding], named: Sequence[Database], project: Project) -> list[Finding]:
    """The findings, one for each database; a release does without those that `rehost move` alone needs."""
    return [
        one._replace(severity="warning")
        if one.severity == "error" and each.variable in project.origins
        else one
        for one, each in zip(found, named, strict=True)
    ]


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
    built = _built(project, here)
    try:
        # One that is not there is told already, and gives nothing.
        names = [name for name in project.env.files if (project.directory / name).exists()]
        environment = dotenv.merge([dotenv.read(project.directory / name, name) for name in names])
    except UsageError:
        return []  # told already, with its cure
    try:
        image = dockerfile.read(project.dockerfile, project.build.dockerfile, project.build.args)
    except RehostError:
        image = None  # told already
    found = contract.examples(contract.read(built), here)
    # That a required variable is empty is told already.
    given = {
        name: bool(value.reveal()) or name in project.env.required
        for name, value in environment.values.items()
        if name not in project.origins
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
    said = contract.findings(found, given, by_others, contract.words(built, given))
    if project.build.image:
        what = "the image is prebuilt: what its code demands of the environment is not known here"
        said = [Finding("ok", what, where="build.image")]
    all_found = [*said, *parity.findings(app)]
    left = built.left + found.left
    if left:
        all_found.append(
            Finding("ok", f"{left} files were too large, or too many, to look for variables in", where="env")
        )
    return all_found


def _built(project: Project, here: Sources) -> Sources:
    """What the image is built from; nothing for one that is pulled. Without a Dockerfile, all of the context."""
    if project.build.image:
        return here.only(())
    root = posixpath.normpath(project.build.context)
    inside = here if root == "." else here.only({path for path in here.texts if path.startswith(f"{root}/")})
    try:
        names = context.names(
            project.directory, context=project.build.context, dockerfile=project.build.dockerfile
        )
    except UsageError:
        return inside  # told already
    return inside.only({posixpath.normpath(posixpath.join(root, name)) for name in names})


def _callers(
    project: Project, here: Sources, services: tuple[Mapped, ...], elsewhere: Sequence[Path]
) -> list[Finding]:
    own = callers.old_names(project.source.url, [str(each.get("name", "")) for each in services[:1]])
    # The env files' values are looked at by name already.
    inside = [
        each.resolve().relative_to(here.root)
        for each in elsewhere
        if each.resolve().is_relative_to(here.root)
    ]
    here = here.only(
        {
            path
            for path in here.texts
            if path not in project.env.files and not any(Path(path).is_relative_to(each) for each in inside)
        }
    )
    found = callers.findings(callers.find(here, own), own)
    for directory in elsewhere:
        there: Sources = contract_files.load(directory.resolve())
        of_it = callers.find(there, own)
        found += callers.findings(of_it, own, str(directory))
        if not of_it:
            names = ", ".join(sorted(own)) or "onrender.com"
            found.append(Finding("ok", f"nothing in {directory} names {names}", where=str(directory)))
    return found
