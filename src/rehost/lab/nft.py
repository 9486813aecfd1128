"""The packet rules of a lab in nft's language: text alone, nothing here acts.

All of it stands on the host, where the root user of a machine cannot reach it. Every packet of a machine is routed
by the host, as a VPC network does it: there is no link between two machines. What reaches a machine is judged after
all address translation, so that a rule sees the sender's address as the receiver sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any

from rehost.lab.hardware import MachineSpec, PacketRule
from rehost.lab.places import METADATA_ADDRESS, METADATA_PORT, Places
from rehost.run.errors import UsageError

LINK_LOCAL = "169.254.0.0/16"


def lab_table(places: Places) -> str:
    """The lab's table, without machines yet.

    senders: which address may come from which cable. internal_of, external_of: how external addresses are
    translated, one to one. current: the same as pairs: a connection by an address that has moved on ends.
    held: cables that carry nothing.
    """
    cables, gateway, internal = f'"{places.cables}*"', places.gateway, _internal(places)
    return f"""\
table inet {places.table}
delete table inet {places.table}
table inet {places.table} {{
  set senders {{ type ifname . ipv4_addr; }}
  set held {{ type ifname; }}
  set current {{ type ipv4_addr . ipv4_addr; }}
  map internal_of {{ type ipv4_addr : ipv4_addr; }}
  map external_of {{ type ipv4_addr : ipv4_addr; }}
  map machines {{ type ifname : verdict; }}

  chain guard {{
    type filter hook prerouting priority raw;
    iifname != {cables} accept
    iifname @held drop
    meta nfproto ipv6 drop
    iifname . ip saddr != @senders drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname != {cables} accept
    ip daddr {METADATA_ADDRESS} tcp dport 80 dnat ip to {gateway}:{METADATA_PORT}
    dnat ip to ip daddr map @internal_of
  }}
  chain output {{
    type nat hook output priority -100;
    dnat ip to ip daddr map @internal_of
  }}
  chain input {{
    type filter hook input priority filter;
    ip daddr != {gateway} accept
    tcp dport {METADATA_PORT} ct original ip daddr != {METADATA_ADDRESS} drop
    iifname "lo" accept
    iifname != {cables} drop
  }}
  chain forward {{
    type filter hook forward priority filter;
    iifname {cables} ip daddr {LINK_LOCAL} drop
    iifname {cables} accept
    oifname {cables} ct state established,related accept
    oifname {cables} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {internal} oifname {cables} ct status dnat snat ip to ip saddr map @external_of
    ip saddr {internal} oifname != {cables} masquerade
  }}
  chain towards {{
    type filter hook postrouting priority srcnat + 10;
    oifname != {cables} accept
    oifname @held drop
    ct direction original ct status dnat ct original ip daddr . ip daddr != @current drop
    ip saddr {internal} ct direction original ct status dnat drop
    ct state established,related accept
    oifname vmap @machines
    drop
  }}
}}
"""


def machine_joins(places: Places, spec: MachineSpec) -> str:
    """The machine may send by its cable and its address. Its chain lets nothing through until it has rules."""
    table, cable, members = f"inet {places.table}", places.veth(spec.internal), _members(spec.network)
    return f"""\
add chain {table} {_chain(cable)}
add set {table} {members} {{ type ipv4_addr; }}
add element {table} {members} {{ {spec.internal} }}
add element {table} senders {{ "{cable}" . {spec.internal} }}
add element {table} machines {{ "{cable}" : goto {_chain(cable)} }}
"""


def machine_rules(places: Places, spec: MachineSpec, rules: Sequence[PacketRule]) -> str:
    """The machine's rules in place of those that it had, as one transaction.

    Machines of another network of the project are not there for it, whatever the rules say, but by their external
    addresses. Raises UsageError for a port or range that is none.
    """
    chain = _chain(places.veth(spec.internal))
    lines = [
        f"ip saddr {_internal(places)} ip saddr != @{_members(spec.network)} drop",
        *(line for rule in rules for line in _rule_lines(rule)),
        "drop",
    ]
    body = "\n".join(f"    {line}" for line in lines)
    return f"""\
flush chain inet {places.table} {chain}
table inet {places.table} {{
  chain {chain} {{
{body}
  }}
}}
"""


def external(places: Places, spec: MachineSpec, address: str) -> str:
    """That external address leads to the machine, and is where it comes from for others."""
    table = f"inet {places.table}"
    return f"""\
add element {table} internal_of {{ {address} : {spec.internal} }}
add element {table} external_of {{ {spec.internal} : {address} }}
add element {table} current {{ {address} . {spec.internal} }}
"""


def without_external(places: Places, spec: MachineSpec, listing: Mapping[str, Any]) -> str:
    """Takes the machine's external address away. listing: what `nft -j list table` says of the lab's table."""
    named = ("internal_of", "external_of", "current")
    return _deletions(places, listing, {spec.internal}, lambda name: name in named)


def machine_leaves(places: Places, spec: MachineSpec, listing: Mapping[str, Any]) -> str:
    """Everything of the machine goes, but its chain, which nothing leads to any more."""
    return _deletions(places, listing, {spec.internal, places.veth(spec.internal)}, lambda _: True)


def hold(places: Places, internal: str) -> str:
    return f'add element inet {places.table} held {{ "{places.veth(internal)}" }}\n'


def let_go(places: Places, internal: str, listing: Mapping[str, Any]) -> str:
    return _deletions(places, listing, {places.veth(internal)}, lambda name: name == "held")


def _deletions(
    places: Places, listing: Mapping[str, Any], wanted: set[str], of: Callable[[str], bool]
) -> str:
    """Deletes the elements that name one of those wanted: nft refuses to delete one that is not there."""
    lines = []
    for item in listing.get("nftables", []):
        kind = item.get("set") or item.get("map")
        if kind is None or not of(kind["name"]):
            continue
        for element in kind.get("elem", []):
            key, value = element if "map" in item else (element, None)
            words = key["concat"] if isinstance(key, dict) else [key]
            if wanted & {*words, *([value] if isinstance(value, str) else [])}:
                text = " . ".join(word if word[0].isdigit() else f'"{word}"' for word in words)
                lines.append(f"delete element inet {places.table} {kind['name']} {{ {text} }}\n")
    return "".join(lines)


def _internal(places: Places) -> str:
    return f"{places.internal_addresses[0]}-{places.internal_addresses[-1]}"


def _chain(cable: str) -> str:
    return f"to-{cable}"


def _members(network: str) -> str:
    """The set with the internal addresses of a network; a set's name has 31 characters at most where nft is old."""
    return "net-" + hashlib.sha256(network.encode()).hexdigest()[:12]


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
