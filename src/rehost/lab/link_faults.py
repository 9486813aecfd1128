"""Faults of a machine's cable: packets that are lost, refused or held up on the host's side of it.

The kernel's own packet rules lose packets (nftables, "numgen"), its token bucket holds them up (tc-tbf(8)). A fixed
delay would need the network emulator (tc-netem(8)), which many kernels are built without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rehost.lab import network
from rehost.lab.places import METADATA_ADDRESS, Places
from rehost.lab.programs import run

LOST_PERCENT = 20
RATE = "256kbit"
# The bucket holds a burst of some packets; what waits longer than the latency is dropped, as in a slow line's modem.
BUCKET = ("tbf", "rate", RATE, "burst", "16kb", "latency", "2s")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault on one cable. device: the host's end. others: addresses of the machine that it is about, empty: all."""

    device: str
    fault: str
    others: tuple[str, ...] = ()


def table(places: Places, troubles: Iterable[Trouble]) -> str:
    """The packet rules of all troubles, replacing those before, in nft's language (pure)."""
    name = places.table
    by_device: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        by_device.setdefault(trouble.device, []).append(trouble)
    chains = []
    for device, here in sorted(by_device.items()):
        for way, hook in (("from", "ingress"), ("to", "egress")):
            rules = [rule for trouble in here for rule in _rules(places, trouble, way)]
            body = "".join(f"    {rule}\n" for rule in rules)
            chains.append(
                f'  chain {way}-{device} {{\n    type filter hook {hook} device "{device}" priority -300;\n{body}  }}\n'
            )
    stands = f"table netdev {name} {{\n{''.join(chains)}}}\n" if chains else ""
    return f"table netdev {name}\ndelete table netdev {name}\n{stands}"


def _rules(places: Places, trouble: Trouble, way: str) -> list[str]:
    other = "daddr" if way == "from" else "saddr"
    whom = f"ip {other} {{ {', '.join(trouble.others)} }} " if trouble.others else ""
    outside = f"ip {other} != {{ {places.subnet}, {METADATA_ADDRESS} }}"
    if trouble.fault == "net-cut":
        return [f"{whom}drop"]
    if trouble.fault == "net-lossy":
        return [f"{whom}numgen random mod 100 < {LOST_PERCENT} drop"]
    if trouble.fault == "ssh-late":
        return ["tcp dport 22 drop"] if way == "to" else []
    if trouble.fault == "internet-cut":
        return [f"{outside} drop"]
    if trouble.fault == "archive-unreachable":
        # A refusal, not silence: apt gives up at once.
        return [f"{outside} tcp dport {{ 80, 443 }} reject with tcp reset"] if way == "from" else []
    return []


def load(rules: str) -> None:
    run("nft", "-f", "-", given=rules)


def slow(places: Places, machine: str, device: str) -> None:
    """Both ends of the cable; goes with the cable, at the latest when the machine stops."""
    run("tc", "qdisc", "replace", "dev", device, "root", *BUCKET)
    inside = ("ip", "netns", "exec", places.namespace(machine))
    run(*inside, "tc", "qdisc", "replace", "dev", network.NIC, "root", *BUCKET)


def unslow(places: Places, machine: str, device: str) -> None:
    """Nothing to do when the cable is gone."""
    if Path("/sys/class/net", device).exists():
        run("tc", "qdisc", "delete", "dev", device, "root", check=False)
        inside = ("ip", "netns", "exec", places.namespace(machine))
        run(*inside, "tc", "qdisc", "delete", "dev", network.NIC, "root", check=False)
