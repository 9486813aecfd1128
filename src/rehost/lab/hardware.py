"""What a machine of the lab is: plain data between the Compute API and the machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Hardware:
    """Real limits. memory_mib: in MiB. cpus: processor time a second, 0.5 is half a core."""

    memory_mib: int
    cpus: float


@dataclass(frozen=True, slots=True)
class PacketRule:
    """One rule of a machine's firewall. Rules come in priority order; what none allows is dropped.

    protocol: "tcp", "udp", "icmp", "all", or another IP protocol's name or number. ports: "80" or "8000-8100";
    empty means all. sources: CIDR ranges; empty matches nobody.
    """

    action: Literal["allow", "deny"]
    protocol: str
    ports: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """internal: of places.internal_addresses; external: of places.external_addresses; mac: 42:01:..."""

    name: str
    instance_id: str
    internal: str
    external: str | None
    mac: str
    hardware: Hardware
    disk_gb: int
