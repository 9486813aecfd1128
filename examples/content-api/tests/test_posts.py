"""Posts through a real server and a real database process (nx-27017, which is not MongoDB)."""

from __future__ import annotations

import unicodedata
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.posts import LONGEST_SLUG, slug_of
from processes import Api, Mongo, StartApi, eventually


def unique(title: str) -> str:
    return f"{title} {uuid.uuid4().hex}"


def test_a_post_is_stored_and_read_by_its_slug(shared_api: Api) -> None:
    title = unique("Hello,  World!")
    created = shared_api.http.post("/posts", json={"title": f"  {title} ", "body": "First.\n"})
    assert created.status_code == 201
    post = created.json()
    assert post["title"] == title
    assert post["slug"] == title.lower().replace(",  ", "-").replace("! ", "-")
    assert post["url"] == f"https://www.example.com/posts/{post['slug']}"
    assert created.headers["location"] == f"/posts/{post['slug']}"
    assert shared_api.http.get(f"/posts/{post['slug']}").json() == post


def test_a_title_of_any_script(shared_api: Api) -> None:
    title = unique("안녕하세요 Ünïcode हिन्दी")
    created = shared_api.http.post("/posts", json={"title": title, "body": "글"})
    assert created.status_code == 201
    assert created.json()["slug"].startswith("안녕하세요-ünïcode-हिन्दी-")
    read = shared_api.http.get(created.headers["location"])
    assert read.json() == created.json()


def test_a_slug_is_taken_once(shared_api: Api) -> None:
    title = unique("Only one")
    with ThreadPoolExecutor(10) as pool:
        codes = list(
            pool.map(
                lambda n: shared_api.http.post("/posts", json={"title": title, "body": f"{n}"}).status_code,
                range(10),
            )
        )
    assert sorted(codes) == [201] + [409] * 9


def test_a_duplicate_says_so(shared_api: Api) -> None:
    new = {"title": unique("Twice"), "body": "x"}
    slug = shared_api.http.post("/posts", json=new).json()["slug"]
    refused = shared_api.http.post("/posts", json=new)
    assert refused.status_code == 409
    assert refused.json() == {"detail": f"There is a post with the slug '{slug}' already."}


def test_pages_from_the_newest(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    for number in range(5):
        api.http.post("/posts", json={"title": f"Post {number}", "body": "x"}).raise_for_status()
    first = api.http.get("/posts", params={"size": 2}).json()
    last = api.http.get("/posts", params={"size": 2, "page": 3}).json()
    beyond = api.http.get("/posts", params={"size": 2, "page": 4}).json()
    assert [post["slug"] for post in first["items"]] == ["post-4", "post-3"]
    assert [post["slug"] for post in last["items"]] == ["post-0"]
    assert beyond == {"items": [], "page": 4, "size": 2, "total": 5}
    assert first["items"][0]["url"] is None, "FRONTEND_URL is not set"


def test_posts_outlive_the_process(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    """And the second start meets indexes that are there already."""
    first = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", first.healthy)
    post = first.http.post("/posts", json={"title": "Kept", "body": "x"}).json()
    assert first.stop() == 0
    second = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", second.healthy)
    assert second.http.get("/posts/kept").json() == post
    assert second.http.post("/posts", json={"title": "Kept", "body": "y"}).status_code == 409


REFUSED: list[tuple[Any, int]] = [
    ({"title": "", "body": "x"}, 422),
    ({"title": "   ", "body": "x"}, 422),
    ({"title": "x" * 201, "body": "x"}, 422),
    ({"title": "x", "body": ""}, 422),
    ({"title": "x"}, 422),
    ({"title": "x", "body": "x", "role": "admin"}, 422),
    ({"title": "!?", "body": "x"}, 422),
    ({"title": {"$gt": ""}, "body": "x"}, 422),
    (["x"], 422),
    ({"title": "x", "body": "x" * 100_001}, 422),
    ({"title": "x", "body": "x" * 2**20}, 413),
]


@pytest.mark.parametrize(("body", "code"), REFUSED)
def test_bad_input_is_refused_and_nothing_is_stored(shared_api: Api, body: Any, code: int) -> None:
    before = shared_api.http.get("/posts").json()["total"]
    refused = shared_api.http.post("/posts", json=body)
    assert refused.status_code == code
    # The framework answers 413 in plain text.
    assert refused.text == "Content Too Large" if code == 413 else refused.json()["detail"]
    assert shared_api.http.get("/posts").json()["total"] == before


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"title": "\\ud800", "body": "x"}', b"null"])
def test_broken_bodies_are_answered(shared_api: Api, raw: bytes) -> None:
    answer = shared_api.http.post("/posts", content=raw, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["detail"]


def test_an_error_does_not_repeat_the_input(shared_api: Api) -> None:
    answer = shared_api.http.post("/posts", json={"title": "x", "body": "x", "password": "Zx9sentinel"})
    assert answer.status_code == 422
    assert "sentinel" not in answer.text


@pytest.mark.parametrize("slug", ["no-such-post", "%00", "%FF", "..%2f", "$where", "x" * 4000])
def test_a_slug_that_is_not_there(shared_api: Api, slug: str) -> None:
    assert shared_api.http.get(f"/posts/{slug}").status_code == 404


@pytest.mark.parametrize("query", ["page=0", "size=0", "size=101", "page=99999999999999999999", "page=x"])
def test_a_page_out_of_bounds(shared_api: Api, query: str) -> None:
    assert shared_api.http.get(f"/posts?{query}").status_code == 422


@given(st.text(max_size=300))
def test_a_slug_is_one_part_of_an_address(title: str) -> None:
    slug = slug_of(title)
    assert len(slug) <= LONGEST_SLUG
    assert not slug.startswith("-")
    assert not slug.endswith("-")
    assert "--" not in slug
    assert all(char == "-" or unicodedata.category(char)[0] in "LNM" for char in slug)
