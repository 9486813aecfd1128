"""Disks that move: whole copies between two directories of this computer, over ssh, by the real scripts.

The swap is killed before and after each of its steps.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from rehost.machine.ssh import Channel, Machine
from rehost.run.errors import Refused, RehostError, UsageError
from rehost.source import move_files_tree as tree
from rehost.source.move_files import Files
from rehost.source.move_files_write import writing
from ssh_here import Moved, Server, asynced, machine

MB = tree.MB

# -- over ssh ------------------------------------------------------------------------------------------------

DOCKER = """case $1 in
info) echo {home} ;;
volume) echo local null {home}/volumes/app.data/_data ;;
esac"""


class Here(Moved):
    """The machine, whose channels' scripts live in its directory, too."""

    async def open(self, script: str, *, root: bool = True) -> Channel:
        return await super().open(self.move(script), root=root)


class Place:
    """A directory to copy, and where it goes. changed: programs of either side that are not this computer's own."""

    def __init__(self, home: Path) -> None:
        self.origin = home / "disk"
        self.rehost = home / "machine" / "rehost"
        self.volume = self.rehost / "docker/volumes/app.data/_data"
        self.copied = self.rehost / "app/moving/data/copy"
        self.volume.mkdir(parents=True)
        self.origin.mkdir()
        self.home = home
        (home / "there").mkdir()
        self.server = Server()

    @asynccontextmanager
    async def files(
        self,
        there: Mapping[str, str] | None = None,
        here: Mapping[str, str] | None = None,
        *,
        rehearse: bool = False,
    ) -> AsyncIterator[Files]:
        docker = {"docker": DOCKER.format(home=self.rehost / "docker")}
        async with (
            machine(self.home / "there", there) as (origin, _),
            machine(self.home / "machine", docker | dict(here or {})) as (opened, self.server),
        ):
            target = Here(opened._connection, "vm")
            target.home = self.rehost
            yield Files(
                origin, str(self.origin), target, "app.data", name="data", app="app", rehearse=rehearse
            )

    def exact(self) -> bool:
        return _tree(self.origin) == _tree(self.copied)


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are large sooner: what they hold takes most of a test's time."""
    monkeypatch.setattr(tree, "LARGE", MB)


def _tree(root: Path) -> dict[bytes, tuple[int, int, bytes]]:
    """Mode, whole seconds of the time, and content or target of all below; no sockets."""
    found = {}
    for where, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files, b"."):
            path = os.path.join(where, name)  # noqa: PTH118 (bytes)
            state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                content, state_time = os.readlink(path), 0  # noqa: PTH115
            elif stat.S_ISREG(state.st_mode):
                content, state_time = Path(os.fsdecode(path)).read_bytes(), int(state.st_mtime)
            elif stat.S_ISDIR(state.st_mode):
                content, state_time = b"", int(state.st_mtime)
            else:
                continue
            found[os.path.relpath(path, os.fsencode(root))] = (state.st_mode, state_time, content)
    return found


def fill(root: Path) -> None:
    """What is awkward to copy."""
    (root / "empty").mkdir(mode=0o711)
    long = root / ("d" * 200)
    long.mkdir()
    (long / ("f" * 200)).write_text("long")
    (long / "link").symlink_to("t" * 150)
    for name in ("a b", "-rf", "quote'\"", "new\nline", "back\\slash", "end\n", "$(id)", "%s"):
        (root / name).write_text(name)
    Path(os.fsdecode(os.fsencode(root) + b"/latin\xe9")).write_text("l")
    (root / "nothing").touch(mode=0o600)
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o4750)
    (root / "hard").hardlink_to(root / "script")
    (root / "dangling").symlink_to("no where")
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(tree.PIECE + 5)
        sparse.seek(MB)
        sparse.write(b"in the middle")
    os.mkfifo(root / "pipe")
    os.utime(root / "a b", (1e9, 1e9))


@asynced
async def test_a_copy_is_exact_and_only_what_differs_is_sent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    fill(place.origin)
    said: list[str] = []
    async with place.files() as files:
        origin, volume = await files.look()
        assert (origin.empty, volume.empty) == (False, True)
        assert origin.words == f"16 files, {tree.amount(tree.PIECE)}"
        first = await files.copy(said.append)
        assert place.exact() and not files.before()
        assert first.sent == first.counted == origin.words
        assert [note for note in files.notes if "no content in a fifo: pipe" in note] == files.notes != []
        assert (place.copied / "sparse").stat().st_blocks * 512 <= tree.PIECE
        assert (await files.copy(said.append)).sent == "0 files, 0 B"

        # Kinds change, things go, metadata alone changes, and a page of a large file.
        (place.origin / "-rf").unlink()
        (place.origin / "-rf").mkdir()
        (place.origin / "empty").rmdir()
        (place.origin / "empty").symlink_to("/etc")
        (place.origin / "dangling").unlink()
        (place.origin / "a b").chmod(0o600)
        with (place.origin / "sparse").open("r+b") as sparse:
            sparse.seek(tree.PIECE)
            sparse.write(b"changed")
        (place.volume / "kept").touch()
        assert (await files.copy(said.append)).sent == "2 files, 7 B"
        assert place.exact()
        await files.look()
        assert "moving/data/before" in files.before()
        assert list(place.volume.iterdir()) == [place.volume / "kept"]


@asynced
async def test_a_line_that_breaks_costs_little_and_shrinking_files_are_met(tmp_path: Path) -> None:
    place = Place(tmp_path)
    content = os.urandom(2 * tree.PIECE + 100)
    (place.origin / "large").write_bytes(content)
    (place.origin / "small").write_text("x")
    # A tar that is not GNU's breaks off when a file shrinks.
    breaks = f"""case $* in
    --version) echo busybox ;;
    *) if [ -e {tmp_path}/broken ]; then exec /bin/tar "$@"; fi
       : >{tmp_path}/broken
       /bin/tar "$@" | head -c 700
       exit 1 ;;
    esac"""
    async with place.files({"tar": breaks}) as files:
        copying = asyncio.create_task(files.copy(lambda _: None))
        large = place.copied / "large"
        while not copying.done():
            # Its first piece has arrived; what it will hold is a hole as yet.
            if large.exists() and large.stat().st_blocks * 512 >= tree.PIECE:
                place.server.cut()
            await asyncio.sleep(0.001)
        with pytest.raises(RehostError, match="stopped: the connection broke") as broken:
            await copying
        assert broken.value.retryable
    async with place.files() as files:
        second = await files.copy(lambda _: None)
    assert place.exact()
    assert "16.0 MB" not in second.sent and (tmp_path / "broken").exists()


@asynced
async def test_who_hangs_on_a_dead_connection_is_ended_by_the_next(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.origin / "file").write_text("x")
    async with (
        place.files() as dead,
        place.files() as files,
        writing(dead._machine, "/var/lib/rehost/app/moving/data") as writer,
    ):
        await writer.begin()
        group = (place.copied.parent / "lock").read_text()
        assert (await files.copy(lambda _: None)).counted == "1 file, 1 B"
        assert (place.copied.parent / "lock").read_text() != group
        with pytest.raises(RehostError, match="the connection broke"):
            await writer.complete(tree.Difference((), (), (), {}, (), ()), {})


@asynced
async def test_what_changes_all_the_while_is_told_by_name(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.origin / "log file").write_text("x")
    (place.origin / "quiet").write_text("x")
    grows = {"stat": f'echo more >>"{place.origin}/log file"; exec /usr/bin/stat "$@"'}
    async with place.files(grows) as files:
        with pytest.raises(RehostError, match="1 file changed at the origin") as told:
            await files.copy(lambda _: None)
        assert (told.value.detail, told.value.exit) == ("log file", 1)
        assert "maintenance mode" in told.value.cure
    async with place.files(grows, rehearse=True) as files:
        assert (await files.copy(lambda _: None)).counted.startswith("2 files")
        assert "log file" in files.notes[0]
    assert (place.copied / "quiet").read_text() == "x"


@asynced
async def test_what_cannot_go_well_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.origin / "file").write_bytes(bytes(5 * MB))
    async with place.files(here={"df": f"echo; echo {100 * MB} 1000"}) as files:
        with pytest.raises(
            Refused, match=r"needs 5.0 MB more, and 200.0 MB are left free; there are 100.0 MB"
        ) as full:
            await files.copy(lambda _: None)
        assert "moving/data/before" in full.value.cure
    async with place.files(here={"df": f"echo; echo {1000 * MB} 0"}) as files:
        assert await files.copy(lambda _: None)  # a file system that counts no inodes
    async with place.files(
        here={"docker": f"case $1 in info) echo {place.rehost}/docker;; *) echo nfs null /x;; esac"}
    ) as files:
        with pytest.raises(Refused, match="not a plain directory"):
            await files.look()
    denied = {"id": "echo 1000", "find": "echo 'find: ./x: Permission denied' >&2; exec /usr/bin/find \"$@\""}
    async with place.files(denied) as files:
        with pytest.raises(Refused, match="may be read") as said:
            await files.look()
        assert "./x: Permission denied" in said.value.detail
    place.origin.rename(tmp_path / "elsewhere")
    async with place.files() as files:
        with pytest.raises(UsageError, match="there is no directory"):
            await files.look()


# -- the swap ------------------------------------------------------------------------------------------------

# Each step asks first whether it is the one to die at, and whether before or after it.
KILLS = """#!/bin/sh
[ "${{0##*/}}" != sync ] || exit 0
steps=$(($(cat {home}/steps) + 1))
echo "$steps" >{home}/steps
if [ "$steps" = "$DIE_BEFORE" ]; then kill -9 "$PPID"; exit 1; fi
/bin/${{0##*/}} "$@" || exit
if [ "$steps" = "$DIE_AFTER" ]; then kill -9 "$PPID"; exit 1; fi
"""
FAKE = """#!/bin/sh
case "$1 $2" in
"ps --filter") cat {home}/running ;;
"volume inspect") if [ -e {home}/volume ]; then echo {home}/volume/_data; else exit 1; fi ;;
"volume create") mkdir -p {home}/volume/_data && echo "$*" >{home}/created ;;
esac
"""


class Swapping:
    """A volume with "old" in it, and a copy with "new"."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir()
        for name in ("mv", "rm", "rmdir", "sync"):
            self._program(name, KILLS)
        self._program("docker", FAKE)
        self.files = Files(
            cast("Machine", None), "/data", cast("Machine", None), "app.data", name="data", app="app"
        )
        self.begin()

    def _program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text.format(home=self.home))
        (self.bin / name).chmod(0o755)

    def begin(self) -> None:
        for name in ("moving", "volume"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        for name, text in {"volume/_data": "old", "moving/copy": "new", "moving/before": "older"}.items():
            (self.home / name).mkdir(parents=True)
            (self.home / name / text).touch()
        (self.home / "running").write_text("")

    def run(self, what: str, **environ: str) -> bool:
        """As move.sh runs it: the body of a function, in a condition. Whether it went well."""
        (self.home / "steps").write_text("0")
        body = getattr(self.files, what)()
        script = f"set -u\nit() (\n{body}\n)\napp=app moving={self.home}/moving\nif it; then exit 0; else exit 1; fi"
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", script], env=path | environ, capture_output=True, text=True, check=False
        )
        self.said = done.stderr
        return done.returncode == 0

    def holds(self, name: str) -> list[str]:
        there = self.home / name
        return [each.name for each in there.iterdir()] if there.is_dir() else []


@pytest.mark.parametrize("when", ["DIE_BEFORE", "DIE_AFTER"])
@pytest.mark.parametrize("step", ["1", "2", "3"])
def test_a_swap_killed_anywhere_is_finished_or_undone(tmp_path: Path, when: str, step: str) -> None:
    here = Swapping(tmp_path)
    for then in ("swap", "undo"):
        here.begin()
        assert not here.run("swap", **{when: step})
        assert here.run(then)
        new, old = (["new"], ["old"]) if then == "swap" else (["old"], [])
        assert (here.holds("volume/_data"), here.holds("moving/copy")) == (
            new,
            ["new"] if then == "undo" else [],
        )
        assert old == [] or here.holds("moving/before") == old
        # What was undone can be done.
        assert here.run("swap") and here.holds("volume/_data") == ["new"]
        assert here.holds("moving/before") == ["old"]


@pytest.mark.parametrize("when", ["DIE_BEFORE", "DIE_AFTER"])
@pytest.mark.parametrize("step", ["1", "2", "3"])
def test_an_undo_killed_anywhere_is_finished(tmp_path: Path, when: str, step: str) -> None:
    here = Swapping(tmp_path)
    assert here.run("swap")
    here.run("undo", **{when: step})
    assert here.run("undo") and here.run("undo")
    assert (here.holds("volume/_data"), here.holds("moving/copy")) == (["old"], ["new"])


def test_an_undo_of_nothing_and_a_swap_of_nothing(tmp_path: Path) -> None:
    here = Swapping(tmp_path)
    assert here.run("undo")
    assert here.holds("volume/_data") == ["old"] and here.holds("moving/before") == ["older"]
    (tmp_path / "running").write_text("app-1\n")
    assert not here.run("swap") and "in use by app-1" in here.said
    (tmp_path / "running").write_text("")
    shutil.rmtree(tmp_path / "volume")
    assert here.run("swap") and here.holds("volume/_data") == ["new"]
    assert (tmp_path / "created").read_text() == "volume create --label rehost.app=app app.data\n"
    # What somebody put in the place of a directory that was moved away is not thrown away.
    here.begin()
    assert not here.run("swap", DIE_AFTER="2")
    (tmp_path / "volume/_data").mkdir()
    (tmp_path / "volume/_data/theirs").touch()
    assert not here.run("undo") and here.holds("volume/_data") == ["theirs"]
    (tmp_path / "volume/_data/theirs").unlink()
    assert here.run("undo") and here.holds("volume/_data") == ["old"]
    shutil.rmtree(tmp_path / "moving/copy")
    assert not here.run("swap") and "there is no copy" in here.said
