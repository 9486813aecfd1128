"""Comments: threads under a post."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, IndexModel, ReturnDocument

from app.database.driver import Document, Store, new_id, now, reaching

MOST_REPLIES = 1000  # of one page of threads


@dataclass(frozen=True)
class Comment:
    """A comment as stored. `depth` is 1 for one on the post itself; `root_id` is the first of its thread."""

    id: str
    post_id: str
    parent_id: str | None
    root_id: str
    depth: int
    author: str
    author_id: str
    body: str
    created_at: datetime
    edited_at: datetime | None
    deleted: bool


@dataclass(frozen=True)
class Thread:
    """A page of threads: the comments on the post itself, and the replies below them, the oldest first.

    `complete` is false when there are more replies than one answer holds.
    """

    roots: list[Comment]
    replies: list[Comment]
    total: int
    complete: bool


class CommentStore(Store):
    """Comments. A deleted one stays as a place in its thread."""

    indexes = (
        IndexModel([("post_id", ASCENDING), ("depth", ASCENDING)], name="thread"),
        IndexModel([("root_id", ASCENDING)], name="root"),
    )

    async def add(
        self, *, post_id: str, parent: Comment | None, author: str, author_id: str, body: str
    ) -> Comment:
        """Store a comment on a post, or a reply. Raises UnavailableError."""
        comment_id = new_id()
        document: Document = {
            "_id": comment_id,
            "post_id": post_id,
            "parent_id": parent.id if parent else None,
            "root_id": parent.root_id if parent else comment_id,
            "depth": parent.depth + 1 if parent else 1,
            "author": author,
            "author_id": author_id,
            "body": body,
            "created_at": now(),
            "edited_at": None,
            "deleted_at": None,
        }
        async with reaching():
            await self._collection.insert_one(document)
        return _comment(document)

    async def by_id(self, comment_id: str) -> Comment | None:
        """Raises UnavailableError."""
        async with reaching():
            document = await self._collection.find_one({"_id": comment_id})
        return _comment(document) if document else None

    async def page(self, post_id: str, skip: int, limit: int) -> Thread:
        """The threads of a post, the oldest first. Raises UnavailableError."""
        on_post = {"post_id": post_id, "depth": 1}
        async with reaching():
            found = self._collection.find(on_post).sort("_id", ASCENDING).skip(skip).limit(limit)
            roots = [_comment(document) for document in await found.to_list()]
            total = await self._collection.count_documents(on_post)
            below = {"root_id": {"$in": [root.id for root in roots]}, "depth": {"$gt": 1}}
            answers = self._collection.find(below).sort("_id", ASCENDING).limit(MOST_REPLIES + 1)
            replies = [_comment(document) for document in await answers.to_list()]
        complete = len(replies) <= MOST_REPLIES
        return Thread(roots, replies[:MOST_REPLIES], total, complete)

    async def edit(self, comment_id: str, body: str) -> Comment | None:
        """Change the text; None when the comment is gone or deleted. Raises UnavailableError."""
        return await self._change(comment_id, body, "edited_at")

    async def delete(self, comment_id: str) -> Comment | None:
        """Mark as deleted, and drop the text; None when that was done before. Raises UnavailableError."""
        return await self._change(comment_id, "", "deleted_at")

    async def delete_of_post(self, post_id: str) -> None:
        """Drop all comments of a post that is gone. Raises UnavailableError."""
        async with reaching():
            await self._collection.delete_many({"post_id": post_id})

    async def _change(self, comment_id: str, body: str, time: str) -> Comment | None:
        async with reaching():
            document = await self._collection.find_one_and_update(
                {"_id": comment_id, "deleted_at": None},
                {"$set": {"body": body}, "$currentDate": {time: True}},
                return_document=ReturnDocument.AFTER,
            )
        return _comment(document) if document else None


def _comment(document: Document) -> Comment:
    names = ("post_id", "parent_id", "root_id", "depth", "author", "author_id", "body")
    return Comment(
        id=document["_id"],
        created_at=document["created_at"],
        edited_at=document["edited_at"],
        deleted=document["deleted_at"] is not None,
        **{name: document[name] for name in names},
    )
