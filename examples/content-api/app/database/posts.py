"""Posts: by slug, and in pages that are filtered, searched and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.database.driver import Document, DuplicateError, Store, new_id, now, reaching

Sorting = Literal["newest", "oldest", "updated", "title", "relevance"]

# The id comes last: without it, posts that are equal otherwise could change places between two pages.
_ORDERS: dict[Sorting, Sequence[tuple[str, Any]]] = {
    "newest": [("_id", DESCENDING)],  # an id begins with its time
    "oldest": [("_id", ASCENDING)],
    "updated": [("updated_at", DESCENDING), ("_id", DESCENDING)],
    "title": [("title", ASCENDING), ("_id", ASCENDING)],
    "relevance": [("score", {"$meta": "textScore"}), ("_id", DESCENDING)],
}


@dataclass(frozen=True)
class PostSummary:
    """A post without its text, as lists show it."""

    id: str
    slug: str
    title: str
    excerpt: str
    tags: list[str]
    author: str
    author_id: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Post(PostSummary):
    """A whole post."""

    body: str


@dataclass(frozen=True)
class PostQuery:
    """Which posts, in which order.

    words: any of them stands in the title or the text; the order "relevance" needs some.
    """

    words: tuple[str, ...] = ()
    author: str | None = None
    tag: str | None = None
    sort: Sorting = "newest"
    skip: int = 0
    limit: int = 20


class PostStore(Store):
    """Posts. A slug is given once and stays."""

    indexes = (
        IndexModel([("slug", ASCENDING)], name="slug", unique=True),
        IndexModel([("author", ASCENDING)], name="author"),
        IndexModel([("tags", ASCENDING)], name="tags"),
        IndexModel([("updated_at", DESCENDING)], name="updated_at"),
        IndexModel([("title", ASCENDING)], name="title"),
    )
    # Words as they stand: posts come in all languages, and stemming for one would miss the words of another.
    text_index = IndexModel(
        [("title", TEXT), ("body", TEXT)], name="words", weights={"title": 5}, default_language="none"
    )

    async def add(
        self, *, slug: str, title: str, body: str, excerpt: str, tags: list[str], author: str, author_id: str
    ) -> Post:
        """Store a post. Raises DuplicateError when the slug is taken, UnavailableError."""
        self.require_indexes()
        time = now()
        document: Document = {
            "_id": new_id(),
            "slug": slug,
            "title": title,
            "body": body,
            "excerpt": excerpt,
            "tags": tags,
            "author": author,
            "author_id": author_id,
            "created_at": time,
            "updated_at": time,
        }
        async with reaching():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                raise DuplicateError("slug") from None
        return _post(document)

    async def by_slug(self, slug: str) -> Post | None:
        """The post of that slug. Raises UnavailableError."""
        async with reaching():
            document = await self._collection.find_one({"slug": slug})
        return _post(document) if document else None

    async def by_id(self, post_id: str) -> Post | None:
        """Raises UnavailableError."""
        async with reaching():
            document = await self._collection.find_one({"_id": post_id})
        return _post(document) if document else None

    async def page(self, query: PostQuery) -> tuple[list[PostSummary], int]:
        """The posts of one page, and how many match in all. Raises UnavailableError."""
        wanted: Document = {}
        if query.words:
            wanted["$text"] = {"$search": " ".join(query.words)}
        if query.author is not None:
            wanted["author"] = query.author
        if query.tag is not None:
            # The same as equality; nx-27017 finds nothing by equality in a list that has an index.
            wanted["tags"] = {"$in": [query.tag]}
        async with reaching():
            cursor = self._collection.find(wanted, {"body": 0}).sort(list(_ORDERS[query.sort]))
            found = await cursor.skip(query.skip).limit(query.limit).to_list()
            total = await self._collection.count_documents(wanted)
        return [_summary(document) for document in found], total

    async def change(self, post_id: str, changes: Document) -> Post | None:
        """Set these fields; None when the post is gone. Raises UnavailableError."""
        update = {"$currentDate": {"updated_at": True}, **({"$set": changes} if changes else {})}
        async with reaching():
            document = await self._collection.find_one_and_update(
                {"_id": post_id}, update, return_document=ReturnDocument.AFTER
            )
        return _post(document) if document else None

    async def delete(self, post_id: str) -> bool:
        """Whether it was there. Raises UnavailableError."""
        async with reaching():
            return (await self._collection.delete_one({"_id": post_id})).deleted_count == 1


def _summary(document: Document) -> PostSummary:
    return PostSummary(**_shared(document))


def _post(document: Document) -> Post:
    return Post(**_shared(document), body=document["body"])


def _shared(document: Document) -> Document:
    names = ("slug", "title", "excerpt", "tags", "author", "author_id", "created_at", "updated_at")
    return {"id": document["_id"], **{name: document[name] for name in names}}
