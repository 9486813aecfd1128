"""What travels to the machine to be built: the files that ``docker build`` would send, and nothing else.

Three things differ from Docker, on purpose:

- ``.git`` at the context's root stays here unless the ignore file has a line ``!.git`` (or ``!.git/...``):
  its history holds what was once committed by mistake, and is often larger than the app.
- The project's ``.rehost`` stays here: it is rehost's own journal and cache.
- Files that look like private keys or environment files are refused, unless ``[build] allow`` names them.

The Dockerfile travels beside the context, not in it: whether ``COPY . .`` sees it depends on the ignore file
alone, as with Docker.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import re
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from rehost.project import platform
from rehost.release import dockerignore
from rehost.release.dockerignore import Ignore, Marks
from rehost.run.errors import Refused, RehostError, UsageError

# Part of every digest: raise it when the same files have to be built anew.
VERSION = 1
STATE = ".rehost"
CACHE = "cache/context.json"
CACHE_VERSION = 2

Kind = Literal["file", "dir", "symlink"]


class Entry(NamedTuple):
    """One name of the context.

    path: relative to the context's root, with ``/``; bytes that are not UTF-8 are surrogate escapes.
    mode: the twelve permission bits (a symlink's are always 0o777). size: bytes of a file, else 0.
    content: the SHA-256 of a file in hexadecimal, the target of a symlink, empty for a directory.
    """

    path: str
    kind: Kind
    mode: int
    size: int
    content: str


@dataclass(frozen=True)
class Context:
    """What is built: the entries, sorted by the bytes of their paths; the Dockerfile; the build arguments.

    platform: the variables of Render's own that the files name (project/platform.py).
    """

    root: Path
    entries: tuple[Entry, ...]
    dockerfile: bytes
    args: tuple[tuple[str, str], ...] = ()
    platform: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """Names this input of a build, ``sha256:...``. Times and the order of the walk don't count."""
        fields = [
            f"rehost context {VERSION}",
            hashlib.sha256(self.dockerfile).hexdigest(),
            str(len(self.args)),
        ]
        fields += [part for pair in self.args for part in pair]
        for entry in self.entries:
            fields += (entry.kind, f"{entry.mode:o}", entry.path, entry.content)
        # No field can hold a NUL: paths and link targets can't, and arguments pass through argv.
        whole = "\0".join(fields).encode("utf-8", "surrogateescape")
        return f"sha256:{hashlib.sha256(whole).hexdigest()}"

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    def largest(self, count: int = 10) -> list[Entry]:
        """The largest files, largest first."""
        files = (entry for entry in self.entries if entry.kind == "file")
        return sorted(files, key=lambda entry: (-entry.size, entry.path))[:count]


def shown(path: str) -> str:
    """A path for messages: printable whatever bytes it holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)


def read(
    project: Path,
    *,
    context: str = ".",
    dockerfile: str = "Dockerfile",
    args: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
) -> Context:
    """Read the build context. `context` and `dockerfile` are relative to the directory `project`.

    allow: files, or directories with all that they hold, that travel although they look like secrets;
    relative to the context. The hashes of files are remembered in ``.rehost/cache``; a file is read again only
    when its size, times or inode differ.

    Raises UsageError (no such directory or Dockerfile, a bad ignore file, an unreadable file), Refused
    (special files, files that look like secrets) and RehostError (files changing under our hands).
    """
    root = (project / context).resolve()
    if not root.is_dir():
        raise UsageError(
            "the build context is not a directory.",
            where=str(root),
            cure="Correct [build] context in rehost.toml.",
        )
    text, file = _dockerfile(project / dockerfile)
    ignore_file = dockerignore.find(root, file)
    ignore = dockerignore.parse(ignore_file.read_bytes(), str(ignore_file)) if ignore_file else Ignore()
    found = _walk(root, ignore, (project / STATE).resolve())
    _refuse_special(found)
    hashes = _Hashes(project / STATE / CACHE)
    entries, suspects, named = [], {}, set(platform.mentioned("Dockerfile", text))
    for path in sorted(found, key=os.fsencode):
        info = found[path]
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISDIR(info.st_mode):
            entries.append(Entry(path, "dir", mode, 0, ""))
        elif stat.S_ISLNK(info.st_mode):
            entries.append(Entry(path, "symlink", 0o777, 0, _link(root, path)))
        else:
            known = hashes.of(root, path, info)
            entries.append(Entry(path, "file", mode, info.st_size, known.sha256))
            if known.platform:
                named.update(known.platform.split(","))
            if reason := _suspicious_name(posixpath.basename(path)) or known.secret:
                suspects[path] = reason
    hashes.save()
    _refuse_suspects(suspects, allow, ignore_file.name if ignore_file else dockerignore.NAME)
    return Context(root, tuple(entries), text, tuple(sorted((args or {}).items())), frozenset(named))


def names(project: Path, *, context: str = ".", dockerfile: str = "Dockerfile") -> frozenset[str]:
    """The paths that travel, relative to the context; nothing is read or refused. Raises UsageError."""
    root = (project / context).resolve()
    ignore_file = dockerignore.find(root, _dockerfile(project / dockerfile)[1])
    ignore = dockerignore.parse(ignore_file.read_bytes(), str(ignore_file)) if ignore_file else Ignore()
    return frozenset(_walk(root, ignore, (project / STATE).resolve()))


def _dockerfile(file: Path) -> tuple[bytes, Path]:
    """The Dockerfile and where it is. Docker also takes "dockerfile" where "Dockerfile" is missing."""
    if file.name == "Dockerfile" and not file.exists() and file.with_name("dockerfile").is_file():
        file = file.with_name("dockerfile")
    try:
        return file.read_bytes(), file
    except OSError as error:
        raise UsageError(
            f"the Dockerfile cannot be read: {error.strerror}.",
            where=str(file),
            cure="Correct [build] dockerfile in rehost.toml, or write the Dockerfile.",
        ) from error


def _walk(root: Path, ignore: Ignore, state: Path) -> dict[str, os.stat_result]:
    """Every name that travels. A directory that is ignored travels when something taken back lies in it."""
    found: dict[str, os.stat_result] = {}
    held: dict[str, os.stat_result] = {}  # ignored directories in which something may be taken back
    ours = str(state.relative_to(root)) if state.is_relative_to(root) else ""
    left_here = {ours} if ignore.excepts(".git") else {ours, ".git"}
    ahead: list[tuple[str, Marks]] = [("", ())]
    while ahead:
        directory, marks = ahead.pop()
        try:
            with os.scandir(f"{root}/{directory}") as scan:
                names = list(scan)
        except PermissionError as error:
            if directory in held:
                continue
            raise _unreadable(root, directory, error) from error
        for name in names:
            path = f"{directory}/{name.name}" if directory else name.name
            if path in left_here:
                continue
            ignored, below = ignore.judge(path, marks)
            is_dir = name.is_dir(follow_symlinks=False)
            if ignored and not (is_dir and ignore.may_take_back(path)):
                continue
            try:
                info = name.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone since the directory was read
            if is_dir:
                ahead.append((path, below))
            (held if ignored else found)[path] = info
            while not ignored and (path := posixpath.dirname(path)) in held:
                found[path] = held.pop(path)
    return found


def _unreadable(root: Path, path: str, error: OSError) -> UsageError:
    return UsageError(
        f"{shown(path)} cannot be read: {error.strerror}.",
        where=str(root),
        cure="Make it readable, or name it in .dockerignore.",
    )


def changed(root: Path, path: str) -> RehostError:
    """The error for a file that is no longer what it was when the context was read."""
    return RehostError(
        f"{shown(path)} changed while it was being read.",
        where=str(root),
        cure="Try again; a file that a running program keeps writing belongs in .dockerignore.",
        retryable=True,
    )


def _link(root: Path, path: str) -> str:
    try:
        return os.readlink(f"{root}/{path}")  # noqa: PTH115 (a Path would drop a trailing slash)
    except OSError as error:
        raise changed(root, path) from error


def _listed(parts: Iterable[str], most: int = 20) -> str:
    parts = list(parts)
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _refuse_special(found: Mapping[str, os.stat_result]) -> None:
    special = {
        path: info.st_mode
        for path, info in found.items()
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode))
    }
    if special:
        words = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe"}
        names = (f"{shown(p)} ({words.get(stat.S_IFMT(m), 'a device')})" for p, m in sorted(special.items()))
        raise Refused(
            f"the build context holds what is neither file, directory nor symlink: {_listed(names)}.",
            cure="Remove it, or name it in .dockerignore.",
        )


# A whole PEM block as a file holds it: a header in the first column, then base64. Code that merely mentions
# the header doesn't have it so.
_PEM = re.compile(
    rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n"
    rb"(?:[A-Za-z-]+:.*\n|[ \t]*\r?\n)*[A-Za-z0-9+/=]{16}",
    re.MULTILINE,
)
_ACCOUNT = re.compile(rb'"private_key"\s*:\s*"-----BEGIN ')
_KEY_NAMES = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk")


def _suspicious_name(name: str) -> str:
    name = name.lower()
    if name in _KEY_NAMES:
        return "a private key"
    if name.endswith((".p12", ".pfx")):
        return "a certificate with its private key"
    if name == ".env" or (
        name.startswith(".env.") and not name.endswith((".example", ".sample", ".template"))
    ):
        return "an environment file"
    return ""


def _suspicious_content(head: bytes) -> str:
    if b"PRIVATE KEY" in head and _PEM.search(head):
        return "a private key"
    if b'"private_key"' in head and _ACCOUNT.search(head):
        return "a service account's key"
    return ""


def _refuse_suspects(suspects: Mapping[str, str], allow: Collection[str], ignore_name: str) -> None:
    allowed = [posixpath.normpath(path) for path in allow]
    refused = {
        path: reason
        for path, reason in suspects.items()
        if not any(path == each or path.startswith(f"{each}/") or each == "." for each in allowed)
    }
    if refused:
        names = _listed(json.dumps(shown(path), ensure_ascii=False) for path in refused)
        raise Refused(
            f"what looks like a secret would travel with the build context and into the image: "
            f"{_listed(f'{shown(path)} ({reason})' for path, reason in refused.items())}.",
            cure=f"Name it in {ignore_name}; or, if the image needs it, write allow = [{names}] "
            "under [build] in rehost.toml.",
        )


class _Known(NamedTuple):
    """What a file's bytes tell: their hash, why they look like a secret (empty: they don't), and the names of
    Render's variables in them, with commas between.
    """

    sha256: str
    secret: str
    platform: str


class _Hashes:
    """What was read before, by path, size, times and inode. Deleting the file loses nothing."""

    # A file changed this shortly before it was read could change again without its times showing it: some
    # file systems keep time in steps of two seconds. Such a file is read again by the next run.
    TOO_FRESH = 2_000_000_000  # ns

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, list[int | str]] = {}
        self._before = self._load()

    def _load(self) -> dict[str, list[int | str]]:
        try:
            whole = json.loads(self._file.read_bytes())
            files = whole["files"] if whole["version"] == CACHE_VERSION else {}
            return files if isinstance(files, dict) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # missing, damaged or of another version: it is written anew

    def of(self, root: Path, path: str, info: os.stat_result) -> _Known:
        key = [info.st_size, info.st_mtime_ns, info.st_ino, info.st_ctime_ns]
        before = self._before.get(path)
        if isinstance(before, list) and before[:4] == key and len(before) == 7:
            self._kept[path] = before
            return _Known(str(before[4]), str(before[5]), str(before[6]))
        now = time.time_ns()
        known = _hash(root, path, info)
        if info.st_ctime_ns < now - self.TOO_FRESH:
            self._kept[path] = [*key, *known]
        return known

    def save(self) -> None:
        if self._kept == self._before:
            return
        whole = json.dumps({"version": CACHE_VERSION, "files": self._kept}, separators=(",", ":"))
        scratch = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        # A project on a full or read-only disk can still be shipped; the next run only takes longer.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                out.write(whole)
            scratch.replace(self._file)


def _hash(root: Path, path: str, info: os.stat_result) -> _Known:
    """Read a file once. Raises RehostError when it is not the file, or no longer, that `info` tells of."""
    try:
        opened = os.open(f"{root}/{path}", os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError as error:
        raise _unreadable(root, path, error) from error
    except OSError as error:
        raise changed(root, path) from error
    try:
        chunk = os.read(opened, 1 << 20)
        secret = _suspicious_content(chunk)
        named = ",".join(sorted(platform.mentioned(path, chunk)))
        digest = hashlib.sha256(chunk)
        length = len(chunk)
        while chunk and length < info.st_size:
            chunk = os.read(opened, 1 << 20)
            digest.update(chunk)
            length += len(chunk)
        after = os.fstat(opened)
    finally:
        os.close(opened)
    if length != info.st_size or (after.st_mtime_ns, after.st_ino) != (info.st_mtime_ns, info.st_ino):
        raise changed(root, path)
    return _Known(digest.hexdigest(), secret, named)
