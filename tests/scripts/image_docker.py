"""docker(1) of a machine for send.sh; `load` wants what Docker wants. $S, where images lie, is the first argument.

$S/images/ID.json: layers and tags. $S/store: "containerd" for that store, "away" for a Docker that does not answer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

S = Path(sys.argv.pop(1))
IMAGES = S / "images"
STORE = (S / "store").read_text() if (S / "store").exists() else ""
with (S / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def images() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in IMAGES.glob("*.json")}


def named(name: str) -> str | None:
    return next(
        (key for key, one in images().items() if name == f"sha256:{key}" or name in one["tags"]), None
    )


def load(data: bytes) -> None:
    if (S / "full").exists():
        sys.exit("write /var/lib/docker/tmp/layer: no space left on device")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        opened = ((member.name.removeprefix("./"), tar.extractfile(member)) for member in tar)
        files = {name: file.read() for name, file in opened if file}
    (manifest,) = json.loads(files["manifest.json"])
    config = files[manifest["Config"]]
    layers = json.loads(config)["rootfs"]["diff_ids"]
    chains = [one["layers"] for one in images().values()] if STORE != "containerd" else []
    for count, (diff_id, name) in enumerate(zip(layers, manifest["Layers"], strict=True)):
        if any(chain[: count + 1] == layers[: count + 1] for chain in chains):
            continue
        if name not in files:
            sys.exit(f"open /var/lib/docker/tmp/{name}: no such file or directory")
        found = hashlib.sha256(gzip.decompress(files[name])).hexdigest()
        if diff_id != f"sha256:{found}":
            sys.exit(f"invalid diffID for layer {count}: expected {diff_id}, got sha256:{found}")
    for one in IMAGES.glob("*.json"):  # a tag is one image's
        kept = json.loads(one.read_text())
        kept["tags"] = [tag for tag in kept["tags"] if tag not in manifest["RepoTags"]]
        one.write_text(json.dumps(kept))
    key = hashlib.sha256(config).hexdigest()
    (IMAGES / f"{key}.json").write_text(json.dumps({"layers": layers, "tags": manifest["RepoTags"]}))


words = [word for word in sys.argv[1:] if not word.startswith("-")]
match words:
    case ["info", _]:
        # 26 ends well when Docker is away.
        say("" if STORE == "away" else f"{S}\n" + json.dumps([["driver-type", f"io.{STORE}.snapshotter.v1"]]))
    case ["image", "ls"]:
        say("\n".join(f"sha256:{key}" for key in images()))
    case ["image", "inspect", *names]:
        form = names.pop(0) if "--format" in sys.argv else ""
        for name in names:
            key = named(name)
            if key is None:
                sys.exit(f"Error: No such image: {name}")
            layers = json.dumps(images()[key]["layers"])
            say(form.replace("{{json .RootFS.Layers}}", layers).replace("{{.Id}}", f"sha256:{key}"))
    case ["tag", image, tag]:
        file = IMAGES / f"{named(image)}.json"
        one = json.loads(file.read_text())
        file.write_text(json.dumps({**one, "tags": [*one["tags"], tag]}))
    case ["load"]:
        load(sys.stdin.buffer.read())
    case _:
        sys.exit(f"not understood: {words}")
