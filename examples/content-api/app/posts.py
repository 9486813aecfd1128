"""Posts: create, list, read."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.database import DuplicateError, Post, PostFields
from app.errors import UNAVAILABLE, Problem
from app.services import FromApp, Services

router = APIRouter(prefix="/posts", tags=["posts"], responses=UNAVAILABLE)

LONGEST_SLUG = 80
CACHED_SECONDS = 60


class NewPost(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(min_length=1, max_length=100_000)


class PostOut(BaseModel):
    """What a client gets. `url` is where the web site shows the post, when FRONTEND_URL is set."""

    id: str
    slug: str
    title: str
    body: str
    created_at: datetime
    updated_at: datetime
    url: str | None


class PostPage(BaseModel):
    """One page of posts, the newest first; `total` counts all of them."""

    items: list[PostOut]
    page: int
    size: int
    total: int


def slug_of(title: str) -> str:
    """A title as one part of an address: lower case, letters and digits of any script, dashes between words.

    At most 80 characters; empty when the title has no letter and no digit.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    # Marks stay: without them the words of many scripts would fall apart.
    kept = (char if unicodedata.category(char)[0] in "LNM" else " " for char in text)
    return "-".join("".join(kept).split())[:LONGEST_SLUG].rstrip("-")


@router.post("", status_code=201, responses={409: {"model": Problem, "description": "The slug is taken."}})
async def create(new: NewPost, services: FromApp, response: Response) -> PostOut:
    """Store a post under a slug made from its title."""
    slug = slug_of(new.title)
    if not slug:
        raise HTTPException(422, "The title needs at least one letter or digit.")
    now = _now()
    fields = PostFields(slug=slug, title=new.title, body=new.body, created_at=now, updated_at=now)
    try:
        post = await services.database.posts.add(fields)
    except DuplicateError:
        raise HTTPException(409, f"There is a post with the slug {slug!r} already.") from None
    response.headers["Location"] = f"/posts/{quote(slug)}"
    return _shown(post, services)


@router.get("")
async def listing(
    services: FromApp,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> PostPage:
    """List posts, the newest first."""
    found, total = await services.database.posts.page(skip=(page - 1) * size, limit=size)
    return PostPage(items=[_shown(post, services) for post in found], page=page, size=size, total=total)


@router.get("/{slug}", responses={404: {"model": Problem, "description": "No post has this slug."}})
async def read(slug: str, services: FromApp) -> PostOut:
    """Read one post, from the cache where it is there."""
    key = f"content-api:post:{slug}"
    kept = await services.cache.get(key)
    if kept is not None:
        with suppress(ValidationError):  # written by another version: read the database instead
            return PostOut.model_validate_json(kept)
    post = await services.database.posts.by_slug(slug)
    if post is None:
        raise HTTPException(404, "There is no post with this slug.")
    shown = _shown(post, services)
    await services.cache.put(key, shown.model_dump_json(), CACHED_SECONDS)
    return shown


def _shown(post: Post, services: Services) -> PostOut:
    frontend = services.settings.frontend_url
    return PostOut(**post, url=f"{frontend}/posts/{quote(post['slug'])}" if frontend else None)


def _now() -> datetime:
    """The time in UTC, to the millisecond: that is all that the database keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
