"""The lab's network: an interface for the gateway, a cable for each machine, and nft's rules between them.

The rules themselves are text of `nft`; what acts is here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rehost.lab import kernel, nft
from rehost.lab.hardware import MachineSpec, PacketRule
from rehost.lab.places import Places
from rehost.lab.programs import found, run
from rehost.run.errors import RehostError

NIC = "ens4"  # as Compute Engine's Debian images name it
MTU = 1460  # of a Compute Engine VPC network, by default

# -- the host's side ---------------------------------------------------------------------------------------


def up(places: Places) -> None:
    """The gateway's address and the way out. May be repeated. Raises RehostError with what `ip` or `nft` said."""
    bridge = places.bridge
    if not _exists(bridge):
        run("ip", "link", "add", bridge, "type", "bridge")
    run("ip", "link", "set", bridge, "mtu", str(MTU), "up")
    # The whole subnet, though each machine has a route of its own: an address that nobody has leads nowhere.
    run("ip", "address", "replace", f"{places.gateway}/24", "dev", bridge)
    run("nft", "-f", "-", given=nft.lab_table(places))
    _let_docker_forward(places)
    kernel.prepare(places)


def down(places: Places) -> None:
    """Takes away every interface and namespace of the lab, and its rules. May be repeated."""
    for namespace in namespaces(places):
        run("ip", "netns", "delete", namespace, check=False)
    for link in links(places):
        run("ip", "link", "delete", link, check=False)
    for family in tables(places):
        run("nft", "delete", "table", family, places.table)
    for rule in _forward_rules(places):
        while found("iptables") and _iptables("-C", rule):
            run("iptables", "-D", *rule)
    kernel.restore(places)


def links(places: Places) -> list[str]:
    """The lab's network interfaces on the host."""
    names = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return [name for name in names if name.startswith(places.prefix)]


def namespaces(places: Places) -> list[str]:
    root = Path("/run/netns")
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return [name for name in names if name.startswith(places.prefix + "-")]


def tables(places: Places) -> list[str]:
    """The families in which the lab has a table of rules."""
    if not found("nft"):
        return []  # no lab comes up without it
    listed = json.loads(run("nft", "-j", "list", "tables") or "{}")
    there = [item["table"] for item in listed.get("nftables", []) if "table" in item]
    return sorted(table["family"] for table in there if table["name"] == places.table)


def _exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def _forward_rules(places: Places) -> list[list[str]]:
    mark = ["-m", "comment", "--comment", places.prefix, "-j", "ACCEPT"]
    cables = f"{places.cables}+"  # all that begin so
    return [["FORWARD", "-i", cables, *mark], ["FORWARD", "-o", cables, *mark]]


def _let_docker_forward(places: Places) -> None:
    """Docker on the host makes FORWARD drop what it does not know; an accept in our own table can't undo that."""
    if found("iptables"):
        for rule in _forward_rules(places):
            if not _iptables("-C", rule):
                run("iptables", "-I", *rule)


def _iptables(command: str, rule: list[str]) -> bool:
    try:
        run("iptables", command, *rule)
    except RehostError:
        return False
    return True


# -- a machine's side --------------------------------------------------------------------------------------


def attach(places: Places, spec: MachineSpec, external: str | None, rules: Sequence[PacketRule]) -> None:
    """A network namespace with a cable to the host, as a VPC network gives it to an instance: an address alone,
    and a gateway on the same link. Replaces what stood under that name. Raises UsageError for a wrong rule.
    """
    detach(places, spec)
    space, cable = places.namespace(spec.name), places.veth(spec.internal)
    _nft(
        nft.machine_joins(places, spec),
        nft.machine_rules(places, spec, rules),
        nft.external(places, spec, external) if external else "",
    )
    run("ip", "netns", "add", space)
    run("ip", "link", "add", cable, "mtu", str(MTU), "type", "veth",
        "peer", "name", NIC, "address", spec.mac, "mtu", str(MTU), "netns", space)  # fmt: skip
    outside = f"link set {cable} addrgenmode none\nlink set {cable} up\n"
    outside += f"route replace {spec.internal}/32 dev {cable} src {places.gateway}\n"
    # Asked, the machine could name any link address as that of its own: it is the only one here, so nobody asks.
    outside += f"neigh replace {spec.internal} lladdr {spec.mac} dev {cable} nud permanent\n"
    inside = f"link set lo up\nlink set {NIC} up\naddress add {spec.internal}/32 dev {NIC}\n"
    inside += f"route add {places.gateway}/32 dev {NIC} src {spec.internal}\n"
    inside += f"route add default via {places.gateway} dev {NIC} src {spec.internal}\n"
    run("ip", "-batch", "-", given=outside)
    run("ip", "-netns", space, "-batch", "-", given=inside)


def detach(places: Places, spec: MachineSpec) -> None:
    space, cable = places.namespace(spec.name), places.veth(spec.internal)
    if Path("/run/netns", space).exists():
        run("ip", "netns", "delete", space)
    # The namespace may live on in a process; its cable goes now.
    if _exists(cable):
        run("ip", "link", "delete", cable, check=False)
    _nft(nft.machine_leaves(places, spec, _listing(places)))


def set_external(places: Places, spec: MachineSpec, external: str | None) -> None:
    """Gives the machine its external address in place of the one it had. The machine does not see it, as on
    Compute Engine: the host translates."""
    _nft(
        nft.without_external(places, spec, _listing(places)),
        nft.external(places, spec, external) if external else "",
    )


def set_rules(places: Places, spec: MachineSpec, rules: Sequence[PacketRule]) -> None:
    """Replaces the machine's packet rules in one step. Raises UsageError for a wrong one."""
    _nft(nft.machine_rules(places, spec, rules))


def hold(places: Places, internal: str) -> None:
    """Nothing comes to the machine or goes from it: it is suspended, but its kernel would answer."""
    _nft(nft.hold(places, internal))


def let_go(places: Places, internal: str) -> None:
    _nft(nft.let_go(places, internal, _listing(places)))


def _nft(*texts: str) -> None:
    if text := "".join(texts):
        run("nft", "-f", "-", given=text)


def _listing(places: Places) -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(run("nft", "-j", "list", "table", "inet", places.table))
    return listed


def nameserver(resolv_conf: str) -> str | None:
    """The first name server that a machine can reach through NAT: one on loopback answers this computer alone."""
    for line in resolv_conf.splitlines():
        words = line.split()
        if (
            len(words) > 1
            and words[0] == "nameserver"
            and not words[1].startswith("127.")
            and ":" not in words[1]
        ):
            return words[1]
    return None
