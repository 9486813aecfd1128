"""Writing the copy on the machine, by one script that takes orders (move_files_write.sh)."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rehost.machine.answers import CHUNK, Answers
from rehost.machine.ssh import Channel, Machine
from rehost.source.move_files_read import Member, Piece, broken_off
from rehost.source.move_files_tree import (
    BATCH_NAMES,
    PIECE,
    Difference,
    Entry,
    encoded,
    encoded_name,
    grouped,
    strange,
)

_SCRIPT: Final = Path(__file__).with_name("move_files_write.sh")
_TYPES: Final = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE, "dir": tarfile.DIRTYPE}
_ZEROS: Final = bytes(PIECE)


class Writer:
    """One run of the script. free: bytes and inodes that the copy's disk has left."""

    def __init__(self, channel: Channel, label: str) -> None:
        self._channel = channel
        self._label = label
        self._answers = Answers(channel.read, self._failure)
        self.free = (0, 0)

    async def begin(self) -> None:
        words = (await self._answers.until(b"\n")).split()
        if words[:2] != [b"@@rehost", b"free"] or len(words) != 4:
            raise strange(b" ".join(words))
        # Some file systems (btrfs) count no inodes.
        self.free = int(words[2]), int(words[3]) if words[3].isdigit() and int(words[3]) else 1 << 62

    async def prepare(self, todo: Difference, entries: Mapping[bytes, Entry]) -> None:
        """What must be there, or gone, before files arrive."""
        await self._names("remove", todo.remove)
        await self._names("mkdir", todo.mkdir)
        for name in todo.large:
            await self._put(f"size {entries[name].size} {encoded_name(name)}\n".encode())

    async def members(self, members: Sequence[Member], entries: Mapping[bytes, Entry]) -> None:
        """Files and links, whole."""
        await self._tar(members, entries)

    async def piece(self, piece: Piece, data: bytes, had: int) -> None:
        """A piece of a large file. had: bytes that the file had before `prepare`: what follows them is zeros."""
        if piece.number * PIECE >= had and data == _ZEROS[: len(data)]:
            return
        await self._put(f"piece {piece.number} {len(data)} {encoded_name(piece.name)}\n".encode())
        await self._put(data)

    async def complete(self, todo: Difference, entries: Mapping[bytes, Entry]) -> None:
        """Owners, modes and times; of directories last. Returns when all of it is on the disk."""
        for order in ("chown", "chmod", "touch"):
            for value, group in grouped(todo.owner, entries, order):
                await self._put(f"{order} {value} {encoded(group)}\n".encode())
        for at in range(0, len(todo.dirs), BATCH_NAMES):
            await self._tar([Member(name, None, None) for name in todo.dirs[at : at + BATCH_NAMES]], entries)
        await self._put(b"done\n")
        line = await self._answers.until(b"\n")
        if line != b"@@rehost done":
            raise strange(line)

    async def _names(self, order: str, names: Sequence[bytes]) -> None:
        for at in range(0, len(names), BATCH_NAMES):
            await self._put(f"{order} {encoded(names[at : at + BATCH_NAMES])}\n".encode())

    async def _tar(self, members: Iterable[Member], entries: Mapping[bytes, Entry]) -> None:
        parts = []
        for member in members:
            parts.append(_header(member, entries[member.name]))
            if member.data:
                parts += [member.data, bytes(-len(member.data) % tarfile.BLOCKSIZE)]
        if parts:
            archive = b"".join((*parts, bytes(2 * tarfile.BLOCKSIZE)))
            await self._put(b"tar %d\n" % len(archive))
            await self._put(archive)

    async def _put(self, data: bytes) -> None:
        try:
            for at in range(0, len(data), CHUNK):
                await self._channel.write(data[at : at + CHUNK])
        except ConnectionError as broken:
            raise await self._failure() from broken

    async def _failure(self) -> Exception:
        status, errors = await self._channel.finish()
        return broken_off(self._label, status, errors)


def _header(member: Member, entry: Entry) -> bytes:
    info = tarfile.TarInfo(member.name.decode("utf-8", "surrogateescape"))
    info.type, info.mode, info.uid, info.gid = _TYPES[entry.kind], entry.mode, entry.uid, entry.gid
    info.mtime, info.size = entry.mtime, len(member.data or b"")
    info.linkname = (member.target or b"").decode("utf-8", "surrogateescape")
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


@asynccontextmanager
async def writing(machine: Machine, directory: str) -> AsyncIterator[Writer]:
    """A writer of the copy in `directory`, the move's own on the machine."""
    channel = await machine.open(f"set -- {shlex.quote(directory)}\n{_SCRIPT.read_text('utf-8')}")
    try:
        yield Writer(channel, machine.label)
    finally:
        await channel.close()
