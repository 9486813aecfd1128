"""Bringing the build context onto the machine: one exec, one channel, only what changed.

`ship.sh` runs on the machine and says what really lies there; here it is decided what differs; the differences
go back down the same channel. On the machine the directory `root` then holds

- ``tree/``: the context, for ``COPY``;
- ``Dockerfile`` and ``Dockerfile.dockerignore``, for ``docker build -f root/Dockerfile root/tree``. The second
  is a single comment: what is ignored was left out already, and without it Docker would apply a
  ``.dockerignore`` of the tree again, perhaps by older rules.

The script holds a lock on ``root.lock`` while it runs. A build that must not see the next ship's files takes
the same lock: ``flock root.lock docker build ...``.

Compression is gzip: Python and every Debian have it. zstd would have to be installed on both ends to save a
second on the first ship; later ones are small.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shlex
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rehost.machine.answers import CHUNK
from rehost.release.channel import Channel, Machine, Replies
from rehost.release.context import Context, Entry, changed
from rehost.run.errors import RehostError

DOCKERFILE = "Dockerfile"
IGNORE = "Dockerfile.dockerignore"
TREE = "tree"
IGNORE_CONTENT = b"# What is ignored was left out before it was sent.\n"
_KINDS = {b"f": "file", b"d": "dir", b"l": "symlink"}
_LETTERS = {"file": b"f", "dir": b"d", "symlink": b"l"}


class Item(NamedTuple):
    """What lies at a name. kind: "file", "dir", "symlink", or find's letter for anything else."""

    kind: str
    mode: int
    content: str


@dataclass(frozen=True, slots=True)
class Delta:
    """What makes `have` into `want`, in this order; paths are bytes, relative to the root.

    remove: topmost names only. mkdir: parents before children. chmod: also of every new directory.
    send: files and symlinks.
    """

    remove: tuple[bytes, ...]
    mkdir: tuple[bytes, ...]
    chmod: tuple[tuple[int, bytes], ...]
    send: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a ship did. bytes_sent: on the wire, compressed. removed: names that went, with all below them."""

    files_sent: int
    bytes_sent: int
    removed: int
    total_files: int


def wanted(context: Context) -> dict[bytes, Item]:
    """What shall lie in the root on the machine."""
    want = {
        DOCKERFILE.encode(): Item("file", 0o644, hashlib.sha256(context.dockerfile).hexdigest()),
        IGNORE.encode(): Item("file", 0o644, hashlib.sha256(IGNORE_CONTENT).hexdigest()),
        TREE.encode(): Item("dir", 0o755, ""),
    }
    for entry in context.entries:
        want[_name(entry)] = Item(entry.kind, entry.mode, entry.content)
    return want


def _name(entry: Entry) -> bytes:
    return os.fsencode(f"{TREE}/{entry.path}")


def listing(items: Mapping[bytes, Item]) -> bytes:
    """The list that `ship.sh` makes of a directory that holds exactly these."""
    names, sums = [], []
    for path, item in items.items():
        target = os.fsencode(item.content) if item.kind == "symlink" else b""
        names.append(b"%s %o ./%s//%s\0" % (_LETTERS[item.kind], item.mode, path, target))
        if item.kind == "file":
            sums.append(b"%s  ./%s\0" % (item.content.encode(), path))
    return b"".join((*sorted(names), *sorted(sums)))


def fingerprint(items: Mapping[bytes, Item]) -> str:
    """SHA-256 of the listing, in hexadecimal."""
    return hashlib.sha256(listing(items)).hexdigest()


def parse(raw: bytes) -> dict[bytes, Item]:
    """Read the list of `ship.sh`. A file that could not be read has no hash, so an empty content."""
    items: dict[bytes, Item] = {}
    for record in raw.split(b"\0")[:-1]:
        first, _, rest = record.partition(b" ")
        if len(first) == 64:  # a hash, a space more, the name
            path = rest.removeprefix(b" ./")
            if path in items:
                items[path] = items[path]._replace(content=first.decode())
            continue
        mode, _, rest = rest.partition(b" ")
        path, _, target = rest.removeprefix(b"./").partition(b"//")
        kind = _KINDS.get(first, first.decode())
        items[path] = Item(kind, int(mode, 8), os.fsdecode(target) if kind == "symlink" else "")
    return items


def delta(have: Mapping[bytes, Item], want: Mapping[bytes, Item]) -> Delta:
    """What to do so that `have` becomes `want`."""
    mkdir, chmod, send = [], [], []
    gone = have.keys() - want.keys()
    for path in sorted(want):
        new, old = want[path], have.get(path)
        if old and (old.kind != new.kind or (old.content != new.content and new.kind == "symlink")):
            gone.add(path)
            old = None
        if new.kind == "dir":
            if not old:
                mkdir.append(path)
            if not old or old.mode != new.mode:
                chmod.append((new.mode, path))
        elif not old or old.content != new.content:
            send.append(path)  # tar puts a new file in the place of an old one
        elif old.mode != new.mode:
            chmod.append((new.mode, path))
    remove = (path for path in sorted(gone) if path.rpartition(b"/")[0] not in gone)
    return Delta(tuple(remove), tuple(mkdir), tuple(sorted(chmod)), tuple(send))


def script(want: Mapping[bytes, Item], root: str, holder: str) -> str:
    """What `ship` runs on the machine. Until it is told what to do it changes nothing."""
    arguments = shlex.join(("set", "--", root, fingerprint(want), " ".join(holder.split())))
    return f"{arguments}\n{Path(__file__).with_name('ship.sh').read_text('utf-8')}"


async def ship(
    machine: Machine,
    context: Context,
    root: str,
    *,
    holder: str,
    progress: Callable[[int, int], None] = lambda _sent, _total: None,
    waiting: Callable[[str], None] = lambda _text: None,
) -> Shipped:
    """Make `root` on the machine hold exactly this context.

    holder: who ships, shown to anybody who waits for the lock. progress: bytes of files sent, and of all that
    are to be sent, before compression. waiting: called with a sentence when somebody else is shipping.

    Raises RehostError; it is retryable when trying again can help. Whatever happens, nothing but `root` and its
    neighbours `root.lock` and `root.ship` is touched, and the next ship puts it right.
    """
    want = wanted(context)
    channel = await machine.open(script(want, root, holder))
    try:
        return await _converse(channel, context, want, progress=progress, waiting=waiting)
    finally:
        await channel.close()


async def _converse(
    channel: Channel,
    context: Context,
    want: Mapping[bytes, Item],
    *,
    progress: Callable[[int, int], None],
    waiting: Callable[[str], None],
) -> Shipped:
    replies = Replies(channel, "the build context")
    total = sum(item.kind == "file" for item in want.values())
    word, rest = await replies.line()
    if word == "busy":
        waiting(
            f"{rest or 'somebody else'} is sending files there, or a build is reading them; waiting until that is done"
        )
        word, rest = await replies.line()
    if word == "same":
        return Shipped(0, 0, 0, total)
    if word != "have" or not rest.isdecimal():
        raise replies.strange(word, rest)
    have = parse(gzip.decompress(await replies.exactly(int(rest))))
    todo = delta(have, want)
    sent = 0
    try:
        for data in _orders(context, todo, progress):
            await channel.write(data)
            sent += len(data)
        await channel.eof()
    except ConnectionError as error:
        raise await replies.failure() from error
    word, rest = await replies.line()
    status, _ = await channel.finish()
    if (word, rest, status) != ("done", fingerprint(want), 0):
        raise RehostError(
            "the build context on the machine differs from the one here although all of it was sent.",
            cure="Try again; if it stays so, something else writes to that directory on the machine.",
            retryable=True,
        )
    files = sum(want[path].kind == "file" for path in todo.send)
    return Shipped(files, sent, len(todo.remove), total)


def _orders(context: Context, todo: Delta, progress: Callable[[int, int], None]) -> Iterator[bytes]:
    """What the script is told, in its own order."""
    if todo.remove:
        yield _counted(b"remove", todo.remove)
    # Not tar: it believes that a new directory has the mode that it asked for, and leaves it the
    # set-group-id bit that it inherited.
    if todo.mkdir:
        yield _counted(b"mkdir", todo.mkdir)
    for mode in sorted({mode for mode, _ in todo.chmod}):
        # Five digits: with fewer, chmod leaves the set-group-id bit of a directory as it was.
        yield _counted(b"chmod %05o" % mode, [path for each, path in todo.chmod if each == mode])
    if todo.send:
        yield b"files\n"
        # Level 5 keeps up with a 200 Mbit/s line and comes within a fiftieth of what gzip takes by itself (level 6);
        # level 3 is a third quicker and a tenth larger.
        squeeze = zlib.compressobj(5, zlib.DEFLATED, 31)
        for block in _archive(context, todo.send, progress):
            if data := squeeze.compress(block):
                yield data
        yield squeeze.flush()
    else:
        yield b"end\n"


def _counted(order: bytes, paths: tuple[bytes, ...] | list[bytes]) -> bytes:
    names = b"".join(b"./%s\0" % path for path in paths)
    return b"%s %d\n%s" % (order, len(names), names)


def _archive(
    context: Context, send: tuple[bytes, ...], progress: Callable[[int, int], None]
) -> Iterator[bytes]:
    """A tar archive of these names. GNU's format: it keeps names and targets as the bytes that they are."""
    entries = {_name(entry): entry for entry in context.entries}
    ours = {DOCKERFILE.encode(): context.dockerfile, IGNORE.encode(): IGNORE_CONTENT}
    total = sum(entries[path].size if path in entries else len(ours[path]) for path in send)
    sent = 0
    for path in send:
        if path in ours:
            parts, mode, size = iter((ours[path],)), 0o644, len(ours[path])
        elif entries[path].kind == "file":
            parts, mode, size = content(context.root, entries[path]), entries[path].mode, entries[path].size
        else:
            yield _header(path, tarfile.SYMTYPE, 0o777, target=entries[path].content)
            continue
        yield _header(path, tarfile.REGTYPE, mode, size)
        for part in parts:
            yield part
            sent += len(part)
            progress(sent, total)
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(path: bytes, kind: bytes, mode: int, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(os.fsdecode(path))
    info.type, info.mode, info.size, info.linkname = kind, mode, size, target
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def content(root: Path, entry: Entry) -> Iterator[bytes]:
    """A file's bytes. Raises RehostError when they are no longer those that were hashed."""
    digest, left = hashlib.sha256(), entry.size
    try:
        with os.fdopen(os.open(f"{root}/{entry.path}", os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while left and (part := file.read(min(left, CHUNK))):
                digest.update(part)
                left -= len(part)
                yield part
    except OSError as error:
        raise changed(root, entry.path) from error
    if left or digest.hexdigest() != entry.content:
        raise changed(root, entry.path)
