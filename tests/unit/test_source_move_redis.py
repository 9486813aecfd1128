"""Moves of Redis against real servers: what is copied, and what is told. For the swap see test_move_redis_swap.py."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_here import Here, Server, server
from rehost.run.errors import Refused, RehostError
from rehost.source import move_redis, redis_look
from rehost.source.redis_look import Facts, Place
from rehost.source.redis_side import MARKER, shown
from rehost.source.redis_values import canonical
from rehost.source.resp import Command, Reply
from ssh_here import asynced

LATER = 4_000_000_000_000  # ms: in the year 2096
# One of each kind, small and as the server keeps large ones; names and values of any bytes.
KINDS: list[Command] = [
    ("SET", "", "the key without a name"),
    ("SET", b"\xff\x00\r\n", bytes(range(256))),
    ("SET", "empty", ""),
    ("SET", "number", "12345"),
    ("SET", "large", "abc" * 700_000),
    ("SET", "soon", "x", "PXAT", LATER),
    ("RPUSH", "list", *range(300), b"\x00"),
    ("SADD", "numbers", *range(50)),
    ("SADD", "set", *(f"member {n}" for n in range(700))),
    ("ZADD", "sorted", "0.1", "a", "-inf", b"\xfe", "1e300", "c"),
    ("ZADD", "board", *(word for n in range(200) for word in (f"{n / 7}", f"player {n}"))),
    ("HSET", "hash", "a", "1", b"\xfd", ""),
    ("HSET", "big", *(word for n in range(600) for word in (f"field {n}", "v" * (n % 90)))),
    ("PEXPIREAT", "big", LATER),
    *(("XADD", "stream", f"{n}-1", "n", n) for n in range(1, 30)),
    ("XDEL", "stream", "7-1"),
    ("XGROUP", "CREATE", "stream", "workers", "0"),
    ("XREADGROUP", "GROUP", "workers", "one", "COUNT", 9, "STREAMS", "stream", ">"),
    ("XACK", "stream", "workers", "3-1"),
    ("PFADD", "counted", *range(100)),
    ("SETBIT", "bits", 999, 1),
    *(("SET", f"block {n}", random.Random(n).randbytes(40_000)) for n in range(3)),  # noqa: S311
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def servers(directory: Path) -> Iterator[tuple[Server, Server]]:
    debug = ("--enable-debug-command", "yes")
    with server(directory / "origin", *debug) as origin, server(directory / "target", *debug) as target:
        yield origin, target


@pytest.fixture
def pair(servers: tuple[Server, Server]) -> tuple[Server, Server]:
    for one in servers:
        one.fill(("FLUSHALL",))
    return servers


@pytest.fixture
def here(directory: Path) -> Here:
    return Here(directory)


def digests(one: Server, database: int = 0) -> dict[bytes, tuple[Reply, Reply]]:
    """Of every key but the mark: the server's own digest of its value, and when it expires."""
    (keys,) = one.fill(("KEYS", "*"), database=database)
    assert isinstance(keys, list)
    names = [key for key in keys if isinstance(key, bytes) and key != MARKER]
    told = one.fill(
        *(("DEBUG", "DIGEST-VALUE", key) for key in names),
        *(("PEXPIRETIME", key) for key in names),
        database=database,
    )
    return {key: (told[at], told[len(names) + at]) for at, key in enumerate(names)}


said: list[str] = []


@asynced
async def test_all_kinds_arrive_whole_and_a_second_run_sends_nothing(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(*KINDS)
    target.fill(("SET", "of the new app", "stays until the swap"))
    mover = here.mover(origin, target)
    there, ours = await mover.look()
    assert (there.empty, ours.empty) == (False, False)
    assert there.words.startswith("19 keys") and ours.words.startswith("1 keys")
    assert target.say("DBSIZE", database=15) == "0"  # the trial left nothing
    copied = await mover.copy(said.append)
    assert copied.counted == "19 keys" and copied.sent.startswith("19 keys")
    assert digests(target, 15) == digests(origin) and len(digests(origin)) == 19
    assert target.say("XPENDING", "stream", "workers", database=15).split()[:3] == ["8", "1-1", "10-1"]
    assert (await mover.copy(said.append)).sent.startswith("0 keys")
    assert target.say("KEYS", "*") == "of the new app"


@asynced
async def test_only_what_differs_is_sent_again(pair: tuple[Server, Server], here: Here) -> None:
    origin, target = pair
    origin.fill(*KINDS, ("SET", "gone", "x"), ("SET", "later", "x"), ("SET", "kept", "x", "PXAT", LATER))
    mover = here.mover(origin, target)
    await mover.copy(said.append)
    # The same set, kept in another order; that is no difference.
    origin.fill(("SREM", "set", "member 1"), ("SADD", "set", "member 1"))
    origin.fill(("HSET", "big", "field 3", "new"), ("DEL", "gone"), ("SET", "came", ""), ("PERSIST", "kept"))
    origin.fill(("PEXPIREAT", "later", LATER))
    target.fill(("SET", "nobody knows it", "x"), ("XACK", "stream", "workers", "1-1"), database=15)
    assert (await mover.copy(said.append)).sent.startswith("5 keys")
    assert digests(target, 15) == digests(origin)


@asynced
async def test_a_database_of_another_number_goes_to_one_of_another(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(("SET", "a", "1"), database=3)
    origin.fill(("SET", "other", "1"))
    target.fill(("SET", "taken", "1"), database=15)
    mover = here.mover(origin, target, database=3, number=2)
    await mover.look()
    assert any("others hold keys and are not: 0 (1 keys)" in note for note in mover.notes)
    assert (await mover.copy(said.append)).counted == "1 keys"
    assert here.turn(mover.swap())[0] == 0
    assert (target.say("KEYS", "*", database=2), target.say("KEYS", "*", database=15)) == ("a", "taken")


@asynced
async def test_a_store_that_leaves_little_open_is_copied_all_the_same(directory: Path, here: Here) -> None:
    closed = [word for name in ("EVAL", "EVALSHA", "MEMORY", "PEXPIRETIME", "INFO", "CONFIG", "TIME")
              for word in ("--rename-command", name, "")]  # fmt: skip
    with server(directory / "closed", *closed) as origin, server(directory / "open") as target:
        origin.fill(*KINDS)
        mover = here.mover(origin, target)
        await mover.look()
        assert (await mover.copy(said.append)).counted == "19 keys"
        assert (await mover.copy(said.append)).sent.startswith("0 keys")
        expiry = int(target.say("PEXPIRETIME", "soon", database=15))
        assert abs(expiry - LATER) < 1000


@asynced
async def test_what_a_store_forbids_is_named(
    directory: Path, pair: tuple[Server, Server], here: Here
) -> None:
    _, target = pair
    with server(directory / "mute", "--rename-command", "DUMP", "") as origin:
        origin.fill(("SET", "a", "1"))
        with pytest.raises(Refused, match="the store of URL refuses DUMP for the key 'a'") as refused:
            await here.mover(origin, target).look()
        assert "Allow DUMP" in refused.value.cure


@asynced
async def test_payloads_of_a_newer_version_are_refused_before_anything_is_copied(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(("SET", "a", "only one"))
    here.spoil[origin.port] = lambda data: data.replace(b"only one\x0a\0", b"only one\x63\0")
    with pytest.raises(Refused, match=r"payload version.*from Redis 7") as refused:
        await here.mover(origin, target).look()
    assert "Raise the image" in refused.value.cure
    assert target.say("INFO", "keyspace") == "# Keyspace"


@asynced
async def test_connections_that_break_in_the_middle(
    pair: tuple[Server, Server], here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, target = pair
    origin.fill(*KINDS, *(("SET", f"key {n}", "x" * 300) for n in range(800)))
    left = {origin.port: [60_000, 40_000], target.port: [4_000]}

    def breaks(port: int) -> None:
        budget = left[port]

        def spoil(data: bytes) -> bytes:
            if budget:
                budget[0] -= len(data)
                if budget[0] < 0:
                    budget.pop(0)
                    raise ConnectionResetError
            return data

        here.spoil[port] = spoil

    breaks(origin.port)
    breaks(target.port)
    monkeypatch.setattr(move_redis, "PAUSES", (0.0,) * 5)
    told: list[str] = []
    assert (await here.mover(origin, target).copy(told.append)).counted == "819 keys"
    assert left == {origin.port: [], target.port: []}
    assert any("once more, from where it was" in line for line in told)
    assert digests(target, 15) == digests(origin)


@asynced
async def test_a_writer_all_the_while_fails_the_move_and_is_a_note_of_a_rehearsal(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(*(("SET", f"key {n}", "x") for n in range(30)))

    def write(line: str) -> None:
        """Between two rounds."""
        number = int(line.partition(":")[0].split()[1])
        origin.fill(("INCR", "visits:secret"), ("LPUSH", "queue", number), ("DEL", f"key {number}"))

    with pytest.raises(RehostError, match=r"change faster than they are copied.*'(visits:|queue)'") as failed:
        await here.mover(origin, target).copy(write)
    assert "quiet" in failed.value.cure and "secret" not in str(failed.value)
    rehearsal = here.mover(origin, target, rehearse=True)
    assert "still change" in (await rehearsal.copy(write)).counted
    assert "quiet" in rehearsal.notes[0]
    assert target.say("GET", MARKER, database=15) == "copying"
    await here.mover(origin, target).copy(said.append)
    assert target.say("GET", MARKER, database=15) == "copy"
    assert digests(target, 15) == digests(origin)


@asynced
async def test_who_writes_during_a_move_is_noticed_even_where_all_was_the_same_in_the_end(
    pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(("SET", "a", "1"), ("SET", "gone soon", "1", "PX", 1))
    quiet = here.mover(origin, target)
    await quiet.copy(said.append)
    assert not any("wrote" in note for note in quiet.notes)

    def write(line: str) -> None:
        """Between the round that sends and the one that compares."""
        if line.startswith("round 1"):
            origin.fill(("SET", "a", "2"), ("SET", "b", "1"))

    for rehearse in (False, True):
        mover = here.mover(origin, target, rehearse=rehearse)
        target.say("DEL", "a", database=15)
        await mover.copy(write)
        assert any("(2 changes)" in note for note in mover.notes) is not rehearse


@asynced
async def test_who_does_not_let_the_machine_in_is_told(pair: tuple[Server, Server], here: Here) -> None:
    origin, target = pair
    mover = here.mover(origin, target)
    mover._origin = mover._origin._replace(password=type(mover._origin.password)("no"))
    with pytest.raises(Refused, match=r"URL: 203.0.113.5.* refuses the login") as refused:
        await mover.look()
    assert "password in URL" in refused.value.cure
    mover._origin = origin.url("red-abc123")
    with pytest.raises(Refused, match="red-abc123, which only the platform itself finds") as refused:
        await mover.look()
    assert "203.0.113.9" in refused.value.cure
    mover = here.mover(origin, target)
    mover._target = None
    mover._target = target.url("redis")._replace(password=type(mover._origin.password)(""))
    with pytest.raises(RehostError, match=r"lets nobody in.*demands a password"):
        await mover.look()
    here.inspect(running=False)
    with pytest.raises(Refused, match="does not run"):
        await here.mover(origin, target).look()


@asynced
async def test_a_service_that_cannot_take_it_is_refused(
    directory: Path, pair: tuple[Server, Server], here: Here
) -> None:
    origin, target = pair
    origin.fill(*(("SET", f"key {n}", "x" * 100_000) for n in range(60)))
    here.inspect(memory=4_000_000)
    with pytest.raises(Refused, match=r"does not fit.* of its 4\.0 MB") as refused:
        await here.mover(origin, target).look()
    assert "Raise `memory`" in refused.value.cure
    here.inspect()
    with server(directory / "one", "--databases", "1") as single:
        with pytest.raises(Refused, match="one database only") as refused:
            await here.mover(origin, single).look()
        assert "--databases 2" in refused.value.cure
    with server(directory / "full", "--maxmemory", "3mb") as full:
        with pytest.raises(RehostError, match=r"refuses RESTORE.*OOM") as failed:
            await here.mover(origin, full).copy(said.append)
        assert "Raise the memory" in failed.value.cure


# -- what is decided without a server ----------------------------------------------------------------------


def test_values_mean_the_same_in_any_order_and_any_writing_of_numbers() -> None:
    assert canonical(b"set", [b"a", b"b"]) == canonical(b"set", [b"b", b"a"])
    assert canonical(b"list", [b"a", b"b"]) != canonical(b"list", [b"b", b"a"])
    assert canonical(b"hash", [b"a", b"b", b"c", b"d"]) == canonical(b"hash", [b"c", b"d", b"a", b"b"])
    assert canonical(b"hash", [b"a", b"b", b"c", b"d"]) != canonical(b"hash", [b"a", b"d", b"c", b"b"])
    # Redis 7.0 and 7.2 write the same score otherwise.
    assert canonical(b"zset", [b"a", b"0.10000000000000001"]) == canonical(b"zset", [b"a", b"0.1"])
    assert canonical(b"string", [b"x"]) is None


ORIGIN = Facts("Redis 7.0", {0: 300, 4: 100}, used=90_000_000, dataset=80_000_000)
SERVICE = Place("redis", 16, "3600 1", "/data", 0, ("/data",))


def test_what_fits_and_what_does_not() -> None:
    there = Facts("Redis 7.0", {0: 10, 15: 10}, used=41_000_000, dataset=40_000_000)

    def fits(maxmemory: int, memory: int, policy: str = "noeviction") -> list[str]:
        limited = there._replace(maxmemory=maxmemory, policy=policy)
        return redis_look.fits(ORIGIN, 0, limited, 15, SERVICE._replace(memory=memory))

    # 60 MB are moved; 21 MB are there besides the copy of last time.
    assert fits(0, 0) == fits(0, 200_000_000) == []
    (note,) = fits(100_000_000, 200_000_000)
    assert "about 60.0 MB" in note and "81.0 MB of its 100.0 MB" in note
    with pytest.raises(Refused, match=r"allkeys-lru it would throw keys away") as refused:
        fits(80_000_000, 200_000_000, "allkeys-lru")
    assert "--maxmemory" in refused.value.cure
    with pytest.raises(Refused, match="it would refuse the rest"):
        fits(0, 80_000_000)


def test_which_database_takes_the_copy() -> None:
    there = Facts("", {0: 1, 15: 1, 13: 1})
    assert redis_look.spare(there, SERVICE, 0, []) == 14
    assert redis_look.spare(there, SERVICE, 0, [13]) == 13
    with pytest.raises(Refused, match="each of the 2 databases"):
        redis_look.spare(Facts("", {0: 1, 1: 1}), SERVICE._replace(databases=2), 0, [])
    with pytest.raises(Refused, match=r"cluster mode|one database") as refused:
        redis_look.spare(Facts("", {}, cluster=True), SERVICE, 0, [])
    assert "cluster" in refused.value.cure


def test_what_a_person_should_know_before() -> None:
    there = Facts("Valkey 8", {}, modules=("search",))
    assert redis_look.remarks(ORIGIN._replace(keys={0: 1}), 0, there, SERVICE) == []
    told = redis_look.remarks(
        ORIGIN._replace(modules=("search", "ReJSON"), functions=2, clock=9_000.0),
        0,
        there,
        SERVICE._replace(kept=()),
    )
    for word in (
        "4 (100 keys)",
        "lacks (ReJSON)",
        "2 functions",
        "9 s ahead",
        'volumes = ["redis-data:/data"]',
    ):
        assert sum(word in each for each in told) == 1, (word, told)
    (gone,) = redis_look.remarks(ORIGIN._replace(keys={}), 0, there, SERVICE._replace(saves=""))
    assert "--appendonly yes" in gone


def test_info_is_read_leniently() -> None:
    assert redis_look.facts("") == Facts("Redis (version not told)", {})
    text = "redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nused_memory:odd\r\ndb3:keys=12,expires=0\r\n"
    found = redis_look.facts(text + "cluster_enabled:1\r\nmodule:name=search,ver=1\r\naof_enabled:1\r\n")
    assert found == Facts("Valkey 8.0.1", {3: 12}, cluster=True, appends=True, modules=("search",))


def test_keys_are_shown_without_what_may_be_a_token() -> None:
    assert shown(b"queue") == "the key 'queue'"
    assert shown(b"session:4be1c0ffee") == "the key 'session:'..."
    assert shown(b"4be1c0ffee4be1c0ffee") == "the key '4be1c0ff'..."
