"""Bursts of shared-core machine types: the account, and the limit that follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.lab.bursts import FULL, INTERVAL, Account, allowed, settled
from rehost.lab.hardware import Hardware

MICRO = Hardware(1024, 2, 0.25)
MEDIUM = Hardware(4096, 2, 1.0)


def busy(hardware: Hardware, seconds: int, balance: float = FULL) -> list[float]:
    """What a machine that takes all it gets has used in each second."""
    account, out = Account(balance, 0.0, 0.0), []
    assert hardware.share is not None
    for second in range(1, seconds + 1):
        out.append(allowed(account.balance, hardware) * INTERVAL)
        account = settled(account, hardware.share, account.used + out[-1], float(second))
    return out


def test_a_full_account_gives_both_processors_and_an_empty_one_the_share() -> None:
    assert allowed(FULL, MICRO) == 2
    assert allowed(0, MICRO) == 0.25
    assert allowed(0, Hardware(8192, 2)) == 2


@pytest.mark.parametrize(("hardware", "burst"), [(MICRO, 68), (MEDIUM, 120)])
def test_a_busy_machine_bursts_and_then_has_its_share(hardware: Hardware, burst: int) -> None:
    used = busy(hardware, burst + 10)
    assert used[:burst] == [2] * burst
    assert used[-5:] == [pytest.approx(hardware.share)] * 5


def test_credit_comes_back_while_the_machine_rests() -> None:
    rested = settled(Account(0, 50, 0), 0.25, 50, 40)
    assert rested.balance == 10
    assert settled(rested, 0.25, 50, 100_000).balance == FULL


@given(st.floats(0, FULL), st.lists(st.floats(0, 1), max_size=50))
def test_nobody_uses_more_than_flowed_in(balance: float, load: list[float]) -> None:
    account, used = Account(balance, 0.0, 0.0), 0.0
    for second, part in enumerate(load, 1):
        used += part * allowed(account.balance, MICRO) * INTERVAL
        account = settled(account, 0.25, used, float(second))
        assert 0 <= account.balance <= FULL
    assert used <= balance + 0.25 * len(load) + 1e-6
