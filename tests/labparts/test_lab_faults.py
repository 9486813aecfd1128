"""Faults of machines, as far as no machine is needed: orders, packet rules, what the metadata server does; storms."""

from __future__ import annotations

import asyncio
import subprocess
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_fake import ZONE, Lab, asynced
from rehost.lab import fault_kinds, inner_faults, link_faults, metadata
from rehost.lab.fault_desk import Desk
from rehost.lab.fault_kinds import AT_BOOT, OF_CALLS, OF_MACHINES
from rehost.lab.faults import Faults
from rehost.lab.launcher import POWER_ON
from rehost.lab.link_faults import Trouble
from rehost.lab.machine_faults import MachineFaults
from rehost.lab.metadata import Asked, Told
from rehost.lab.places import Places
from rehost.lab.state import Resource
from rehost.lab.storm import storm
from rehost.run.errors import RehostError, UsageError

APP = f"{ZONE}/instances/app"


class Room:
    """No machine runs here, so nothing is done to any."""

    cut: str = ""

    def running(self, name: str) -> bool:  # noqa: ARG002
        return False

    def leader(self, name: str) -> int | None:  # noqa: ARG002
        return None

    async def power_cut(self, name: str) -> None:
        self.cut = name


class Site:
    def __init__(self, directory: Path) -> None:
        self.lab = Lab(directory)
        self.places = Places("mine", directory, directory, IPv4Network("10.70.1.0/24"))
        self.preempted: list[str] = []
        self.room = Room()
        self.faults = MachineFaults(self.places, self.lab.cloud, self.room, self.preempt)

    async def preempt(self, name: str) -> None:
        self.preempted.append(name)

    @property
    def listed(self) -> list[object]:
        return [one["text"] for one in self.faults.listed()]

    def boots(self) -> list[str]:
        """What happens at the next three boots, as machines.POWER_ON would do it; without the sleep."""
        file = self.places.boot_faults / "app"
        tell = 'case $act in *panic*) echo panic; exit ;; *) echo "$act" ;; esac'
        power_on = POWER_ON.replace('eval "$act"', tell)
        return [
            subprocess.run(
                ["sh", "-c", power_on, str(file), "echo", "boots"], capture_output=True, text=True, check=True
            ).stdout
            for _ in range(3)
        ]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# -- orders ------------------------------------------------------------------------------------------------


@asynced
async def test_an_order_stands_until_it_is_taken_back(site: Site) -> None:
    await site.faults.order("app", "disk-full")
    await site.faults.order("app", "net-cut", seconds=90)
    await site.faults.order("other", "boot-slow", times=2, seconds=5)
    await site.faults.order("app", "disk-full")  # once more is no second one
    assert site.listed == [
        "machine other: boot-slow, the next 2 boots",
        "machine app: net-cut, 90 s left",
        "machine app: disk-full",
    ]
    assert await site.faults.clear("other") == 1
    assert await site.faults.clear() == 2
    assert site.listed == []


@asynced
async def test_a_length_ends_an_order(site: Site) -> None:
    await site.faults.order("app", "net-cut", seconds=1)
    site.faults.orders[0].until = time.time() - 0.01
    await site.faults.settle()
    assert site.listed == []


@asynced
async def test_what_a_machine_took_half_of_is_mended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker was masked and not stopped, say: the order failed, and nothing of it may stay."""
    site.lab.cloud.add(
        APP, {"name": "app", "status": "RUNNING", "lastStartTimestamp": "2026-01-01T00:00:00Z"}
    )
    monkeypatch.setattr(site.room, "running", lambda name: name == "app")
    monkeypatch.setattr(site.room, "leader", lambda _: 4711)
    said: list[str] = []

    def harm(leader: int, fault: str) -> None:
        said.append(f"harm {leader} {fault}")
        raise RehostError("it is just going down", cure="Try again.")

    monkeypatch.setattr(inner_faults, "harm", harm)
    monkeypatch.setattr(inner_faults, "mend", lambda leader, fault: said.append(f"mend {leader} {fault}"))
    with pytest.raises(RehostError):
        await site.faults.order("app", "docker-stopped")
    await site.faults.settle()
    await site.faults.settle()
    assert said == ["harm 4711 docker-stopped", "mend 4711 docker-stopped"]


@asynced
async def test_a_machine_that_was_off_when_its_fault_ended_is_mended_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.lab.cloud.add(
        APP, {"name": "app", "status": "RUNNING", "lastStartTimestamp": "2026-01-01T00:00:00Z"}
    )
    monkeypatch.setattr(site.room, "leader", lambda _: 4711)
    on = True
    monkeypatch.setattr(site.room, "running", lambda _: on)
    said: list[str] = []
    monkeypatch.setattr(inner_faults, "harm", lambda _, fault: said.append(f"harm {fault}"))
    monkeypatch.setattr(inner_faults, "mend", lambda _, fault: said.append(f"mend {fault}"))
    await site.faults.order("app", "disk-full")
    on = False
    await site.faults.clear()
    assert said == ["harm disk-full"]
    on = True
    await site.faults.settle()
    assert said == ["harm disk-full", "mend disk-full"]


@asynced
async def test_boots_are_used_up_one_by_one(site: Site) -> None:
    await site.faults.order("app", "boot-slow", seconds=7)
    await site.faults.order("app", "boot-fails")
    assert site.listed == ["machine app: boot-slow, the next boot", "machine app: boot-fails, the next boot"]
    assert site.boots() == ["sleep 7 # boot-slow\nboots\n", "panic\n", "boots\n"]
    assert site.listed == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"machine": "app", "fault": "disk-fill"}, "disk-full"),
        ({"machine": "app", "fault": "stockout"}, "METHOD stockout"),
        ({"machine": "ap", "fault": "disk-full"}, "Did you mean app?"),
        ({"machine": "app", "fault": "power-cut"}, "none"),
        ({"machine": "app", "fault": "net-cut", "with": "other"}, "none"),
        ({"machine": "app", "fault": "disk-full", "with": "other"}, "net-cut"),
        ({"machine": "app", "fault": "disk-full", "times": 2}, "--times"),
        ({"machine": "app", "fault": "power-cut", "seconds": 3}, "--for"),
        ({"method": "instances.insert", "fault": "500", "seconds": 3}, "--for"),
        ({"method": "instances.insert", "fault": "500", "with": "app"}, "Leave it out"),
    ],
)
@asynced
async def test_what_cannot_be_ordered(site: Site, order: dict[str, object], said: str) -> None:
    await site.lab.insert()
    with pytest.raises(UsageError) as refused:
        await Desk(Faults(), site.faults).order(order)
    assert said in refused.value.cure
    assert site.listed == []


@asynced
async def test_the_desk_takes_back_what_it_is_told(site: Site) -> None:
    desk = Desk(site.lab.api.faults, site.faults)
    await desk.order({"method": "zones.get", "fault": "500", "times": 2})
    await desk.order({"machine": "app", "fault": "net-slow"})
    assert [one["fault"] for one in desk.listed()] == ["500", "net-slow"]
    assert await desk.clear({"machine": "app"}) == 1
    assert [one["fault"] for one in desk.listed()] == ["500"]
    assert await desk.clear({"method": "zones.list"}) == 0
    assert await desk.clear({}) == 1


@given(st.text(max_size=8))
def test_lengths_of_time(text: str) -> None:
    try:
        value = fault_kinds.seconds(text)
    except RehostError as error:
        assert isinstance(error, UsageError)
    else:
        assert 1 <= value <= 86400


def test_lengths_are_written_with_or_without_a_unit() -> None:
    assert [fault_kinds.seconds(text) for text in ("30", "30s", "2 m", "1h", "1.5s")] == [
        30,
        30,
        120,
        3600,
        1.5,
    ]


# -- the cable ---------------------------------------------------------------------------------------------


def test_packet_rules(site: Site) -> None:
    table = link_faults.table(
        site.places,
        [
            Trouble("v2", "net-lossy", ("10.70.1.3", "10.70.1.101")),
            Trouble("v2", "ssh-late"),
            Trouble("v3", "archive-unreachable"),
        ],
    )
    name = site.places.table
    assert (
        table
        == f"""table netdev {name}
delete table netdev {name}
table netdev {name} {{
  chain from-v2 {{
    type filter hook ingress device "v2" priority -300;
    ip daddr {{ 10.70.1.3, 10.70.1.101 }} numgen random mod 100 < 20 drop
  }}
  chain to-v2 {{
    type filter hook egress device "v2" priority -300;
    ip saddr {{ 10.70.1.3, 10.70.1.101 }} numgen random mod 100 < 20 drop
    tcp dport 22 drop
  }}
  chain from-v3 {{
    type filter hook ingress device "v3" priority -300;
    ip daddr != {{ 10.70.1.0/24, 169.254.169.254 }} tcp dport {{ 80, 443 }} reject with tcp reset
  }}
  chain to-v3 {{
    type filter hook egress device "v3" priority -300;
  }}
}}
"""
    )
    assert link_faults.table(site.places, []) == f"table netdev {name}\ndelete table netdev {name}\n"


# -- the metadata server -----------------------------------------------------------------------------------


async def told(site: Site, path: str, verb: str = "GET", body: bytes = b"") -> Told:
    asked = Asked(verb, f"/computeMetadata/v1/{path}", {}, {"metadata-flavor": "Google"}, "10.70.1.2", body)
    return await metadata.answer(site.lab.cloud, asked, site.faults)


def items(script: str) -> dict[str, list[dict[str, str]]]:
    return {
        "items": [
            {"key": "enable-guest-attributes", "value": "TRUE"},
            {"key": "startup-script", "value": script},
        ]
    }


def ran(directory: Path, script: str) -> tuple[int, str]:
    (directory / "script").write_text(script)
    done = subprocess.run(["sh", str(directory / "script")], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@asynced
async def test_host_keys_are_refused_and_nothing_else(site: Site) -> None:
    await site.lab.insert(metadata=items("x"))
    await site.faults.order("app", "host-keys-missing")
    assert (await told(site, "instance/guest-attributes/hostkeys/ssh-ed25519", "PUT", b"AAAA")).status == 503
    assert (await told(site, "instance/guest-attributes/guest-agent/sshable", "PUT", b"1")).status == 200
    await site.faults.clear()
    assert (await told(site, "instance/guest-attributes/hostkeys/ssh-ed25519", "PUT", b"AAAA")).status == 200


@asynced
async def test_a_startup_script_is_held_up_or_fails(site: Site, tmp_path: Path) -> None:
    script = '#!/bin/sh\necho it "$@"\nexit 3'
    await site.lab.insert(metadata=items(script))
    await site.faults.order("app", "startup-slow", seconds=1)
    slow = (await told(site, "instance/attributes/startup-script")).text
    assert "sleep 1\n" in slow
    assert ran(tmp_path, slow.replace("sleep 1\n", "\n")) == (3, "it\n")
    await site.faults.clear()
    await site.faults.order("app", "startup-fails")
    assert ran(tmp_path, (await told(site, "instance/attributes/startup-script")).text) == (1, "")
    await site.faults.clear()
    assert (await told(site, "instance/attributes/startup-script")).text == script


@asynced
async def test_a_late_agent_waits_for_its_first_answer(site: Site) -> None:
    made = await site.lab.insert()
    await site.faults.order("app", "agent-late", seconds=60)
    assert 50 < site.faults.held_up(site.lab.cloud.resources[APP]) <= 60
    waiting = asyncio.ensure_future(told(site, "instance/name"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    await site.faults.clear()
    assert (await asyncio.wait_for(waiting, 5)).text == "app"
    # A machine that was started long after the order waits from its start on.
    await site.faults.order("app", "agent-late", seconds=60)
    site.faults.orders[0].since -= 100
    earlier: Resource = {**made, "lastStartTimestamp": "2020-01-01T00:00:00+00:00"}
    assert site.faults.held_up(earlier) == 0
    assert site.faults.held_up(made) > 50


# -- storms ------------------------------------------------------------------------------------------------


@given(st.integers(), st.booleans(), st.sampled_from(["", "app"]))
def test_a_seed_gives_one_storm_whose_orders_can_all_be_served(seed: int, fresh: bool, machine: str) -> None:
    gusts = storm(seed, machine, seconds=20, gusts=5, fresh=fresh)
    assert gusts == storm(seed, machine, seconds=20, gusts=5, fresh=fresh)
    assert [gust.after for gust in gusts] == sorted(gust.after for gust in gusts)
    for gust in gusts:
        assert 0 <= gust.after <= 20
        order = gust.order
        if "machine" in order:
            assert machine
            fault_kinds.check_extent(OF_MACHINES[order["fault"]], 1, order.get("seconds"))
        else:
            Faults().order(order["method"], order["fault"], order.get("times", 1), order.get("seconds"))
        assert order["fault"] in gust.text


def test_storms_differ_and_in_the_end_have_met_every_kind() -> None:
    orders = [gust.order["fault"] for seed in range(300) for gust in storm(seed, "app", fresh=seed % 2 == 0)]
    kept_out = {"endless", "hang", "boot-fails", "host-keys-missing"}
    assert set(orders) == {*OF_CALLS, *OF_MACHINES} - kept_out
    assert storm(1, "app") != storm(2, "app")


def test_every_kind_says_what_it_does_and_ends_somehow() -> None:
    for kind in (*OF_CALLS.values(), *OF_MACHINES.values()):
        assert kind.does
        assert kind.name in AT_BOOT or kind.timed or kind.counted or kind.name in fault_kinds.AT_ONCE
