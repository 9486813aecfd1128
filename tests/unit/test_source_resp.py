"""RESP: what servers answer is taken out of whatever pieces it comes in, and what is no RESP is told as that."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.source.reach_pipe import Fault, Pipe
from rehost.source.resp import Answers, Client, Reply, Wrong, encode, pieces
from ssh_here import asynced

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
REPLIES: st.SearchStrategy[Reply] = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20) | LINES.map(Wrong),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def written(reply: Reply) -> bytes:
    """As the protocol's specification has it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case Wrong():
            return f"-{reply.words}\r\n".encode()
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
    return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


@given(st.lists(REPLIES, max_size=5), st.lists(st.integers(1, 7), min_size=1))
def test_answers_come_in_any_pieces(replies: list[Reply], sizes: Sequence[int]) -> None:
    data = b"".join(map(written, replies))
    answers, found, at, turn = Answers(), [], 0, 0
    while at < len(data):
        piece = data[at : at + sizes[turn % len(sizes)]]
        at, turn = at + len(piece), turn + 1
        found += answers.feed(piece)
    assert found == replies
    assert Answers().feed(data) == replies


@given(
    st.lists(
        st.sampled_from([b"*2\r\n", b"$1\r\n", b"$-5\r\n", b":x", b"+", b"\r\n", b"a"])
        | st.binary(max_size=5)
    )
)
def test_no_bytes_break_the_reading(pieces: list[bytes]) -> None:
    answers = Answers()
    with contextlib.suppress(ValueError):
        for piece in pieces:
            answers.feed(piece)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400\r\n", b"$1\r\nabc", b"$x\r\n", b"\r\n", b"+" + bytes(1 << 17)]
)
def test_what_is_no_resp_is_told(data: bytes) -> None:
    with pytest.raises(ValueError):
        Answers().feed(data)


@given(st.lists(st.binary(max_size=20) | st.text(max_size=9) | st.integers(), min_size=1, max_size=5))
def test_a_command_is_an_array_of_strings(words: list[bytes | str | int]) -> None:
    (found,) = Answers().feed(encode(tuple(words)))
    assert found == [word if isinstance(word, bytes) else str(word).encode() for word in words]


def test_a_large_value_goes_in_pieces() -> None:
    value = bytes(range(256)) * 10_000
    sent = list(pieces([("SET", "a", 1), ("SET", "large", value), ("GET", "a")]))
    assert max(map(len, sent)) <= 1 << 20
    assert Answers().feed(b"".join(sent)) == [[b"SET", b"a", b"1"], [b"SET", b"large", value], [b"GET", b"a"]]


class Mute:
    """Takes all and answers once."""

    def __init__(self, answer: bytes) -> None:
        self._answer = [answer]
        self.closed = False

    async def read(self, most: int) -> bytes:
        if self._answer:
            return self._answer.pop()[:most]
        import asyncio

        await asyncio.Event().wait()
        return b""

    async def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@asynced
async def test_a_server_that_falls_silent_is_not_awaited_for_ever() -> None:
    line = Mute(b"+OK\r\n")
    client = Client(Pipe(line), silence=0.02)
    with pytest.raises(Fault, match="said nothing"):
        await client.ask([("PING",), ("PING",)])
    with pytest.raises(Fault, match="said nothing"):
        await client.one("PING")
    await client.close()
    assert line.closed


@asynced
async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    client = Client(Pipe(Mute(b"+OK\r\n+OK\r\n")))
    assert await client.one("PING") == b"OK"
    with pytest.raises(Fault, match="not understood"):
        await client.one("PING")
    await client.close()
