"""Bringing an image from this computer onto the machine: one exec, and only the layers that the machine lacks.

`send.sh` runs on the machine and says which layers its Docker has, whatever image they came with. The others go down
the same channel, compressed, and wait in a directory until all are there; then one `docker load` takes them, from
an archive without the layers that it has. A layer that a broken line cut off is continued where it broke.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rehost.release import saved as saved_image
from rehost.release.channel import Channel, Machine, Replies
from rehost.release.saved import Layer, Saved
from rehost.run.errors import Refused, RehostError

MB: Final = 2**20
# What Docker unpacks, beside the compressed layers that arrived and Docker's own copy of them.
_ROOM: Final = 2
_SPARE: Final = 200 * MB


class Part(NamedTuple):
    """The beginning of a layer that arrived. size in bytes, compressed."""

    size: int
    sha256: str


class There(NamedTuple):
    """What is on the machine. chains: the layers of each image, lowest first. free: bytes of disk."""

    chains: tuple[tuple[str, ...], ...]
    whole: frozenset[str]
    parts: dict[str, Part]
    free: int


class Sent(NamedTuple):
    """What a send did. image: its id on the machine. bytes_sent: on the wire. resumed: bytes that were there."""

    image: str
    layers_sent: int
    layers: int
    bytes_sent: int
    resumed: int


def parse(raw: bytes) -> There:
    """Reads the list of `send.sh`. Raises ValueError when it is none."""
    chains, whole, parts, free = [], set(), {}, 0
    for line in raw.decode("ascii", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "chain":
            chains.append(tuple(json.loads(rest) or ()))
        elif word == "whole":
            whole.add(rest)
        elif word == "part":
            name, size, sha256 = rest.split()
            parts[name] = Part(int(size), sha256)
        elif word == "free":
            free = int(rest)
        else:
            raise ValueError(line)
    return There(tuple(chains), frozenset(whole), parts, free)


def lacking(saved: Saved, there: There) -> tuple[Layer, ...]:
    """The layers that the machine's Docker does not have, lowest first. Each once: two layers may be the same."""
    count = saved_image.present([layer.diff_id for layer in saved.layers], there.chains)
    return tuple({layer.diff_id: layer for layer in saved.layers[count:]}.values())


def check_room(lack: tuple[Layer, ...], there: There, serving: str) -> None:
    """Raises Refused when the machine's disk has no room for these layers."""
    need = _ROOM * sum(layer.size for layer in lack) + _SPARE
    if there.free < need:
        raise Refused(
            f"there is not enough room for the image: {there.free // MB} MB are free on the machine, "
            f"{need // MB} MB are needed while it is taken in.",
            serving=serving,
            cure="Make `disk` in [machine] of rehost.toml larger, or keep fewer releases (`keep` in [run]).",
        )


async def send(
    machine: Machine,
    saved: Saved,
    *,
    directory: str,
    tag: str,
    holder: str,
    serving: str,
    progress: Callable[[str], None] = lambda _text: None,
) -> Sent:
    """Makes the machine's Docker have this image under this name.

    directory: where on the machine layers wait until all are there. holder: who sends, shown to anybody who waits.
    Raises Refused when the disk has no room, else RehostError; it is retryable when trying again can help.
    """
    arguments = shlex.join(("set", "--", directory, tag, saved.image, " ".join(holder.split())))
    script = Path(__file__).with_name("send.sh").read_text("utf-8")
    channel = await machine.open(f"{arguments}\n{script}")
    try:
        return await _Sending(channel, saved, progress).converse(tag, serving)
    finally:
        await channel.close()


class _Sending:
    def __init__(self, channel: Channel, saved: Saved, progress: Callable[[str], None]) -> None:
        self._channel, self._saved, self._progress = channel, saved, progress
        self._replies = Replies(channel, "the image")
        self._bytes = self._resumed = 0

    async def converse(self, tag: str, serving: str) -> Sent:
        replies, saved = self._replies, self._saved
        word, rest = await replies.line()
        if word == "busy":
            self._progress(f"{rest or 'somebody else'} is sending an image; waiting until that is done")
            word, rest = await replies.line()
        if word == "same":
            return Sent(saved.image, 0, len(saved.layers), 0, 0)
        if word != "have" or not rest.isdecimal():
            raise replies.strange(word, rest)
        raw = gzip.decompress(await replies.exactly(int(rest)))
        try:
            there = parse(raw)
        except ValueError as fault:
            raise replies.strange(str(fault), "") from fault
        lack = lacking(saved, there)
        check_room(lack, there, serving)
        try:
            await self._layers(lack, there)
            archive = saved_image.head(saved, tag)
            names = " ".join(layer.name for layer in lack)
            await self._write(f"load {len(archive)} {names}\n".encode() + archive)
            await self._channel.eof()
        except ConnectionError as error:
            raise await replies.failure() from error
        self._progress("the machine's Docker takes it in")
        word, rest = await replies.line()
        if word == "refused":
            _, said = await self._channel.finish()
            raise RehostError(
                "the machine's Docker did not take the image.",
                serving=serving,
                detail=said.decode("utf-8", "replace").strip()[-2000:],
                cure="Docker's own words say why; is the machine's disk full? Then run the same command again.",
            )
        if word != "loaded":
            raise replies.strange(word, rest)
        await self._channel.finish()
        return Sent(rest, len(lack), len(saved.layers), self._bytes, self._resumed)

    async def _write(self, data: bytes) -> None:
        await self._channel.write(data)
        self._bytes += len(data)

    async def _layers(self, lack: tuple[Layer, ...], there: There) -> None:
        names = {layer.name for layer in lack}
        for name in sorted((there.whole | there.parts.keys()) - names):
            await self._write(f"drop {name}\n".encode())
        send = [layer for layer in lack if layer.name not in there.whole]
        for number, layer in enumerate(send, 1):
            await self._layer(layer, there.parts.get(layer.name), f"layer {number} of {len(send)}")

    async def _layer(self, layer: Layer, part: Part | None, title: str) -> None:
        """Sends a layer, or the rest of it."""
        offset = 0
        if part is not None and await asyncio.to_thread(begins, self._saved, layer, part):
            offset = part.size
            self._resumed += offset
        await self._write(f"layer {layer.name} {offset}\n".encode())
        position = 0
        blocks = saved_image.packed(self._saved, layer)
        # Compressing takes most of the time of a fast line; the connection must not wait for it to say that it lives.
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            rest = block[max(0, offset - position) :]
            position += len(block)
            if rest:
                await self._write(b"bytes %d\n" % len(rest) + rest)
                self._progress(f"{title}: {position / MB:.1f} MB sent")
        await self._write(f"sealed {layer.name}\n".encode())


def begins(saved: Saved, layer: Layer, part: Part) -> bool:
    """Whether what arrived is the beginning of what would be sent now: another zlib packs in another way."""
    digest = hashlib.sha256()
    for piece in _first(saved_image.packed(saved, layer), part.size):
        digest.update(piece)
        part = part._replace(size=part.size - len(piece))
    return part.size == 0 and digest.hexdigest() == part.sha256


def _first(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        if count <= 0:
            return
        yield block[:count]
        count -= len(block)
