"""Packet rules as nft's language; what the lab's own table lets through."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.lab.hardware import PacketRule
from rehost.lab.network import instance_table, lab_table, nameserver
from rehost.lab.places import Places
from rehost.run.errors import UsageError

LAB = Places("one", Path("/state/one"), Path("/cache"), IPv4Network("10.70.1.0/24"))
ANY = ("0.0.0.0/0",)


def rules(*given_rules: PacketRule) -> list[str]:
    """The lines of a machine's table that come from the rules."""
    lines = [line.strip() for line in instance_table(LAB, given_rules, None).splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("udp sport 67")) + 1
    return [line for line in lines[first : lines.index("drop", first)] if line]


def test_what_no_rule_allows_is_dropped() -> None:
    assert rules() == []
    chain = instance_table(LAB, [], None).partition("chain leaving")[0]
    assert chain.split()[-2:] == ["drop", "}"]


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


def test_another_machines_external_address_is_reached_from_the_own_external_address() -> None:
    outside = 'oifname "ens4" ip daddr 10.70.1.100-10.70.1.254'
    assert f"{outside} snat ip to 10.70.1.107" in instance_table(LAB, [], "10.70.1.107")
    assert f"{outside} drop" in instance_table(LAB, [], None)


@pytest.mark.parametrize("port", ["", "http", "70000", "90-80", "80-", "-80", "80; accept", "8\uff10"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="not a port"):
        instance_table(LAB, [PacketRule("allow", "tcp", (port,), ANY)], None)


@pytest.mark.parametrize("source", ["", "everywhere", "10.0.0.0/33", "1.2.3.4; accept"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="not an address range"):
        instance_table(LAB, [PacketRule("allow", "tcp", ("80",), (source,))], None)


@given(st.text(max_size=20))
def test_no_protocol_can_write_rules_of_its_own(protocol: str) -> None:
    try:
        lines = rules(PacketRule("deny", protocol, (), ANY))
    except UsageError:
        return
    assert len(lines) == 1
    assert lines[0].endswith(" drop")
    assert lines[0].removeprefix("meta nfproto ipv4 ").count(" ") <= 3


def test_the_metadata_server_answers_by_its_own_address_alone() -> None:
    table = lab_table(LAB)
    assert f'iifname "{LAB.bridge}" ip daddr 169.254.169.254 tcp dport 80 dnat ip to 10.70.1.1:8254' in table
    assert "ip daddr 10.70.1.1 tcp dport 8254 ct original ip daddr != 169.254.169.254 drop" in table


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
