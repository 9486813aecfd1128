"""Posts: write, list, search, read, change, delete."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.database import NO_COUNTS, DuplicateError, Post, PostCounts, PostQuery, PostSummary, Sorting
from app.errors import answers, invalid
from app.identity import CurrentUser, require_owner
from app.pages import Page, WantedPage
from app.services import FromApp, Services
from app.slugs import LONGEST_SLUG, slug_of

router = APIRouter(prefix="/posts", tags=["posts"], responses=answers(503))

EXCERPT = 200  # characters
FIRST_PAGE = "posts"  # the cache's key of the list as a visitor meets it
_FIRST = (1, 20)

Title = Annotated[str, Field(min_length=1, max_length=200)]
Body = Annotated[str, Field(min_length=1, max_length=100_000)]
Tags = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=10)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class NewPost(_Strict):
    """What an author writes."""

    title: Title
    body: Body
    tags: Tags = []


class PostChange(_Strict):
    """What is left out stays. The slug stays in any case: addresses of posts do not change."""

    title: Title | None = None
    body: Body | None = None
    tags: Tags | None = None


class PostCountsOut(BaseModel):
    """What stands below a post."""

    likes: int
    dislikes: int
    bookmarks: int
    comments: int


class PostListed(BaseModel):
    """A post in a list. `url` is where the web site shows it, when FRONTEND_URL is set."""

    id: str
    slug: str
    title: str
    excerpt: str
    tags: list[str]
    author: str
    created_at: datetime
    updated_at: datetime
    url: str | None
    counts: PostCountsOut


class PostOut(PostListed):
    """A whole post."""

    body: str


class PostPage(BaseModel):
    """One page of posts; `total` counts all that match."""

    items: list[PostListed]
    page: int
    size: int
    total: int


@router.post("", status_code=201, responses=answers(400, 401, 409, 413))
async def create(new: NewPost, user: CurrentUser, services: FromApp, response: Response) -> PostOut:
    """Store a post under a slug made from its title."""
    slug = slug_of(new.title)
    if not slug:
        raise invalid("title", "The title needs at least one letter or digit.")
    try:
        post = await services.database.posts.add(
            slug=slug,
            title=new.title,
            body=new.body,
            excerpt=new.body[:EXCERPT],
            tags=_tags(new.tags),
            author=user.handle,
            author_id=user.id,
        )
    except DuplicateError:
        raise HTTPException(409, f"There is a post with the slug {slug!r} already.") from None
    await services.database.stats.add("posts", 1)
    await services.cache.forget(FIRST_PAGE)
    response.headers["Location"] = f"/posts/{quote(slug)}"
    return _whole(post, NO_COUNTS, services)


@router.get("")
async def listing(
    services: FromApp,
    page: WantedPage,
    q: Annotated[
        str | None, Query(max_length=200, description="words; a post has one of them or more")
    ] = None,
    author: Annotated[str | None, Query(max_length=30, description="a handle")] = None,
    tag: Annotated[str | None, Query(max_length=100)] = None,
    sort: Annotated[
        Literal["newest", "oldest", "updated", "title", "relevance"] | None,
        Query(description="relevance with words, newest without, unless said otherwise"),
    ] = None,
) -> PostPage:
    """List posts."""
    query = PostQuery(
        words=() if q is None else _words(q),
        author=author.lower() if author is not None else None,
        tag=slug_of(tag) if tag is not None else None,
        sort=_sorting(sort, searching=q is not None),
        skip=page.skip,
        limit=page.size,
    )

    async def read() -> PostPage:
        return await _page(query, page, services)

    if query == PostQuery() and (page.page, page.size) == _FIRST:
        return await services.cache.read_through(FIRST_PAGE, PostPage, read) or await read()
    return await read()


@router.get("/{slug}", responses=answers(404))
async def read(slug: str, services: FromApp) -> PostOut:
    """Read one post, from the cache where it is there."""

    async def from_database() -> PostOut | None:
        post = await services.database.posts.by_slug(slug)
        if post is None:
            return None
        counts = await services.database.post_stats.of([post.id])
        return _whole(post, counts.get(post.id, NO_COUNTS), services)

    found = None
    if len(slug) <= LONGEST_SLUG:
        found = await services.cache.read_through(cache_key(slug), PostOut, from_database)
    if found is None:
        raise HTTPException(404, "There is no post with this slug.")
    return found


@router.patch("/{slug}", responses=answers(400, 401, 403, 404, 413))
async def change(slug: str, change: PostChange, user: CurrentUser, services: FromApp) -> PostOut:
    """Change a post, as its author or an admin."""
    post = await wanted(slug, services)
    require_owner(user, post.author_id)
    changes = change.model_dump(exclude_none=True)
    if change.tags is not None:
        changes["tags"] = _tags(change.tags)
    if change.body is not None:
        changes["excerpt"] = change.body[:EXCERPT]
    if change.title is not None and not slug_of(change.title):
        raise invalid("title", "The title needs at least one letter or digit.")
    changed = await services.database.posts.change(post.id, changes)
    await forget(slug, services)
    if changed is None:
        raise HTTPException(404, "There is no post with this slug.")
    counts = await services.database.post_stats.of([post.id])
    return _whole(changed, counts.get(post.id, NO_COUNTS), services)


@router.delete("/{slug}", status_code=204, responses=answers(401, 403, 404))
async def delete(slug: str, user: CurrentUser, services: FromApp) -> None:
    """Delete a post with its comments and reactions, as its author or an admin."""
    post = await wanted(slug, services)
    require_owner(user, post.author_id)
    database = services.database
    # The post first: what a crash leaves of the rest is reached by nobody.
    if await database.posts.delete(post.id):
        await forget(slug, services)
        counts = (await database.post_stats.of([post.id])).get(post.id, NO_COUNTS)
        await database.comments.delete_of_post(post.id)
        await database.reactions.delete_of_post(post.id)
        await database.post_stats.delete(post.id)
        await database.stats.add("posts", -1)
        await database.stats.add("comments", -counts.comments)
        await database.stats.add("reactions", -(counts.likes + counts.dislikes + counts.bookmarks))


async def wanted(slug: str, services: Services) -> Post:
    """The post of that slug, from the database. Raises 404, UnavailableError."""
    post = await services.database.posts.by_slug(slug) if len(slug) <= LONGEST_SLUG else None
    if post is None:
        raise HTTPException(404, "There is no post with this slug.")
    return post


async def forget(slug: str, services: Services) -> None:
    """Drop what the cache has of a post."""
    await services.cache.forget(cache_key(slug), FIRST_PAGE)


def cache_key(slug: str) -> str:
    return f"post:{slug}"


async def _page(query: PostQuery, page: Page, services: Services) -> PostPage:
    found, total = await services.database.posts.page(query)
    counts = await services.database.post_stats.of([post.id for post in found])
    items = [
        PostListed.model_validate(_shown(post, counts.get(post.id, NO_COUNTS), services)) for post in found
    ]
    return PostPage(items=items, page=page.page, size=page.size, total=total)


def _words(q: str) -> tuple[str, ...]:
    """Words alone: quotes and dashes mean something to the database's search."""
    words = tuple(re.findall(r"\w+", q))
    if not words:
        raise invalid("q", "The search needs at least one word.", "query")
    return words


def _sorting(asked: Sorting | None, *, searching: bool) -> Sorting:
    if asked == "relevance" and not searching:
        raise invalid("sort", "Sorting by relevance needs words to search for.", "query")
    return asked or ("relevance" if searching else "newest")


def _tags(given: list[str]) -> list[str]:
    """Tags as slugs, each once, in the order in which they came."""
    return list(dict.fromkeys(tag for tag in map(slug_of, given) if tag))


def _shown(post: PostSummary, counts: PostCounts, services: Services) -> dict[str, object]:
    frontend = services.settings.frontend_url
    return {
        **asdict(post),
        "url": f"{frontend}/posts/{quote(post.slug)}" if frontend else None,
        "counts": asdict(counts),
    }


def _whole(post: Post, counts: PostCounts, services: Services) -> PostOut:
    return PostOut.model_validate(_shown(post, counts, services))
