"""What a rehearsal writes through the reference backend after its move, and reads again after the next release."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import httpx

from rehost.run.errors import RehostError

SECONDS = 30
# The beginning of a PNG says what it is; the rest is noise that must come back byte by byte.
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 512


class Written(NamedTuple):
    """What there is to be read again. picture: the id of the uploaded file."""

    handle: str
    password: str
    post: dict[str, Any]
    comment: str
    reply: str
    picture: str


def write(base: str) -> Written:
    """A user, a post, a comment with a reply, a reaction and a file. Raises RehostError when one is refused."""
    handle, password = f"r_{secrets.token_hex(8)}", secrets.token_urlsafe(12)
    with httpx.Client(base_url=base, timeout=SECONDS, trust_env=False) as http:
        account = {"handle": handle, "email": f"{handle}@example.com", "password": password}
        _json(http.post("/auth/register", json=account))
        tokens = _json(http.post("/auth/login", json={"handle": handle, "password": password}))
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        slug = _json(http.post("/posts", json={"title": f"Umzug {handle}", "body": "ohne Verlust"}))["slug"]
        comments = f"/posts/{slug}/comments"
        comment = _json(http.post(comments, json={"body": "first"}))["id"]
        reply = _json(http.post(comments, json={"body": "second", "parent_id": comment}))["id"]
        _json(http.post(f"/posts/{slug}/reactions", json={"kind": "like"}))
        picture = _json(http.post("/files", params={"name": "picture.png"}, content=PICTURE))["id"]
        return Written(handle, password, _json(http.get(f"/posts/{slug}")), comment, reply, picture)


def read(base: str, written: Written) -> None:
    """Reads all of it again. Raises RehostError when something is missing or not as it was."""
    with httpx.Client(base_url=base, timeout=SECONDS, trust_env=False) as http:
        _json(http.post("/auth/login", json={"handle": written.handle, "password": written.password}))
        path = f"/posts/{written.post['slug']}"
        _same("the post", _json(http.get(path)), written.post)
        threads = _json(http.get(f"{path}/comments"))["items"]
        found = [(each["id"], [reply["id"] for reply in each["replies"]]) for each in threads]
        _same("the comments", found, [(written.comment, [written.reply])])
        part = http.get(f"/files/{written.picture}", headers={"Range": "bytes=1-7"})
        whole = http.get(f"/files/{written.picture}")
        _same("a part of the uploaded file", (part.status_code, part.content), (206, PICTURE[1:8]))
        _same("the uploaded file", (whole.status_code, whole.content), (200, PICTURE))


def front(base: str) -> str:
    """What the app answers at its root, as a sentence."""
    answer = httpx.get(base, timeout=SECONDS, trust_env=False)
    return f"{base}/ answers {answer.status_code}: {answer.text[:300]}"


def _json(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code not in (200, 201):
        # The request's own words stay out of it: they hold the password.
        raise RehostError(
            f"the app answered {answer.status_code} to {answer.request.method} {answer.request.url.path}: "
            f"{answer.text[:300]}",
            cure="The lab is still up: `rehost logs` in the app's directory shows what the app says.",
        )
    found: dict[str, Any] = answer.json()
    return found


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise RehostError(
            f"{what} is not what was written before the release.",
            cure="The lab is still up: look at `rehost history` and `rehost logs` in the app's directory.",
        )
