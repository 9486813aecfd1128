"""Packet rules as nft's language; what the lab's own table lets through."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.lab import nft
from rehost.lab.hardware import Hardware, MachineSpec, PacketRule
from rehost.lab.network import nameserver
from rehost.lab.places import Places
from rehost.run.errors import UsageError

LAB = Places("one", Path("/state/one"), Path("/cache"), IPv4Network("10.70.1.0/24"))
ANY = ("0.0.0.0/0",)
APP = MachineSpec("app", "1", "10.70.1.2", None, "42:01:0a:46:01:02", Hardware(1024, 2, 0.25), disks=())
CABLE = LAB.veth(APP.internal)


def body(*given_rules: PacketRule, spec: MachineSpec = APP) -> list[str]:
    """The lines of a machine's chain."""
    lines = [line.strip() for line in nft.machine_rules(LAB, spec, given_rules).splitlines()]
    return lines[lines.index(f"chain to-{CABLE} {{") + 1 : lines.index("}")]


def rules(*given_rules: PacketRule) -> list[str]:
    """Those that come from the rules: not the first, on other networks, nor the last, which drops the rest."""
    return body(*given_rules)[1:-1]


def test_what_no_rule_allows_is_dropped() -> None:
    assert rules() == []
    assert body()[-1] == "drop"


def test_a_machine_of_another_network_is_dropped_before_any_rule() -> None:
    allow = PacketRule("allow", "all", (), ANY)
    here, there = (body(allow, spec=replace(APP, network=name))[0] for name in ("default", "other"))
    assert here.startswith("ip saddr 10.70.1.2-10.70.1.99 ip saddr != @net-")
    assert here.endswith(" drop")
    assert here != there
    assert here.split("@")[1].split()[0] in nft.machine_joins(LAB, APP)


def test_rules_keep_their_order() -> None:
    deny = PacketRule("deny", "tcp", ("22",), ("192.0.2.0/24",))
    allow = PacketRule("allow", "tcp", ("22", "80"), ANY)
    assert rules(deny, allow) == [
        "ip saddr { 192.0.2.0/24 } tcp dport { 22 } drop",
        "meta nfproto ipv4 tcp dport { 22, 80 } accept",
    ]


@pytest.mark.parametrize(
    ("protocol", "ports", "expected"),
    [
        ("tcp", (), "meta nfproto ipv4 meta l4proto tcp accept"),
        ("icmp", (), "meta nfproto ipv4 meta l4proto icmp accept"),
        ("all", (), "meta nfproto ipv4 accept"),
        ("47", (), "meta nfproto ipv4 meta l4proto 47 accept"),
        ("UDP", ("53",), "meta nfproto ipv4 udp dport { 53 } accept"),
        (
            "tcp",
            ("8000-8100", "8050-8200", "80", "81"),
            "meta nfproto ipv4 tcp dport { 80-81, 8000-8200 } accept",
        ),
    ],
)
def test_protocols_and_ports(protocol: str, ports: tuple[str, ...], expected: str) -> None:
    assert rules(PacketRule("allow", protocol, ports, ANY)) == [expected]


def test_overlapping_sources_are_joined_and_families_parted() -> None:
    sources = ("10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "192.0.2.7")
    assert rules(PacketRule("allow", "all", (), sources)) == [
        "ip saddr { 10.0.0.0/8, 192.0.2.7/32 } accept",
        "ip6 saddr { 2001:db8::/32 } accept",
    ]


def test_a_rule_without_sources_matches_nobody() -> None:
    assert rules(PacketRule("allow", "all", (), ())) == []


def test_an_address_may_come_by_its_own_cable_alone() -> None:
    assert f'senders {{ "{CABLE}" . 10.70.1.2 }}' in nft.machine_joins(LAB, APP)
    guard = nft.lab_table(LAB).partition("chain guard")[2].partition("chain prerouting")[0]
    assert "iifname . ip saddr != @senders drop" in guard
    assert "meta nfproto ipv6 drop" in guard


LISTING: dict[str, Any] = {
    "nftables": [
        {"metainfo": {}},
        {"table": {"family": "inet", "name": LAB.table}},
        {
            "set": {
                "name": "senders",
                "elem": [{"concat": [CABLE, "10.70.1.2"]}, {"concat": ["x", "10.70.1.3"]}],
            }
        },
        {"set": {"name": "current", "elem": [{"concat": ["10.70.1.100", "10.70.1.2"]}]}},
        {"set": {"name": "net-0", "elem": ["10.70.1.2", "10.70.1.3"]}},
        {"set": {"name": "held", "elem": [CABLE]}},
        {
            "map": {
                "name": "internal_of",
                "elem": [["10.70.1.100", "10.70.1.2"], ["10.70.1.101", "10.70.1.3"]],
            }
        },
        {"map": {"name": "machines", "elem": [[CABLE, {"goto": {"target": f"to-{CABLE}"}}]]}},
        {"map": {"name": "empty"}},
        {"chain": {"name": f"to-{CABLE}"}},
    ]
}


def test_a_machine_that_goes_takes_its_elements_along_and_no_others() -> None:
    where = f"delete element inet {LAB.table}"
    assert nft.machine_leaves(LAB, APP, LISTING).splitlines() == [
        f'{where} senders {{ "{CABLE}" . 10.70.1.2 }}',
        f"{where} current {{ 10.70.1.100 . 10.70.1.2 }}",
        f"{where} net-0 {{ 10.70.1.2 }}",
        f'{where} held {{ "{CABLE}" }}',
        f"{where} internal_of {{ 10.70.1.100 }}",
        f'{where} machines {{ "{CABLE}" }}',
    ]


def test_an_external_address_is_taken_away_alone() -> None:
    where = f"delete element inet {LAB.table}"
    assert nft.without_external(LAB, APP, LISTING).splitlines() == [
        f"{where} current {{ 10.70.1.100 . 10.70.1.2 }}",
        f"{where} internal_of {{ 10.70.1.100 }}",
    ]
    assert nft.let_go(LAB, APP.internal, LISTING) == f'{where} held {{ "{CABLE}" }}\n'
    assert nft.let_go(LAB, "10.70.1.9", LISTING) == ""


@pytest.mark.parametrize("port", ["", "http", "70000", "90-80", "80-", "-80", "80; accept", "8\uff10"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="not a port"):
        nft.machine_rules(LAB, APP, [PacketRule("allow", "tcp", (port,), ANY)])


@pytest.mark.parametrize("source", ["", "everywhere", "10.0.0.0/33", "1.2.3.4; accept"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="not an address range"):
        nft.machine_rules(LAB, APP, [PacketRule("allow", "tcp", ("80",), (source,))])


@given(st.text(max_size=20))
def test_no_protocol_can_write_rules_of_its_own(protocol: str) -> None:
    try:
        lines = rules(PacketRule("deny", protocol, (), ANY))
    except UsageError:
        return
    assert len(lines) == 1
    assert lines[0].endswith(" drop")
    assert lines[0].removeprefix("meta nfproto ipv4 ").count(" ") <= 3


def test_the_metadata_server_answers_machines_by_its_own_address_alone() -> None:
    lines = [line.strip() for line in nft.lab_table(LAB).splitlines()]
    assert "ip daddr 169.254.169.254 tcp dport 80 dnat ip to 10.70.1.1:8254" in lines
    assert "tcp dport 8254 ct original ip daddr != 169.254.169.254 drop" in lines
    # A lab may itself run on a cloud's machine, whose own metadata is none of the lab's business.
    assert f'iifname "{LAB.cables}*" ip daddr 169.254.0.0/16 drop' in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.53\n", "192.0.2.53"),
        (
            "# nameserver 192.0.2.1\nsearch example.com\nnameserver 127.0.0.53\nnameserver 192.0.2.2\n",
            "192.0.2.2",
        ),
        ("nameserver 127.0.0.53\noptions edns0\n", None),
        ("nameserver ::1\n", None),
        ("", None),
    ],
)
def test_a_name_server_on_loopback_is_of_no_use_to_machines(text: str, expected: str | None) -> None:
    assert nameserver(text) == expected
