"""An image as `docker save` writes it: a tar archive with the image's configuration and its layers.

Docker before 25 writes LAYER/layer.tar, and a link where two layers are the same; later ones write OCI's layout,
blobs/sha256/DIGEST, whose layers are compressed where Docker keeps images in containerd's store. manifest.json,
which names the parts, is in all of them and stands at the end. (moby, image/tarexport.)
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Final, NamedTuple

from rehost.run.errors import RehostError

_BLOCK: Final = 1 << 20
# gzip and zstd (RFC 1952, RFC 8878). Docker on the machine unpacks what it can read.
_PACKED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


class Layer(NamedTuple):
    """One layer. diff_id: of its uncompressed tar archive. offset, size: where it lies in the file, in bytes."""

    diff_id: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """What it is called on its way."""
        return self.diff_id.removeprefix("sha256:")


class Saved(NamedTuple):
    """file: what `docker save` wrote. layers: lowest first. platform: "linux/amd64"."""

    file: IO[bytes]
    config: bytes
    layers: tuple[Layer, ...]
    platform: str

    @property
    def image(self) -> str:
        """The image's id: the digest of its configuration."""
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"


def read(file: IO[bytes]) -> Saved:
    """Raises RehostError when it is no image."""
    try:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            members = {posixpath.normpath(member.name): member for member in archive}
            config, names = _named(archive, members)
            found = json.loads(config)
            diff_ids = [str(each) for each in found["rootfs"]["diff_ids"]]
            layers = [
                Layer(diff_id, member.offset_data, member.size)
                for diff_id, member in zip(
                    diff_ids, (_real(members, posixpath.normpath(name)) for name in names), strict=True
                )
            ]
    except (tarfile.TarError, KeyError, ValueError, IndexError, OSError) as fault:
        raise RehostError(
            f"what Docker here wrote of the image cannot be read: {fault!r}",
            cure="Run the same command again; is this computer's disk full?",
            retryable=True,
        ) from fault
    return Saved(file, config, tuple(layers), f"{found.get('os')}/{found.get('architecture')}")


def _named(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> tuple[bytes, list[str]]:
    """The configuration, and the names of the layers."""

    def content(name: str) -> bytes:
        opened = archive.extractfile(members[posixpath.normpath(name)])
        if opened is None:
            raise KeyError(name)
        return opened.read()

    (manifest,) = json.loads(content("manifest.json"))
    return content(manifest["Config"]), list(manifest["Layers"])


def _real(members: dict[str, tarfile.TarInfo], name: str) -> tarfile.TarInfo:
    member = members[name]
    if member.issym():
        member = members[posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))]
    elif member.islnk():
        member = members[posixpath.normpath(member.linkname)]
    return member


def packed(saved: Saved, layer: Layer) -> Iterator[bytes]:
    """A layer compressed, in blocks. The same layer gives the same bytes each time, so that a send can go on."""
    blocks = _blocks(saved.file, layer)
    first = next(blocks, b"")
    if first.startswith(_PACKED):
        yield first
        yield from blocks
        return
    # Level 3 keeps up with a 100 Mbit/s line and comes within a tenth of what level 9 saves.
    squeeze = zlib.compressobj(3, zlib.DEFLATED, 31)
    ready = squeeze.compress(first)
    for block in blocks:
        if len(ready) >= _BLOCK // 4:
            yield ready
            ready = b""
        ready += squeeze.compress(block)
    yield ready + squeeze.flush()


def _blocks(file: IO[bytes], layer: Layer) -> Iterator[bytes]:
    file.seek(layer.offset)
    left = layer.size
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        yield block


def head(saved: Saved, tag: str) -> bytes:
    """A gzipped tar archive with manifest.json and the configuration, for `docker load`."""
    config = f"{saved.image.removeprefix('sha256:')}.json"
    manifest = [
        {"Config": config, "RepoTags": [tag], "Layers": [layer.name for layer in saved.layers]},
    ]
    out = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, out, 0) as packing, tarfile.open(fileobj=packing, mode="w") as archive:
        for name, content in (("manifest.json", json.dumps(manifest).encode()), (config, saved.config)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def present(layers: Sequence[str], chains: Sequence[Sequence[str]]) -> int:
    """How many of these layers are there already, counted from the lowest.

    Docker knows a layer by what it lies on: only the same layers from the lowest on are the same.
    """
    longest = 0
    for chain in chains:
        count = 0
        for ours, theirs in zip(layers, chain, strict=False):
            if ours != theirs:
                break
            count += 1
        longest = max(longest, count)
    return longest
