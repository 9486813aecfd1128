"""Secret files: files of this computer that the container finds at /etc/secrets, read-only, as at Render."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from rehost.project import env_check, files
from rehost.project.config import Project
from rehost.run.errors import Refused, UsageError
from rehost.run.findings import Finding
from rehost.run.secret import Secret

PLACE = "/etc/secrets"
# They go along with each release, in one script: keys and certificates, not data.
LARGEST = 512 * 2**10
_KEY = "rehost.toml, [env] secret_files"


def read(project: Project) -> dict[str, Secret]:
    """The files by the name that they have at /etc/secrets, each content as base64: it may be no text.

    Raises UsageError for one that is missing or too large, and for a volume in their place.
    """
    if project.env.secret_files:
        _refuse_volume(project)
    return {PurePosixPath(path).name: _one(project, path) for path in project.env.secret_files}


def _one(project: Project, name: str) -> Secret:
    data = files.read(
        project.directory / name,
        name,
        "there is no such secret file.",
        "Put it there (chmod 600), or correct env.secret_files in rehost.toml.",
    )
    if len(data) > LARGEST:
        raise UsageError(
            f"it has {len(data) >> 10} kB; a secret file has at most {LARGEST >> 10} kB.",
            cure="Put it into the image, or into a volume.",
            where=name,
        )
    return Secret(base64.b64encode(data).decode())


def _refuse_volume(project: Project) -> None:
    for volume in project.run.volumes:
        path = PurePosixPath(volume.partition(":")[2])
        if PurePosixPath(PLACE) in (path, *path.parents) or path in PurePosixPath(PLACE).parents:
            raise UsageError(
                f"the volume at {path} and the secret files at {PLACE} are in each other's way.",
                cure="Give the volume another path, or take the files out of secret_files.",
                where=_KEY,
            )


def texts(files: Mapping[str, Secret]) -> list[Secret]:
    """The contents that are text, for masking them in logs."""
    found = []
    for content in files.values():
        with contextlib.suppress(UnicodeDecodeError):
            found.append(Secret(base64.b64decode(content.reveal()).decode()))
    return found


def refuse_shipped(project: Project, shipped: Collection[str]) -> None:
    """Raises Refused when the image would hold a secret file. shipped: paths in the build context."""
    for name in project.env.secret_files:
        if os.path.relpath(project.directory / name, project.context) in shipped:
            raise Refused(
                "this secret file would travel with the build context, and stay readable in the image.",
                cure="Name it in .dockerignore.",
                where=name,
            )


def findings(project: Project) -> list[Finding]:
    """Are they in place, and kept to oneself? Asks git; changes nothing."""
    try:
        names = read(project)
    except UsageError as wrong:
        return [Finding("error", wrong.what, wrong.cure, wrong.where)]
    found = [
        finding
        for name in project.env.secret_files
        for finding in env_check.of_file(project.directory / name, name)
    ]
    if names:
        found.append(Finding("ok", f"the container finds {', '.join(names)} at {PLACE}", where=_KEY))
    return found
