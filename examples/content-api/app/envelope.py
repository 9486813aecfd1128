"""What every request gets around it: an id, a log line, a count, security headers, and a body for every error."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import request_id
from app.metrics import Metrics

log = logging.getLogger(__name__)

_KNOWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
_ONE_YEAR = "max-age=31536000"
_UNEXPECTED = "Something went wrong here; the request's id helps to find out what."


class Envelope:
    """The outermost middleware. An unexpected error is logged with its traceback and answered with 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        current = _id_of(scope)
        token = request_id.set(current)
        answer = _Answer(scope, send, current)
        began = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.status:  # too late for another answer: the server breaks the connection
                raise
            await answer.fail()
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, answer.status, time.perf_counter() - began)
            request_id.reset(token)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # Addresses that no route has are counted as one: anybody can make up any number of them.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        client = scope.get("client")
        log.info(
            # Without the query: people put tokens there.
            "%s %s %s",
            scope["method"],
            scope["path"],
            status or "broken off",
            extra={
                "fields": {
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "client": client[0] if client else None,
                }
            },
        )


class _Answer:
    """Sends an answer on with our headers; an error in plain text becomes {"detail": ...}."""

    def __init__(self, scope: Scope, send: Send, current: str) -> None:
        self.status = 0  # 0: no answer has begun
        self._scope = scope
        self._send = send
        self._id = current
        self._held: Message | None = None  # the beginning of an error in plain text
        self._text = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self._add_headers(headers)
            plain = headers.get("content-type", "").startswith("text/plain")
            if self.status >= 400 and (plain or "content-type" not in headers):
                self._held = message
                return
        elif self._held is not None:
            self._text += message.get("body", b"")
            if message.get("more_body"):
                return
            held, self._held = self._held, None
            detail = self._text.decode("utf-8", "replace") or HTTPStatus(self.status).phrase
            await self._send_json(held, detail)
            return
        await self._send(message)

    async def fail(self) -> None:
        """Answer with 500, when nothing was sent yet."""
        self.status = 500
        start: Message = {"type": "http.response.start", "status": 500, "headers": []}
        self._add_headers(MutableHeaders(scope=start))
        await self._send_json(start, _UNEXPECTED)

    async def _send_json(self, start: Message, detail: str) -> None:
        body = json.dumps({"detail": detail}).encode()
        headers = MutableHeaders(scope=start)
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": b"" if self._is_head else body})

    @property
    def _is_head(self) -> bool:
        return bool(self._scope["method"] == "HEAD")

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["x-request-id"] = self._id
        for name, value in _SECURITY.items():
            # The page of the documentation loads scripts and styles of its own.
            if name != "content-security-policy" or self._scope["path"] != "/docs":
                headers.setdefault(name, value)
        if self._scope["scheme"] == "https":
            headers.setdefault("strict-transport-security", _ONE_YEAR)


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def _id_of(scope: Scope) -> str:
    """The id that the proxy gave, when it looks like one; otherwise a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _KNOWN_ID.fullmatch(given) else uuid.uuid4().hex
