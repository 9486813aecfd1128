"""The limit of attempts, with a clock of its own."""

from __future__ import annotations

import pytest

from app.login_limit import MOST_KEYS, OF_ACCOUNT, OF_ADDRESS, WINDOW_SECONDS, LoginLimit, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_account_opens_again_when_the_window_has_passed() -> None:
    clock = Clock()
    limit = LoginLimit(clock)
    for _ in range(OF_ACCOUNT):
        assert limit.begin("192.0.2.1", "ada") == 0
        clock.now += 10
    assert limit.begin("192.0.2.1", "ada") == WINDOW_SECONDS - 10 * OF_ACCOUNT
    clock.now += WINDOW_SECONDS - 10 * OF_ACCOUNT - 1
    assert limit.begin("192.0.2.1", "ada") == 1
    clock.now += 1
    assert limit.begin("192.0.2.1", "ada") == 0
    assert limit.begin("192.0.2.1", "ada") == 10


def test_an_address_has_a_limit_over_all_accounts() -> None:
    limit = LoginLimit(Clock())
    assert all(limit.begin("192.0.2.1", f"user{number}") == 0 for number in range(OF_ADDRESS))
    assert limit.begin("192.0.2.1", "one more") > 0
    assert limit.begin("192.0.2.2", "one more") == 0


def test_a_right_password_forgets_the_wrong_ones_of_that_account_only() -> None:
    limit = LoginLimit(Clock())
    for _ in range(3):
        limit.begin("192.0.2.1", "ada")
    limit.begin("192.0.2.1", "ada")
    limit.succeeded("192.0.2.1", "ada")
    assert [limit.begin("192.0.2.1", "ada") for _ in range(OF_ACCOUNT)] == [0] * OF_ACCOUNT
    assert limit.begin("192.0.2.1", "ada") > 0


def test_the_table_does_not_grow_without_end() -> None:
    limit = LoginLimit(Clock())
    for number in range(MOST_KEYS):
        limit.begin(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "ada")
    assert len(limit._attempts) == MOST_KEYS


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_who_counts_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
