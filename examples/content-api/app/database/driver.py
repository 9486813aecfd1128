"""What all stores share: the driver's errors as ours, ids, the time, and one collection with its indexes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

from bson import ObjectId
from pymongo import IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

NOT_LET_IN = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, and Atlas's own code for the latter

Document = dict[str, Any]


class UnavailableError(Exception):
    """The database cannot be reached or does not let us in."""


class DuplicateError(Exception):
    """A value that must be unique is there already. `field` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


@asynccontextmanager
async def reaching() -> AsyncIterator[None]:
    """Turn the driver's many ways to say "not reachable" into UnavailableError, and no other error."""
    try:
        yield
    except PyMongoError as error:
        refused = isinstance(error, OperationFailure) and error.code in NOT_LET_IN
        # A ConfigurationError this late is a mongodb+srv name that does not resolve.
        lost = isinstance(error, ConnectionFailure | ConfigurationError)
        if refused or lost or error.timeout:
            raise UnavailableError(f"{type(error).__name__}: {str(error)[:300]}") from error
        raise


def new_id() -> str:
    """An id that sorts by the second of its making. Text, so that a reference to it is plain text too."""
    return str(ObjectId())


def now() -> datetime:
    """The time in UTC, to the millisecond: that is all that the database keeps.

    For new documents. Changes take the server's own time ($currentDate): nx-27017 makes a text of a time in $set.
    """
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class Store:
    """One collection. `ready` says whether its indexes are made."""

    indexes: ClassVar[Sequence[IndexModel]] = ()
    text_index: ClassVar[IndexModel | None] = None

    def __init__(self, collection: AsyncCollection[Document], ready: Callable[[], bool]) -> None:
        self._collection = collection
        self._ready = ready

    def require_indexes(self) -> None:
        """Raises UnavailableError: without its index, a value that must be unique would not be."""
        if not self._ready():
            raise UnavailableError("no write before the indexes are made")

    async def prepare(self) -> None:
        """Make the indexes; one that exists stays as it is. Raises UnavailableError, PyMongoError."""
        async with reaching():
            if self.indexes:
                await self._collection.create_indexes(list(self.indexes))
            if self.text_index is not None:
                await self._make_text_index(self.text_index)

    async def _make_text_index(self, index: IndexModel) -> None:
        try:
            await self._collection.create_indexes([index])
        except OperationFailure:
            # nx-27017 cannot make one twice and does not list it. MongoDB refuses a search without one.
            await self._collection.find_one({"$text": {"$search": "any"}})
