"""What an app's machine in the cloud should be (`Desired`), what is there (`Observed`), how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rehost.cloud.names import LABEL, Names, region_of


class Desired(NamedTuple):
    """One machine and what belongs to it.

    disk_gb: size of the boot disk in GB. disk_type: pd-standard, because it is what the free tier covers.
    image: family of the boot image. ports: TCP ports that the world may reach. ssh_sources: CIDR ranges that
    may reach port 22. ssh_public_key: "TYPE BASE64"; a comment is ignored. startup_script: runs at each boot.
    """

    app: str
    project: str
    zone: str
    ssh_user: str
    ssh_public_key: str
    startup_script: str
    machine_type: str = "e2-micro"
    disk_gb: int = 20
    disk_type: str = "pd-standard"
    image: str = "debian-12"
    network: str = "default"
    ports: tuple[int, ...] = (80, 443)
    ssh_sources: tuple[str, ...] = ("0.0.0.0/0",)
    labels: Mapping[str, str] = MappingProxyType({})

    @property
    def names(self) -> Names:
        return Names(self.app)

    @property
    def region(self) -> str:
        return region_of(self.zone)


class Disk(NamedTuple):
    """A boot disk. `users` are the instances it is attached to."""

    name: str
    size_gb: int
    type: str
    labels: Mapping[str, str]
    users: tuple[str, ...] = ()


class Instance(NamedTuple):
    """A virtual machine. status: Google's own word, e.g. RUNNING or TERMINATED. external: "" for none."""

    name: str
    id: str
    zone: str
    status: str
    machine_type: str
    labels: Mapping[str, str]
    tags: tuple[str, ...]
    metadata: Mapping[str, str]
    internal: str
    external: str
    access_config: str = ""
    deletion_protection: bool = False

    def ours(self) -> bool:
        """Whether rehost made it: it carries our label with its own name."""
        return self.labels.get(LABEL) == self.name


class Address(NamedTuple):
    """A reserved address. `address` is "" while it is being reserved."""

    name: str
    region: str
    address: str
    description: str
    users: tuple[str, ...] = ()


class Firewall(NamedTuple):
    """A firewall rule. allowed, denied: "tcp:80", "udp:8000-8100", "icmp" for all of a protocol; sorted."""

    name: str
    network: str
    description: str
    direction: str
    priority: int
    disabled: bool
    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    sources: tuple[str, ...]
    source_tags: tuple[str, ...]
    target_tags: tuple[str, ...]
    service_accounts: bool = False  # names service accounts as sources or targets; ours never does


class Observed(NamedTuple):
    """What stands in the project under this app's names. None or a missing key: it is not there.

    elsewhere: instances of the app's name and label in other zones. addresses_elsewhere: in other regions.
    """

    instance: Instance | None = None
    disk: Disk | None = None
    address: Address | None = None
    firewalls: Mapping[str, Firewall] = MappingProxyType({})
    elsewhere: tuple[Instance, ...] = ()
    addresses_elsewhere: tuple[Address, ...] = ()


class Reach(NamedTuple):
    """How a machine is reached by ssh.

    host_keys: lines "TYPE BASE64" that the machine itself published through the cloud; empty means that the
    user's known_hosts decides. instance_id: "" for a host that is nobody's instance.
    """

    address: str
    user: str
    host_keys: tuple[str, ...] = ()
    instance_id: str = ""
    port: int = 22
