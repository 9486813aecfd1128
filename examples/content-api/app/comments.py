"""Comments: threads under a post, nested as deep as MAX_COMMENT_DEPTH says."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from app import posts
from app.database import Comment
from app.errors import answers, invalid
from app.identity import CurrentUser, require_owner
from app.pages import WantedPage
from app.services import FromApp, Services

router = APIRouter(tags=["comments"], responses=answers(503))

Text = Annotated[str, Field(min_length=1, max_length=5000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class NewComment(_Strict):
    """A comment on the post itself, or with `parent_id` a reply."""

    body: Text
    parent_id: str | None = Field(None, max_length=100)


class CommentChange(_Strict):
    """The new text."""

    body: Text


class CommentOut(BaseModel):
    """A comment. Of a deleted one its place in the thread stays, without author and text."""

    id: str
    parent_id: str | None
    depth: int
    author: str | None
    body: str | None
    created_at: datetime
    edited_at: datetime | None
    deleted: bool
    replies: list[CommentOut] = []


class CommentPage(BaseModel):
    """A page of threads, the oldest first. `total` counts threads.

    `complete` is false when the threads of this page have more than 1,000 replies; a smaller page has them.
    """

    items: list[CommentOut]
    page: int
    size: int
    total: int
    complete: bool


@router.get("/posts/{slug}/comments", responses=answers(404))
async def threads(slug: str, page: WantedPage, services: FromApp) -> CommentPage:
    """List the comments on a post."""
    post = await posts.wanted(slug, services)
    found = await services.database.comments.page(post.id, page.skip, page.size)
    shown = {comment.id: _shown(comment) for comment in (*found.roots, *found.replies)}
    for reply in found.replies:  # the oldest first, so a parent is there before its replies
        if reply.parent_id in shown:
            shown[reply.parent_id].replies.append(shown[reply.id])
    return CommentPage(
        items=[shown[root.id] for root in found.roots],
        page=page.page,
        size=page.size,
        total=found.total,
        complete=found.complete,
    )


@router.post("/posts/{slug}/comments", status_code=201, responses=answers(400, 401, 404, 409, 413))
async def comment(slug: str, new: NewComment, user: CurrentUser, services: FromApp) -> CommentOut:
    """Comment on a post, or reply to a comment."""
    post = await posts.wanted(slug, services)
    parent = None
    if new.parent_id is not None:
        parent = await services.database.comments.by_id(new.parent_id)
        if parent is None or parent.post_id != post.id:
            raise HTTPException(404, "There is no such comment under this post.")
        if parent.deleted:
            raise HTTPException(409, "The comment was deleted; nobody can reply to it.")
        deepest = services.settings.max_comment_depth
        if parent.depth >= deepest:
            raise invalid("parent_id", f"Comments nest {deepest} deep, and this one is there already.")
    made = await services.database.comments.add(
        post_id=post.id, parent=parent, author=user.handle, author_id=user.id, body=new.body
    )
    await _count(services, post.id, 1)
    await posts.forget(slug, services)
    return _shown(made)


@router.patch("/comments/{comment_id}", responses=answers(400, 401, 403, 404, 413))
async def edit(comment_id: str, change: CommentChange, user: CurrentUser, services: FromApp) -> CommentOut:
    """Change a comment, as its author or an admin."""
    await _own(comment_id, user, services)
    edited = await services.database.comments.edit(comment_id, change.body)
    if edited is None:
        raise HTTPException(404, "There is no such comment.")
    return _shown(edited)


@router.delete("/comments/{comment_id}", status_code=204, responses=answers(401, 403, 404))
async def delete(comment_id: str, user: CurrentUser, services: FromApp) -> None:
    """Delete a comment, as its author or an admin. Its place in the thread stays, and so do the replies."""
    await _own(comment_id, user, services)
    deleted = await services.database.comments.delete(comment_id)
    if deleted is not None:
        await _count(services, deleted.post_id, -1)
        post = await services.database.posts.by_id(deleted.post_id)
        if post is not None:
            await posts.forget(post.slug, services)


async def _own(comment_id: str, user: CurrentUser, services: Services) -> None:
    found = await services.database.comments.by_id(comment_id)
    if found is None or found.deleted:
        raise HTTPException(404, "There is no such comment.")
    require_owner(user, found.author_id)


async def _count(services: Services, post_id: str, delta: int) -> None:
    await services.database.post_stats.add(post_id, {"comments": delta})
    await services.database.stats.add("comments", delta)


def _shown(comment: Comment) -> CommentOut:
    return CommentOut(
        id=comment.id,
        parent_id=comment.parent_id,
        depth=comment.depth,
        author=None if comment.deleted else comment.author,
        body=None if comment.deleted else comment.body,
        created_at=comment.created_at,
        edited_at=comment.edited_at,
        deleted=comment.deleted,
    )
