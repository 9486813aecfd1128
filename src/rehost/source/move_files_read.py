"""Reading a directory on the other side of an ssh connection, by a script that runs under any sh (move_files_read.sh).

Orders go out without waiting for the answers to those before, so that a long way there costs its time once.
"""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rehost.machine.answers import CHUNK, Answers
from rehost.machine.ssh import Channel, Machine
from rehost.run.errors import RehostError
from rehost.source.move_files_tree import (
    LARGE,
    Content,
    Entry,
    Listing,
    batches,
    by_pieces,
    encoded,
    encoded_name,
    parse,
    piece_size,
    pieces,
    strange,
)

_BLOCK: Final = tarfile.BLOCKSIZE
_GREETING: Final = 100  # lines
_END: Final = b"@@rehost-end"
_SCRIPT: Final = Path(__file__).with_name("move_files_read.sh")


class Ended(Exception):
    """The script ended by itself before all was said: begin anew (see `files` there)."""


class Member(NamedTuple):
    """What tar said of one name. data: of a file; target: of a symbolic link; both None for anything else."""

    name: bytes
    data: bytes | None
    target: bytes | None

    @property
    def kind(self) -> str:
        return "file" if self.data is not None else "symlink" if self.target is not None else ""


class Piece(NamedTuple):
    """A piece of a file that is to be read."""

    name: bytes
    number: int
    size: int


class Reader:
    """One run of the script. Its methods are called one after the other."""

    def __init__(self, channel: Channel, label: str) -> None:
        self._channel = channel
        self._label = label
        answers = Answers(channel.read, self._failure)
        self._until, self._exactly = answers.until, answers.exactly

    async def begin(self) -> bool:
        """Whether the directory is there. What a login prints stands before the first word of ours."""
        for _ in range(_GREETING):
            line = await self._until(b"\n")
            if line in (b"@@rehost here", b"@@rehost missing"):
                return line == b"@@rehost here"
        raise strange(line)

    async def listing(self) -> Listing:
        async with self._asking(["list\n"]):
            raw = bytearray()
            while True:
                record = await self._until(b"//\n")
                raw += record + b"//\n"
                if record.startswith(b"end "):
                    return parse(bytes(raw))

    async def links(self, entries: Mapping[bytes, Entry]) -> dict[bytes, Content]:
        """The targets of all symbolic links. One that is gone is missing."""
        names = [name for name, entry in entries.items() if entry.kind == "symlink"]
        found: dict[bytes, Content] = {}
        async for arrived in self.fetch(batches(names, entries), ()):
            for member in arrived if isinstance(arrived, list) else ():
                if member.target is not None:
                    found[member.name] = (member.target,)
        return found

    async def contents(
        self,
        names: Iterable[bytes],
        entries: Mapping[bytes, Entry],
        done: Callable[[int, int], None] = lambda _files, _bytes: None,
    ) -> dict[bytes, Content]:
        """SHA-256 of files, in hexadecimal; of large ones by pieces. One that could not be read is missing.

        done: so many more files and bytes of them were read.
        """
        listed = list(names)
        small = list(batches((name for name in listed if not by_pieces(name, entries[name])), entries))
        large = [name for name in listed if by_pieces(name, entries[name])]
        orders = [
            *(f"hash {encoded(group)}\n" for group in small),
            *(f"sums {pieces(entries[name].size)} {encoded_name(name)}\n" for name in large),
        ]
        found: dict[bytes, Content] = {}
        async with self._asking(orders):
            for group in small:
                while (line := await self._until(b"\n")) != b"end":
                    sha256, _, name = line.partition(b"  ")
                    if len(sha256) != 64 or name not in entries:
                        raise strange(line)
                    found[name] = (sha256,)
                done(len(group), sum(entries[name].size for name in group))
            for name in large:
                sums = []
                size = entries[name].size
                for number in range(pieces(size)):
                    sums.append((await self._until(b"\n"))[:64])
                    done(0, piece_size(size, number))
                found[name] = tuple(sums)
                done(1, 0)
        return found

    async def fetch(
        self, groups: Iterable[Sequence[bytes]], parts: Sequence[Piece]
    ) -> AsyncGenerator[list[Member] | tuple[Piece, bytes], None]:
        """For each group of names its files and links, as far as they are there; then each piece with its bytes.

        Raises Ended when what comes next has to be asked for anew.
        """
        whole = [f"files {encoded(group)}\n" for group in groups]
        pieced = [f"piece {part.number} {part.size} {encoded_name(part.name)}\n" for part in parts]
        async with self._asking([*whole, *pieced]):
            for _ in whole:
                yield [member async for member in self._archive()]
            for part in parts:
                yield part, await self._exactly(part.size)

    async def _archive(self) -> AsyncIterator[Member]:
        """Members of tar archives up to the block that ends them. GNU's format, and POSIX' (pax) for long names."""
        name = target = b""
        while not (block := await self._exactly(_BLOCK)).startswith(_END):
            if not block.strip(b"\0"):
                continue
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError as wrong:  # a tar that broke off in the middle of a file
                raise Ended from wrong
            size = (
                header.size if header.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE) else 0
            )
            padded = -(-size // _BLOCK) * _BLOCK
            if size > 2 * LARGE:  # it has grown since it was listed
                await self._skip(padded)
                name = target = b""
                continue
            data = (await self._exactly(padded))[:size]
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = data.rstrip(b"\0")
            elif header.type == tarfile.GNUTYPE_LONGLINK:
                target = data.rstrip(b"\0")
            elif header.type == tarfile.XHDTYPE:
                words = _pax(data)
                name, target = words.get(b"path", b""), words.get(b"linkpath", b"")
            elif header.type != tarfile.XGLTYPE:
                full = name or header.name.encode("utf-8", "surrogateescape")
                to = target or header.linkname.encode("utf-8", "surrogateescape")
                name = target = b""
                regular = header.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                yield Member(full, data if regular else None, to if header.type == tarfile.SYMTYPE else None)

    @asynccontextmanager
    async def _asking(self, orders: Iterable[str]) -> AsyncIterator[None]:
        """Writes orders while the block reads the answers."""

        async def write() -> None:
            for order in orders:
                await self._channel.write(order.encode())

        writing = asyncio.create_task(write())
        try:
            yield
            await writing
        except ConnectionError as broken:
            raise await self._failure() from broken
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await writing

    async def _skip(self, count: int) -> None:
        while count > 0:
            count -= len(await self._exactly(min(count, CHUNK)))

    async def _failure(self) -> Exception:
        status, errors = await self._channel.finish()
        return Ended() if status == 0 else broken_off(self._label, status, errors)


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The words of a pax header: "LENGTH KEY=VALUE\\n"."""
    words = {}
    while data.strip(b"\0"):
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise strange(data)
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        key, _, value = record.partition(b"=")
        words[key] = value
    return words


def broken_off(label: str, status: int, errors: bytes) -> RehostError:
    """Why a script ended early. status: negative for a connection that broke."""
    said = errors.decode("utf-8", "replace").strip()
    if "No space left on device" in said:
        return RehostError(
            "the machine's disk is full",
            where=label,
            cure="Raise `disk` under [machine] in rehost.toml, or remove on the machine what is not needed; then run "
            "the same command again: it carries on.",
            detail=said[-2000:],
        )
    why = "the connection broke" if status < 0 else f"the script there ended early, status {status}"
    return RehostError(
        f"the copying of files stopped: {why}",
        where=label,
        cure="Run the same command again: it carries on with what is missing.",
        detail=said[-2000:],
        retryable=True,
    )


@asynccontextmanager
async def reading(machine: Machine, directory: str, *, root: bool) -> AsyncIterator[Reader]:
    """A reader of a directory. directory: a word of sh. root: whether it is read as root."""
    channel = await machine.open(f"set -- {directory}\n{_SCRIPT.read_text('utf-8')}", root=root)
    try:
        yield Reader(channel, machine.label)
    finally:
        await channel.close()
