"""What rehost calls things in a Google Cloud project, and how places are read from names and URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rehost.run.errors import UsageError

LABEL = "rehost-app"
# The longest name made from the app's is the network tag "rehost-<app>", and a tag has at most 63 characters.
LONGEST_APP = 56
_APP = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z0-9]+")

# The zones in which an e2-micro is free: https://cloud.google.com/free/docs/free-cloud-features, 2026-11.
FREE_ZONES = (
    "us-west1-a",
    "us-west1-b",
    "us-west1-c",
    "us-central1-a",
    "us-central1-b",
    "us-central1-c",
    "us-central1-f",
    "us-east1-b",
    "us-east1-c",
    "us-east1-d",
)
FREE_REGIONS = ("us-west1", "us-central1", "us-east1")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one app's resources. The boot disk carries the instance's name, as it does by default."""

    app: str

    def __post_init__(self) -> None:
        if len(self.app) > LONGEST_APP or not _APP.fullmatch(self.app):
            raise UsageError(
                f"the name {self.app!r} is not allowed for resources in Google Cloud.",
                where="rehost.toml, app",
                cure="Use small letters, digits and hyphens, beginning with a letter, not ending with a "
                f"hyphen, at most {LONGEST_APP} characters.",
            )

    @property
    def instance(self) -> str:
        return self.app

    @property
    def disk(self) -> str:
        return self.app

    @property
    def address(self) -> str:
        return f"{self.app}-ip"

    @property
    def web(self) -> str:
        return f"{self.app}-web"

    @property
    def ssh(self) -> str:
        return f"{self.app}-ssh"

    @property
    def tag(self) -> str:
        return f"rehost-{self.app}"

    @property
    def description(self) -> str:
        """Marks what cannot carry labels (firewall rules) as ours."""
        return f"{LABEL}={self.app}"


def region_of(zone: str) -> str:
    """The region of a zone: "us-west1" of "us-west1-a". Raises UsageError for what cannot be a zone."""
    if not _ZONE.fullmatch(zone):
        raise UsageError(
            f"{zone!r} is not a zone.",
            where="rehost.toml, [machine] zone",
            cure='A zone is a region and a letter, such as "us-west1-a".',
        )
    return zone.rsplit("-", 1)[0]


def last(url: str) -> str:
    """The last part of a resource's URL: Google refers to everything by full URLs."""
    return url.rsplit("/", 1)[-1]


def image_url(image: str) -> str:
    """Where the newest image of a family stands: "debian-12", or "project/family" of another project."""
    project, slash, family = image.partition("/")
    if not slash:
        family = image
        project = "ubuntu-os-cloud" if image.startswith("ubuntu-") else "debian-cloud"
    return f"projects/{project}/global/images/family/{family}"
