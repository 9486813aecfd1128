"""A Redis that moves into a service of the app: from a real server with password and TLS, as a person types it."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import servers
import service_images
from rehost.source.redis_side import MARKER
from rehost.source.resp import Answers, Command, Reply, Wrong, encode
from suite import Lab, Laptop, until, write
from tiny import SERVING

ENCODED = quote(servers.PASSWORD, safe="")
INSIDE = "wire & steam 'n' so"  # the password of the service
SERVICE = """
[services.redis]
image = "redis:7"
command = '''sh -c 'exec redis-server --appendonly yes --requirepass "$REDIS_PASSWORD"' '''
volumes = ["moved-redis:/data"]
env = ["REDIS_PASSWORD"]
memory = "128MB"

[moves]
redis = "OLD_REDIS_URL"
"""
COUNT = 6_000
# Of every key of a database but the mark: name, kind, and a digest of what is the same on both sides.
DIGEST = f"""redis.call('SELECT', ARGV[1]) local told = {{}}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, held = redis.call('TYPE', key).ok, redis.call('DUMP', key)
  if kind == 'hash' then held = redis.call('HGETALL', key) table.sort(held) held = table.concat(held, ',') end
  held = redis.sha1hex(held) .. redis.call('PEXPIRETIME', key)
  if key ~= '{MARKER.decode()}' then told[#told + 1] = key .. kind .. held end
end
table.sort(told) return redis.sha1hex(table.concat(told)) .. #told"""


class Origin:
    """The old server."""

    def __init__(self, address: str, port: int, tls: int) -> None:
        self.address, self.port, self.tls = address, port, tls

    @property
    def url(self) -> str:
        return f"rediss://:{ENCODED}@{self.address}:{self.tls}/2?ssl_cert_reqs=none"

    def ask(self, *commands: Command) -> list[Reply]:
        whole: list[Command] = [("AUTH", servers.PASSWORD), ("SELECT", 2), *commands]
        answers, replies = Answers(), list[Reply]()
        with socket.create_connection((self.address, self.port)) as line:
            for at in range(0, len(whole), 1000):
                part = whole[at : at + 1000]
                line.sendall(b"".join(map(encode, part)))
                while len(replies) < at + len(part):
                    replies += answers.feed(line.recv(1 << 16))
        assert not [reply for reply in replies if isinstance(reply, Wrong)]
        return replies[2:]

    def digest(self) -> str:
        (told,) = self.ask(("EVAL", DIGEST, 0, 2))
        assert isinstance(told, bytes)
        return told.decode()

    @contextlib.contextmanager
    def written_to(self) -> Iterator[None]:
        """By an app that goes on all the while."""
        ended = threading.Event()

        def write_on() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                self.ask(("INCR", "visits"), ("LPUSH", "queue", number), ("DEL", f"session:{number % 50}"))

        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()


class Service:
    """The app's own Redis on the machine."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop

    def say(self, words: str, database: int = 0) -> str:
        return self.laptop.inside(
            f"docker exec tiny.redis sh -c 'REDISCLI_AUTH=$REDIS_PASSWORD redis-cli -n {database} {words}'"
        ).strip()

    def digest(self, database: int = 0) -> str:
        self.laptop.inside(f"docker exec -i tiny.redis sh -c 'cat >/tmp/digest.lua' <<'END'\n{DIGEST}\nEND\n")
        return self.say(f"--eval /tmp/digest.lua , {database}")


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    address = lab.places.gateway
    found = Origin(address, servers.free_port(address), servers.free_port(address))
    with tempfile.TemporaryDirectory(prefix="rehost-kv-") as made:
        directory = Path(made)
        os.chown(directory, servers.NOBODY, servers.NOBODY)
        servers.certificate(directory, address)
        with servers.redis(directory, address, found.port, found.tls):
            found.ask(
                *(
                    ("SET", f"session:{n}", os.urandom(40), *(("PX", 86_400_000) if n % 2 else ()))
                    for n in range(COUNT)
                ),
                ("SET", "", "the key without a name"),
                ("SET", b"\xff\x00\r\n", bytes(range(256))),
                ("HSET", "big", *(word for n in range(2000) for word in (f"field {n}", "v" * (n % 50)))),
                ("ZADD", "board", *(word for n in range(500) for word in (f"{n / 7}", f"player {n}"))),
                ("RPUSH", "queue", *range(1000)),
                ("XADD", "stream", "1-1", "a", "b"),
                ("XGROUP", "CREATE", "stream", "workers", "0"),
                ("XREADGROUP", "GROUP", "workers", "one", "STREAMS", "stream", ">"),
            )
            yield found


@pytest.fixture(scope="module")
def service(tiny: Laptop, lab: Lab, origin: Origin) -> Service:
    service_images.give(lab, tiny, "redis:7")
    config = tiny.directory / "rehost.toml"
    write(tiny.directory, {"rehost.toml": config.read_text() + SERVICE})
    env = {"REDIS_PASSWORD": INSIDE, "REDIS_URL": f"redis://:{quote(INSIDE, safe='')}@redis:6379/0"}
    write(
        tiny.directory,
        {
            ".env.prod": "".join(
                f'{name}="{value}"\n' for name, value in {**env, "OLD_REDIS_URL": origin.url}.items()
            )
        },
    )
    tiny.run("up", "--yes")
    found = Service(tiny)
    found.say("SET of-the-new-app x")
    return found


def moves(laptop: Laptop, *words: str, code: int | None = 0) -> str:
    """What `rehost move` says; no password is in it."""
    said = laptop.run("move", *words, code=code).said
    for word in (servers.PASSWORD, ENCODED, INSIDE, quote(INSIDE, safe="")):
        assert word not in said
    return said


def test_a_store_moves_as_a_person_does_it(tiny: Laptop, service: Service, origin: Origin) -> None:
    with origin.written_to():
        rehearsed = moves(tiny, "--rehearse")
        assert "must be quiet" in rehearsed
        failed = moves(tiny, "--yes", code=1)
        assert "change faster than they are copied" in failed and "maintenance mode" in failed
    assert service.say('KEYS "*"') == "of-the-new-app"
    moved = moves(tiny, "--yes")
    assert "database 15 of service redis" in moved
    assert service.digest() == origin.digest()
    assert service.say("DBSIZE") == str(origin.ask(("DBSIZE",))[0])
    assert "of-the-new-app" in service.say('KEYS "*"', 15)
    # Also after the service has started anew.
    tiny.inside("docker restart tiny.redis")
    until(lambda: service.say("PING") == "PONG", "the service answers")
    assert service.digest() == origin.digest()
    assert tiny.run("health").code == 0
    told = "grep -rl 'wire & steam' /var/lib/rehost/tiny/moving; journalctl -u 'rehost-tiny*' | grep 'wire & steam'"
    assert tiny.inside(f"{told} || true") == ""


def test_a_move_that_is_killed_goes_on_where_it_was(tiny: Laptop, service: Service, origin: Origin) -> None:
    refused = moves(tiny, "--rehearse", code=3)
    assert "keeps 1 keys of before the last move" in refused
    before = origin.digest()
    for after in (1.5, 2.5, 4.0):
        tiny.killed("move", "--yes", after=after)
    moves(tiny, "--yes")
    assert service.digest() == origin.digest() == before
    assert tiny.inside(f"docker inspect -f '{{{{.State.Running}}}}' {SERVING}").strip() == "true"


def test_a_store_that_lets_nobody_in_is_told(tiny: Laptop, service: Service, origin: Origin) -> None:
    for url, word in (
        (origin.url.replace(ENCODED, "wrong"), "refuses the login"),
        (
            origin.url.replace(f":{origin.tls}", f":{servers.free_port(origin.address)}"),
            "refuses the connection",
        ),
        (origin.url.replace("rediss:", "redis:"), "hung up"),
    ):
        assert word in tiny.run("move", "--rehearse", code=3, OLD_REDIS_URL=url).said
