"""The reference backend under load: 50 connections, reads and writes, once undisturbed, once with Redis killed.

Prints requests a second, waiting times and answers by status; ends with 1 when any answer was a 5xx or none came.
Type `$(scripts/venv example)/bin/python benchmarks/backend.py`; needs redis-server. The database is nx-27017, which
is not MongoDB and is most of the time here: figures of one run are comparable with each other only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

BACKEND = Path(__file__).resolve().parents[1] / "examples" / "content-api"
sys.path[:0] = [str(BACKEND / "tests"), str(BACKEND)]
processes: Any = import_module("processes")

CONNECTIONS = 50
POSTS = 20
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(2000)
# How often each request comes, in parts of a hundred: seven reads to three writes.
MIX = {
    "read a post": 35,
    "list": 20,
    "comments": 10,
    "search": 5,
    "react": 12,
    "comment": 8,
    "edit a post": 5,
    "write a post": 3,
    "upload": 2,
}


class Seen:
    """What came back. seconds: how long each answer took; lost: requests without an answer, by their reason."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.seconds: list[float] = []

    @property
    def bad(self) -> int:
        return sum(self.lost.values()) + sum(n for status, n in self.statuses.items() if status >= 500)


async def ask(http: httpx.AsyncClient, kind: str, slug: str, number: int) -> httpx.Response:
    """One request. Each connection edits a post of its own, `number`."""
    path = f"/posts/{slug}"
    if kind == "read a post":
        return await http.get(path)
    if kind == "list":
        return await http.get("/posts")
    if kind == "comments":
        return await http.get(f"{path}/comments", params={"size": 5})
    if kind == "search":
        return await http.get("/posts", params={"q": "benchmark", "size": 5})
    if kind == "react":
        return await http.post(f"{path}/reactions", json={"kind": random.choice(("like", "bookmark"))})  # noqa: S311
    if kind == "comment":
        return await http.post(f"{path}/comments", json={"body": "As I said."})
    if kind == "edit a post":
        return await http.patch(f"/posts/own-{number}", json={"body": f"At {time.monotonic()}."})
    if kind == "write a post":
        return await http.post("/posts", json={"title": f"Load {random.random()}", "body": "benchmark"})  # noqa: S311
    return await http.post("/files", params={"name": "picture.png"}, content=PICTURE)


async def connection(http: httpx.AsyncClient, slugs: list[str], number: int, end: float, seen: Seen) -> None:
    """One of the fifty: asks, waits for the answer, asks again."""
    kinds, weights = list(MIX), list(MIX.values())
    while time.monotonic() < end:
        [kind] = random.choices(kinds, weights)  # noqa: S311
        began = time.perf_counter()
        try:
            answer = await ask(http, kind, random.choice(slugs), number)  # noqa: S311
        except httpx.HTTPError as error:
            seen.lost[f"{kind}: {type(error).__name__}"] += 1
            continue
        seen.seconds.append(time.perf_counter() - began)
        seen.statuses[answer.status_code] += 1


async def load(
    base: str,
    seconds: float,
    tokens: list[str],
    slugs: list[str],
    disturb: Callable[[], Coroutine[Any, Any, None]],
) -> Seen:
    """All connections for so long, each with a client of one connection."""
    one, plain = httpx.Limits(max_connections=1), ssl.create_default_context()
    clients = [
        httpx.AsyncClient(
            base_url=base,
            limits=one,
            timeout=30,
            trust_env=False,
            verify=plain,  # shared: a context each would take seconds to make, and nothing is encrypted here
            headers={"Authorization": token},
        )
        for token in tokens
    ]
    seen, end = Seen(), time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        disturbing = group.create_task(disturb())
        await asyncio.gather(
            *(connection(http, slugs, number, end, seen) for number, http in enumerate(clients))
        )
        disturbing.cancel()
    for http in clients:
        await http.aclose()
    return seen


def report(name: str, seen: Seen, seconds: float) -> None:
    cuts = statistics.quantiles(seen.seconds, n=100) if len(seen.seconds) > 1 else []
    waits = ", ".join(f"p{share} {cuts[share - 1] * 1000:.0f} ms" for share in (50, 95, 99) if cuts)
    statuses = ", ".join(f"{status}: {number}" for status, number in sorted(seen.statuses.items()))
    print(f"{name}\n  {len(seen.seconds) / seconds:.0f} requests/s; {waits}\n  answers {statuses}")
    for reason, number in seen.lost.items():
        print(f"  no answer to {reason}: {number}")


def processor_seconds(metrics: str) -> float:
    """What the API has used of the processor so far; it says more than waiting times on a busy computer."""
    [line] = [line for line in metrics.splitlines() if line.startswith("process_cpu_seconds_total ")]
    return float(line.split()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="length of each of the two runs [30]")
    seconds: float = parser.parse_args().seconds
    bad = 0
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        home = Path(place)
        mongo = processes.Mongo(home)
        stack.callback(mongo.stop)
        cache = processes.Cache(home)
        caches = [cache]
        stack.callback(lambda: [each.stop() for each in caches])
        api = processes.Api(home / "api", MONGODB_URL=mongo.url, REDIS_URL=cache.url, LOG_LEVEL="warning")
        stack.callback(api.stop)
        processes.eventually("the API is healthy", api.healthy)
        print(f"making {CONNECTIONS} users", file=sys.stderr)
        users = [api.sign_up() for _ in range(CONNECTIONS)]
        slugs = [users[0].write_post(f"Read {number}", body="benchmark")["slug"] for number in range(POSTS)]
        for number, user in enumerate(users):
            user.write_post(f"Own {number}")
        tokens = [user.http.headers["Authorization"] for user in users]

        async def leave_alone() -> None:
            return

        async def kill_and_restart() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(seconds / 3)
                caches[-1].kill()
                print("Redis is killed", file=sys.stderr)
                await asyncio.sleep(seconds / 3)
                caches.append(await asyncio.to_thread(processes.Cache, home, cache.port))
                print("Redis is back", file=sys.stderr)
                await asyncio.sleep(seconds)

        for name, disturb in (("undisturbed", leave_alone), ("Redis killed for a third", kill_and_restart)):
            before = processor_seconds(api.http.get("/metrics").text)
            seen = asyncio.run(load(str(api.http.base_url), seconds, tokens, slugs, disturb))
            report(name, seen, seconds)
            used = processor_seconds(api.http.get("/metrics").text) - before
            print(f"  {used * 1000 / max(1, len(seen.seconds)):.1f} ms of the API's processor time a request")
            bad += seen.bad or not seen.statuses
        print(f"the log says {api.output().count('cache lost')} times that the cache is lost")
        hits = [line for line in api.http.get("/metrics").text.splitlines() if "cache_reads_total{" in line]
        print("\n".join(hits))
    print(f"{bad} requests got a 5xx or no answer")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
