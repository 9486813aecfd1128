"""What the world gets: one request to the machine's public address.

By hand over asyncio, with the standard library reading the answer: each release waits for it, and the HTTP library that
the cloud's API needs takes 0.1 s to load here.
"""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from socket import socket
from typing import Final, cast
from urllib.parse import quote, urlsplit

_MOST: Final = 64 * 1024  # bytes of an answer; what is shown of it is less


@dataclass(frozen=True, slots=True)
class Answer:
    """status 0: no answer; text is then the reason. Otherwise the first 300 characters of the body."""

    status: int
    text: str
    url: str


async def ask(address: str, path: str, host: str = "", *, seconds: float = 10.0) -> Answer:
    """GETs http://ADDRESS/PATH under the Host header `host`, from this computer, past any proxy setting of its.

    An answer that has begun and does not end in time counts as far as it came.
    """
    shown = f"[{address}]" if address.count(":") > 1 else address  # version 6; with one, a port follows
    url = f"http://{shown}{path}"
    came = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await _get(shown, path, host or shown, came)
    except TimeoutError:
        if not came:
            return Answer(0, f"no answer within {seconds:g} s", url)
    except OSError as fault:
        # What the resolver says has a negative number of its own.
        return Answer(0, os.strerror(fault.errno) if fault.errno and fault.errno > 0 else str(fault), url)
    try:
        response = HTTPResponse(cast(socket, _Arrived(bytes(came))))
        response.begin()
        return Answer(response.status, _body(response).decode(errors="replace")[:300], url)
    except (HTTPException, ValueError):
        return Answer(0, "what it answers is not HTTP" if came else "it hung up without an answer", url)


async def _get(netloc: str, path: str, host: str, came: bytearray) -> None:
    where = urlsplit(f"//{netloc}")
    reader, writer = await asyncio.open_connection(where.hostname, where.port or 80)
    try:
        target = quote(path, safe="/?&=%:@!$'()*+,;~[]")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rehost\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        while len(came) < _MOST and (part := await reader.read(_MOST)):
            came += part
    finally:
        writer.close()


def _body(response: HTTPResponse) -> bytes:
    try:
        return response.read(_MOST)
    except HTTPException as cut:  # more was announced than came
        return bytes(getattr(cut, "partial", b""))


class _Arrived:
    """What arrived, as HTTPResponse wants to read it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
