"""Reactions and their counters, also when many press at once (nx-27017, which is not MongoDB)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import httpx
import jwt
import pytest
from pymongo import MongoClient

from app.database import NO_REACTION, Kind, Reaction
from processes import DEADLINE, SECRET_KEY, Api, Mongo, StartApi, eventually

WRITERS = 50


def test_pressing_sets_and_takes_back(shared_api: Api) -> None:
    user = shared_api.sign_up()
    path = f"/posts/{user.write_post()['slug']}/reactions"

    def press(kind: Kind) -> tuple[bool, bool, bool, int, int, int]:
        answer = user.http.post(path, json={"kind": kind})
        assert answer.status_code == 200, answer.text
        assert user.http.get(path).json() == answer.json()
        found, counts = answer.json(), answer.json()["counts"]
        counted = (counts["likes"], counts["dislikes"], counts["bookmarks"])
        return (found["like"], found["dislike"], found["bookmark"], *counted)

    assert press("like") == (True, False, False, 1, 0, 0)
    assert press("bookmark") == (True, False, True, 1, 0, 1)
    assert press("dislike") == (False, True, True, 0, 1, 1)
    assert press("dislike") == (False, False, True, 0, 0, 1)
    assert press("bookmark") == (False, False, False, 0, 0, 0)


def test_the_post_and_the_list_show_the_counters(shared_api: Api) -> None:
    one, two = shared_api.sign_up(), shared_api.sign_up()
    slug = one.write_post()["slug"]
    for user in (one, two):
        user.http.post(f"/posts/{slug}/reactions", json={"kind": "like"}).raise_for_status()
    assert shared_api.http.get(f"/posts/{slug}").json()["counts"]["likes"] == 2
    [listed] = shared_api.http.get("/posts", params={"author": one.handle}).json()["items"]
    assert listed["counts"]["likes"] == 2


@pytest.mark.parametrize("kind", ["love", "", None, 1])
def test_an_unknown_button(shared_api: Api, kind: object) -> None:
    path = f"/posts/{shared_api.user.write_post()['slug']}/reactions"
    assert shared_api.user.http.post(path, json={"kind": kind}).status_code == 422
    assert shared_api.http.post(path, json={"kind": "like"}).status_code == 401
    assert shared_api.user.http.post("/posts/none/reactions", json={"kind": "like"}).status_code == 404


def test_a_like_and_a_dislike_exclude_each_other() -> None:
    for kind in ("like", "dislike", "bookmark", "like", "dislike"):
        reaction = NO_REACTION.toggled("like").toggled("dislike").toggled(kind)
        assert not (reaction.like and reaction.dislike)
    assert Reaction(bookmark=True).toggled("like") == Reaction(like=True, bookmark=True)


def at_once(api: Api, tokens: list[str], act: Callable[[httpx.AsyncClient, str], Awaitable[None]]) -> None:
    """One client a token, all at the same time."""

    async def main() -> None:
        # The server closes what was idle for 5 s. A connection must not be used again in just that moment.
        limits = httpx.Limits(max_connections=len(tokens), keepalive_expiry=1)
        async with httpx.AsyncClient(
            base_url=str(api.http.base_url), limits=limits, timeout=DEADLINE, trust_env=False
        ) as http:
            await asyncio.gather(*(act(http, token) for token in tokens))

    asyncio.run(main())


@pytest.fixture
def crowd(start_api: StartApi, mongo: Mongo, database_name: str) -> tuple[Api, list[str]]:
    """An API with 50 users, put into the database by hand: their passwords would take half a minute to hash."""
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    with MongoClient[dict[str, object]](mongo.url) as client:
        users = client[database_name]["users"]
        model = users.find_one({"handle": api.user.handle})
        assert model is not None
        ids = [f"{number:024x}" for number in range(WRITERS)]
        users.insert_many(
            [{**model, "_id": each, "handle": f"w{each}", "email": f"{each}@example.com"} for each in ids]
        )
    claims = {"iss": "content-api", "session": 0, "kind": "access", "exp": 2**33}
    return api, [jwt.encode({**claims, "sub": each}, SECRET_KEY, "HS256") for each in ids]


def test_fifty_writers_at_once(crowd: tuple[Api, list[str]]) -> None:
    """All press several buttons, one after the other; each counter must say what the reactions say."""
    api, tokens = crowd
    slug = api.user.write_post()["slug"]
    pressed: dict[str, Reaction] = {}

    async def press(http: httpx.AsyncClient, token: str) -> None:
        reaction = NO_REACTION
        for kind in random.Random(token).choices(("like", "dislike", "bookmark"), k=6):
            reaction = reaction.toggled(kind)
            answer = await http.post(
                f"/posts/{slug}/reactions", json={"kind": kind}, headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 200, answer.text
        pressed[token] = reaction

    at_once(api, tokens, press)
    expected = {
        "likes": sum(each.like for each in pressed.values()),
        "dislikes": sum(each.dislike for each in pressed.values()),
        "bookmarks": sum(each.bookmark for each in pressed.values()),
        "comments": 0,
    }
    assert len(pressed) == WRITERS
    assert api.http.get(f"/posts/{slug}").json()["counts"] == expected
    total = api.http.get("/stats").json()["total"]
    assert total["reactions"] == sum(expected.values())


def test_one_user_in_fifty_tabs(crowd: tuple[Api, list[str]]) -> None:
    """Each press counts once, whatever the order: an odd number of them is a like, an even number is none."""
    api, tokens = crowd
    path = f"/posts/{api.user.write_post()['slug']}/reactions"
    done: list[int] = []

    async def press(http: httpx.AsyncClient, token: str) -> None:
        answer = await http.post(path, json={"kind": "like"}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (200, 409), answer.text
        done.append(answer.status_code)

    at_once(api, [tokens[0]] * WRITERS, press)
    like = done.count(200) % 2 == 1
    mine = api.http.get(path, headers={"Authorization": f"Bearer {tokens[0]}"}).json()
    assert (mine["like"], mine["counts"]["likes"]) == (like, int(like))
