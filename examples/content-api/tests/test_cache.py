"""The cache: absent, used, lost, back; against a real redis-server where there is one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from redis import Redis

from app.cache import Cache as CacheClient
from app.metrics import Metrics
from processes import Api, Cache, Mongo, StartApi, eventually, free_port


def test_without_redis_there_is_one_warning(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    api.user.http.post("/posts", json={"title": "x", "body": "x"}).raise_for_status()
    assert [api.http.get("/posts/x").status_code for _ in range(3)] == [200] * 3
    assert api.output().count("REDIS_URL is not set") == 1
    assert api.http.get("/health").json()["cache"] == {"status": "absent"}


def test_a_cache_that_never_answers(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    """Needs no redis-server: the port is closed."""
    api = start_api(
        MONGODB_URL=mongo.url, DATABASE_NAME=database_name, REDIS_URL=f"redis://127.0.0.1:{free_port()}"
    )
    eventually("healthy, whatever the cache does", api.healthy)
    api.user.http.post("/posts", json={"title": "x", "body": "x"}).raise_for_status()
    assert [api.http.get("/posts/x").status_code for _ in range(3)] == [200] * 3
    assert api.http.get("/health").json()["cache"] == {"status": "lost"}
    assert api.output().count("cache lost") == 1


def test_used_lost_and_used_again(
    start_api: StartApi, mongo: Mongo, database_name: str, cache_directory: Path
) -> None:
    cache = Cache(cache_directory)
    try:
        api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, REDIS_URL=cache.url)
        eventually("healthy", api.healthy)
        api.user.http.post("/posts", json={"title": "Hot", "body": "from the database"}).raise_for_status()
        assert api.http.get("/health").json()["cache"] == {"status": "ok"}

        assert _read(api) == "from the database"
        _rewrite(cache)
        assert _read(api) == "from the cache"

        cache.stop()
        assert _read(api) == "from the database"
        assert api.http.get("/health").json() | {"disk": None} == {
            "status": "ok",
            "database": {"status": "ok", "indexes": "ready"},
            "cache": {"status": "lost"},
            "disk": None,
        }

        cache = Cache(cache_directory, cache.port)
        eventually("the cache is used again", lambda: _read(api) != "" and _kept(cache))
        assert api.output().count("cache lost") == 1
        assert api.output().count("cache is back") == 1
    finally:
        cache.stop()


def test_what_another_version_wrote_is_no_answer(
    start_api: StartApi, mongo: Mongo, database_name: str, cache_directory: Path
) -> None:
    cache = Cache(cache_directory)
    try:
        api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, REDIS_URL=cache.url)
        eventually("healthy", api.healthy)
        api.user.http.post("/posts", json={"title": "Hot", "body": "from the database"}).raise_for_status()
        with Redis.from_url(cache.url) as redis:
            redis.set("content-api:post:hot", '{"body": "of another shape"}')
        assert _read(api) == "from the database"
    finally:
        cache.stop()


def _read(api: Api) -> str:
    answer = api.http.get("/posts/hot")
    assert answer.status_code == 200
    return str(answer.json()["body"])


def _rewrite(cache: Cache) -> None:
    """Change the kept copy, so that an answer tells where it came from."""
    with Redis.from_url(cache.url, decode_responses=True) as redis:
        kept = json.loads(str(redis.get("content-api:post:hot")))
        assert 0 < int(str(redis.ttl("content-api:post:hot"))) <= 60
        redis.set("content-api:post:hot", json.dumps(kept | {"body": "from the cache"}))


def _kept(cache: Cache) -> bool:
    with Redis.from_url(cache.url) as redis:
        return bool(redis.exists("content-api:post:hot"))


@pytest.fixture
def cached(
    start_api: StartApi, mongo: Mongo, database_name: str, cache_directory: Path
) -> Iterator[tuple[Api, Cache]]:
    cache = Cache(cache_directory)
    try:
        api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, REDIS_URL=cache.url)
        eventually("healthy", api.healthy)
        api.user.write_post("Hot", body="first")
        yield api, cache
    finally:
        cache.stop()


def test_every_change_is_seen_at_once(cached: tuple[Api, Cache]) -> None:
    api, _ = cached
    http = api.user.http

    def seen() -> tuple[str, dict[str, int], int]:
        post, front = http.get("/posts/hot").json(), http.get("/posts").json()
        assert front["items"][-1]["counts"] == post["counts"]
        return post["body"], post["counts"], front["total"]

    nothing = {"likes": 0, "dislikes": 0, "bookmarks": 0, "comments": 0}
    assert seen() == seen() == ("first", nothing, 1)
    http.patch("/posts/hot", json={"body": "second"}).raise_for_status()
    assert seen() == seen() == ("second", nothing, 1)
    http.post("/posts/hot/reactions", json={"kind": "like"}).raise_for_status()
    comment = http.post("/posts/hot/comments", json={"body": "x"}).json()["id"]
    assert seen() == seen() == ("second", nothing | {"likes": 1, "comments": 1}, 1)
    http.delete(f"/comments/{comment}").raise_for_status()
    http.post("/posts", json={"title": "Newer", "body": "x"}).raise_for_status()
    assert seen() == seen() == ("second", nothing | {"likes": 1}, 2)
    http.delete("/posts/hot").raise_for_status()
    assert http.get("/posts/hot").status_code == 404
    assert http.get("/posts").json()["total"] == 1
    text = api.http.get("/metrics").text
    assert 'content_api_cache_reads_total{result="hit"}' in text
    assert 'content_api_cache_reads_total{result="miss"}' in text


def test_a_reader_that_comes_late_keeps_nothing_old(cached: tuple[Api, Cache]) -> None:
    """It looked before a change, and comes back from the database after it, with the old state."""
    _, server = cached

    class Value(BaseModel):
        text: str

    async def race() -> tuple[Value | None, Value | None]:
        cache = CacheClient(server.url, Metrics())

        async def old() -> Value:
            await cache.forget("key")  # somebody changes it meanwhile
            return Value(text="old")

        async def new() -> Value:
            return Value(text="new")

        try:
            return await cache.read_through("key", Value, old), await cache.read_through("key", Value, new)
        finally:
            await cache.close()

    assert asyncio.run(race()) == (Value(text="old"), Value(text="new"))


def test_what_changed_while_the_cache_was_out_of_reach_is_forgotten_first(cached: tuple[Api, Cache]) -> None:
    """The cache hangs and keeps what it has: when it answers again, the old entry must not be served."""
    api, cache = cached
    http = api.user.http
    assert http.get("/posts/hot").json()["body"] == "first"
    cache.signal(signal.SIGSTOP)
    try:
        http.patch("/posts/hot", json={"body": "second"}).raise_for_status()
        assert http.get("/posts/hot").json()["body"] == "second"
    finally:
        cache.signal(signal.SIGCONT)

    def served_from_the_cache() -> bool:
        assert http.get("/posts/hot").json()["body"] == "second"
        return "cache is back" in api.output()

    eventually("the cache is used again", served_from_the_cache)
    assert http.get("/posts/hot").json()["body"] == "second"
    assert api.output().count("cache lost") == 1
