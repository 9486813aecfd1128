"""A disk that moves: a directory that is reached by ssh, copied beside a volume of the machine, and swapped with it.

The bytes flow from there through this computer to the machine; nothing of them is written here. A copy is made in
rounds: both sides are listed and compared by SHA-256, what differs is sent, and again, until nothing differs. So a
round that finds no difference is the proof, and a copy that was cut off anywhere is carried on by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rehost.machine.ssh import Machine
from rehost.run.errors import Refused, RehostError, UsageError
from rehost.source import move_files_tree as tree
from rehost.source.move_files_read import Ended, Member, Piece, Reader, reading
from rehost.source.move_files_tree import EMPTY, Content, Difference, Entry, Listing, amount, counted, shown
from rehost.source.move_files_write import Writer, writing
from rehost.source.moving import Content as Told
from rehost.source.moving import Copied

# What is written to all the while differs in each; what was written to once does not.
ROUNDS: Final = 4
# Left free on the machine's disk, for what serves.
SPARE: Final = 200 * tree.MB
_NAMED: Final = 10
_ENDED: Final = 10
_TOLD_SECONDS: Final = 0.5
_SWAP: Final = Path(__file__).with_name("move_files_swap.sh")
_VOLUME: Final = """
docker volume inspect -f '{{.Driver}} {{json .Options}} {{.Mountpoint}}' "$1" 2>/dev/null || echo none
stat -c %d /var/lib/rehost "$(docker info -f '{{.DockerRootDir}}')/volumes"
"""


class Files:
    """The Mover of a volume (moving.py).

    origin: a connection as the user who is let in there; path: the directory there. volume: Docker's name of it.
    rehearse: files that change all the while are a note, and no error.
    notes: what a person should know, after `look` and `copy`.
    """

    def __init__(
        self,
        origin: Machine,
        path: str,
        machine: Machine,
        volume: str,
        *,
        name: str,
        app: str,
        rehearse: bool = False,
    ) -> None:
        self._origin = origin
        self._path = path
        self._machine = machine
        self._volume = volume
        self._name = name
        self._app = app
        self._rehearse = rehearse
        self._place = f"/var/lib/rehost/{app}/moving/{name}"
        self._full = False  # whether the volume holds anything
        self.notes: list[str] = []

    @property
    def name(self) -> str:
        return self._name

    async def look(self) -> tuple[Told, Told]:
        """Raises UsageError when the directory is not there, Refused for what can't be moved."""
        there, here = await asyncio.gather(self._look_there(), self._look_here())
        self._full = not _told(here).empty
        return _told(there), _told(here)

    async def copy(self, say: Callable[[str], None]) -> Copied:
        """Raises RehostError when files changed at the origin all the while, Refused when there is no room."""
        sending = _Sending(say)
        equal: dict[bytes, tuple[Entry, int]] = {}
        ended = rounds = 0
        while True:
            try:
                origin, todo = await self._round(equal, sending, last=rounds == ROUNDS)
            except Ended as cut:
                ended += 1
                if ended > _ENDED:
                    raise RehostError(
                        "reading the files was cut off again and again: are they written to all the while?",
                        where=self._origin.label,
                        cure="Make the app there quiet, and run the same command again.",
                    ) from cut
                continue
            if not any(todo):
                break
            if rounds == ROUNDS:
                self._unsettled(todo.names() or todo.dirs)
                break
            rounds += 1
        return Copied(counted(origin.files, origin.size), counted(sending.files, sending.size))

    def swap(self) -> str:
        return f"set -- swap {shlex.quote(self._volume)}\n{_SWAP.read_text('utf-8')}"

    def undo(self) -> str:
        return f"set -- undo {shlex.quote(self._volume)}\n{_SWAP.read_text('utf-8')}"

    def before(self) -> str:
        if not self._full:
            return ""
        place = f"{self._place}/before"
        return f"what the volume held is in {place}; `rehost ssh -- sudo rm -rf {place}` removes it"

    def secret(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing is open between the calls; both connections are the caller's."""

    async def _look_there(self) -> Listing:
        async with reading(self._origin, shlex.quote(self._path), root=False) as reader:
            if not await reader.begin():
                raise UsageError(
                    f"there is no directory {self._path}",
                    where=self._origin.label,
                    cure=f"Write the path of the disk there: `{self._name}` under [moves] in rehost.toml.",
                )
            return self._checked(await reader.listing())

    def _checked(self, listing: Listing) -> Listing:
        """The origin's listing. Raises Refused when not all of it may be read."""
        kinds: dict[str, list[bytes]] = {}
        for name, kind in sorted(listing.left_out.items()):
            kinds.setdefault(kind, []).append(name)
        for kind, names in kinds.items():
            self._note(f"left out, because there is no content in a {kind}: {_list(names)}")
        problem = _list(listing.unreadable) or listing.errors
        if problem:
            count = len(listing.unreadable)
            what = f"{count:,} of the files and directories" if count else "not all of the files"
            raise Refused(
                f"{what} may {'not ' if count else ''}be read by the user who is let in by ssh",
                where=f"{self._origin.label}:{self._path}",
                detail=problem,
                cure="Let that user read them there (chmod or chown), or remove them; then run the same command "
                "again.",
            )
        return listing

    async def _look_here(self) -> Listing:
        done = await self._machine.run(
            f"set -- {shlex.quote(self._volume)}\n{_VOLUME}", what="asking for the volume"
        )
        first, *devices = done.stdout.splitlines()
        driver, options, place = [*first.split(" ", 2), "", ""][:3]
        if first != "none" and (driver != "local" or options not in ("null", "{}")):
            raise Refused(
                f"the volume {self._volume} is not a plain directory (driver {driver}, options {options})",
                where=self._machine.label,
                cure="rehost exchanges directories of Docker's own; copy into this volume by hand.",
            )
        if len(set(devices)) != 1:
            raise Refused(
                "Docker keeps its volumes on another file system than /var/lib/rehost, where the copy lies",
                where=self._machine.label,
                cure="A copy there can't be put in place at once. Mount both from one disk.",
            )
        if first == "none":
            return EMPTY
        async with reading(self._machine, shlex.quote(place), root=True) as reader:
            return await reader.listing() if await reader.begin() else EMPTY

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    async def _round(
        self, equal: dict[bytes, tuple[Entry, int]], sending: _Sending, *, last: bool
    ) -> tuple[Listing, Difference]:
        """Lists, compares, and sends what differs unless it is the last round.

        equal: files that were the same on both sides, and when.
        """
        async with (
            writing(self._machine, self._place) as writer,
            reading(self._origin, shlex.quote(self._path), root=False) as there,
        ):
            await writer.begin()
            async with reading(self._machine, shlex.quote(f"{self._place}/copy"), root=True) as here:
                if not (await there.begin() and await here.begin()):
                    raise RehostError(
                        f"the directory {self._path}, or its copy, went away",
                        where=self._origin.label,
                        cure="Run the same command again.",
                        retryable=True,
                    )
                sending.say("listing the files of both sides")
                origin, copy = await asyncio.gather(there.listing(), here.listing())
                self._checked(origin)
                todo = await _compare(there, here, origin, copy, equal, sending)
            if any(todo) and not last:
                self._room(tree.room(todo, origin.entries, copy.entries), writer.free)
                await _send(there, writer, todo, origin.entries, copy.entries, sending)
        return origin, todo

    def _room(self, needed: tuple[int, int], free: tuple[int, int]) -> None:
        """Raises Refused when the copy does not fit."""
        size, inodes = needed
        if size + SPARE <= free[0] and inodes <= free[1]:
            return
        if inodes > free[1]:
            what = f"the copy needs {inodes:,} more files than there are, and the disk can hold {free[1]:,}"
        else:
            what = f"the copy needs {amount(size)} more, and {amount(SPARE)} are left free; there are {amount(free[0])}"
        raise Refused(
            f"the machine's disk has no room: {what}",
            where=self._machine.label,
            cure="Raise `disk` under [machine] in rehost.toml, or remove on the machine what is not needed; what "
            f"an earlier move put aside is {self._place}/before.",
        )

    def _unsettled(self, names: Sequence[bytes]) -> None:
        """Files that were not the same on both sides in any round. Raises RehostError unless this is a rehearsal."""
        what = (
            f"{len(names):,} file{' ' if len(names) == 1 else 's '}changed at the origin while being copied"
        )
        if self._rehearse:
            self._note(f"{what}: {_list(names)}. When the app there is quiet, they will not.")
            return
        raise RehostError(
            what,
            where=f"{self._origin.label}:{self._path}",
            detail=_list(names),
            cure="Make the app there quiet (at Render: maintenance mode), and run the same command again: only what "
            "differs is sent.",
        )


class _Sending:
    """What was sent so far, and how far this round is."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.files = self.size = 0
        self._of = self._total = self._done = self._read = 0
        self._began = self._told = 0.0
        self._words = ""

    def begin(self, words: str, files: int, size: int) -> None:
        self._words, self._of, self._total = words, files, size
        self._done = self._read = 0
        self._began = self._told = time.monotonic()

    def more(self, files: int, size: int) -> None:
        self._done += files
        self._read += size
        now = time.monotonic()
        if now - self._told >= _TOLD_SECONDS:
            self._told = now
            how = tree.progress(self._done, self._of, self._read, self._total, now - self._began)
            self.say(f"{self._words} {how}")

    def sent(self, files: int, size: int) -> None:
        self.files += files
        self.size += size
        self.more(files, size)


async def _compare(
    there: Reader,
    here: Reader,
    origin: Listing,
    copy: Listing,
    equal: dict[bytes, tuple[Entry, int]],
    sending: _Sending,
) -> Difference:
    """Reads both sides at once. Files that are the same are put into `equal`."""
    both = set(tree.comparable(origin.entries, copy.entries))
    fresh = sorted(name for name in both if not tree.known(origin.entries[name], equal.get(name)))
    sending.begin("comparing", len(fresh), sum(origin.entries[name].size for name in fresh))

    async def contents(
        reader: Reader, listing: Listing, more: Callable[[int, int], None]
    ) -> dict[bytes, Content]:
        return await reader.contents(fresh, origin.entries, more) | await reader.links(listing.entries)

    ours, theirs = await asyncio.gather(
        contents(there, origin, sending.more), contents(here, copy, lambda _files, _bytes: None)
    )
    for name in fresh:
        if name in theirs and tree.by_pieces(name, origin.entries[name]):
            theirs[name] = tree.lengthened(theirs[name], copy.entries[name].size, origin.entries[name].size)
        if ours.get(name) == theirs.get(name) is not None:
            equal[name] = origin.entries[name], origin.time
        else:
            equal.pop(name, None)
    return tree.difference(
        origin.entries, copy.entries, ours, theirs, {name for name in both if name in equal}
    )


async def _send(
    there: Reader,
    writer: Writer,
    todo: Difference,
    origin: Mapping[bytes, Entry],
    copy: Mapping[bytes, Entry],
    sending: _Sending,
) -> None:
    parts = [
        Piece(name, number, tree.piece_size(origin[name].size, number))
        for name, numbers in todo.large.items()
        for number in numbers
    ]
    small = sum(origin[name].size for name in todo.small)
    sending.begin("copying", len(todo.small) + len(todo.large), small + sum(part.size for part in parts))
    await writer.prepare(todo, origin)
    # Reading goes on while the machine takes what was read.
    queue: asyncio.Queue[list[Member] | tuple[Piece, bytes] | None] = asyncio.Queue(2)

    async def fetch() -> None:
        try:
            async with contextlib.aclosing(there.fetch(tree.batches(todo.small, origin), parts)) as found:
                async for arrived in found:
                    await queue.put(arrived)
        finally:
            await queue.put(None)

    asked = {name: origin[name].kind for name in todo.small}
    fetching = asyncio.create_task(fetch())
    try:
        while (arrived := await queue.get()) is not None:
            if isinstance(arrived, list):
                # One that has become something else meanwhile is for the next round.
                members = [member for member in arrived if member.kind == asked.get(member.name)]
                await writer.members(members, origin)
                sending.sent(len(members), sum(len(member.data or b"") for member in members))
            else:
                part, data = arrived
                await writer.piece(part, data, had=_had(copy.get(part.name)))
                sending.sent(part.number == todo.large[part.name][-1], len(data))
        await fetching
        await writer.complete(todo, origin)
    finally:
        fetching.cancel()
        with contextlib.suppress(asyncio.CancelledError, Ended, RehostError):
            await fetching


def _had(entry: Entry | None) -> int:
    return entry.size if entry is not None else 0


def _told(listing: Listing) -> Told:
    return Told(counted(listing.files, listing.size), not listing.entries.keys() - {tree.ROOT})


def _list(names: Sequence[bytes]) -> str:
    """The first of some names, for a person."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more
