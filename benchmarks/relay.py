"""A slower line: what this computer sends to one machine goes through a relay that delays and counts it.

The kernel's network emulator is not everywhere, so the packets to the machine's ports are redirected to this process,
which holds each byte back for half a round trip, each way. Throughput is not limited. Whoever talks to the machine
talks to its own address as ever: all contestants are delayed in the same way, with no option of their own. The
handshake of TCP is answered here, so the relay waits for the round trip and a half that it would have taken until the
server sees the connection. Needs root and nft.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Final

MARK: Final = 0x7265  # of the relay's own connections, which are not redirected
SO_MARK: Final = 36
TABLE: Final = "rehost-bench-relay"
CHUNK: Final = 1 << 16
_GONE: Final = f"add table ip {TABLE}\ndelete table ip {TABLE}"  # also where there is none


class Relay:
    """round_trip: seconds; may be changed between connections. sent, received: bytes of all connections, as seen from
    this computer, without the headers of TCP and IP."""

    def __init__(self, machine: str, gateway: str, ports: Sequence[int]) -> None:
        self.round_trip = 0.0
        self.sent = self.received = self.connections = 0
        self._machine, self._gateway, self._ports = machine, gateway, ports
        self._open: set[object] = set()  # asyncio itself holds its tasks weakly
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def count(self) -> tuple[int, int, int]:
        """Bytes sent, bytes received, connections since the count before."""
        found = (self.sent, self.received, self.connections)
        self.sent = self.received = self.connections = 0
        return found

    def start(self) -> None:
        self._thread.start()
        rules = []
        for port in self._ports:
            begun = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop)
            to = f"{self._gateway}:{begun.result()}"
            rules.append(f"ip daddr {self._machine} tcp dport {port} meta mark != {MARK} dnat to {to}")
        chain = "\n".join(["type nat hook output priority -100;", *rules])
        _nft(f"{_GONE}\ntable ip {TABLE} {{\nchain output {{\n{chain}\n}}\n}}")

    def stop(self) -> None:
        _nft(_GONE)
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hang_up(self) -> None:
        open_ones = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    async def _listen(self, port: int) -> int:
        async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            self._open.add(task)
            # What breaks one end ends the other; so does the end of the relay.
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    await self._relayed(port, reader, writer)
                except* OSError:
                    pass
            writer.close()
            self._open.discard(task)

        server = await asyncio.start_server(relayed, self._gateway, 0)
        return int(server.sockets[0].getsockname()[1])

    async def _relayed(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        delay = self.round_trip / 2
        await asyncio.sleep(3 * delay)
        onward = socket.socket()
        onward.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
        onward.setblocking(False)
        await self._loop.sock_connect(onward, (self._machine, port))
        there, here = await asyncio.open_connection(sock=onward)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, here, delay, out=True))
                both.create_task(self._pump(there, writer, delay, out=False))
        finally:
            here.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float, *, out: bool
    ) -> None:
        """Passes everything on, each piece `delay` seconds after it came; then the end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await source.read(CHUNK)
                except OSError:
                    data = b""
                waiting.put_nowait((self._loop.time() + delay, data))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, data = await waiting.get()
                if due > (now := self._loop.time()):
                    await asyncio.sleep(due - now)
                if not data:
                    break
                if out:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
        finally:
            reading.cancel()


@contextlib.contextmanager
def relay(machine: str, gateway: str, ports: Sequence[int]) -> Iterator[Relay]:
    """For as long as the block lasts, connections from this computer to these ports of the machine go through it."""
    one = Relay(machine, gateway, ports)
    one.start()
    try:
        yield one
    finally:
        one.stop()


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
