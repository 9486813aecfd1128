"""The lab's network: a bridge with the way out, a cable per machine, and the machines' packet rules.

Functions that write nft's own language are pure; the others hand it to `ip` and `nft`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path

from rehost.lab.hardware import PacketRule
from rehost.lab.places import METADATA_ADDRESS, METADATA_PORT, Places, all_labs, locked
from rehost.lab.programs import found, run
from rehost.run.errors import RehostError, UsageError

NIC = "ens4"  # as Compute Engine's Debian images name it
MTU = 1460  # of a Compute Engine VPC network, by default
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
INSTANCE_TABLE = "instance"  # inside a machine's network namespace


# -- nft's language (pure) ---------------------------------------------------------------------------------


def lab_table(places: Places) -> str:
    """The lab's table: the way out, forwarding, and the metadata address for machines alone."""
    name, bridge, gateway = places.table, places.bridge, places.gateway
    return f"""\
table inet {name}
delete table inet {name}
table inet {name} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname "{bridge}" ip daddr {METADATA_ADDRESS} tcp dport 80 dnat ip to {gateway}:{METADATA_PORT}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {places.subnet} ip daddr != {places.subnet} masquerade
  }}
  chain input {{
    type filter hook input priority filter;
    ip daddr {gateway} tcp dport {METADATA_PORT} ct original ip daddr != {METADATA_ADDRESS} drop
  }}
  chain forward {{
    type filter hook forward priority filter;
    iifname "{bridge}" accept
    oifname "{bridge}" accept
  }}
}}
"""


def instance_table(places: Places, rules: Sequence[PacketRule], external: str | None) -> str:
    """A machine's firewall, replaced as one transaction. It stands after connection tracking and before
    Docker's destination NAT, so that it sees ports as the sender wrote them, as a VPC firewall does.

    What the machine sends to another's external address comes from its own external address, as on Compute
    Engine, or it would count as internal there; without one it reaches none.

    Raises UsageError for a port or range that is none.
    """
    lines = [line for rule in rules for line in _rule_lines(rule)]
    body = "\n".join(f"    {line}" for line in lines)
    outside = f"{places.external_addresses[0]}-{places.external_addresses[-1]}"
    leaving = (
        "type nat hook postrouting priority 90" if external else "type filter hook postrouting priority 90"
    )
    verdict = f"snat ip to {external}" if external else "drop"
    return f"""\
table inet {INSTANCE_TABLE}
delete table inet {INSTANCE_TABLE}
table inet {INSTANCE_TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority -150; policy accept;
    iifname != "{NIC}" accept
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
    ip saddr {METADATA_ADDRESS} accept
    udp sport 67 udp dport 68 accept
{body}
    drop
  }}
  chain leaving {{
    {leaving}; policy accept;
    oifname "{NIC}" ip daddr {outside} {verdict}
  }}
}}
"""


def _rule_lines(rule: PacketRule) -> list[str]:
    verdict = "accept" if rule.action == "allow" else "drop"
    return [
        " ".join(part for part in (sources, _protocol(rule), verdict) if part)
        for sources in _sources(rule.sources)
    ]


def _sources(ranges: Iterable[str]) -> list[str]:
    v4: list[IPv4Network] = []
    v6: list[IPv6Network] = []
    for text in ranges:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise UsageError(
                f"{text!r} is not an address range", cure="Write it as 203.0.113.0/24."
            ) from None
        if isinstance(network, IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    out = []
    for family, networks in (("ip", [*collapse_addresses(v4)]), ("ip6", [*collapse_addresses(v6)])):
        if any(network.prefixlen == 0 for network in networks):
            out.append(f"meta nfproto ipv{4 if family == 'ip' else 6}")
        elif networks:
            out.append(f"{family} saddr {{ {', '.join(map(str, networks))} }}")
    return out


def _protocol(rule: PacketRule) -> str:
    protocol = rule.protocol.lower()
    if protocol == "all":
        return ""
    if not protocol.isalnum() or not protocol.isascii():
        raise UsageError(f"{rule.protocol!r} is not a protocol", cure="Use tcp, udp, icmp, all or a number.")
    if rule.ports and protocol in ("tcp", "udp", "sctp"):
        return f"{protocol} dport {{ {', '.join(_ports(rule.ports))} }}"
    return f"meta l4proto {protocol}"


def _ports(ports: Iterable[str]) -> list[str]:
    """Joined where they overlap or touch: nft takes no overlapping ranges in one set."""
    spans = sorted(_span(port) for port in ports)
    joined: list[tuple[int, int]] = []
    for low, high in spans:
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return [str(low) if low == high else f"{low}-{high}" for low, high in joined]


def _span(text: str) -> tuple[int, int]:
    low, dash, high = text.strip().partition("-")
    if low.isdecimal() and low.isascii() and (not dash or (high.isdecimal() and high.isascii())):
        first, last = int(low), int(high or low)
        if first <= last <= 65535:
            return first, last
    raise UsageError(
        f"{text!r} is not a port", cure='Write a port or a range of ports, as "80" or "8000-8100".'
    )


# -- the host's side ---------------------------------------------------------------------------------------


def up(places: Places) -> None:
    """The bridge and the way out. May be repeated. Raises RehostError with what `ip` or `nft` said."""
    bridge = places.bridge
    if not _exists(bridge):
        run("ip", "link", "add", bridge, "type", "bridge")
    # The bridge's address would follow the machine with the lowest one, and break connections when that goes.
    run("ip", "link", "set", bridge, "address", _bridge_mac(places), "mtu", str(MTU), "up")
    run("ip", "address", "replace", f"{places.gateway}/24", "dev", bridge)
    run("nft", "-f", "-", given=lab_table(places))
    _let_docker_forward(places)
    _remember_forwarding(places)
    FORWARDING.write_text("1")


def down(places: Places) -> None:
    """Takes away the bridge, every cable and namespace of the lab, and its rules. May be repeated."""
    for namespace in namespaces(places):
        run("ip", "netns", "delete", namespace, check=False)
    for link in links(places):
        run("ip", "link", "delete", link, check=False)
    if table_stands(places):
        run("nft", "delete", "table", "inet", places.table)
    for rule in _forward_rules(places):
        while found("iptables") and _iptables("-C", rule):
            run("iptables", "-D", *rule)
    _restore_forwarding(places)


def links(places: Places) -> list[str]:
    """The lab's network interfaces on the host."""
    names = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return [name for name in names if name.startswith(places.prefix)]


def namespaces(places: Places) -> list[str]:
    root = Path("/run/netns")
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return [name for name in names if name.startswith(places.prefix + "-")]


def table_stands(places: Places) -> bool:
    listed = json.loads(run("nft", "-j", "list", "tables") or "{}")
    return any(item.get("table", {}).get("name") == places.table for item in listed.get("nftables", []))


def _exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def _bridge_mac(places: Places) -> str:
    return "42:01:" + ":".join(f"{int(part):02x}" for part in places.gateway.split("."))


def _forward_rules(places: Places) -> list[list[str]]:
    mark = ["-m", "comment", "--comment", places.prefix, "-j", "ACCEPT"]
    return [["FORWARD", "-i", places.bridge, *mark], ["FORWARD", "-o", places.bridge, *mark]]


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


def _remember_forwarding(places: Places) -> None:
    """What ip_forward was before the first lab came; the last one to go puts it back."""
    kept = places.state.parent / "ip_forward"
    with locked(places.state.parent / ".lock"):
        if not kept.exists():
            kept.write_text(FORWARDING.read_text())


def _restore_forwarding(places: Places) -> None:
    kept = places.state.parent / "ip_forward"
    if not kept.exists():
        return
    with locked(places.state.parent / ".lock"):
        others = [name for name in all_labs() if name != places.name]
        if not others and kept.exists():
            FORWARDING.write_text(kept.read_text())
            kept.unlink()


# -- a machine's side --------------------------------------------------------------------------------------


def attach(places: Places, machine: str, internal: str, external: str | None, mac: str) -> None:
    """A network namespace with a cable to the bridge. Replaces what stood under that name."""
    detach(places, machine, internal)
    space, host_end = places.namespace(machine), places.veth(internal)
    run("ip", "netns", "add", space)
    run("ip", "link", "add", host_end, "mtu", str(MTU), "type", "veth",
        "peer", "name", NIC, "address", mac, "mtu", str(MTU), "netns", space)  # fmt: skip
    run("ip", "link", "set", host_end, "master", places.bridge, "up")
    inside = f"link set lo up\nlink set {NIC} up\naddress add {internal}/24 dev {NIC}\n"
    inside += f"route add default via {places.gateway} dev {NIC} src {internal}\n"
    run("ip", "-netns", space, "-batch", "-", given=inside)
    set_external(places, machine, internal, external)


def detach(places: Places, machine: str, internal: str) -> None:
    space, host_end = places.namespace(machine), places.veth(internal)
    if Path("/run/netns", space).exists():
        run("ip", "netns", "delete", space)
    # The namespace may live on in a process; its cable goes now.
    if _exists(host_end):
        run("ip", "link", "delete", host_end, check=False)


def set_external(places: Places, machine: str, internal: str, external: str | None) -> None:
    """Gives the machine its external address in place of the one it had.

    It is a second address of the NIC: the lab has no address translation of its own for it, so unlike on
    Compute Engine the machine sees it.
    """
    space = places.namespace(machine)
    listed = json.loads(run("ip", "-netns", space, "-json", "-4", "address", "show", "dev", NIC))
    present = {entry["local"] for link in listed for entry in link.get("addr_info", [])} - {internal}
    for old in present - {external}:
        run("ip", "-netns", space, "address", "delete", f"{old}/24", "dev", NIC)
    if external and external not in present:
        run("ip", "-netns", space, "address", "add", f"{external}/24", "dev", NIC)
        with contextlib.suppress(RehostError):
            run("ip", "neighbor", "flush", "to", external, "dev", places.bridge)


def set_rules(places: Places, machine: str, rules: Sequence[PacketRule], external: str | None) -> None:
    table = instance_table(places, rules, external)
    run("ip", "netns", "exec", places.namespace(machine), "nft", "-f", "-", given=table)


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
