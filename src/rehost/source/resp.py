"""RESP, what Redis and Valkey speak (the "Redis serialization protocol", version 2), many commands in a round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from rehost.source.reach_pipe import Fault, Pipe

Word: TypeAlias = bytes | str | int
Command: TypeAlias = tuple[Word, ...]
Reply: TypeAlias = "bytes | int | Wrong | list[Reply] | None"
SILENCE: Final = 60.0  # seconds without a byte after which an answer is no longer awaited
_PIECE: Final = 1 << 20
_LONGEST_LINE: Final = 1 << 16
_BULK, _ARRAY, _INTEGER, _SIMPLE, _ERROR = b"$*:+-"


class Wrong(NamedTuple):
    """An error that the server answers, "NOPERM this user has no permissions"."""

    words: str

    @property
    def code(self) -> str:
        return self.words.partition(" ")[0]


def encode(command: Command) -> bytes:
    """A command as an array of bulk strings."""
    return b"".join(pieces([command]))


def pieces(commands: Iterable[Command]) -> Iterator[bytes]:
    """Commands in pieces of about _PIECE bytes, so that a large value is not held once more as a whole."""
    held = bytearray()
    for command in commands:
        held += b"*%d\r\n" % len(command)
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            held += b"$%d\r\n" % len(data)
            if len(data) > _PIECE:
                yield bytes(held)
                held.clear()
                for at in range(0, len(data), _PIECE):
                    yield data[at : at + _PIECE]
                held += b"\r\n"
            else:
                held += data + b"\r\n"
        if len(held) > _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


class Answers:
    """Takes answers out of bytes, in whichever pieces they come."""

    def __init__(self) -> None:
        self._kept = bytearray()
        # Arrays that are begun, the innermost last: what they hold so far, and how much they will.
        self._begun: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes) -> list[Reply]:
        """The answers that are whole now. Raises ValueError for what is no RESP."""
        kept = self._kept
        kept += data
        whole: list[Reply] = []
        at = 0
        while (end := kept.find(b"\r\n", at)) >= 0:
            kind, value = kept[at], None  # type: int, Reply
            if kind == _BULK:
                length = int(kept[at + 1 : end])
                if length >= 0:
                    stop = end + 2 + length
                    if len(kept) < stop + 2:
                        break
                    if not kept.startswith(b"\r\n", stop):
                        raise ValueError("a string that does not end where it should")
                    value, end = self._cut(end + 2, stop), stop
            elif kind == _ARRAY:
                length = int(kept[at + 1 : end])
                if length > 0:
                    self._begun.append(([], length))
                    at = end + 2
                    continue
                value = [] if length == 0 else None
            else:
                value = _line(kind, bytes(kept[at + 1 : end]))
            at = end + 2
            if self._begun:
                self._put(value, whole)
            else:
                whole.append(value)
        else:
            if len(kept) - at > _LONGEST_LINE:
                raise ValueError("a line without an end")
        del kept[:at]
        return whole

    def _cut(self, begin: int, end: int) -> bytes:
        if end - begin < _PIECE:
            return bytes(self._kept[begin:end])
        with memoryview(self._kept) as seen, seen[begin:end] as found:  # without one more copy
            return bytes(found)

    def _put(self, value: Reply, whole: list[Reply]) -> None:
        """Where it belongs: into the array that is begun, which may be whole by that, or to the whole ones."""
        while self._begun:
            items, wanted = self._begun[-1]
            items.append(value)
            if len(items) < wanted:
                return
            value = items
            self._begun.pop()
        whole.append(value)


def _line(kind: int, text: bytes) -> Reply:
    """An answer of one line."""
    if kind == _INTEGER:
        return int(text)
    if kind == _SIMPLE:
        return text
    if kind == _ERROR:
        return Wrong(text.decode(errors="replace"))
    raise ValueError("no answer begins so")


class _Asked:
    """A pipeline that was sent: how many answers it gets, those that came, and who waits for all of them."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.replies: list[Reply] = []
        self.answered: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()


class Client:
    """A connection that is logged in. Several tasks may ask at once; answers come in the order of the questions."""

    def __init__(self, pipe: Pipe, silence: float = SILENCE) -> None:
        self._pipe = pipe
        self._silence = silence
        self._asked: deque[_Asked] = deque()
        self._sending = asyncio.Lock()
        self._broken: Fault | None = None
        self._pieces = 0
        self._reading = asyncio.create_task(self._read())

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The answer to each, errors of the server among them. Raises Fault when the connection does not last."""
        if not commands:
            return []
        async with self._sending:
            if self._broken is not None:
                raise self._broken
            asked = _Asked(len(commands))
            self._asked.append(asked)
            for piece in pieces(commands):
                try:
                    async with asyncio.timeout(self._silence):
                        await self._pipe.send(piece)
                except TimeoutError:
                    raise self._break(Fault("silent", f"it took nothing for {self._silence:g} s")) from None
                except Fault as fault:
                    raise self._break(fault) from None
        while not asked.answered.done():
            seen = self._pieces
            await asyncio.wait({asked.answered}, timeout=self._silence)
            if not asked.answered.done() and self._pieces == seen:
                raise self._break(Fault("silent", f"it said nothing for {self._silence:g} s"))
        return asked.answered.result()

    async def one(self, *command: Word) -> Reply:
        """The answer to one command."""
        (reply,) = await self.ask([command])
        return reply

    async def _read(self) -> None:
        answers = Answers()
        try:
            while True:
                data = await self._pipe.some()
                self._pieces += 1
                for reply in answers.feed(data):
                    if not self._asked:
                        raise ValueError("an answer to no question")
                    asked = self._asked[0]
                    asked.replies.append(reply)
                    if len(asked.replies) == asked.wanted:
                        self._asked.popleft()
                        if not asked.answered.done():  # who asked may have been cancelled
                            asked.answered.set_result(asked.replies)
        except Fault as fault:
            self._break(fault)
        except ValueError:
            self._break(Fault("protocol", "its answer is not understood"))

    def _break(self, fault: Fault) -> Fault:
        """Nothing more comes: all who wait are told."""
        self._broken = self._broken or fault
        self._pipe.close()
        while self._asked:
            waiting = self._asked.popleft().answered
            if not waiting.done():
                waiting.set_exception(fault)
                waiting.exception()  # who asked may be gone, or be told by another way
        return fault

    async def close(self) -> None:
        self._break(Fault("closed", "it was closed here"))
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
