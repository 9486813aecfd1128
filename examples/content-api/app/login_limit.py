"""How often a password may be guessed. Kept in this process: a restart forgets, two processes count apart."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_SECONDS = 300.0
OF_ACCOUNT = 5  # wrong passwords for one account from one address
OF_ADDRESS = 30  # wrong passwords from one address in all
MOST_KEYS = 20_000  # the oldest are forgotten first: the table must not grow with an attacker's patience


class LoginLimit:
    """Counts attempts from their beginning, so that many at once do not slip through before the first fails."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str, account: str) -> int:
        """Count an attempt, and 0; or how many seconds to wait, without counting it."""
        waits = [self._wait(key, most) for key, most in _keys(address, account)]
        if any(waits):
            return max(waits)
        for key, _ in _keys(address, account):
            self._attempts.setdefault(key, deque()).append(self._clock())
            self._attempts.move_to_end(key)
        while len(self._attempts) > MOST_KEYS:
            self._attempts.popitem(last=False)
        return 0

    def succeeded(self, address: str, account: str) -> None:
        """The attempt was no guess: take it back, and forget the account's earlier ones."""
        (account_key, _), (address_key, _) = _keys(address, account)
        self._attempts.pop(account_key, None)
        attempts = self._attempts.get(address_key)
        if attempts:
            attempts.pop()

    def _wait(self, key: str, most: int) -> int:
        attempts = self._attempts.get(key)
        if not attempts:
            return 0
        now = self._clock()
        while attempts and attempts[0] <= now - WINDOW_SECONDS:
            attempts.popleft()
        if len(attempts) < most:
            return 0
        return max(1, math.ceil(attempts[-most] + WINDOW_SECONDS - now))


def _keys(address: str, account: str) -> tuple[tuple[str, int], tuple[str, int]]:
    network = network_of(address)
    return (f"{network} {account}", OF_ACCOUNT), (network, OF_ADDRESS)


def network_of(address: str) -> str:
    """An IPv4 address itself; of an IPv6 address the /64, all of which one client may use."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
