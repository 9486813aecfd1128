"""Reactions to posts: like, dislike, bookmark."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from app import posts
from app.database import NO_COUNTS, Kind, Reaction
from app.errors import answers
from app.identity import CurrentUser
from app.services import FromApp, Services

router = APIRouter(prefix="/posts/{slug}/reactions", tags=["reactions"], responses=answers(401, 404, 503))

_COUNTERS: dict[Kind, str] = {"like": "likes", "dislike": "dislikes", "bookmark": "bookmarks"}


class Toggle(BaseModel):
    """The button that was pressed."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind


class ReactionOut(BaseModel):
    """The own reaction, and the counters of the post."""

    like: bool
    dislike: bool
    bookmark: bool
    counts: posts.PostCountsOut


@router.post("", responses=answers(400, 409, 413))
async def toggle(slug: str, pressed: Toggle, user: CurrentUser, services: FromApp) -> ReactionOut:
    """Press a button: set what is not set, take back what is. A like and a dislike exclude each other."""
    post = await posts.wanted(slug, services)
    before, after = await services.database.reactions.toggle(user.id, post.id, pressed.kind)
    deltas = {
        counter: int(getattr(after, kind)) - int(getattr(before, kind)) for kind, counter in _COUNTERS.items()
    }
    await services.database.post_stats.add(post.id, deltas)
    await services.database.stats.add("reactions", sum(deltas.values()))
    await posts.forget(slug, services)
    return await _shown(after, post.id, services)


@router.get("")
async def mine(slug: str, user: CurrentUser, services: FromApp) -> ReactionOut:
    """Show the own reaction to a post."""
    post = await posts.wanted(slug, services)
    return await _shown(await services.database.reactions.of(user.id, post.id), post.id, services)


async def _shown(reaction: Reaction, post_id: str, services: Services) -> ReactionOut:
    counts = (await services.database.post_stats.of([post_id])).get(post_id, NO_COUNTS)
    return ReactionOut.model_validate({**asdict(reaction), "counts": asdict(counts)})
