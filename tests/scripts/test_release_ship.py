"""The real script, run by a real sh, in a directory that stands for the machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehost.release import context, ship
from rehost.release.context import Context
from rehost.release.ship import Delta, Item, Shipped, delta, fingerprint, listing, parse
from rehost.run.errors import RehostError

BESIDE = ("context.lock", "context.shipped")
SCRIPT = Path(ship.__file__).with_name("ship.sh")


class Process:
    """A script running here. It takes no more than `limit` bytes of input, then hangs up."""

    def __init__(self, process: asyncio.subprocess.Process, limit: int | None) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        self._errors = asyncio.create_task(process.stderr.read())
        self._left = limit

    async def read(self, most: int) -> bytes:
        return await self.stdout.read(most)

    async def write(self, data: bytes) -> None:
        if self._left is not None:
            data, enough = data[: self._left], len(data) >= self._left
            self._left -= len(data)
            self.stdin.write(data)
            if enough:
                self.stdin.close()
                raise BrokenPipeError
        else:
            self.stdin.write(data)
        await self.stdin.drain()

    async def eof(self) -> None:
        self.stdin.close()

    async def finish(self) -> tuple[int, bytes]:
        errors = await self._errors
        return await self.process.wait(), errors

    async def close(self) -> None:
        self.stdin.close()
        await self.stdout.read()
        await self.finish()
        with contextlib.suppress(ConnectionError):
            await self.stdin.wait_closed()


@dataclass
class Here:
    """The machine. before: changes the script, to stand for a machine on which something is wrong."""

    limit: int | None = None
    before: Callable[[str], str] = lambda script: script
    opened: list[Process] = field(default_factory=list)

    async def open(self, script: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", self.before(script)), stdin=-1, stdout=-1, stderr=-1, start_new_session=True
        )
        self.opened.append(Process(process, self.limit))
        return self.opened[-1]


def send(found: Context, root: Path, limit: int | None = None) -> Shipped:
    return asyncio.run(ship.ship(Here(limit), found, str(root), holder="test"))


def tree(root: Path) -> dict[bytes, tuple[int, bytes]]:
    """What lies below `root`: type and mode, content or target."""
    found = {}
    for where, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(where, name)  # noqa: PTH118 (bytes)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)  # noqa: PTH115
            else:
                content = b"" if stat.S_ISDIR(mode) else Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, os.fsencode(root))] = (mode, content)
    return found


@dataclass(frozen=True)
class Place:
    """A project and the machine's directory."""

    project: Path
    root: Path

    @property
    def context(self) -> Path:
        return self.project / "context"

    def read(self) -> Context:
        return context.read(self.project, context="context", allow=["."])

    def exact(self) -> bool:
        there = tree(self.root)
        mine = {name: there.pop(name) for name in list(there) if not name.startswith(b"tree/")}
        assert set(mine) == {b"Dockerfile", b"Dockerfile.dockerignore", b"tree"}
        assert mine[b"Dockerfile"][1] == (self.project / "Dockerfile").read_bytes()
        return {name.removeprefix(b"tree/"): what for name, what in there.items()} == tree(self.context)


def make(directory: Path) -> Place:
    place = Place(directory / "project", directory / "var lib's/app/context")
    place.context.mkdir(parents=True)
    (place.project / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path)


def test_only_what_changed_is_sent(place: Place) -> None:
    for name in "abc":
        (place.context / name).write_text(name * 100)
    assert send(place.read(), place.root).files_sent == 5
    assert place.exact()
    assert send(place.read(), place.root) == Shipped(0, 0, 0, 5)
    (place.context / "b").write_text("B" * 100)
    (place.context / "c").unlink()
    again = send(place.read(), place.root)
    assert (again.files_sent, again.removed, again.total_files) == (1, 1, 4)
    assert 0 < again.bytes_sent < 400
    assert place.exact()


def test_the_machine_is_the_truth(place: Place) -> None:
    for name in ("kept", "edited", "removed", "modes"):
        (place.context / name).write_text(name)
    send(place.read(), place.root)
    there = place.root / "tree"
    before = (there / "edited").stat()
    (there / "edited").write_text("EDITED")
    os.utime(there / "edited", ns=(before.st_atime_ns, before.st_mtime_ns))
    (there / "removed").unlink()
    (there / "modes").chmod(0o4777)
    (there / "strange").mkdir()
    (there / "strange" / "-rf *").write_text("")
    (place.root / "-").write_text("")
    os.mkfifo(there / "pipe")
    (place.root / "Dockerfile").write_text("FROM other")
    assert send(place.read(), place.root).files_sent == 3
    assert place.exact()


def test_a_changed_file_gets_a_new_time_and_others_keep_theirs(place: Place) -> None:
    """BuildKit compares size and time: a changed file with the old time would be built with its old content."""
    for name in "ab":
        (place.context / name).write_text("1")
        os.utime(place.context / name, (1, 1))
    send(place.read(), place.root)
    before = {name: (place.root / "tree" / name).stat().st_mtime_ns for name in "ab"}
    (place.context / "b").write_text("2")
    os.utime(place.context / "b", (1, 1))
    send(place.read(), place.root)
    after = {name: (place.root / "tree" / name).stat().st_mtime_ns for name in "ab"}
    assert after["a"] == before["a"]
    assert after["b"] > before["b"]


def test_nobody_else_may_read_it(place: Place) -> None:
    send(place.read(), place.root)
    assert place.root.stat().st_mode & 0o077 == 0
    for name in BESIDE:
        assert (place.root.parent / name).stat().st_mode & 0o077 == 0
    assert {path.name for path in place.root.parent.iterdir()} == {"context", *BESIDE}


def test_kinds_change_places(place: Place) -> None:
    there = place.context
    (there / "file-dir").write_text("f")
    (there / "dir-file").mkdir()
    (there / "dir-file" / "inner").write_text("i")
    (there / "dir-link").mkdir()
    (there / "dir-link" / "inner").write_text("i")
    (there / "link-dir").symlink_to("dir-link")
    (there / "link-file").symlink_to("dir-link/inner")
    (there / "link-link").symlink_to("dir-link")
    send(place.read(), place.root)
    assert place.exact()
    for name in ("file-dir", "link-dir", "link-file", "link-link"):
        (there / name).unlink()
    for name in ("dir-file", "dir-link"):
        shutil.rmtree(there / name)
    (there / "file-dir").mkdir()
    (there / "file-dir" / "inner").write_text("i")
    (there / "dir-file").write_text("f")
    (there / "dir-link").symlink_to("/etc")
    (there / "link-dir").mkdir()
    (there / "link-dir" / "passwd").write_text("mine")
    (there / "link-file").write_text("f")
    (there / "link-link").symlink_to("../../..")
    send(place.read(), place.root)
    assert place.exact()


def test_a_new_directory_does_not_inherit_the_group_bit(place: Place) -> None:
    (place.context / "shared").mkdir()
    (place.context / "shared").chmod(0o2775)
    send(place.read(), place.root)
    (place.context / "shared" / "new").mkdir()
    (place.context / "shared" / "new").chmod(0o700)
    send(place.read(), place.root)
    assert place.exact()
    (place.context / "shared").chmod(0o755)
    send(place.read(), place.root)
    assert place.exact()


# Trees. A name can hold anything but NUL and a slash.
NAME = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "-rf", "--", " ", "\n", "a\nb", "'", '"', "$(x)", "\\", "*", "é", "\udcff\udc80"]
    ),
    st.binary(min_size=1, max_size=6).map(
        lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"~"))
    ),
    st.just("n" * 120),
).filter(lambda name: name not in (".", "..", ".dockerignore", ".git"))
MODE = st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o4755])
FILE = st.tuples(st.binary(max_size=20) | st.just(b"x" * 700), MODE)
LINK = st.sampled_from(
    ["a", "b", "../../..", "/etc/passwd", "//x", "with\nline and space", "\udcfe", "t" * 150]
)
FOLDER = st.sampled_from([0o755, 0o700, 0o2775, 0o1777])
Tree = dict[str, object]
TREE = st.recursive(
    st.dictionaries(NAME, FILE | LINK, max_size=3),
    lambda below: st.dictionaries(NAME, FILE | LINK | st.tuples(below, FOLDER), max_size=4),
    max_leaves=8,
)


def build(directory: Path, nodes: Tree) -> None:
    for name, node in nodes.items():
        path = f"{directory}/{name}"
        if isinstance(node, str):
            os.symlink(node, path)  # noqa: PTH211 (a Path would lose "//")
            continue
        assert isinstance(node, tuple)
        if isinstance(node[0], bytes):
            Path(path).write_bytes(node[0])
        else:
            Path(path).mkdir()
            build(Path(path), node[0])
        Path(path).chmod(node[1])


@contextlib.contextmanager
def two_trees(first: Tree, second: Tree) -> Iterator[tuple[Place, Context, Callable[[], Context]]]:
    with tempfile.TemporaryDirectory() as name:
        place = make(Path(name))
        build(place.context, first)

        def change() -> Context:
            shutil.rmtree(place.context)
            place.context.mkdir()
            build(place.context, second)
            return place.read()

        yield place, place.read(), change


# Every example runs the script two or three times, a tenth of a second each.
SLOW = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(TREE, TREE)
def test_any_tree_arrives_and_becomes_any_other(first: Tree, second: Tree) -> None:
    with two_trees(first, second) as (place, before, change):
        send(before, place.root)
        assert place.exact()
        after = change()
        send(after, place.root)
        assert place.exact()
        assert send(after, place.root).files_sent == 0


@SLOW
@given(TREE, TREE, st.integers(1, 400) | st.integers(1, 3000))
def test_a_ship_cut_off_anywhere_is_put_right_by_the_next(first: Tree, second: Tree, after: int) -> None:
    with two_trees(first, second) as (place, before, change):
        send(before, place.root)
        now = change()
        # If all that had to be said was shorter, it is not cut off.
        with contextlib.suppress(RehostError):
            send(now, place.root, limit=after)
        assert {path.name for path in place.root.parent.iterdir()} <= {"context", *BESIDE}
        mark = place.root.parent / "context.shipped"
        if mark.exists() and mark.read_text().strip() == fingerprint(ship.wanted(now)):
            assert place.exact()
        elif mark.exists():  # cut off before its first order
            assert send(before, place.root).bytes_sent == 0
        send(now, place.root)
        assert place.exact()


def test_a_ship_cut_off_says_so_and_may_be_repeated(place: Place) -> None:
    (place.context / "big").write_bytes(os.urandom(100_000))
    with pytest.raises(RehostError, match="ended early") as caught:
        send(place.read(), place.root, limit=50_000)
    assert caught.value.retryable
    assert "unexpected end of file" in caught.value.detail
    send(place.read(), place.root)
    assert place.exact()


@pytest.mark.parametrize("limit", [1, len("files"), len("files\n"), 40])
def test_an_order_cut_off_is_no_order(place: Place, limit: int) -> None:
    (place.context / "a").write_text("a")
    with pytest.raises(RehostError, match="ended early"):
        send(place.read(), place.root, limit=limit)
    assert not (place.root.parent / "context.shipped").exists()


def test_a_list_of_names_cut_off_removes_nothing(place: Place) -> None:
    """Half of a name could be the name of something else."""
    (place.context / "a").mkdir()
    (place.context / "a" / "old").write_text("")
    (place.context / "a" / "kept").write_text("")
    send(place.read(), place.root)
    (place.context / "a" / "old").unlink()
    with pytest.raises(RehostError) as caught:
        send(place.read(), place.root, limit=len("remove 13\n./tree/a"))
    assert "ended too early" in caught.value.detail
    assert {path.name for path in (place.root / "tree/a").iterdir()} == {"old", "kept"}


def test_killed_on_the_machine(place: Place) -> None:
    (place.context / "a").write_text("a")

    async def killed() -> None:
        here = Here()

        def kill(_sent: int, _total: int) -> None:
            # Told of more bytes, it is dead already, and perhaps gone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(here.opened[0].process.pid, signal.SIGKILL)

        with pytest.raises(RehostError, match="broke, or the script there was killed"):
            await ship.ship(here, place.read(), str(place.root), holder="test", progress=kill)

    asyncio.run(killed())
    send(place.read(), place.root)
    assert place.exact()
    assert {path.name for path in place.root.parent.iterdir()} == {"context", *BESIDE}


def test_the_second_ship_waits_and_says_for_whom(place: Place) -> None:
    (place.context / "a").write_text("a")
    place.root.parent.mkdir(parents=True)
    lock = place.root.parent / "context.lock"
    said: list[str] = []

    def waiting(text: str) -> None:
        said.append(text)
        assert not (place.root / "tree").exists()
        fcntl.flock(held, fcntl.LOCK_UN)

    with lock.open("w") as held:
        held.write("kim@laptop\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.run(ship.ship(Here(), place.read(), str(place.root), holder="lee@\n desk", waiting=waiting))
    assert len(said) == 1
    assert said[0].startswith("kim@laptop is sending files")
    assert lock.read_text() == "lee@ desk\n"
    assert place.exact()


def test_two_ships_at_once_are_done_one_after_the_other(place: Place, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    (place.context / "a").write_bytes(os.urandom(200_000))
    (other.context / "b").write_bytes(os.urandom(200_000))

    async def both() -> None:
        mine, theirs = place.read(), other.read()
        root = str(place.root)
        await asyncio.gather(*(ship.ship(Here(), each, root, holder="test") for each in (mine, theirs, mine)))

    asyncio.run(both())
    assert place.exact() or Place(other.project, place.root).exact()


def test_what_was_shipped_whole_is_written_down_for_the_build(place: Place) -> None:
    (place.context / "a").write_bytes(os.urandom(50_000))
    mark = place.root.parent / "context.shipped"
    send(place.read(), place.root)
    assert mark.read_text() == fingerprint(ship.wanted(place.read())) + "\n"
    (place.context / "a").write_bytes(os.urandom(50_000))
    with pytest.raises(RehostError):
        send(place.read(), place.root, limit=20_000)
    assert not mark.exists()
    for _ in range(2):
        send(place.read(), place.root)
        assert mark.read_text() == fingerprint(ship.wanted(place.read())) + "\n"
        mark.unlink()


def test_progress_counts_the_bytes_of_files(place: Place) -> None:
    (place.context / "a").write_bytes(bytes(600_000))
    seen: list[tuple[int, int]] = []
    shipped = asyncio.run(
        ship.ship(Here(), place.read(), str(place.root), holder="t", progress=lambda *now: seen.append(now))
    )
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1][0] == seen[-1][1] > 600_000
    assert shipped.bytes_sent < 10_000


def test_a_file_that_changes_after_it_was_read(place: Place) -> None:
    (place.context / "a").write_text("one")
    found = place.read()
    for content in (b"two", b"o", None):
        (place.context / "a").unlink()
        if content:
            (place.context / "a").write_bytes(content)
        with pytest.raises(RehostError, match=r"a changed while") as caught:
            send(found, place.root)
        assert caught.value.retryable
    send(place.read(), place.root)
    assert place.exact()


def on_a_machine_where(place: Place, before: Callable[[str], str]) -> RehostError:
    (place.context / "a").write_bytes(os.urandom(300_000))
    with pytest.raises(RehostError) as caught:
        asyncio.run(ship.ship(Here(before=before), place.read(), str(place.root), holder="test"))
    return caught.value


def test_a_full_disk_is_named(place: Place) -> None:
    error = on_a_machine_where(
        place, lambda script: script.replace("tar -x", "tar -x --to-command='cat >/dev/full'")
    )
    assert "disk is full" in error.what
    assert "disk" in error.cure


def test_a_machine_that_refuses_says_why(place: Place) -> None:
    error = on_a_machine_where(place, lambda _: "echo 'sudo: a password is required' >&2; exit 1")
    assert "status 1" in error.what
    assert error.detail == "sudo: a password is required"


def test_a_shell_that_talks_is_found_out(place: Place) -> None:
    error = on_a_machine_where(place, lambda script: f"echo Welcome to the machine\n{script}")
    assert "Welcome to the machine" in error.what
    assert ".bashrc" in error.cure


def test_a_copy_that_differs_in_the_end_is_no_success(place: Place) -> None:
    error = on_a_machine_where(place, lambda script: script.replace("-f -\n", "-f -\necho x >tree/a\n"))
    assert "differs" in error.what


def test_the_listing_of_the_script_is_ours(place: Place) -> None:
    build(
        place.context,
        {"a": (b"1", 0o4755), "l": "//x", "d": ({"\n": (b"", 0o400)}, 0o2775), "\udcff b": "\udcfe"},
    )
    found = place.read()
    want = ship.wanted(found)
    send(found, place.root)
    code = SCRIPT.read_text().split("list() {")[1].split("\n}")[0]
    raw = subprocess.run(
        ["sh", "-c", code], cwd=place.root, env={"LC_ALL": "C"}, capture_output=True, check=True
    )
    assert raw.stdout == listing(want)
    assert parse(raw.stdout) == want


CONTENT = st.sampled_from(["x" * 64, "y" * 64])
ITEM = st.one_of(
    st.builds(Item, st.just("file"), st.sampled_from([0o644, 0o755]), CONTENT),
    st.builds(Item, st.just("dir"), st.sampled_from([0o700, 0o755]), st.just("")),
    st.builds(Item, st.just("symlink"), st.just(0o777), CONTENT),
)
OTHER = ITEM | st.just(Item("p", 0o644, ""))
PATH = st.lists(st.sampled_from([b"a", b"b", b"a-"]), min_size=1, max_size=3).map(b"/".join)


def whole(items: dict[bytes, Item]) -> dict[bytes, Item]:
    """Only what can lie on a disk: what is in directories."""
    kept: dict[bytes, Item] = {}
    for path in sorted(items):
        parent = path.rpartition(b"/")[0]
        if not parent or (parent in kept and kept[parent].kind == "dir"):
            kept[path] = items[path]
    return kept


HAVE = st.dictionaries(PATH, OTHER, max_size=12).map(whole)
WANT = st.dictionaries(PATH, ITEM, max_size=12).map(whole)


@given(HAVE, WANT)
def test_the_delta_makes_one_into_the_other(have: dict[bytes, Item], want: dict[bytes, Item]) -> None:
    todo = delta(have, want)
    now = {
        p: i
        for p, i in have.items()
        if not any(p == gone or p.startswith(gone + b"/") for gone in todo.remove)
    }

    def place(path: bytes, item: Item) -> None:
        parent = path.rpartition(b"/")[0]
        assert not parent or now[parent].kind == "dir"
        now[path] = item

    for path in todo.mkdir:
        assert path not in now
        place(path, Item("dir", 0o2700, ""))
    for mode, path in todo.chmod:
        now[path] = now[path]._replace(mode=mode)
    for path in todo.send:
        assert want[path].kind != "dir"
        assert path not in now or now[path].kind == want[path].kind == "file"
        place(path, want[path])
    assert now == want
    assert not any(one.startswith(other + b"/") for one in todo.remove for other in todo.remove)
    assert all(path not in have or have[path] != want[path] for path in todo.send)
    assert delta(want, want) == Delta((), (), (), ())


def test_the_fingerprint_depends_on_every_part() -> None:
    base = {b"a": Item("file", 0o644, "x" * 64), b"l": Item("symlink", 0o777, "t")}
    others = [
        {b"a": base[b"a"]},
        base | {b"a": Item("file", 0o755, "x" * 64)},
        base | {b"a": Item("file", 0o644, "y" * 64)},
        base | {b"l": Item("symlink", 0o777, "u")},
        {b"b": base[b"a"], b"l": base[b"l"]},
    ]
    assert len({fingerprint(items) for items in [base, *others]}) == 6
    assert fingerprint(dict(reversed(base.items()))) == fingerprint(base)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_script_is_clean() -> None:
    subprocess.run(
        ["shellcheck", "--shell=sh", "--enable=all", "--exclude=SC2250,SC2292,SC2312", SCRIPT], check=True
    )
