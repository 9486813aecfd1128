"""A person's own terminal on the machine, by the system's ssh: it knows terminals better than we do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rehost.cloud.model import Reach


def known_hosts(reach: Reach) -> str:
    """The lines of a known_hosts file that lets this machine in and no other (sshd(8))."""
    name = reach.address if reach.port == 22 else f"[{reach.address}]:{reach.port}"
    return "".join(f"{name} {key}\n" for key in reach.host_keys)


def command(
    reach: Reach,
    *,
    key_file: Path | None,
    hosts_file: Path | None,
    terminal: bool,
    remote: Sequence[str] = (),
) -> list[str]:
    """The ssh command line. remote: a command; none opens a shell.

    The host key is checked against the keys that the machine published; without them, as the user's own
    configuration says.
    """
    words = ["ssh"]
    if hosts_file is not None:
        words += ["-o", f"UserKnownHostsFile={_quoted(hosts_file)}", "-o", "GlobalKnownHostsFile=/dev/null"]
        words += ["-o", "StrictHostKeyChecking=yes"]
    if key_file is not None:
        # The keys of an agent would be offered first, and use up the tries that sshd grants (MaxAuthTries).
        words += ["-i", str(key_file), "-o", "IdentitiesOnly=yes"]
    if reach.port != 22:
        words += ["-p", str(reach.port)]
    if terminal:
        words.append("-t")
    words.append(f"{reach.user}@{reach.address}" if reach.user else reach.address)
    if remote:
        # One word is a line for the machine's shell, as with ssh itself; of several each stays the word that it is.
        words += ["--", remote[0] if len(remote) == 1 else shlex.join(remote)]
    return words


def _quoted(file: Path) -> str:
    """A path as a value of ssh_config(5), where spaces part several files and % begins a token."""
    text = str(file).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
