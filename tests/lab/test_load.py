"""Releases and returns under load lose no request.

REHOST_LOAD_REQUESTS: how many at least (12,000). REHOST_LOAD_WRK=1: wrk asks, too, as fast as it can.
"""

from __future__ import annotations

import contextlib
import os
import threading

import httpx

from load import Load, Target, tls_beside, wrk, wrk_faults
from suite import SUMMARY, Laptop
from tiny import body, set_env

REQUESTS = int(os.environ.get("REHOST_LOAD_REQUESTS", "12000"))
WRK = bool(os.environ.get("REHOST_LOAD_WRK"))
RELEASES = 10
SLOW = 10  # seconds


def test_ten_releases_and_a_return_under_load_lose_nothing(tiny: Laptop) -> None:
    values = [f"under load {number}" for number in range(RELEASES + 1)]
    set_env(tiny.directory, VALUE=values[0])
    tiny.run("deploy")
    address = tiny.run("status", "--json").result["address"]
    steps = [("deploy", value) for value in values[1:]] + [("rollback", values[-2]), ("rollback", values[-1])]
    slow: list[httpx.Response] = []

    def ask_slowly() -> None:
        slow.append(httpx.get(f"http://{address}/slow/{SLOW}", timeout=3 * SLOW, trust_env=False))

    in_flight = threading.Thread(target=ask_slowly)
    with contextlib.ExitStack() as stack:
        trust = stack.enter_context(tls_beside(tiny, "tiny"))
        target = Target(address, frozenset(body(value) for value in values), trust)
        said = stack.enter_context(wrk(address)) if WRK else []
        with Load(target) as load:
            for number, (command, value) in enumerate(steps):
                load.wait_for(REQUESTS * number // len(steps), deadline=REQUESTS / 20)
                if number == 1:
                    in_flight.start()
                if command == "deploy":
                    set_env(tiny.directory, VALUE=value)
                    tiny.run("deploy")
                elif value == values[-2]:
                    tiny.run("rollback")
                else:
                    tiny.run("rollback", str(tiny.run("status", "--json").result["release"] + 1))
            load.wait_for(REQUESTS, deadline=REQUESTS / 20)
    in_flight.join()
    SUMMARY.extend([f"{len(steps)} switches under load: {load}", *said])
    assert load.faults() == {}
    assert not WRK or wrk_faults(said) == []
    assert all(tally.asked > REQUESTS / 50 for tally in load.tallies.values()), str(load)
    # Each release took the traffic, so each switch happened under it.
    assert set(load.served()) == target.expected
    assert [(got.status_code, got.content) for got in slow] == [(200, body(values[1]))]
