"""What every request gets around it: id, headers, log line, count, and a body for every error."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from app.envelope import Envelope
from app.logs import JsonLines
from app.metrics import Metrics
from processes import Api, eventually


def test_an_id_of_the_proxy_is_kept_and_others_are_made(shared_api: Api) -> None:
    given = shared_api.http.get("/", headers={"X-Request-ID": "abc-1.2_3"})
    assert given.headers["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "x" * 65, "é", "a;b"):
        made = shared_api.http.get("/", headers=[(b"X-Request-ID", odd.encode("latin-1"))])
        assert len(made.headers["x-request-id"]) == 32


def test_each_request_has_a_line_with_its_id(shared_api: Api) -> None:
    shared_api.http.get("/posts/none", params={"token": "Zx9sentinel"}, headers={"X-Request-ID": "line-1"})

    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in shared_api.output().splitlines()]
        return [line for line in found if line.get("request_id") == "line-1"]

    eventually("the request is logged", lambda: bool(lines()))
    [line] = lines()
    assert line["message"] == "GET /posts/none 404"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/posts/{slug}", 404)
    assert isinstance(line["ms"], float)
    assert line["client"] == "127.0.0.1"
    assert "sentinel" not in shared_api.output()


@pytest.mark.parametrize("path", ["/", "/health", "/posts/none", "/none", "/users/me"])
def test_security_headers(shared_api: Api, path: str) -> None:
    headers = shared_api.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "strict-transport-security" not in headers, "not over plain http"
    assert "server" not in headers


def test_https_is_told_to_stay(shared_api: Api) -> None:
    answer = shared_api.http.get("/", headers={"X-Forwarded-Proto": "https"})
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_the_documentation_may_load_its_page(shared_api: Api) -> None:
    assert "content-security-policy" not in shared_api.http.get("/docs").headers


def test_every_error_is_json(shared_api: Api) -> None:
    http = shared_api.http
    large = http.post("/auth/login", content=b"x" * (2**20 + 1), headers={"Content-Type": "application/json"})
    assert (large.status_code, large.json()) == (413, {"detail": "Content Too Large"})
    assert http.get("/none").json() == {"detail": "Not Found"}
    assert http.put("/posts").json() == {"detail": "Method Not Allowed"}
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    refused = http.options("/posts", headers=origin)
    assert (refused.status_code, refused.json()) == (400, {"detail": "Disallowed CORS origin"})
    for answer in (large, refused):
        assert answer.headers["x-request-id"]
        assert int(answer.headers["content-length"]) == len(answer.content)


def test_metrics_count_by_route(shared_api: Api) -> None:
    for path in ("/posts/a-metric", "/posts/another-metric", "/made-up-1", "/made-up-2"):
        shared_api.http.get(path)
    shared_api.http.request("BREW", "/")
    answer = shared_api.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.text
    assert 'content_api_requests_total{method="GET",route="/posts/{slug}",status="404"}' in text
    assert 'content_api_requests_total{method="GET",route="none",status="404"}' in text
    assert 'content_api_requests_total{method="other",' in text
    assert 'content_api_request_seconds_bucket{le="0.1",route="/health"}' in text
    assert "content_api_requests_in_flight 1.0" in text
    assert "process_resident_memory_bytes" in text
    assert 'metric"' not in text
    assert "made-up" not in text


def broken() -> tuple[FastAPI, Metrics]:
    """An application whose routes fail in ways that the API's own never should."""
    app, metrics = FastAPI(), Metrics()

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("Zx9 internal")

    @app.get("/breaks-off")
    async def breaks_off() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"some"
            raise RuntimeError("Zx9 internal")

        return StreamingResponse(pieces())

    @app.get("/plain")
    async def plain() -> PlainTextResponse:
        return PlainTextResponse("No.", status_code=418)

    @app.api_route("/bare", methods=["GET", "HEAD"])
    async def bare() -> Response:
        return Response(status_code=404)

    app.add_middleware(Envelope, metrics=metrics)
    return app, metrics


async def ask(app: FastAPI, method: str, path: str) -> httpx.Response:
    # Starlette answers first and then raises the error again, for the server's log.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://test") as http:
        return await http.request(method, path)


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    app, metrics = broken()
    with caplog.at_level(logging.INFO):
        answer = asyncio.run(ask(app, "GET", "/fails"))
    assert answer.status_code == 500
    assert "Zx9" not in answer.text
    assert answer.json()["detail"].startswith("Something went wrong here")
    assert answer.headers["x-content-type-options"] == "nosniff"
    [error] = [record for record in caplog.records if record.exc_info]
    assert "Zx9 internal" in json.loads(JsonLines([]).format(error))["error"]
    assert 'route="/fails",status="500"} 1.0' in metrics.text().decode()


def test_an_answer_that_breaks_off_is_not_answered_twice(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = broken()
    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="Zx9 internal"):
        transport = httpx.ASGITransport(app)

        async def get() -> None:
            async with httpx.AsyncClient(transport=transport, base_url="https://test") as http:
                await http.get("/breaks-off")

        asyncio.run(get())
    assert "GET /breaks-off failed" in caplog.text


def test_plain_errors_become_json_and_a_head_has_no_body() -> None:
    app, _ = broken()
    assert asyncio.run(ask(app, "GET", "/plain")).json() == {"detail": "No."}
    assert asyncio.run(ask(app, "GET", "/bare")).json() == {"detail": "Not Found"}
    head = asyncio.run(ask(app, "HEAD", "/bare"))
    assert (head.status_code, head.content) == (404, b"")
