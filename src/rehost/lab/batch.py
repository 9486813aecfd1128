"""Many calls in one HTTP request: gcloud lists and deletes that way.

As https://cloud.google.com/compute/docs/api/how-tos/batch describes it: a body of multipart/mixed whose parts are
application/http, a whole request each; the answer has a part for each, named by the request's Content-ID.
"""

from __future__ import annotations

import http
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from urllib.parse import parse_qsl, unquote, urlsplit

from rehost.lab.compute_errors import ApiError
from rehost.lab.state import Resource

PATHS = ("/batch", "/batch/compute/v1")
LARGEST = 1000  # calls in one request, as the page above says
_ROOT = "/compute/v1/"


@dataclass(frozen=True)
class Part:
    """One call. path: what comes after /compute/v1/. bearer: of the part itself, or None: the batch's is meant."""

    id: str
    verb: str
    path: str
    query: dict[str, str]
    body: bytes
    bearer: str | None


def parse(content_type: str, body: bytes) -> list[Part]:
    """The calls in a batch. Raises ApiError 400."""
    whole = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parts = whole.get_payload()
    if whole.get_content_type() != "multipart/mixed" or not isinstance(parts, list) or not parts:
        raise _bad("Failed to parse batch request, error: no multipart/mixed body with parts.")
    if len(parts) > LARGEST:
        raise _bad(f"The batch request has {len(parts)} calls; {LARGEST} are allowed.")
    return [_part(part) for part in parts if isinstance(part, Message)]


def answer(parts: Sequence[tuple[str, int, Resource]]) -> tuple[str, bytes]:
    """Content-Type and body for (Content-ID, status, JSON) of each call."""
    boundary = f"batch_{secrets.token_urlsafe(16)}"
    lines = []
    for id_, status, body in parts:
        text = json.dumps(body) if status != 204 else ""
        lines += [
            f"--{boundary}",
            "Content-Type: application/http",
            f"Content-ID: {_answered(id_)}",
            "",
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            "Content-Type: application/json; charset=UTF-8",
            f"Content-Length: {len(text.encode())}",
            "",
            text,
        ]
    lines += [f"--{boundary}--", ""]
    return f"multipart/mixed; boundary={boundary}", "\r\n".join(lines).encode()


def _part(part: Message) -> Part:
    raw = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(raw, bytes):
        raise _bad("Failed to parse batch request, error: a part is not application/http.")
    first, _, rest = raw.lstrip().partition(b"\n")
    words = first.decode("ascii", "replace").split()
    if len(words) < 2 or not urlsplit(words[1]).path.startswith(_ROOT):
        raise _bad(f"Failed to parse batch request, error: no call of this API: {' '.join(words)[:200]!r}")
    target = urlsplit(words[1])
    head, _, body = rest.replace(b"\r\n", b"\n").partition(b"\n\n")
    scheme, _, token = str(BytesParser().parsebytes(head).get("authorization", "")).partition(" ")
    return Part(
        id=str(part.get("content-id", "")),
        verb=words[0],
        path=unquote(target.path[len(_ROOT) :]).rstrip("/"),
        query=dict(parse_qsl(target.query)),
        body=body.strip(),
        bearer=token.strip() if scheme.lower() == "bearer" else None,
    )


def _answered(id_: str) -> str:
    """<1+2> becomes <response-1+2>."""
    return f"<response-{id_[1:]}" if id_.startswith("<") else f"response-{id_}"


def _bad(why: str) -> ApiError:
    return ApiError(400, "badRequest", why)
