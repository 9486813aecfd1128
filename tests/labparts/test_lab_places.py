"""Names, addresses and directories of a lab."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.lab import places
from rehost.lab.places import Places, free_subnet, parse_routes
from rehost.run.errors import RehostError, UsageError

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000400A\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_looking_at_a_lab_makes_nothing(home: Path) -> None:
    lab = Places.of("default")
    assert not lab.claimed
    assert list(home.iterdir()) == []


def test_a_claimed_lab_keeps_its_subnet_and_is_private() -> None:
    first = Places.claim("one")
    assert first.claimed
    assert first.state.stat().st_mode & 0o777 == 0o700
    assert Places.of("one") == first == Places.claim("one")
    assert places.all_labs() == ["one"]


def test_labs_side_by_side_share_no_name_and_no_address() -> None:
    labs = [Places.claim(name) for name in ("one", "two", "three")]
    assert len({lab.prefix for lab in labs}) == 3
    assert not any(a.subnet.overlaps(b.subnet) for a in labs for b in labs if a is not b)


def test_a_recorded_subnet_that_is_nonsense_is_chosen_anew() -> None:
    lab = Places.claim("one")
    (lab.state / "subnet").write_text("not a subnet")
    assert Places.claim("one").subnet.prefixlen == 24
    assert (lab.state / "subnet").read_text() == str(Places.of("one").subnet)


def test_two_users_labs_of_one_name_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Places.of("default")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert Places.of("default").prefix != mine.prefix


def test_a_relative_xdg_directory_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.cache_directory() == tmp_path / ".cache/rehost/lab"


@pytest.mark.parametrize("name", ["", "Default", "1st", "a" * 31, "../up", "a/b", "a b", "-a", "ä"])
def test_a_name_that_could_leave_its_place_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        Places.of(name)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,29}", fullmatch=True))
def test_kernel_names_fit_and_addresses_lie_in_the_subnet(name: str) -> None:
    lab = Places.of(name)
    assert all(len(lab.veth(address)) <= 15 for address in lab.internal_addresses)
    assert len({lab.veth(address) for address in lab.internal_addresses}) == 98
    assert lab.gateway == str(lab.subnet[1])
    assert not {*lab.internal_addresses} & {*lab.external_addresses, lab.gateway}
    assert lab.external_addresses[-1] == str(lab.subnet[254])


def test_routes_are_read_but_for_the_default() -> None:
    assert parse_routes(ROUTES) == [IPv4Network("192.0.2.0/24"), IPv4Network("10.64.0.0/12")]


@given(st.lists(st.integers(0, 63), max_size=30))
def test_the_chosen_subnet_overlaps_none_taken(seconds: list[int]) -> None:
    taken = [IPv4Network(f"10.{64 + second}.0.0/16") for second in seconds]
    chosen = free_subnet(Path("/somewhere"), taken)
    assert not any(chosen.overlaps(network) for network in taken)
    assert chosen.subnet_of(IPv4Network("10.64.0.0/10"))


def test_no_free_subnet_is_said() -> None:
    with pytest.raises(RehostError, match="no subnet"):
        free_subnet(Path("/somewhere"), [IPv4Network("10.0.0.0/8")])


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "below" / ".lock"
    with places.locked(path), pytest.raises(BlockingIOError), places.locked(path, wait=False):
        pytest.fail("held twice")
    assert not path.exists()
    path.touch()  # of a killed holder
    with places.locked(path, wait=False):
        assert path.exists()
    assert not path.exists()


def test_who_waited_for_a_lock_does_not_hold_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    order: list[str] = []

    def hold() -> None:
        with places.locked(path):
            before = len(order)
            order.append("in")
            assert path.exists()
            assert len(order) == before + 1, "two at once"

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(hold) for _ in range(200)]:
            job.result()
    assert len(order) == 200
    assert not path.exists()
