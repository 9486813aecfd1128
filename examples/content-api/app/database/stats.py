"""Counters: of each post, and of the whole site in all and by day. Only ever added to, by the server itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pymongo.errors import DuplicateKeyError

from app.database.driver import Document, Store, reaching

Counted = Literal["users", "posts", "comments", "reactions", "files"]


@dataclass(frozen=True)
class PostCounts:
    """What stands below a post."""

    likes: int = 0
    dislikes: int = 0
    bookmarks: int = 0
    comments: int = 0


@dataclass(frozen=True)
class Counts:
    """How much there is of everything, or how much of it was made on a day."""

    users: int = 0
    posts: int = 0
    comments: int = 0
    reactions: int = 0
    files: int = 0


@dataclass(frozen=True)
class Day:
    """What was made on one day, in UTC."""

    day: date
    made: Counts


NO_COUNTS = PostCounts()


class _Counters(Store):
    async def _add(self, key: str, deltas: Mapping[str, int]) -> None:
        async with reaching():
            try:
                await self._collection.update_one({"_id": key}, {"$inc": dict(deltas)}, upsert=True)
            except DuplicateKeyError:
                # Two made the document at once, and one of them won: now it is there.
                await self._collection.update_one({"_id": key}, {"$inc": dict(deltas)})

    async def _all(self, keys: Sequence[str]) -> dict[str, Document]:
        async with reaching():
            found = await self._collection.find({"_id": {"$in": list(keys)}}).to_list()
        return {document["_id"]: document for document in found}


class PostStatsStore(_Counters):
    """The counters of the posts, under the posts' ids."""

    async def add(self, post_id: str, deltas: Mapping[str, int]) -> None:
        """Add to counters; names are those of PostCounts. Raises UnavailableError."""
        changed = {name: delta for name, delta in deltas.items() if delta}
        if changed:
            await self._add(post_id, changed)

    async def of(self, post_ids: Sequence[str]) -> dict[str, PostCounts]:
        """The counters of those posts that have some. Raises UnavailableError."""
        names = asdict(NO_COUNTS)
        return {
            key: PostCounts(**{name: document.get(name, 0) for name in names})
            for key, document in (await self._all(post_ids)).items()
        }

    async def delete(self, post_id: str) -> None:
        """Raises UnavailableError."""
        async with reaching():
            await self._collection.delete_one({"_id": post_id})


class StatsStore(_Counters):
    """The counters of the site: one document for all, one for each day."""

    async def add(self, what: Counted, delta: int) -> None:
        """Add to the total, and what was made (not what was taken away) to the day. Raises UnavailableError."""
        if delta:
            await self._add("total", {what: delta})
        if delta > 0:
            await self._add(datetime.now(UTC).date().isoformat(), {what: delta})

    async def read(self, days: int) -> tuple[Counts, list[Day]]:
        """The totals, and the last days, today first, quiet ones included. Raises UnavailableError."""
        today = datetime.now(UTC).date()
        wanted = [today - timedelta(days=back) for back in range(days)]
        found = await self._all(["total", *(day.isoformat() for day in wanted)])
        total = _counts(found.get("total", {}))
        return total, [Day(day, _counts(found.get(day.isoformat(), {}))) for day in wanted]


def _counts(document: Document) -> Counts:
    return Counts(**{name: document.get(name, 0) for name in asdict(Counts())})
