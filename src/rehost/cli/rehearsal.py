"""What a rehearsal does: a lab, a copy of the app, and the commands that a person would type."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rehost.cli import rehearsal_data
from rehost.cli.session import Session
from rehost.lab import control
from rehost.project import dotenv
from rehost.run.errors import RehostError, UsageError
from rehost.run.secret import Secret

ENV_FILE: Final = ".env.prod"
# Not copied: what is no part of the app, and what an earlier move left.
_LEFT: Final = (".git", ".rehost", "rehost.toml", ".venv", "node_modules", "__pycache__", ".env.prod")
_EXAMPLE: Final = Path(__file__).resolve().parents[3] / "examples" / "content-api"
# The reference backend tells at /status what stands in it.
BUILD_FILE: Final = ".content-api.json"
OWN_ENV: Final = ".env.rehearsal"


def example() -> Path:
    """The reference backend of this checkout. Raises UsageError in an installation without one."""
    found = _EXAMPLE
    if not found.is_dir():
        raise UsageError(
            "the reference backend is not part of an installed rehost.",
            cure="Name your own app's directory with --app, or run this from a checkout.",
        )
    return found


def place(lab: str) -> Path:
    """Where the copy of the app lies: beside the user's other caches, so that --down finds it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rehost" / "rehearsals" / lab


def rehearse(session: Session, lab: str, app: Path, *, keep: bool) -> int:
    """The whole move. On failure everything stays up to be looked at, and the error says how to go on."""
    own = read_own(app)
    info = control.up(lab, session.progress)
    values = environment(info.database) if own is None else own
    session.bus.scrubber.add(values.values())
    session.out(f"The lab {lab} is up; base images: {info.image}; database: nx-27017, which is not MongoDB.")
    shutil.rmtree(place(lab), ignore_errors=True)
    directory, record = place(lab) / "app", place(lab) / "record.md"
    directory.parent.mkdir(parents=True)
    shutil.copytree(app, directory, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT, OWN_ENV))
    dotenv.write(directory / ENV_FILE, values)
    meets_lab = {**os.environ, **control.environment(lab)}
    for words in (["init"], ["check"], ["up", "--yes"]):
        step(session, words, directory, meets_lab)
    if own is None:
        release_over_data(session, directory, meets_lab)
    step(session, ["record", "--output", str(record)], directory, meets_lab)
    step(session, ["health"], directory, meets_lab)
    base = f"http://{address(directory, meets_lab)}"
    session.out(f"\nThe app on its machine:  {rehearsal_data.front(base)}")
    session.out(f"The record of this move: {record}")
    session.result(directory=str(directory), record=str(record), url=f"{base}/", kept=keep)
    if keep:
        session.out(f"The app's directory:     {directory}")
        session.out(
            f'To go on:                eval "$(rehost lab env --name {lab})"; cd {directory}; rehost status'
        )
        session.out(f"To tear down:            rehost rehearse --down --lab {lab}")
        return 0
    control.down(lab, session.progress)
    session.out("The lab is down again; --keep leaves it up. The record stays.")
    return 0


def release_over_data(session: Session, directory: Path, meets_lab: Mapping[str, str]) -> None:
    """Writes through the app, ships a change of its code, and reads again. Raises RehostError for a loss."""
    base = f"http://{address(directory, meets_lab)}"
    session.progress("writing a post, comments and a file through the app")
    written = rehearsal_data.write(base)
    session.bus.scrubber.add([Secret(written.password)])
    build = directory / BUILD_FILE
    build.write_text(json.dumps({**json.loads(build.read_text()), "commit": "rehearsed"}))
    step(session, ["up", "--yes"], directory, meets_lab)
    session.progress("reading them again")
    rehearsal_data.read(base, written)
    session.out(
        "A post, its comments and an uploaded file were written before that release and read after it."
    )


def address(directory: Path, meets_lab: Mapping[str, str]) -> str:
    """Where the machine answers. Raises RehostError."""
    status = subprocess.run(
        [sys.executable, "-m", "rehost", "status", "--json"],
        cwd=directory,
        env=dict(meets_lab),
        stdout=subprocess.PIPE,
        check=False,
    )
    try:
        found: str = json.loads(status.stdout.splitlines()[-1])["address"]
    except (IndexError, ValueError, KeyError):
        raise RehostError(
            f"`rehost status` ended with {status.returncode} and tells no address.",
            where=str(directory),
            cure="The lab is still up: type `rehost status` there.",
        ) from None
    return found


def read_own(app: Path) -> Mapping[str, Secret] | None:
    """The variables that an app of the user's is rehearsed with; None for the reference backend.

    Never those of its .env.prod: a rehearsal must not reach production. Raises UsageError when there are none.
    """
    if app.resolve() == _EXAMPLE:
        return None
    file = app / OWN_ENV
    if not file.is_file():
        raise UsageError(
            f"there is no {OWN_ENV} in {app}.",
            cure="Write one with the values that the app is to be rehearsed with, never those of production.",
        )
    return dotenv.merge([dotenv.read(file, OWN_ENV)]).values


def environment(database: str) -> dict[str, Secret]:
    """What the reference backend needs in production. Awkward on purpose: each of these broke a shell script once."""
    return {
        "MONGODB_URL": Secret(database),
        "SECRET_KEY": Secret(f"{secrets.token_hex(16)} 'quoted', $dollar #hash \"double\" ünïcödé"),
        "ALLOWED_ORIGINS": Secret("https://app.example.com,https://www.example.com"),
        "ENVIRONMENT": Secret("production"),
        "HOST": Secret("0.0.0.0"),  # noqa: S104 - in its container; only the proxy reaches it
        "REDIS_URL": Secret(""),  # none in the lab: the backend says so and runs without a cache
    }


def step(session: Session, words: list[str], directory: Path, environ: Mapping[str, str]) -> None:
    """One command, as a person would type it. Raises RehostError when it fails."""
    session.display.pause()
    session.out(f"\n$ rehost {' '.join(words)}")
    sys.stdout.flush()
    flags = [
        flag
        for flag, given in (("--verbose", session.options.verbose), ("--json", session.options.json))
        if given
    ]
    command = subprocess.Popen(
        [sys.executable, "-m", "rehost", *words, *flags], cwd=directory, env=dict(environ)
    )
    try:
        code = command.wait()
    except KeyboardInterrupt:
        # The terminal told the command too; it is cleaning up.
        command.wait()
        raise
    if code != 0:
        raise RehostError(
            f"`rehost {' '.join(words)}` ended with {code}; its own words stand above.",
            where=str(directory),
            cure="The lab is still up: look with `rehost status` there, or take it down with `rehost rehearse --down`.",
        )


def take_down(session: Session, lab: str) -> int:
    """Removes the lab and the copy of the app."""
    gone = control.down(lab, session.progress)
    directory = place(lab)
    there = directory.exists()
    if there:
        shutil.rmtree(directory)
    session.out(
        f"The rehearsal in the lab {lab} is gone." if gone or there else f"There is no rehearsal {lab}."
    )
    session.result(removed=gone or there)
    return 0
