"""What git knows of a file: secrets must not be in its hands."""

from __future__ import annotations

import subprocess
from pathlib import Path


def tracked(path: Path) -> bool:
    """Whether git keeps versions of the file. False outside a checkout and where git is not installed."""
    return _git(path, "ls-files", "--error-unmatch", "--", path.name) == 0


def exposed(path: Path) -> bool:
    """Whether the next `git add .` would take the file: it is in a checkout and not ignored."""
    # check-ignore answers 0 when the file is ignored, 1 when it is not, 128 outside a checkout.
    return _git(path, "check-ignore", "--quiet", "--", path.name) == 1


def head(directory: Path) -> tuple[str, str]:
    """The commit and the branch that are checked out; "" for each outside a checkout, or without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return "", ""
    lines = done.stdout.decode().split() if done.returncode == 0 else []
    if len(lines) != 2:
        return "", ""
    return lines[0], "" if lines[1] == "HEAD" else lines[1]  # "HEAD": on no branch


def _git(path: Path, *arguments: str) -> int | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:  # no git, or no such directory: nobody tracks the file
        return None
    return done.returncode
