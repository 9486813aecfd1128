"""The cache of hot reads. It may be absent or lost at any moment: the API then reads from the database."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.metrics import Metrics
from app.settings import ConfigurationError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5  # a cache slower than the database is no help
REST_SECONDS = 1.0  # how long a lost cache is left alone before it is tried again
MOST_MISSED = 10_000  # before those that no longer matter are looked for
KEPT_SECONDS = 60  # an entry's life, and so the longest that a stale one could be read

# Keeps an entry unless it was forgotten since its reader looked for it: what that reader has is older.
_KEEP = """
if (redis.call('get', KEYS[2]) or '') == ARGV[1] then
  redis.call('set', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 1
"""

CacheStatus = Literal["absent", "ok", "lost"]
Value = TypeVar("Value", bound=BaseModel)
Answer = TypeVar("Answer")


class Cache:
    """Redis, or nothing. No method raises for a cache that is gone; its loss and return are logged once.

    Beside each entry stands a mark that changes whenever the entry is forgotten. What could not be forgotten
    while the cache was lost is forgotten first when it is back.
    """

    def __init__(self, url: str | None, metrics: Metrics) -> None:
        """Raises ConfigurationError when the address cannot be read."""
        self._redis: Redis | None = None
        self._metrics = metrics
        self._lost_at: float | None = None  # on the monotonic clock, seconds
        self._missed: dict[str, float] = {}  # keys not forgotten, and since when
        if url is None:
            return
        try:
            self._redis = Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            raise ConfigurationError(["REDIS_URL is not valid: redis://, rediss:// or unix://"]) from None

    def warn_if_absent(self) -> None:
        """Say once, at start, that there is no cache."""
        if self._redis is None:
            log.warning("REDIS_URL is not set: running without a cache")

    async def status(self) -> CacheStatus:
        """Ask the cache itself, now."""
        if self._redis is None:
            return "absent"
        return "ok" if await self._ask(self._redis.ping, patient=False) is not None else "lost"

    async def read_through(
        self, key: str, kind: type[Value], read: Callable[[], Awaitable[Value | None]]
    ) -> Value | None:
        """The value kept under the key, or the one that `read` gets from the database, kept from then on."""
        redis = self._redis
        if redis is None:
            return await read()
        entry, mark = _names(key)
        found = await self._ask(lambda: redis.mget(entry, mark))
        if found is not None and found[0] is not None:
            with suppress(ValidationError):  # written by another version: read the database instead
                value = kind.model_validate_json(found[0])
                self._metrics.cache_reads.labels("hit").inc()
                return value
        self._metrics.cache_reads.labels("lost" if found is None else "miss").inc()
        value_read = await read()
        if value_read is not None and found is not None:
            text = value_read.model_dump_json()
            await self._ask(lambda: redis.eval(_KEEP, 2, entry, mark, found[1] or "", text, KEPT_SECONDS))
        return value_read

    async def forget(self, *keys: str) -> None:
        """Drop entries whose source has changed, and what readers are about to keep of the old state."""
        redis = self._redis
        if redis is None:
            return
        if await self._ask(lambda: _forget(redis, keys)) is None:
            if len(self._missed) > MOST_MISSED:
                self._missed = self._still_missed()
            self._missed.update(dict.fromkeys(keys, time.monotonic()))

    async def close(self) -> None:
        """Close all connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, question: Callable[[], Awaitable[Any]], *, patient: bool = True) -> Any:
        """The answer, never None; or None when there is none. `patient`: leave a lost cache alone for a while."""
        if patient and self._lost_at is not None and time.monotonic() - self._lost_at < REST_SECONDS:
            return None
        try:
            if self._missed:
                await self._catch_up()
            answer = await question()
        except (RedisError, OSError) as error:
            if self._lost_at is None:
                log.warning("cache lost, reading from the database: %s: %s", type(error).__name__, error)
            self._lost_at = time.monotonic()
            return None
        if self._lost_at is not None:
            log.info("cache is back")
        self._lost_at = None
        return answer

    async def _catch_up(self) -> None:
        done = self._still_missed()
        if done and self._redis is not None:
            await _forget(self._redis, list(done))
        # Others may have been missed meanwhile.
        self._missed = {key: since for key, since in self._still_missed().items() if done.get(key) != since}

    def _still_missed(self) -> dict[str, float]:
        # What was kept before then has ended by itself.
        oldest = time.monotonic() - KEPT_SECONDS - ANSWER_SECONDS
        return {key: since for key, since in self._missed.items() if since > oldest}


def _names(key: str) -> tuple[str, str]:
    return f"content-api:{key}", f"content-api:mark:{key}"


async def _forget(redis: Redis, keys: tuple[str, ...] | list[str]) -> Any:
    async with redis.pipeline(transaction=True) as pipe:
        for key in keys:
            entry, mark = _names(key)
            pipe.delete(entry)
            # For as long as a reader could take to come back from the database with the old state.
            pipe.set(mark, uuid.uuid4().hex, ex=KEPT_SECONDS)
        return await pipe.execute()
