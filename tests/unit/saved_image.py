"""Images as `docker save` writes them, in each of its forms."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from typing import Literal

from rehost.release import saved

Form = Literal["old", "oci", "packed"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(files: dict[str, bytes | str]) -> bytes:
    """A tar archive; a text is the target of a symlink."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def config(layers: Sequence[bytes], platform: str = "linux/amd64") -> bytes:
    system, _, architecture = platform.partition("/")
    diff_ids = [f"sha256:{digest(layer)}" for layer in layers]
    return json.dumps(
        {"os": system, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()


def written(layers: Sequence[bytes], form: Form = "old", platform: str = "linux/amd64") -> bytes:
    """What `docker save` writes."""
    about = config(layers, platform)
    files: dict[str, bytes | str] = {}
    names = []
    for number, layer in enumerate(layers):
        if form == "old":
            names.append(f"v1-{number}/layer.tar")
            twin = layers.index(layer)
            files[names[-1]] = f"../v1-{twin}/layer.tar" if twin < number else layer
            continue
        blob = gzip.compress(layer, mtime=0) if form == "packed" else layer
        names.append(f"blobs/sha256/{digest(blob)}")
        files[names[-1]] = blob
    named = f"{digest(about)}.json" if form == "old" else f"blobs/sha256/{digest(about)}"
    files[named] = about
    manifest = [{"Config": named, "RepoTags": ["rehost/shop:1"], "Layers": names}]
    files["manifest.json"] = json.dumps(manifest).encode()
    return archive(files)


def image(layers: Sequence[bytes], form: Form = "old", platform: str = "linux/amd64") -> saved.Saved:
    return saved.read(io.BytesIO(written(layers, form, platform)))
