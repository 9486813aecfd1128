"""One request from here, against a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rehost.edge.answer import Answer, ask
from ssh_here import asynced


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address that answers each request with these bytes, or with silence, and what was asked."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await reader.read()  # until who asked gives up
        else:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", seen


def http(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@asynced
async def test_status_and_body() -> None:
    async with server(http("503 Service Unavailable", b"x" * 400)) as (address, seen):
        got = await ask(address, "/health?a=1", "api.example.com")
        assert (got.status, got.text, got.url) == (503, "x" * 300, f"http://{address}/health?a=1")
        assert seen[0].startswith(b"GET /health?a=1 HTTP/1.1\r\n")
        assert b"\r\nhost: api.example.com\r\n" in seen[0].lower()
        await ask(address, "/")
        assert f"\r\nhost: {address}\r\n".encode() in seen[1].lower()


@asynced
async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with server(http("308 Permanent Redirect\r\nLocation: https://elsewhere.invalid/")) as (
        address,
        seen,
    ):
        assert (await ask(address, "/")).status == 308
        assert len(seen) == 1


@asynced
async def test_no_proxy_of_this_computer_is_asked() -> None:
    async with server(http("200 OK")) as (address, _):
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv("http_proxy", "http://127.0.0.1:9")
            environ.setenv("ALL_PROXY", "http://127.0.0.1:9")
            assert (await ask(address, "/")).status == 200


@asynced
async def test_no_answer_is_told_in_words() -> None:
    async with server(b"") as (address, _):
        assert await ask(address, "/") == Answer(0, "it hung up without an answer", f"http://{address}/")
    assert await ask(address, "/") == Answer(0, "Connection refused", f"http://{address}/")
    async with server(b"SSH-2.0-OpenSSH_9.2\r\n") as (address, _):
        assert (await ask(address, "/")).text == "what it answers is not HTTP"
    async with server(None) as (address, _):
        late = await ask(address, "/", seconds=0.05)
        assert (late.status, late.text) == (0, "no answer within 0.05 s")
    gone = await ask("no-such-name.invalid", "/")
    assert gone.status == 0
    assert "not known" in gone.text or "resolution" in gone.text


@asynced
async def test_answers_come_in_many_forms() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nd\xff\r\n0\r\n\r\n"
    for raw, status, text in (
        (chunked, 200, "abcd\ufffd"),
        (chunked[:-12], 200, "abc"),  # it broke off
        (b"HTTP/1.0 204 No Content\r\n\r\n", 204, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 200, "abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\n\r\nabc", 500, "abc"),
    ):
        async with server(raw) as (address, _):
            got = await ask(address, "/")
            assert (got.status, got.text) == (status, text)


@asynced
async def test_an_answer_that_does_not_end_counts_as_far_as_it_came() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.read()
        await reader.read()  # until who asked gives up
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        got = await ask(address, "/", seconds=0.2)
        assert (got.status, got.text) == (200, "data: 1\n\n")


@asynced
async def test_what_a_path_may_not_hold_is_encoded() -> None:
    async with server(http("200 OK")) as (address, seen):
        await ask(address, "/ü?q=%20a&b=[1]")
        assert seen[0].startswith(b"GET /%C3%BC?q=%20a&b=[1] HTTP/1.1\r\n")


@asynced
async def test_addresses_of_version_6_stand_in_brackets() -> None:
    got = await ask("::1", "/", seconds=2)
    assert got.url == "http://[::1]/"
