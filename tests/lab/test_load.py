"""Releases and returns under load lose no request.

REHOST_LOAD_REQUESTS: how many at least (12,000). REHOST_LOAD_WRK=1: wrk asks, too, as fast as it can.
"""

from __future__ import annotations

import contextlib
import os
import threading

import httpx

from load import Load, Target, tls_beside, wrk, wrk_faults
from suite import SUMMARY, Laptop, until
from tiny import SERVING, body, set_env

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


def test_a_build_leaves_the_processor_to_the_app(tiny: Laptop) -> None:
    """Both would take all of it."""
    # $0 tells one from the other.
    spin = "timeout 120 sh -c 'while :; do :; done' spinning-"

    def ticks(who: str) -> int:
        """Of the processor, by all that spin there (proc(5), stat: utime and stime)."""
        pids = f"pgrep -f '^sh -c while .* spinning-{who}'"
        times = tiny.inside(f"for pid in $({pids}); do cat /proc/$pid/stat; done 2>/dev/null")
        return sum(sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in times.splitlines())

    file = f"FROM python:3.11-slim-bookworm\nRUN {spin}build & {spin}build\n"
    tiny.inside(
        f"mkdir -p /var/spin && cd /var/spin && cat >Dockerfile <<'EOF'\n{file}EOF\n"
        "DOCKER_BUILDKIT=1 nohup docker build . >log 2>&1 &"
    )
    try:
        until(lambda: ticks("build") > 0, "the build spins")
        for _ in range(2):
            tiny.inside(f"docker exec -d {SERVING} {spin}app")
        until(lambda: ticks("app") > 0, "the app spins")
        app, build = ticks("app"), ticks("build")
        until(lambda: ticks("app") > app + 200, "the app has had two seconds of the processor", deadline=90)
        assert ticks("app") - app > 2 * (ticks("build") - build)
    finally:
        tiny.inside("pkill -f [s]pinning-")
