"""What the images of an app's releases take on the machine's disk, layer by layer.

Docker tells the layers of an image, and not what each takes: that stands in its own store below DockerRootDir
(image/DRIVER/layerdb, since Docker 1.10). A Docker that keeps its images in containerd has no such store; then sizes of
layers are unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rehost.machine.probe import MachineState
from rehost.machine.ssh import Machine

_MARK: Final = "@@layers"
# All images of the machine: a layer that another app's image has too is not freed with ours.
_SCRIPT: Final = f"""ids=$(docker images -aq --no-trunc | sort -u)
[ -z "$ids" ] || docker image inspect -f '{{{{.Id}}}} {{{{json .RootFS.Layers}}}}' $ids || exit
echo {_MARK}
store=$(docker info -f '{{{{.DockerRootDir}}}}/image/{{{{.Driver}}}}/layerdb/sha256') || exit
if [ -d "$store" ]; then cd "$store" && grep -H '' ./*/diff ./*/size; fi
exit 0
"""


class Store(NamedTuple):
    """The layers of each image by the image's id, and the bytes of each layer."""

    images: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]

    def bytes(self, layers: set[str]) -> int | None:
        """None when it is not known of all of them."""
        return sum(self.sizes[layer] for layer in layers) if layers <= self.sizes.keys() else None


class Taken(NamedTuple):
    """A release's image. Sizes in bytes, None when they are not known.

    added: the layers that the release before, among those that are kept, does not have. freed: what its removal
    would free, 0 when another release has the same image.
    """

    number: int
    image: str
    size: int | None
    layers: int
    added_layers: int
    added: int | None
    freed: int | None


async def read(machine: Machine) -> Store:
    output = await machine.run(_SCRIPT, what="reading the images")
    return parse(output.stdout)


def parse(text: str) -> Store:
    images: dict[str, Sequence[str]] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line == _MARK:
            break
        image, _, layers = line.partition(" ")
        images[image] = json.loads(layers) or []  # null: an image of no layer at all
    parts: dict[str, dict[str, str]] = {}
    for line in lines:
        path, value = line.split(":", 1)
        chain, _, name = path.removeprefix("./").partition("/")
        parts.setdefault(chain, {})[name] = value
    sizes = {part["diff"]: int(part["size"]) for part in parts.values() if {"diff", "size"} <= part.keys()}
    return Store(images, sizes)


def taken(state: MachineState, store: Store) -> list[Taken]:
    """What each release's image takes, in the order of the releases. Without one: the image is gone."""
    found: list[Taken] = []
    before: set[str] = set()
    releases = [(release.number, str(release.record.get("image", ""))) for release in state.releases]
    for number, image in releases:
        layers = set(store.images.get(image, ()))
        others = {layer for id_, those in store.images.items() if id_ != image for layer in those}
        shared = any(other == image for n, other in releases if n != number)
        size = store.bytes(layers)
        if size is None:
            size = next((one.size for one in state.images if one.id == image), None)
        if image not in store.images:
            found.append(Taken(number, image, None, 0, 0, None, None))
            continue
        freed = 0 if shared else store.bytes(layers - others)
        new = layers - before
        found.append(Taken(number, image, size, len(layers), len(new), store.bytes(new), freed))
        before = layers
    return found


def prunable(names: Sequence[str], state: MachineState, store: Store) -> int | None:
    """Bytes that go with these images (as prune.unused_images names them): layers that no other image has."""
    gone = {image.id for image in state.images if image.id in names or {*image.tags} & {*names}}
    stay = {layer for id_, layers in store.images.items() if id_ not in gone for layer in layers}
    return store.bytes({layer for id_ in gone for layer in store.images.get(id_, ())} - stay)
