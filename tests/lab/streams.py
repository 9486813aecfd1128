"""An app whose answers go on: a WebSocket that echoes, and server-sent events. And clients that see how they end."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

# The WebSocket protocol: RFC 6455. 1012: "service restart", as uvicorn says it at SIGTERM.
APP = """import asyncio, base64, hashlib, os, signal, struct, sys

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
sockets, more, ended = set(), asyncio.Event(), asyncio.Event()


async def serve(reader, writer):
    head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
    path = head.split()[1]
    if path == "/socket":
        key = head[head.lower().index("sec-websocket-key:") + 18:].split()[0]
        accept = base64.b64encode(hashlib.sha1(key.encode() + MAGIC).digest()).decode()
        writer.write(("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                      f"Sec-WebSocket-Accept: {accept}\\r\\n\\r\\n").encode())
        sockets.add(writer)
        while True:
            first, second = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(second & 127)))
            if first & 15 == 8:
                break
            text = os.environ["VALUE"].encode() + b": " + text
            writer.write(struct.pack("!BB", 0x81, len(text)) + text)
        sockets.discard(writer)
    elif path == "/events":
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nConnection: close\\r\\n\\r\\n")
        writer.write(b"data: first\\n\\n")
        await writer.drain()
        await more.wait()  # until somebody who has the first event asks for the second
        writer.write(b"data: second\\n\\n")
    else:
        if path == "/more":
            more.set()
        body = os.environ["VALUE"].encode()
        length = b"Content-Length: %d\\r\\n\\r\\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n" + length + body)
    await writer.drain()
    writer.close()
    if ended.is_set() and not sockets:
        os._exit(0)


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8080)

    def end():
        server.close()
        ended.set()
        for writer in sockets:
            writer.write(struct.pack("!BBH", 0x88, 2, 1012))
        if not sockets:
            os._exit(0)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await asyncio.Event().wait()


asyncio.run(main())
"""


class Socket:
    """A WebSocket client."""

    def __init__(self, address: str) -> None:
        self.line = socket.create_connection((address, 80), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.line.sendall(
            f"GET /socket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.read = self.line.makefile("rb")
        assert b" 101 " in self.read.readline()
        while self.read.readline().strip():
            pass

    def send(self, opcode: int, data: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.line.sendall(bytes((0x80 | opcode, 0x80 | len(data))) + mask + masked)

    def frame(self) -> tuple[int, bytes]:
        """The opcode and the data of the next frame; (0, b"") when the connection ended without one."""
        head = self.read.read(2)
        if len(head) < 2:
            return 0, b""
        return head[0] & 15, self.read.read(head[1] & 127)

    def said(self, text: str) -> str:
        """What the app answers."""
        self.send(1, text.encode())
        return self.frame()[1].decode()

    def close(self) -> int:
        """Waits for the app to close, agrees, and returns its reason (RFC 6455, 7.4)."""
        opcode, data = self.frame()
        assert opcode == 8, (opcode, data)
        self.send(8, data)
        self.read.close()
        self.line.close()
        return int.from_bytes(data[:2], "big")


@contextmanager
def events(address: str) -> Iterator[Iterator[str]]:
    """Server-sent events as they come."""
    with socket.create_connection((address, 80), timeout=60) as line:
        line.sendall(f"GET /events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        read = line.makefile("rb")
        yield (text.decode().strip() for text in read if text.startswith(b"data:"))
