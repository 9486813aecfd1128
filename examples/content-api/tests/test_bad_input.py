"""Bad input: 4xx with a clear body, and nothing stored, in the database or on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from processes import PASSWORD, Api, Mongo, StartApi, User, eventually
from test_sniff import PNG

MB = 1024 * 1024


def _posts(user: User) -> dict[str, object]:
    post = user.write_post("Taken title")
    path = f"/posts/{post['slug']}/comments"
    parent = None
    for _ in range(3):
        parent = user.http.post(path, json={"body": "x", "parent_id": parent}).json()["id"]
    return {**post, "deepest": parent}


@pytest.fixture
def api(start_api: StartApi, mongo: Mongo, database_name: str) -> Iterator[Api]:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    yield api


def stored(api: Api) -> object:
    """All that counts what there is."""
    files = sorted(path.name for path in api.data.rglob("*") if path.is_file())
    lists = [api.http.get(path).json() for path in ("/posts", "/posts/taken-title/comments", "/stats")]
    return lists, api.user.http.get("/files").json(), files


def test_bad_input(api: Api) -> None:
    user = api.user
    deepest = _posts(user)["deepest"]
    account = {"handle": "somebody", "email": "somebody@example.com", "password": PASSWORD}
    title, comments = {"title": "New title", "body": "x"}, "/posts/taken-title/comments"
    bad = {"Authorization": "Bearer abc.def.ghi"}
    cases: dict[str, tuple[int, Callable[[], httpx.Response]]] = {
        "a body over the limit": (413, lambda: user.http.post("/posts", json={**title, "body": "x" * MB})),
        "a file over the limit": (
            413,
            lambda: user.http.post("/files", params={"name": "x"}, content=PNG + b"x" * 10 * MB),
        ),
        "a bad token": (401, lambda: api.http.post("/posts", json=title, headers=bad)),
        "a bad token with a file": (
            401,
            lambda: api.http.post("/files", params={"name": "x"}, content=PNG, headers=bad),
        ),
        "no token": (401, lambda: api.http.post(comments, json={"body": "x"})),
        "a forged upload type": (
            415,
            lambda: user.http.post(
                "/files", params={"name": "x"}, content=b"<html>", headers={"Content-Type": "image/png"}
            ),
        ),
        "a comment below the depth": (
            422,
            lambda: user.http.post(comments, json={"body": "x", "parent_id": deepest}),
        ),
        "a duplicate slug": (409, lambda: user.http.post("/posts", json={**title, "title": "TAKEN  title"})),
        "a duplicate handle": (
            409,
            lambda: api.http.post("/auth/register", json={**account, "handle": user.handle}),
        ),
        "no JSON": (422, lambda: user.http.post("/posts", content=b"{")),
        "a key too many": (422, lambda: user.http.post("/posts", json={**title, "author": "ada"})),
        "an operator for a word": (
            422,
            lambda: user.http.post("/posts", json={**title, "body": {"$gt": ""}}),
        ),
    }
    before = stored(api)
    for name, (code, send) in cases.items():
        answer = send()
        assert answer.status_code == code, f"{name}: {answer.text}"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["detail"], name
    assert stored(api) == before
