"""The cache of hot reads. It may be absent or lost at any moment: the API then reads from the database."""

from __future__ import annotations

import logging
import time
from typing import Literal

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.settings import ConfigurationError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5  # a cache slower than the database is no help
REST_SECONDS = 1.0  # how long a lost cache is left alone before it is tried again

CacheStatus = Literal["absent", "ok", "lost"]


class Cache:
    """Redis, or nothing. No method raises for a cache that is gone; its loss and return are logged once."""

    def __init__(self, url: str | None) -> None:
        """Raises ConfigurationError when the address cannot be read."""
        self._redis: Redis | None = None
        self._lost_at: float | None = None  # on the monotonic clock, seconds
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
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            self._lose(error)
            return "lost"
        self._regain()
        return "ok"

    async def get(self, key: str) -> str | None:
        """The value kept under the key, or None."""
        if self._redis is None or self._resting():
            return None
        try:
            value = await self._redis.get(key)
        except (RedisError, OSError) as error:
            self._lose(error)
            return None
        self._regain()
        return None if value is None else str(value)

    async def put(self, key: str, value: str, seconds: int) -> None:
        """Keep the value for so many seconds."""
        if self._redis is None or self._resting():
            return
        try:
            await self._redis.set(key, value, ex=seconds)
        except (RedisError, OSError) as error:
            self._lose(error)
            return
        self._regain()

    async def close(self) -> None:
        """Close all connections."""
        if self._redis is not None:
            await self._redis.aclose()

    def _resting(self) -> bool:
        return self._lost_at is not None and time.monotonic() - self._lost_at < REST_SECONDS

    def _lose(self, error: Exception) -> None:
        if self._lost_at is None:
            log.warning("cache lost, reading from the database: %s: %s", type(error).__name__, error)
        self._lost_at = time.monotonic()

    def _regain(self) -> None:
        if self._lost_at is not None:
            log.info("cache is back")
        self._lost_at = None
