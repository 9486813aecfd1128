"""What each user thinks of each post: one document for the two, changed by compare and set."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Literal

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from app.database.driver import Document, Store, now, reaching

ATTEMPTS = (
    100  # of one user's toggles that meet each other; each attempt that fails is one that succeeded elsewhere
)
PAUSE_SECONDS = 0.01

Kind = Literal["like", "dislike", "bookmark"]


class BusyError(Exception):
    """The same user changed the same reaction over and over meanwhile."""


@dataclass(frozen=True)
class Reaction:
    """One user's reaction to one post. A like and a dislike exclude each other."""

    like: bool = False
    dislike: bool = False
    bookmark: bool = False

    def toggled(self, kind: Kind) -> Reaction:
        """The reaction after that button was pressed."""
        if kind == "like":
            return replace(self, like=not self.like, dislike=False)
        if kind == "dislike":
            return replace(self, dislike=not self.dislike, like=False)
        return replace(self, bookmark=not self.bookmark)


NO_REACTION = Reaction()


class ReactionStore(Store):
    """Reactions under the id "user:post", so that there is never more than one."""

    indexes = (IndexModel([("post_id", ASCENDING)], name="post"),)

    async def toggle(self, user_id: str, post_id: str, kind: Kind) -> tuple[Reaction, Reaction]:
        """The reaction before and after. Raises BusyError, UnavailableError."""
        for attempt in range(ATTEMPTS):
            async with reaching():
                before = await self._read(user_id, post_id)
                after = (before or NO_REACTION).toggled(kind)
                if await self._write(user_id, post_id, before, after):
                    return before or NO_REACTION, after
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS * (attempt + 1)))  # noqa: S311 - spreads retries
        raise BusyError

    async def of(self, user_id: str, post_id: str) -> Reaction:
        """Raises UnavailableError."""
        async with reaching():
            return await self._read(user_id, post_id) or NO_REACTION

    async def delete_of_post(self, post_id: str) -> None:
        """Drop all reactions to a post that is gone. Raises UnavailableError."""
        async with reaching():
            await self._collection.delete_many({"post_id": post_id})

    async def _read(self, user_id: str, post_id: str) -> Reaction | None:
        document = await self._collection.find_one({"_id": f"{user_id}:{post_id}"})
        return Reaction(document["like"], document["dislike"], document["bookmark"]) if document else None

    async def _write(self, user_id: str, post_id: str, before: Reaction | None, after: Reaction) -> bool:
        """Whether nobody else wrote meanwhile."""
        key = {"_id": f"{user_id}:{post_id}"}
        fields: Document = _fields(after)
        if before is None:
            try:
                await self._collection.insert_one(
                    {**key, "user_id": user_id, "post_id": post_id, **fields, "updated_at": now()}
                )
            except DuplicateKeyError:
                return False
            return True
        update = {"$set": fields, "$currentDate": {"updated_at": True}}
        result = await self._collection.update_one({**key, **_fields(before)}, update)
        return result.matched_count == 1


def _fields(reaction: Reaction) -> Document:
    return {"like": reaction.like, "dislike": reaction.dislike, "bookmark": reaction.bookmark}
