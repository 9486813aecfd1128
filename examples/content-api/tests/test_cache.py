"""The cache: absent, used, lost, back; against a real redis-server where there is one."""

from __future__ import annotations

import json
from pathlib import Path

from redis import Redis

from processes import Api, Cache, Mongo, StartApi, eventually, free_port


def test_without_redis_there_is_one_warning(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    api.http.post("/posts", json={"title": "x", "body": "x"}).raise_for_status()
    assert [api.http.get("/posts/x").status_code for _ in range(3)] == [200] * 3
    assert api.output().count("REDIS_URL is not set") == 1
    assert api.http.get("/health").json()["cache"] == {"status": "absent"}


def test_a_cache_that_never_answers(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    """Needs no redis-server: the port is closed."""
    api = start_api(
        MONGODB_URL=mongo.url, DATABASE_NAME=database_name, REDIS_URL=f"redis://127.0.0.1:{free_port()}"
    )
    eventually("healthy, whatever the cache does", api.healthy)
    api.http.post("/posts", json={"title": "x", "body": "x"}).raise_for_status()
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
        api.http.post("/posts", json={"title": "Hot", "body": "from the database"}).raise_for_status()
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
        api.http.post("/posts", json={"title": "Hot", "body": "from the database"}).raise_for_status()
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
