"""The image that machines boot from: Debian 12, under the names that debian-cloud has for it."""

from __future__ import annotations

from rehost.lab.compute_call import IMAGE_PROJECT, LIST_QUERY, Call, method
from rehost.lab.compute_errors import invalid, not_found
from rehost.lab.compute_lists import page
from rehost.lab.state import Resource, fingerprint, link, relative, stable_id

IMAGE_FAMILY = "debian-12"
IMAGE = "debian-12-bookworm-v20261110"
IMAGE_GB = 10
LICENSE = link(f"projects/{IMAGE_PROJECT}/global/licenses/debian-12-bookworm")
GUEST_FEATURES = [{"type": kind} for kind in ("UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC")]
_BORN = "2026-11-10T09:12:31.000-08:00"


def image() -> Resource:
    path = f"projects/{IMAGE_PROJECT}/global/images/{IMAGE}"
    return {
        "kind": "compute#image",
        "id": stable_id(IMAGE),
        "creationTimestamp": _BORN,
        "name": IMAGE,
        "description": "Debian, Debian GNU/Linux, 12 (bookworm), amd64, the lab's own build",
        "sourceType": "RAW",
        "status": "READY",
        "family": IMAGE_FAMILY,
        "architecture": "X86_64",
        "diskSizeGb": str(IMAGE_GB),
        "licenses": [LICENSE],
        "guestOsFeatures": GUEST_FEATURES,
        "storageLocations": ["us"],
        "labelFingerprint": fingerprint({}),
        "selfLink": link(path),
    }


def image_from(reference: str, field: str) -> Resource:
    """The image that a disk is made of. Raises ApiError: 404 for an unknown family, 400 for anything else."""
    path = relative(reference)
    home = f"projects/{IMAGE_PROJECT}/global/images"
    view = f"projects/{IMAGE_PROJECT}/zones/-/imageFamilyViews/{IMAGE_FAMILY}"  # as gcloud names it
    if path in (f"{home}/family/{IMAGE_FAMILY}", f"{home}/{IMAGE}", view):
        return image()
    if "/images/family/" in path:
        raise not_found(path)
    raise invalid(field, reference, "The referenced image resource cannot be found.")


@method("images.getFromFamily", "GET", "/global/images/family/{family}")
def _image_family(call: Call) -> Resource:
    if (call.path["project"], call.path["family"]) != (IMAGE_PROJECT, IMAGE_FAMILY):
        raise not_found(f"projects/{call.path['project']}/global/images/family/{call.path['family']}")
    return image()


@method("images.get", "GET", "/global/images/{image}")
def _image_get(call: Call) -> Resource:
    if (call.path["project"], call.path["image"]) != (IMAGE_PROJECT, IMAGE):
        raise not_found(f"projects/{call.path['project']}/global/images/{call.path['image']}")
    return image()


@method("images.list", "GET", "/global/images", query=LIST_QUERY)
def _image_list(call: Call) -> Resource:
    return page(call, "compute#imageList", [image()] if call.path["project"] == IMAGE_PROJECT else [])


@method("imageFamilyViews.get", "GET", "/zones/{zone}/imageFamilyViews/{family}")
def _image_family_view(call: Call) -> Resource:
    where = f"projects/{call.path['project']}/zones/{call.path['zone']}"
    if (call.path["project"], call.path["family"]) != (IMAGE_PROJECT, IMAGE_FAMILY):
        raise not_found(f"{where}/imageFamilyViews/{call.path['family']}")
    return {"image": image()}
