"""What a disk, an image or a snapshot is made of, and where its content is kept."""

from __future__ import annotations

from dataclasses import dataclass

from rehost.lab.compute_call import Call
from rehost.lab.compute_errors import invalid, not_ready
from rehost.lab.compute_images import find_image, public_content
from rehost.lab.state import Cloud, Resource, relative

_WORDS = ("image", "snapshot", "disk")
_INHERITED = ("licenses", "guestOsFeatures", "architecture")


@dataclass(frozen=True, slots=True)
class Source:
    """word: "image", "snapshot" or "disk". content: a key of `disks.Disks`."""

    word: str
    path: str
    content: str
    gigabytes: int
    resource: Resource

    def fields(self) -> Resource:
        """What the thing that is made of it says of it."""
        name = f"source{self.word.capitalize()}"
        inherited = {key: self.resource[key] for key in _INHERITED if key in self.resource}
        return {name: self.resource["selfLink"], f"{name}Id": self.resource["id"], **inherited}


def content(path: str) -> str:
    """The key of a resource's content (pure)."""
    parts = path.split("/")
    if parts[2] == "zones":
        return f"disks/{parts[3]}/{parts[5]}"
    return public_content(path) or f"{parts[3]}/{parts[4]}"


def source(call: Call, given: Resource, at: str) -> Source | None:
    """What `sourceImage`, `sourceSnapshot` or `sourceDisk` in a body names; None for a blank disk.

    Raises ApiError: 404 for an unknown family, 400 for anything else.
    """
    named = [word for word in _WORDS if given.get(f"source{word.capitalize()}")]
    if not named:
        return None
    field = f"source{named[0].capitalize()}"
    if len(named) > 1:
        raise invalid(
            f"{at}.{field}",
            given[field],
            f"Cannot specify both source {named[0]} and source {named[1]}.",
        )
    return find_source(call, named[0], given[field], f"{at}.{field}")


def find_source(call: Call, word: str, reference: str, field: str) -> Source:
    if word == "image":
        resource = find_image(call.cloud, reference, field)
    else:
        resource = referenced(call.cloud, word, reference, field)
    path = relative(resource["selfLink"])
    if resource["status"] != "READY":
        raise not_ready(path)
    size = resource["sizeGb" if word == "disk" else "diskSizeGb"]
    return Source(word, path, content(path), int(size), resource)


def referenced(cloud: Cloud, word: str, reference: str, field: str) -> Resource:
    """The project's own disk, image or snapshot of that reference. Raises ApiError 400."""
    path = relative(reference)
    if path.startswith(f"projects/{cloud.number}/"):
        path = path.replace(cloud.number, cloud.project, 1)
    if not path.startswith("projects/"):
        path = f"projects/{cloud.project}/{path}"
    parts = path.split("/")
    if len(parts) < 5 or parts[-2] != f"{word}s" or path not in cloud.resources:
        raise invalid(field, reference, f"The referenced {word} resource cannot be found.")
    return cloud.resources[path]
