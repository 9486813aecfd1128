"""Disks that move: what is decided about a copy, without a machine."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.run.errors import RehostError
from rehost.source import move_files_tree as tree
from rehost.source.move_files_tree import Content, Entry

MB = tree.MB
ANY_NAME = b"./" + bytes(byte for byte in range(1, 256) if byte != ord("/"))


def entry(
    kind: str = "file",
    *,
    mode: int = 0o644,
    uid: int = 1000,
    mtime: int = 5,
    ctime: int = 5,
    size: int = 0,
    links: int = 1,
) -> Entry:
    return Entry(kind, mode, uid, 1000, mtime, ctime, size, 512, links, 7)


def test_any_name_passes_through_the_shell() -> None:
    script = f"printf '%b' '{tree.encoded([ANY_NAME, b'./b'])}'"
    said = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    assert said == ANY_NAME + b"\0./b\0"


def record(name: bytes, each: Entry) -> bytes:
    kinds = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    return (
        b"%x " % (kinds[each.kind] | each.mode)
        + b"%d %d %d %d %d %d %d %d " % _numbers(each)
        + name
        + b"//\n"
    )


def _numbers(each: Entry) -> tuple[int, ...]:
    return *each[2:7], each.taken // 512, each.links, each.inode


PARTS = st.sampled_from([b"a", b"b", b"c d", b"\n", b"\\", b"-x", b"\xe9", b"..."])


@st.composite
def trees(draw: st.DrawFn) -> dict[bytes, tuple[Entry, Content]]:
    """A directory and what tells its contents."""
    found: dict[bytes, tuple[Entry, Content]] = {b".": (entry("dir", mode=0o755), ())}
    for _ in range(draw(st.integers(0, 8))):
        above = draw(st.sampled_from(sorted(name for name, one in found.items() if one[0].kind == "dir")))
        name = above + b"/" + draw(PARTS)
        kind = draw(st.sampled_from(["file", "file", "dir", "symlink"]))
        if name in found:
            continue
        # One piece, so that the content tells the size.
        content = draw(st.sampled_from([b"1", b"22", b"333"]))
        made = entry(
            kind,
            mode=draw(st.sampled_from([0o600, 0o4755])),
            uid=draw(st.sampled_from([0, 5])),
            mtime=draw(st.sampled_from([1, 2])),
            links=draw(st.sampled_from([1, 2])) if kind == "file" else 1,
            size=len(content) if kind == "file" else 0,
        )
        found[name] = made, (content,) if kind != "dir" else ()
    return found


@given(trees(), st.binary(max_size=40))
def test_what_a_listing_says_is_read_back(made: dict[bytes, tuple[Entry, Content]], noise: bytes) -> None:
    entries = {name: one[0] for name, one in made.items()}
    raw = b"".join(record(name, each) for name, each in entries.items())
    listing = tree.parse(raw + b"no ./secret//\nend 17 find: ./x: Permission denied//\n")
    assert listing.entries == entries
    assert (listing.unreadable, listing.time) == ((b"./secret",), 17)
    assert listing.errors == "find: ./x: Permission denied"
    try:
        tree.parse(raw + noise + b"//\nend 17 //\n")
    except RehostError as error:
        assert "what no script of ours says" in error.what


def applied(
    todo: tree.Difference,
    origin: dict[bytes, tuple[Entry, Content]],
    copy: dict[bytes, tuple[Entry, Content]],
) -> dict[bytes, tuple[Entry, Content]]:
    """The copy after what the machine's script does with a difference."""
    made = {
        name: one
        for name, one in copy.items()
        if not any(name == gone or name.startswith(gone + b"/") for gone in todo.remove)
    }
    for name in todo.mkdir:
        assert name.rpartition(b"/")[0] in made or name == b"."
        made[name] = entry("dir", mode=0o700, uid=0), ()
    for name in (*todo.small, *todo.large):
        assert made[name.rpartition(b"/")[0]][0].kind == "dir"
        assert name not in made or made[name][0].kind == origin[name][0].kind
        written = origin[name][0]
        if name in todo.large:
            written = written._replace(mode=0o600, uid=0, mtime=99)
        made[name] = written, origin[name][1]
    for name in (*todo.owner, *todo.dirs):
        made[name] = origin[name][0], made[name][1]
    return made


@given(trees(), trees())
def test_a_difference_makes_the_copy_the_same(
    origin: dict[bytes, tuple[Entry, Content]], copy: dict[bytes, tuple[Entry, Content]]
) -> None:
    def compared(copy: dict[bytes, tuple[Entry, Content]]) -> tree.Difference:
        here, there = ({name: one[0] for name, one in side.items()} for side in (origin, copy))
        ours, theirs = ({name: one[1] for name, one in side.items()} for side in (origin, copy))
        return tree.difference(here, there, ours, theirs, equal=())

    assert not any(compared(applied(compared(copy), origin, copy)))
    assert not any(compared(origin))
    fresh = compared({})
    assert {*fresh.mkdir, *fresh.small, *fresh.large} == set(origin)


@pytest.mark.parametrize("name", [b"/etc/passwd", b"./../x", b"./a/./b", b"x", b"./", b"./a/"])
def test_a_name_that_leads_elsewhere_is_refused(name: bytes) -> None:
    with pytest.raises(RehostError, match="no script of ours"):
        tree.parse(record(b".", entry("dir")) + record(name, entry()) + b"end 1 //\n")


def test_nothing_is_written_below_a_link() -> None:
    raw = record(b".", entry("dir")) + record(b"./l", entry("symlink")) + record(b"./l/x", entry())
    assert set(tree.parse(raw + b"end 1 //\n").entries) == {b".", b"./l"}


def test_only_what_cannot_have_changed_is_not_read_again() -> None:
    old = entry(ctime=1000)
    assert tree.known(old, (old, 1000 + tree.SETTLES + 1))
    assert not tree.known(old, (old, 1000 + tree.SETTLES))
    assert not tree.known(old, (old._replace(ctime=999), 9000))
    assert not tree.known(old, (old._replace(inode=8), 9000))
    assert not tree.known(old, None)


def test_progress_and_amounts() -> None:
    assert tree.progress(5, 1204, MB, 1024 * MB, 0.5) == "5 of 1,204 files, 1.0 MB of 1.0 GB"
    told = tree.progress(5, 10, 24 * MB, 1024 * MB, 10)
    assert told == "5 of 10 files, 24.0 MB of 1.0 GB, 2.4 MB/s, 6 min 57 s left"
    assert tree.progress(1, 2, 1, 7201, 2).endswith("4 h 0 min left")
    assert (tree.counted(1, 12), tree.counted(1204, 3 << 30)) == ("1 file, 12 B", "1,204 files, 3.0 GB")
    assert tree.shown(b"./caf\xc3\xa9 \xff\n") == "café \\\\xff\\n"
