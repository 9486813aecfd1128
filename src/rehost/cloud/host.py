"""A host that stands already: nothing is created, it is only reached; known_hosts holds its key."""

from __future__ import annotations

from typing import NamedTuple

from rehost.cloud.model import Reach


class HostDesired(NamedTuple):
    """A machine somebody else made. address: a name or address that ssh understands."""

    address: str
    user: str
    port: int = 22


def reach(desired: HostDesired) -> Reach:
    """How the host is reached; no host keys, so that the user's known_hosts decides."""
    return Reach(address=desired.address, user=desired.user, port=desired.port)
