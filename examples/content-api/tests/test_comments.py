"""Comments: threads, depth, deletion (nx-27017, which is not MongoDB)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from processes import Api, Mongo, StartApi, User, eventually


@pytest.fixture
def user(shared_api: Api) -> User:
    return shared_api.user


@pytest.fixture
def path(user: User) -> str:
    return f"/posts/{user.write_post()['slug']}"


def say(user: User, path: str, body: str, parent: str | None = None) -> httpx.Response:
    fields = {"body": body} if parent is None else {"body": body, "parent_id": parent}
    return user.http.post(f"{path}/comments", json=fields)


def said(user: User, path: str, body: str, parent: str | None = None) -> str:
    answer = say(user, path, body, parent)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def shape(comments: list[dict[str, Any]]) -> list[Any]:
    return [(each["body"], each["depth"], shape(each["replies"])) for each in comments]


def count(user: User, path: str) -> int:
    number: int = user.http.get(path).json()["counts"]["comments"]
    return number


def test_threads_in_the_order_in_which_they_were_said(user: User, path: str) -> None:
    first, second = said(user, path, "1"), said(user, path, "2")
    said(user, path, "2.1", second)
    reply = said(user, path, "1.1", first)
    said(user, path, "1.1.1", reply)
    said(user, path, "1.2", first)
    page = user.http.get(f"{path}/comments").json()
    assert shape(page["items"]) == [
        ("1", 1, [("1.1", 2, [("1.1.1", 3, [])]), ("1.2", 2, [])]),
        ("2", 1, [("2.1", 2, [])]),
    ]
    assert (page["total"], page["complete"], count(user, path)) == (2, True, 6)
    second_page = user.http.get(f"{path}/comments", params={"page": 2, "size": 1}).json()
    assert shape(second_page["items"]) == [("2", 1, [("2.1", 2, [])])]


def test_no_deeper_than_allowed(user: User, path: str) -> None:
    parent = said(user, path, "1")
    for depth in ("2", "3"):
        parent = said(user, path, depth, parent)
    refused = say(user, path, "4", parent)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "parent_id"]
    assert "3 deep" in refused.json()["detail"][0]["msg"]
    assert count(user, path) == 3


def test_the_depth_is_a_variable(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, MAX_COMMENT_DEPTH="1")
    eventually("healthy", api.healthy)
    path = f"/posts/{api.user.write_post()['slug']}"
    assert say(api.user, path, "2", said(api.user, path, "1")).status_code == 422


def test_a_deleted_comment_keeps_its_place_and_its_replies(user: User, path: str) -> None:
    first = said(user, path, "secret")
    said(user, path, "a reply", first)
    assert user.http.delete(f"/comments/{first}").status_code == 204
    [shown] = user.http.get(f"{path}/comments").json()["items"]
    assert (shown["author"], shown["body"], shown["deleted"]) == (None, None, True)
    assert shape(shown["replies"]) == [("a reply", 2, [])]
    assert count(user, path) == 1
    assert user.http.delete(f"/comments/{first}").status_code == 404, "once"
    assert user.http.patch(f"/comments/{first}", json={"body": "back"}).status_code == 404
    assert say(user, path, "too late", first).status_code == 409
    assert count(user, path) == 1


def test_an_edit_is_told(user: User, path: str) -> None:
    comment = said(user, path, "befor")
    edited = user.http.patch(f"/comments/{comment}", json={"body": "before"}).json()
    assert edited["body"] == "before"
    assert edited["edited_at"] >= edited["created_at"]
    assert user.http.get(f"{path}/comments").json()["items"] == [edited]


def test_only_the_author_edits_and_deletes(shared_api: Api, user: User, path: str) -> None:
    comment, other = said(user, path, "mine"), shared_api.sign_up()
    assert other.http.patch(f"/comments/{comment}", json={"body": "x"}).status_code == 403
    assert other.http.delete(f"/comments/{comment}").status_code == 403
    assert shared_api.http.delete(f"/comments/{comment}").status_code == 401
    assert user.http.get(f"{path}/comments").json()["items"][0]["body"] == "mine"


def test_a_reply_belongs_to_the_same_post(user: User, path: str) -> None:
    elsewhere = said(user, f"/posts/{user.write_post()['slug']}", "elsewhere")
    assert say(user, path, "x", elsewhere).status_code == 404
    assert say(user, path, "x", "0" * 24).status_code == 404
    assert say(user, "/posts/no-such-post", "x").status_code == 404
    assert user.http.get("/posts/no-such-post/comments").status_code == 404
    assert user.http.get(f"{path}/comments").json()["total"] == 0


def test_a_deleted_post_takes_its_comments_along(user: User) -> None:
    post = user.write_post()
    path = f"/posts/{post['slug']}"
    comment = said(user, path, "x")
    assert user.http.delete(path).status_code == 204
    assert user.http.patch(f"/comments/{comment}", json={"body": "y"}).status_code == 404
    again = user.write_post(post["title"])
    assert again["counts"] == {"likes": 0, "dislikes": 0, "bookmarks": 0, "comments": 0}


def test_many_comments_at_once_are_all_counted(user: User, path: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: said(user, path, str(number)), range(40)))
    assert count(user, path) == 40
    assert user.http.get(f"{path}/comments").json()["total"] == 40


@pytest.mark.parametrize("body", ["", "   ", "x" * 5001, None, 5])
def test_a_text_that_is_refused(user: User, path: str, body: object) -> None:
    assert user.http.post(f"{path}/comments", json={"body": body}).status_code == 422
    assert user.http.get(f"{path}/comments").json()["total"] == 0
