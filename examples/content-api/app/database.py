"""Everything that knows MongoDB. The rest of the API sees `Database`, its stores, and two exceptions."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypedDict

import pymongo
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from app.settings import Collections, ConfigurationError

log = logging.getLogger(__name__)

OPERATION_SECONDS = 5.0  # the longest that one operation may take, waiting for a server included
PING_SECONDS = 1.0
RETRY_SECONDS = (0.5, 1, 2, 5)  # between attempts to make the indexes; the last one repeats
NOT_LET_IN = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, and Atlas's own code for the latter

Document = dict[str, Any]


class UnavailableError(Exception):
    """The database cannot be reached or does not let us in."""


class DuplicateError(Exception):
    """A value that must be unique is there already."""


class PostFields(TypedDict):
    """What is stored of a post, beside its id."""

    slug: str
    title: str
    body: str
    created_at: datetime
    updated_at: datetime


class Post(PostFields):
    """A post as read."""

    id: str


@asynccontextmanager
async def _reaching() -> AsyncIterator[None]:
    """Turn the driver's many ways to say "not reachable" into UnavailableError, and no other error."""
    try:
        yield
    except PyMongoError as error:
        refused = isinstance(error, OperationFailure) and error.code in NOT_LET_IN
        # A ConfigurationError this late is a mongodb+srv name that does not resolve.
        lost = isinstance(error, ConnectionFailure | DriverConfigurationError)
        if refused or lost or error.timeout:
            raise UnavailableError(f"{type(error).__name__}: {str(error)[:300]}") from error
        raise


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
        posts = self._client[name][collections.posts]
        self._indexes: list[tuple[AsyncCollection[Document], Sequence[IndexModel]]] = [
            (posts, PostStore.indexes)
        ]
        self._reachable: bool | None = None
        self.prepared = False
        self.posts = PostStore(self, posts)

    async def ping(self) -> bool:
        """Whether the database answers now. Each change is logged once, with its cause."""
        try:
            async with _reaching():
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
        """Make the indexes; one that exists stays as it is.

        Tries again for as long as that fails: a database that is gone at start may come back.
        """
        for attempt in itertools.count():
            try:
                async with _reaching():
                    for collection, indexes in self._indexes:
                        await collection.create_indexes(list(indexes))
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


class PostStore:
    """Posts, found by slug, listed from the newest."""

    indexes = (IndexModel([("slug", ASCENDING)], name="slug", unique=True),)

    def __init__(self, database: Database, collection: AsyncCollection[Document]) -> None:
        self._database = database
        self._collection = collection

    async def add(self, fields: PostFields) -> Post:
        """Store a post. Raises DuplicateError when the slug is taken, UnavailableError."""
        if not self._database.prepared:
            raise UnavailableError("no write before the indexes are made: a slug would not be unique")
        document: Document = {"_id": ObjectId(), **fields}
        try:
            async with _reaching():
                await self._collection.insert_one(document)
        except DuplicateKeyError:
            raise DuplicateError("slug") from None
        return _post(document)

    async def page(self, skip: int, limit: int) -> tuple[list[Post], int]:
        """Posts from the newest, and how many there are in all. Raises UnavailableError."""
        async with _reaching():
            # An ObjectId begins with its time, so the index that every collection has gives this order.
            newest = self._collection.find({}).sort("_id", DESCENDING)
            found = await newest.skip(skip).limit(limit).to_list()
            total = await self._collection.count_documents({})
        return [_post(document) for document in found], total

    async def by_slug(self, slug: str) -> Post | None:
        """The post of that slug. Raises UnavailableError."""
        async with _reaching():
            document = await self._collection.find_one({"slug": slug})
        return _post(document) if document else None


def _post(document: Mapping[str, Any]) -> Post:
    return Post(
        id=str(document["_id"]),
        slug=document["slug"],
        title=document["title"],
        body=document["body"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )
