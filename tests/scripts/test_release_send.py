"""Sending an image: the real script under a real sh, over a real ssh connection, with a stand-in for Docker."""

from __future__ import annotations

import asyncio
import fcntl
import json
import random
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rehost.release import send
from rehost.release.saved import Saved, packed
from rehost.release.send import Part, Sent, There
from rehost.run.errors import Refused, RehostError
from saved_image import Form, image
from ssh_here import Moved, Server, asynced, machine, until

TAG = "rehost/shop:1"
BASE, CODE, OTHER = b"base" * 500, b"code", b"other code"
# What does not shrink, and is more than one block.
LARGE = random.Random(7).randbytes(1_500_000)  # noqa: S311
STAND_IN = Path(__file__).with_name("image_docker.py")
# Started beside its images. Without the site's packages it starts in a tenth of the time.
DOCKER = f'exec {sys.executable} -I -S {STAND_IN} "${{0%/*}}/../docker" "$@"'
# head(1) that stays, once it has written into the file named in `hold`. The connection's end takes it along.
HEAD = """/usr/bin/head "$@" || exit
hold=${0%/*}/../hold
if [ -f "$hold" ] && [ -s "$(cat "$hold")" ]; then mv "$hold" "$hold.reached"; exec sleep 60; fi"""


class Site:
    def __init__(self, opened: Moved, server: Server, directory: Path) -> None:
        self.machine, self.server = opened, server
        self.docker, self.waiting = directory / "docker", directory / "shop" / "image"
        self.told: list[str] = []

    async def send(self, saved: Saved, tag: str = TAG, progress: Callable[[str], None] | None = None) -> Sent:
        return await send.send(
            self.machine,
            saved,
            directory=str(self.waiting),
            tag=tag,
            holder="ada@laptop",
            serving="release 1",
            progress=progress or self.told.append,
        )

    @property
    def images(self) -> dict[str, list[str]]:
        files = (self.docker / "images").glob("*.json")
        return {f"sha256:{file.stem}": json.loads(file.read_text())["tags"] for file in files}

    def parts(self) -> dict[str, int]:
        found = sorted(self.waiting.glob("*")) if self.waiting.exists() else []
        return {file.name: file.stat().st_size for file in found}


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    (directory / "docker" / "images").mkdir(parents=True)
    async with again(directory) as here:
        yield here


@asynccontextmanager
async def again(directory: Path) -> AsyncIterator[Site]:
    """The same machine, connected anew."""
    async with machine(directory, {"docker": DOCKER, "head": HEAD}) as (opened, server):
        yield Site(opened, server, directory)


@pytest.mark.parametrize("form", ["old", "oci", "packed"])
@asynced
async def test_only_what_the_machine_lacks_travels(tmp_path: Path, form: Form) -> None:
    async with site(tmp_path) as here:
        first = image([BASE, CODE], form)
        sent = await here.send(first)
        assert (sent.image, sent.layers_sent, sent.layers) == (first.image, 2, 2)
        second = image([BASE, LARGE], form)
        sent = await here.send(second, "rehost/shop:2")
        assert (sent.image, sent.layers_sent) == (second.image, 1)
        assert sent.bytes_sent <= 1.1 * len(LARGE)
        assert here.images == {first.image: [TAG], second.image: ["rehost/shop:2"]}
        assert here.parts() == {}
        # It is there: nothing travels, and it has this name too.
        assert (await here.send(second, "rehost/shop:3")).bytes_sent == 0
        assert here.images[second.image] == ["rehost/shop:2", "rehost/shop:3"]


@asynced
async def test_a_broken_line_loses_nothing_that_arrived(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        saved = image([BASE, CODE, LARGE])
        (tmp_path / "hold").write_text(f"{here.waiting / saved.layers[2].name}.part")
        sending = asyncio.create_task(here.send(saved))
        await until((tmp_path / "hold.reached").exists, "some of the third layer arrives")
        here.server.cut()
        with pytest.raises(RehostError) as broken:
            await sending
        assert broken.value.retryable
        assert "the connection to the machine broke" in broken.value.what
        whole = [name for name in here.parts() if not name.endswith(".part")]
        assert sorted(whole) == sorted(layer.name for layer in saved.layers[:2])
    # Whatever of the third arrived, it goes on there; the machine may have got all that was on the way, or nothing.
    part = here.waiting / f"{saved.layers[2].name}.part"
    part.write_bytes((b"".join(packed(saved, saved.layers[2])))[:300_001])
    async with again(tmp_path) as here:
        sent = await here.send(saved)
        assert (sent.resumed, sent.layers_sent) == (300_001, 3)
        assert sent.bytes_sent < len(LARGE) - 250_000
        assert here.images == {saved.image: [TAG]}


@asynced
async def test_what_is_not_its_beginning_is_sent_anew(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        saved = image([BASE, LARGE])
        here.waiting.mkdir(parents=True)
        for name in (f"{saved.layers[1].name}.part", "0" * 64, "1" * 64 + ".part"):
            (here.waiting / name).write_bytes(b"something else")
        sent = await here.send(saved)
        assert sent.resumed == 0
        assert sent.bytes_sent > len(LARGE)
        assert here.images == {saved.image: [TAG]}


@asynced
async def test_a_layer_that_is_not_what_its_name_says_is_forgotten(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        saved, other = image([BASE, CODE]), image([OTHER])
        here.waiting.mkdir(parents=True)
        wrong = b"".join(packed(other, other.layers[0]))
        (here.waiting / saved.layers[1].name).write_bytes(wrong)
        with pytest.raises(RehostError) as refused:
            await here.send(saved)
        assert "did not take the image" in refused.value.what
        assert "invalid diffID" in refused.value.detail
        assert not refused.value.retryable
        assert (await here.send(saved)).layers_sent == 2


@asynced
async def test_a_full_disk_keeps_what_arrived(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        saved = image([BASE, CODE])
        (here.docker / "full").touch()
        with pytest.raises(RehostError) as full:
            await here.send(saved)
        assert "no space left on device" in full.value.detail
        assert full.value.serving == "release 1"
        (here.docker / "full").unlink()
        sent = await here.send(saved)
        assert sent.bytes_sent < 2000
        assert here.images == {saved.image: [TAG]}


@asynced
async def test_the_containerd_store_gets_all_layers(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        (here.docker / "store").write_text("containerd")
        assert (await here.send(image([BASE, CODE]))).layers_sent == 2
        assert (await here.send(image([BASE, OTHER]))).layers_sent == 2


@asynced
async def test_a_docker_that_is_away(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        (here.docker / "store").write_text("away")
        with pytest.raises(RehostError) as away:
            await here.send(image([BASE]))
        assert "does not answer" in away.value.detail


@asynced
async def test_whoever_comes_second_waits(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.waiting.parent.mkdir(parents=True)
        with (here.waiting.parent / "image.lock").open("w") as lock:
            lock.write("eve@desk\n")
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            waits = asyncio.Event()

            def told(text: str) -> None:
                if text.startswith("eve@desk is sending"):
                    waits.set()

            sending = asyncio.create_task(here.send(image([BASE]), progress=told))
            await waits.wait()
            assert here.images == {}
        assert (await sending).layers_sent == 1


def there(chains: Sequence[Sequence[str]] = (), free: int = 1 << 30) -> There:
    return There(tuple(tuple(chain) for chain in chains), frozenset(), {}, free)


def test_a_layer_that_stands_there_twice_travels_once() -> None:
    saved = image([BASE, CODE, CODE])
    assert [layer.name for layer in send.lacking(saved, there())] == [
        saved.layers[0].name,
        saved.layers[1].name,
    ]
    ids = [layer.diff_id for layer in saved.layers]
    assert [layer.name for layer in send.lacking(saved, there([ids[:2]]))] == [saved.layers[2].name]
    assert send.lacking(saved, there([["sha256:x"], ids])) == ()


def test_no_room() -> None:
    saved = image([BASE])
    send.check_room(saved.layers, there(), "release 1")
    with pytest.raises(Refused, match="100 MB are free"):
        send.check_room(saved.layers, there(free=100 << 20), "release 1")


@pytest.mark.parametrize("raw", [b"what\n", b"part x\n", b"chain [\n", b"free much\n"])
def test_a_list_that_is_none(raw: bytes) -> None:
    with pytest.raises(ValueError):
        send.parse(raw)


def test_the_list() -> None:
    raw = b'chain ["a","b"]\nchain null\nwhole x\npart y 3 abc\nfree 7\n'
    assert send.parse(raw) == There((("a", "b"), ()), frozenset("x"), {"y": Part(3, "abc")}, 7)
