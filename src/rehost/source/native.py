"""A Dockerfile for an app that Render builds without one: from runtime, version pins, build and start command.

The draft is shown and then belongs to the user; one that is there is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rehost.project import dockerfile as reading
from rehost.project import platform
from rehost.run.errors import UsageError
from rehost.source import contract_files, native_commands, native_other, native_python, native_web
from rehost.source.native_caddy import Header, Route
from rehost.source.native_parts import Plan
from rehost.source.report import Settings

RUNTIMES = {
    "python": native_python.draft,
    "node": native_web.node,
    "static": native_web.static,
    "ruby": native_other.ruby,
    "go": native_other.go,
    "rust": native_other.rust,
    "elixir": native_other.elixir,
}
PORT = 8080
# What a draft carries over: fields of the blueprint's service.
TAKEN_OVER = (
    "service.runtime",
    "service.env",
    "service.buildCommand",
    "service.startCommand",
    "service.staticPublishPath",
)
IGNORED = (
    *(
        ".git",
        ".gitignore",
        ".env*",
        "*.env",
        ".rehost",
        "rehost.toml",
        "render.yaml",
        "Dockerfile",
        ".dockerignore",
    ),
    *("**/.DS_Store", "**/*.pem", "**/*.key"),
)


class Service(NamedTuple):
    """What Render knows of a service. build, start and publish are buildCommand, startCommand, staticPublishPath.

    variables: those whose values stand in the blueprint, as PYTHON_VERSION. port: what the app is to listen on.
    routes, headers: of a static site. created: as in `Plan`.
    """

    runtime: str
    build: str = ""
    start: str = ""
    publish: str = ""
    variables: Mapping[str, str] = {}
    port: int = PORT
    routes: Sequence[Route] = ()
    headers: Sequence[Header] = ()
    created: str = ""


class Draft(NamedTuple):
    """What `write` would write. dockerignore: None where one is there. notes: what the user should know."""

    dockerfile: str
    dockerignore: str | None
    notes: tuple[str, ...]


def service(settings: Settings, port: int) -> Service:
    """What a source says of a service, as far as a draft needs it. Of the variables, the versions alone."""
    versions = {
        name: value
        for name, value in settings.variables.items()
        if name.endswith("_VERSION") or name == "RUSTUP_TOOLCHAIN"
    }
    return Service(
        settings.runtime or "",
        settings.build_command or "",
        settings.start_command or "",
        settings.publish or "",
        {name: value.reveal() for name, value in versions.items()},
        port,
        settings.routes,
        settings.headers,
        settings.created or "",
    )


def dockerfile(service: Service, directory: Path) -> Draft:
    """The draft for a service whose files (its rootDir) are in a directory. Reads files, writes none.

    Raises UsageError for a runtime that has no Dockerfile to be drafted, and when nothing says what to start.
    """
    make = RUNTIMES.get(service.runtime)
    if make is None:
        raise UsageError(
            f'there is no Dockerfile to be drafted for the runtime "{service.runtime}".',
            cure=f"Write one. Known runtimes: {', '.join(sorted(RUNTIMES))}.",
        )
    build = native_commands.build_steps(service.build, directory)
    start = service.start.strip() or native_commands.procfile(directory)
    made = make(
        Plan(
            directory,
            build,
            start,
            service.publish,
            service.variables,
            service.port,
            service.routes,
            service.headers,
            service.created,
        )
    )
    text = "\n".join(_as_at_render(made.lines, directory)) + "\n"
    # What is handed on can be read by rehost itself: a fault here is ours, and shows before it is written.
    reading.parse(text)
    has_ignore = (directory / ".dockerignore").exists()
    ignore = None if has_ignore else "\n".join((*IGNORED, *made.ignored)) + "\n"
    return Draft(text, ignore, (*build.notes, *made.notes))


def _as_at_render(lines: list[str], directory: Path) -> list[str]:
    """Where the sources ask whether they run at Render, the build's steps get the answer that they had there.

    Render's own guide for Django sets STATIC_ROOT by it, without which `collectstatic` fails.
    """
    sources = contract_files.load(directory).texts if directory.is_dir() else {}
    if not any("RENDER" in platform.mentioned(path, text) for path, text in sources.items()):
        return lines
    answer = ["# The sources ask for it; Render sets it while it builds, too.", "ENV RENDER=true"]
    return [each for line in lines for each in ([line, *answer] if line == "COPY . ." else [line])]


def write(draft: Draft, directory: Path, name: str = "Dockerfile") -> list[str]:
    """Writes what is not there yet, and names what it wrote. Raises UsageError when that cannot be."""
    written: list[str] = []
    for file, text in ((name, draft.dockerfile), (".dockerignore", draft.dockerignore)):
        if text is None:
            continue
        try:
            # O_EXCL: never over one that is there, nor over one that came in between.
            with os.fdopen(
                os.open(directory / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w"
            ) as out:
                out.write(text)
        except FileExistsError:
            continue
        except OSError as failed:
            raise UsageError(
                f"cannot be written: {failed.strerror}.",
                cure="Check the directory's owner and mode.",
                where=str(directory / file),
            ) from None
        written.append(file)
    return written
