"""The database: one client, seven stores."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from typing import Any

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from app.database.comments import CommentStore
from app.database.driver import Document, UnavailableError, reaching
from app.database.files import FileStore
from app.database.posts import PostStore
from app.database.reactions import ReactionStore
from app.database.stats import PostStatsStore, StatsStore
from app.database.users import UserStore
from app.settings import Collections, ConfigurationError

log = logging.getLogger(__name__)

OPERATION_SECONDS = 5.0  # the longest that one operation may take, waiting for a server included
PING_SECONDS = 1.0
RETRY_SECONDS = (0.5, 1, 2, 5)  # between attempts to make the indexes; the last one repeats


class Database:
    """One client for the process. It connects at first use, so a start never waits for a server."""

    def __init__(self, url: str, name: str, collections: Collections) -> None:
        """Raises ConfigurationError when the driver cannot read the connection string."""
        # What the connection string says itself wins.
        says = re.search(r"[?&]timeoutMS=", url, re.IGNORECASE)
        limit: dict[str, Any] = {} if says else {"timeoutMS": int(OPERATION_SECONDS * 1000)}
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(
                url, appname="content-api", tz_aware=True, **limit
            )
        except (PyMongoError, ValueError, TypeError):
            # The driver's message may hold parts of the string, and so of its password.
            raise ConfigurationError(
                ["MONGODB_URL is not valid: a connection string, user and password percent-encoded"]
            ) from None
        self._reachable: bool | None = None
        self.prepared = False
        database = self._client[name]

        def ready() -> bool:
            return self.prepared

        self.users = UserStore(database[collections.users], ready)
        self.posts = PostStore(database[collections.posts], ready)
        self.comments = CommentStore(database[collections.comments], ready)
        self.post_stats = PostStatsStore(database[collections.post_stats], ready)
        self.reactions = ReactionStore(database[collections.user_reactions], ready)
        self.files = FileStore(database[collections.files], ready)
        self.stats = StatsStore(database[collections.stats], ready)

    async def ping(self) -> bool:
        """Whether the database answers now. Each change is logged once, with its cause."""
        try:
            async with reaching():
                with pymongo.timeout(PING_SECONDS):
                    await self._client.admin.command("ping")
        except (UnavailableError, PyMongoError) as error:
            if self._reachable is not False:
                log.warning("database lost: %s", error)
            self._reachable = False
            return False
        if self._reachable is False:
            log.info("database is back")
        self._reachable = True
        return True

    async def prepare(self) -> None:
        """Make the indexes. Tries again for as long as that fails: a database that is gone may come back."""
        stores = (
            self.users,
            self.posts,
            self.comments,
            self.post_stats,
            self.reactions,
            self.files,
            self.stats,
        )
        for attempt in itertools.count():
            try:
                for store in stores:
                    await store.prepare()
            except (UnavailableError, PyMongoError) as error:
                log.warning("database not prepared, trying again: %s", error)
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            else:
                self.prepared = True
                log.info("database prepared")
                return

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
