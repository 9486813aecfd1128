"""What a machine of the lab is: plain data between the Compute API and the machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Seconds that a machine gets to power itself off; Compute Engine forces it after about that long.
STOP_PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Hardware:
    """Real limits. memory_mib: in MiB. cpus: processor time a second, 0.5 is half a core. share: what of it a
    machine that bursts gets in the long run (lab/bursts.py); None is all of it."""

    memory_mib: int
    cpus: float
    share: float | None = None


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
class PluggedDisk:
    """A disk in a machine. content: its key in `disks.Disks`; name: what /dev/disk/by-id calls it there."""

    content: str
    name: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """internal: of places.internal_addresses; external: of places.external_addresses; mac: 42:01:...
    disks: those that are in it when it is made; the first is the one that it boots from."""

    name: str
    instance_id: str
    internal: str
    external: str | None
    mac: str
    hardware: Hardware
    disks: tuple[PluggedDisk, ...]
    network: str = "default"  # machines of different networks do not reach each other's internal addresses
