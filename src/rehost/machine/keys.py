"""The ssh key that rehost logs in with, made once for this user on this computer."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import NamedTuple


class Key(NamedTuple):
    """file: the private key, 0600. public: "TYPE BASE64"."""

    file: Path
    public: str


def config_home() -> Path:
    """Where this user's own settings lie (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rehost"


def own_key(directory: Path | None = None) -> Key:
    """The key pair, made when it is not there yet. Two commands at once end with the same pair."""
    directory = directory or config_home() / "ssh"
    private = directory / "id_ed25519"
    public = directory / "id_ed25519.pub"
    if not (private.exists() and public.exists()):
        _make(directory, private, public)
    return Key(private, " ".join(public.read_text().split()[:2]))


def _make(directory: Path, private: Path, public: Path) -> None:
    import asyncssh  # noqa: PLC0415  making a key is rare; reading one must be quick

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = asyncssh.generate_private_key("ssh-ed25519", comment="rehost")
    draft = directory / f".draft-{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(made.export_private_key())
    try:
        # A link fails when another command was first; its pair is then the one that counts.
        os.link(draft, private)
    except FileExistsError:
        made = asyncssh.read_private_key(private)
    finally:
        draft.unlink()
    draft.write_bytes(made.export_public_key())
    draft.replace(public)


def login_name() -> str:
    """The user name to log in with on a cloud machine: this user's, made valid; never root, which sshd refuses."""
    name = re.sub(r"[^a-z0-9_-]", "-", getpass.getuser().lower()).strip("-")[:31]
    if not name or name == "root" or not re.match(r"[a-z_]", name):
        return "rehost"
    return name
