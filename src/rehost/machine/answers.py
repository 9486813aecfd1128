"""What a script on the machine says while it runs: up to a mark, or so many bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

CHUNK: Final = 256 * 1024  # bytes asked for at once


class Answers:
    """read: up to so many bytes as soon as there are any, empty at the end. ended: why they ended too early."""

    def __init__(
        self, read: Callable[[int], Awaitable[bytes]], ended: Callable[[], Awaitable[Exception]]
    ) -> None:
        self._read = read
        self._ended = ended
        self._ahead = bytearray()

    async def until(self, mark: bytes) -> bytes:
        """What stands before the next mark, which is taken too. Raises what `ended` makes."""
        start = 0
        while (end := self._ahead.find(mark, start)) < 0:
            start = max(0, len(self._ahead) - len(mark))
            await self._more()
        found = bytes(self._ahead[:end])
        del self._ahead[: end + len(mark)]
        return found

    async def exactly(self, count: int) -> bytes:
        """The next so many bytes. Raises what `ended` makes."""
        while len(self._ahead) < count:
            await self._more()
        found = bytes(self._ahead[:count])
        del self._ahead[:count]
        return found

    async def _more(self) -> None:
        try:
            data = await self._read(CHUNK)
        except ConnectionError as broken:
            raise await self._ended() from broken
        if not data:
            raise await self._ended()
        self._ahead += data
