"""What `rehost init` writes: rehost.toml, the env file's new variables, secret files, a Dockerfile.

Nothing that is there is overwritten, and no file with secrets is written where git would take it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rehost.project import dotenv, files, git
from rehost.project.config import FILE
from rehost.run import journal
from rehost.run.errors import Refused, UsageError
from rehost.run.secret import Secret
from rehost.source import native
from rehost.source.report import Import

# In rehost's own directory, which git ignores.
STATE = ".rehost"
SECRET_FILES = "secret-files"  # noqa: S105  # a directory


@dataclass(frozen=True, slots=True)
class Draft:
    """What `write` would write. additions: variables of the source that the env file does not have.

    secret: the additions came from Render itself, so git must not see the env file. secret_files: by name.
    image: a Dockerfile for an app that has none, to stand at image_path.
    """

    directory: Path
    text: str
    report: Import
    env_file: str
    additions: Mapping[str, Secret]
    secret: bool = False
    secret_files: Mapping[str, Secret] = field(default_factory=dict)
    image: native.Draft | None = None
    image_path: str = ""


def write(made: Draft) -> bool:
    """Write rehost.toml and the env file's additions; False when both were there already.

    Raises Refused, before anything is written, when another rehost.toml is there, or when git would take a file
    with values that stood at Render alone.
    """
    _refuse_exposed(made)
    path = made.directory / FILE
    data = made.text.encode()
    try:
        same = path.exists() and path.read_bytes() == data
        if path.exists() and not same:
            raise Refused(
                "it is there already, and says something else; nothing was written.",
                cure="Edit it, or move it away and type rehost init again.",
                where=str(path),
            )
        folder = _secret_folder(made)
        # The env file first: when this stops in between, the next run finds its variables and carries on.
        added = bool(made.additions) and dotenv.write(made.directory / made.env_file, made.additions)
        if folder is not None:
            added = _write_secret_files(folder, made.secret_files) or added
        if made.image is not None:
            image = made.directory / made.image_path
            added = bool(native.write(made.image, image.parent, image.name)) or added
        if not same:
            files.replace(path, data, 0o644)
    except OSError as failed:
        raise UsageError(
            f"cannot be written: {failed.strerror}.",
            cure="Check the directory's owner and mode.",
            where=str(path),
        ) from None
    return added or not same


def _refuse_exposed(made: Draft) -> None:
    if made.secret and made.additions and git.exposed(made.directory / made.env_file):
        raise Refused(
            "git does not ignore it, and it is to hold the app's secrets; nothing was written.",
            where=made.env_file,
            cure=f"Type `echo '{made.env_file}' >> .gitignore` (and `git rm --cached {made.env_file}` if git has it "
            "already), then rehost init again.",
        )


def _secret_folder(made: Draft) -> Path | None:
    """Where secret files go, made if it is missing; None when there are none. Raises OSError, or Refused."""
    if not made.secret_files:
        return None
    state = made.directory / STATE
    folder = state / SECRET_FILES
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal.keep_out_of_git(state)
    if git.exposed(folder):
        raise Refused(
            "git does not ignore it, and it is to hold secret files; nothing was written.",
            where=f"{STATE}/{SECRET_FILES}",
            cure=f"Type `echo '{STATE}/' >> .gitignore`, then rehost init again.",
        )
    return folder


def kept(directory: Path, contents: Mapping[str, Secret]) -> list[str]:
    """A note for each secret file that is there already and says something else. Raises UsageError."""
    folder = directory / STATE / SECRET_FILES
    try:
        other = [
            name
            for name, content in contents.items()
            if (folder / name).is_file() and (folder / name).read_bytes() != content.reveal().encode()
        ]
    except OSError as failed:
        raise UsageError(
            f"cannot be read: {failed.strerror}.", cure="Check its owner and mode.", where=str(folder)
        ) from None
    return [
        f"{STATE}/{SECRET_FILES}/{name} has another content than at Render, and keeps it." for name in other
    ]


def _write_secret_files(folder: Path, contents: Mapping[str, Secret]) -> bool:
    """Save what is not there yet, 0600; True when something was. Raises OSError."""
    missing = {name: content for name, content in contents.items() if not (folder / name).exists()}
    for name, content in missing.items():
        files.replace(folder / name, content.reveal().encode(), 0o600)
    return bool(missing)
