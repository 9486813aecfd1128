"""Images to read and to make disks of: debian-cloud's Debian 12, and the project's own (compute_custom_images)."""

from __future__ import annotations

from dataclasses import dataclass

from rehost.lab.compute_call import IMAGE_PROJECT, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import BORN
from rehost.lab.compute_errors import invalid, not_found
from rehost.lab.compute_lists import page
from rehost.lab.state import Cloud, Resource, fingerprint, link, relative, stable_id

LICENSE = link(f"projects/{IMAGE_PROJECT}/global/licenses/debian-12-bookworm")
GUEST_FEATURES = [{"type": kind} for kind in ("UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC")]


@dataclass(frozen=True, slots=True)
class PublicImage:
    """content: a key of `disks.PUBLIC`."""

    name: str
    family: str
    gigabytes: int
    content: str
    description: str

    @property
    def path(self) -> str:
        return f"projects/{IMAGE_PROJECT}/global/images/{self.name}"

    def resource(self) -> Resource:
        return {
            "kind": "compute#image",
            "id": stable_id(self.name),
            "creationTimestamp": BORN,
            "name": self.name,
            "description": self.description,
            "sourceType": "RAW",
            "status": "READY",
            "family": self.family,
            "architecture": "X86_64",
            "diskSizeGb": str(self.gigabytes),
            "licenses": [LICENSE],
            "guestOsFeatures": GUEST_FEATURES,
            "storageLocations": ["us"],
            "labelFingerprint": fingerprint({}),
            "selfLink": link(self.path),
        }


PUBLIC = (
    PublicImage(
        name="debian-12-bookworm-v20261110",
        family="debian-12",
        gigabytes=10,
        content="public/debian-12",
        description="Debian, Debian GNU/Linux, 12 (bookworm), amd64, the lab's own build",
    ),
)


def public_content(path: str) -> str | None:
    return next((image.content for image in PUBLIC if image.path == path), None)


def _in_project(cloud: Cloud, project: str) -> list[Resource]:
    if project in (cloud.project, cloud.number):
        return cloud.under(f"projects/{cloud.project}/global/images")
    return [image.resource() for image in PUBLIC] if project == IMAGE_PROJECT else []


def _named(cloud: Cloud, project: str, name: str) -> Resource | None:
    return next((image for image in _in_project(cloud, project) if image["name"] == name), None)


def _newest(cloud: Cloud, project: str, family: str) -> Resource | None:
    """Of a family; deprecated ones are the family's no more."""
    images = [
        image
        for image in _in_project(cloud, project)
        if image.get("family") == family and "deprecated" not in image and image["status"] == "READY"
    ]
    return max(images, key=lambda image: str(image["creationTimestamp"]), default=None)


def find_image(cloud: Cloud, reference: str, field: str) -> Resource:
    """The image of a reference, by name or family. Raises ApiError: 404 for an unknown family, 400 otherwise."""
    path = relative(reference)
    if path.startswith("global/"):
        path = f"projects/{cloud.project}/{path}"
    parts = path.split("/")
    found = None
    # The second is how gcloud names a family.
    if len(parts) == 6 and (parts[2:5] == ["global", "images", "family"] or parts[4] == "imageFamilyViews"):
        found = _newest(cloud, parts[1], parts[5])
    elif len(parts) == 5 and parts[2:4] == ["global", "images"]:
        found = _named(cloud, parts[1], parts[4])
    if found is None and "/images/family/" in path:
        raise not_found(path)
    if found is None:
        raise invalid(field, reference, "The referenced image resource cannot be found.")
    return found


@method("images.getFromFamily", "GET", "/global/images/family/{family}")
def _get_from_family(call: Call) -> Resource:
    found = _newest(call.cloud, call.path["project"], call.path["family"])
    if found is None:
        raise not_found(f"projects/{call.path['project']}/global/images/family/{call.path['family']}")
    return found


@method("images.get", "GET", "/global/images/{image}")
def _get(call: Call) -> Resource:
    found = _named(call.cloud, call.path["project"], call.path["image"])
    if found is None:
        raise not_found(f"projects/{call.path['project']}/global/images/{call.path['image']}")
    return found


@method("images.list", "GET", "/global/images", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    return page(call, "compute#imageList", _in_project(call.cloud, call.path["project"]))


@method("imageFamilyViews.get", "GET", "/zones/{zone}/imageFamilyViews/{family}")
def _family_view(call: Call) -> Resource:
    found = _newest(call.cloud, call.path["project"], call.path["family"])
    if found is None:
        where = f"projects/{call.path['project']}/zones/{call.path['zone']}"
        raise not_found(f"{where}/imageFamilyViews/{call.path['family']}")
    return {"image": found}
