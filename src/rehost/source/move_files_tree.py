"""What a directory holds, and what makes a copy of it the same: pure, without a machine."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from rehost.run.errors import RehostError

MB: Final = 1 << 20
# Of a file from this size on, only pieces that differ travel, and a broken line costs one of them.
LARGE: Final = 32 * MB
PIECE: Final = 8 * MB  # as the scripts have it
BATCH: Final = 4 * MB
BATCH_NAMES: Final = 500
# A page of a mapped file that was written to may be written to again, without a new time, until the kernel has stored
# it, half a minute later. What was changed within this many seconds is read again.
SETTLES: Final = 120
ROOT: Final = b"."

_KINDS: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
_OTHERS: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}
_PLAIN: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./-_"
_ENCODED: Final = tuple(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in range(256))


class Entry(NamedTuple):
    """What lies at a name, as lstat(2) tells. mtime, ctime: whole seconds. size: bytes, of a file.

    taken: bytes of the disk, less than `size` where a file has holes.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    ctime: int
    size: int
    taken: int
    links: int
    inode: int


class Listing(NamedTuple):
    """A directory at one time, by the other side's clock. Names are bytes, "." or "./a/b".

    left_out: sockets and the like. unreadable: names that the reader may not open. errors: what find(1) and stat(1)
    said, without what vanished meanwhile.
    """

    entries: Mapping[bytes, Entry]
    left_out: Mapping[bytes, str]
    unreadable: tuple[bytes, ...]
    errors: str
    time: int

    @property
    def files(self) -> int:
        return sum(entry.kind != "dir" for entry in self.entries.values())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries.values() if entry.kind == "file")


EMPTY: Final = Listing({}, {}, (), "", 0)
# Of each file and link, what tells its content: SHA-256 of a file, of each piece of a large one; a link's target.
Content = tuple[bytes, ...]


class Difference(NamedTuple):
    """What makes the copy the same as the origin, in this order; metadata comes last.

    remove: topmost names. mkdir: parents first. small: files and links that are sent whole. large: of each file that is
    sent by pieces, the numbers of those that differ. owner: files whose metadata is set by itself. dirs: the same.
    """

    remove: tuple[bytes, ...]
    mkdir: tuple[bytes, ...]
    small: tuple[bytes, ...]
    large: Mapping[bytes, tuple[int, ...]]
    owner: tuple[bytes, ...]
    dirs: tuple[bytes, ...]

    def names(self) -> tuple[bytes, ...]:
        """What differed, without directories that only differ in their time."""
        return tuple(sorted({*self.remove, *self.mkdir, *self.small, *self.large, *self.owner}))


def encoded(names: Iterable[bytes]) -> str:
    """Names as printf's %b takes them (POSIX: an octal number after a backslash and a 0), each ended by a NUL."""
    return "".join("".join(map(_ENCODED.__getitem__, name)) + "\\0000" for name in names)


def encoded_name(name: bytes) -> str:
    """One name, without the NUL."""
    return "".join(map(_ENCODED.__getitem__, name))


def shown(name: bytes) -> str:
    """A name for a person: on one line, whatever is in it."""
    text = name.removeprefix(b"./").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]


def parse(raw: bytes) -> Listing:
    """Reads what `list` of move_files_read.sh said. Raises RehostError for what it never says."""
    entries: dict[bytes, Entry] = {}
    left_out: dict[bytes, str] = {}
    unreadable = []
    *records, last = raw.removesuffix(b"//\n").split(b"//\n")
    for record in records:
        word, _, rest = record.partition(b" ")
        if word == b"no":
            unreadable.append(rest)
            continue
        *numbers, name = record.split(b" ", 9)
        try:
            mode = int(numbers[0], 16)
            fields = [int(number) for number in numbers[1:]]
        except (ValueError, IndexError) as wrong:
            raise strange(record) from wrong
        kind = _KINDS.get(stat.S_IFMT(mode))
        if len(fields) != 8 or not _sound(name):
            raise strange(record)
        if kind is None:
            left_out[name] = _OTHERS.get(stat.S_IFMT(mode), "of an unknown kind")
            continue
        uid, gid, mtime, ctime, size, blocks, links, inode = fields
        size = size if kind == "file" else 0
        entries[name] = Entry(
            kind, stat.S_IMODE(mode), uid, gid, mtime, ctime, size, blocks * 512, links, inode
        )
    word, _, rest = last.partition(b" ")
    time, _, errors = rest.partition(b" ")
    if word != b"end" or not time.isdigit():
        raise strange(last)
    # What came in while the list was made may lie in a directory that has no record.
    whole = {name: entry for name, entry in entries.items() if _inside(name, entries)}
    return Listing(whole, left_out, tuple(unreadable), _errors(errors), int(time))


def _sound(name: bytes) -> bool:
    """Whether it is a name below the directory: what comes from the origin is written by root on the machine."""
    parts = name.split(b"/")
    return name == ROOT or (
        parts[0] == b"." and not {b"", b".", b".."} & set(parts[1:]) and b"\0" not in name
    )


def _inside(name: bytes, entries: Mapping[bytes, Entry]) -> bool:
    """Whether all above it are directories: a link in their place would lead elsewhere."""
    while name != ROOT:
        name = name.rpartition(b"/")[0]
        above = entries.get(name)
        if above is None or above.kind != "dir":
            return False
    return True


def _errors(raw: bytes) -> str:
    lines = raw.decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if not line.endswith("No such file or directory"))


def strange(said: bytes) -> RehostError:
    """The error for an answer that the scripts do not give."""
    return RehostError(
        f"the other side answered what no script of ours says: {said[:200]!r}.",
        cure="Something prints to every ssh session there; look at the shell's start-up files (.profile, .bashrc).",
    )


def by_pieces(name: bytes, entry: Entry) -> bool:
    """Whether a file is read by pieces: the large ones; those with several names, which tar would send as a link to
    another; and names that sha256sum(1) writes in its own way, GNU's and busybox's differently.
    """
    return entry.kind == "file" and (entry.size >= LARGE or entry.links > 1 or b"\\" in name or b"\n" in name)


def pieces(size: int) -> int:
    """How many pieces a file has; an empty file has one."""
    return max(1, -(-size // PIECE))


def piece_size(size: int, number: int) -> int:
    """Bytes of one piece of a file of this size."""
    return min(PIECE, size - number * PIECE)


def known(entry: Entry, equal: tuple[Entry, int] | None) -> bool:
    """Whether a file's content must be what it was when it was compared last.

    equal: how it was then, and the time of that listing. Whoever changes a file changes its ctime, which nobody can
    set. It counts whole seconds here; and see SETTLES.
    """
    return equal is not None and equal[0] == entry and entry.ctime < equal[1] - SETTLES


def comparable(origin: Mapping[bytes, Entry], copy: Mapping[bytes, Entry]) -> Iterator[bytes]:
    """Files whose contents have to be compared: on both sides, and small ones of the same size."""
    for name, entry in origin.items():
        there = copy.get(name)
        if there is None or not entry.kind == there.kind == "file":
            continue
        if by_pieces(name, entry) or there.size == entry.size:
            yield name


def difference(
    origin: Mapping[bytes, Entry],
    copy: Mapping[bytes, Entry],
    here: Mapping[bytes, Content],
    there: Mapping[bytes, Content],
    equal: Collection[bytes],
) -> Difference:
    """here, there: contents of both sides. equal: names whose contents need no comparison."""
    remove, mkdir, small, owner, dirs = set(copy.keys() - origin.keys()), [], [], [], set()
    large: dict[bytes, tuple[int, ...]] = {}
    for name in sorted(origin):
        new, old = origin[name], copy.get(name)
        if old is not None and old.kind != new.kind:
            remove.add(name)
            old = None
        if new.kind == "dir":
            if old is None:
                mkdir.append(name)
            if old is None or _metadata(old) != _metadata(new):
                dirs.add(name)
            continue
        if new.kind == "symlink":
            if old is None or old[2:4] != new[2:4] or here.get(name) != there.get(name):
                small.append(name)
        elif by_pieces(name, new):
            differing = (
                () if name in equal and old else _pieces(new, old, here.get(name, ()), there.get(name, ()))
            )
            if differing or old is None or old.size != new.size:
                large[name] = differing
            if name in large or old is None or _metadata(old) != _metadata(new):
                owner.append(name)
        elif old is None or (
            name not in equal and (old.size != new.size or here.get(name) != there.get(name))
        ):
            small.append(name)
        elif _metadata(old) != _metadata(new):
            owner.append(name)
    # What is written into a directory changes its time.
    dirs.update(name.rpartition(b"/")[0] for name in (*remove, *mkdir, *small, *large) if name != ROOT)
    topmost = tuple(name for name in sorted(remove) if name.rpartition(b"/")[0] not in remove)
    kept = tuple(name for name in sorted(dirs) if name in origin)
    return Difference(topmost, tuple(mkdir), tuple(small), large, tuple(owner), kept)


def _metadata(entry: Entry) -> tuple[int, int, int, int]:
    return entry.mode, entry.uid, entry.gid, entry.mtime


def _pieces(new: Entry, old: Entry | None, here: Content, there: Content) -> tuple[int, ...]:
    count = pieces(new.size)
    if old is None or len(here) != count or len(there) != count:
        return tuple(range(count)) if new.size else ()
    return tuple(number for number in range(count) if here[number] != there[number])


def lengthened(there: Content, had: int, size: int) -> Content:
    """The contents of a file's pieces once it has been made `size` long: zeros follow the `had` bytes that it has."""
    return tuple(
        hashlib.sha256(bytes(piece_size(size, number))).hexdigest().encode()
        if number * PIECE >= had
        else sha256
        for number, sha256 in enumerate(there)
    )


def batches(names: Iterable[bytes], entries: Mapping[bytes, Entry]) -> Iterator[list[bytes]]:
    """Names in groups of some megabytes."""
    group: list[bytes] = []
    size = 0
    for name in names:
        if group and (len(group) >= BATCH_NAMES or size + entries[name].size > BATCH):
            yield group
            group, size = [], 0
        group.append(name)
        size += entries[name].size
    if group:
        yield group


def grouped(
    names: Iterable[bytes], entries: Mapping[bytes, Entry], field: str
) -> Iterator[tuple[str, list[bytes]]]:
    """Names that get the same owner ("chown"), mode ("chmod") or time ("touch"), with what they get."""
    groups: dict[str, list[bytes]] = {}
    for name in names:
        entry = entries[name]
        value = {
            "chown": f"{entry.uid}:{entry.gid}",
            "chmod": f"{entry.mode:05o}",
            "touch": str(entry.mtime),
        }[field]
        groups.setdefault(value, []).append(name)
    for value, group in groups.items():
        for at in range(0, len(group), BATCH_NAMES):
            yield value, group[at : at + BATCH_NAMES]


def room(todo: Difference, origin: Mapping[bytes, Entry], copy: Mapping[bytes, Entry]) -> tuple[int, int]:
    """Bytes and inodes that the difference takes at most on the copy's disk, in blocks of 4 kB."""
    size = inodes = 0
    for name in (*todo.mkdir, *todo.small, *todo.large):
        there = copy.get(name)
        inodes += there is None
        # What was cut off has its whole size, and holes in it.
        had = there.taken if there is not None and there.kind == "file" and name in todo.large else 0
        size += max(0, -(-origin[name].size // 4096) * 4096 - had) + (4096 if there is None else 0)
    return size, inodes


def amount(size: float) -> str:
    """Bytes for a person: "3.1 GB"."""
    for unit, factor in (("GB", 1 << 30), ("MB", MB), ("kB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def counted(files: int, size: int) -> str:
    """ "1,204 files, 3.1 GB"."""
    return f"{files:,} file{'' if files == 1 else 's'}, {amount(size)}"


def progress(files: int, of: int, size: int, total: int, seconds: float) -> str:
    """How far a copy is, how fast, and how long it will take at that."""
    text = f"{files:,} of {of:,} files, {amount(size)} of {amount(total)}"
    if seconds >= 1 and size:
        rate = size / seconds
        left = round((total - size) / rate)
        clock = (
            f"{left // 3600} h {left % 3600 // 60} min" if left >= 3600 else f"{left // 60} min {left % 60} s"
        )
        text += f", {amount(rate)}/s, {clock if left >= 60 else f'{left} s'} left"
    return text
