"""Databases that stay where they are, tried from a machine against real servers; and secret files in a container."""

from __future__ import annotations

import contextlib
import os
import socketserver
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import servers
from suite import Lab, Laptop, write
from tiny import SERVING, set_env

ENCODED = quote(servers.PASSWORD, safe="")
# Names that the SRV records of the test know; the targets are addresses, as a resolver hands them through.
CLUSTER = "cluster.example.net"


class Ports:
    """The servers' own, on the lab's gateway. dropped: one whose packets the firewall drops."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.postgres, self.redis, self.redis_tls, self.mariadb, self.dropped, self.closed = (
            servers.free_port(address) for _ in range(6)
        )


@pytest.fixture(scope="module")
def there(lab: Lab) -> Iterator[tuple[Ports, Path]]:
    """PostgreSQL, Redis and MariaDB; the directory holds their certificate."""
    ports = Ports(lab.places.gateway)
    with tempfile.TemporaryDirectory(prefix="rehost-reach-") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        os.chown(directory, servers.NOBODY, servers.NOBODY)
        servers.certificate(directory, ports.address)
        stack.enter_context(servers.postgres(directory, ports.address, ports.postgres))
        stack.enter_context(servers.redis(directory, ports.address, ports.redis, ports.redis_tls))
        stack.enter_context(servers.mariadb(directory, ports.address, ports.mariadb))
        stack.enter_context(dropping(ports))
        yield ports, directory


@contextlib.contextmanager
def dropping(ports: Ports) -> Iterator[None]:
    """A firewall that swallows what goes to one port."""
    table = f"rehost_reach_{os.getpid()}"
    rules = (
        f"add table inet {table}\n"
        f"add chain inet {table} into {{ type filter hook input priority -300; }}\n"
        f"add rule inet {table} into ip daddr {ports.address} tcp dport {ports.dropped} drop\n"
    )
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


def findings(laptop: Laptop, code: int | None = None, **urls: str) -> Mapping[str, Mapping[str, Any]]:
    """What `check` says of each variable."""
    set_env(laptop.directory, VALUE="first value of all", **urls)
    ran = laptop.run("check", "--json", code=code)
    assert servers.PASSWORD not in ran.said and ENCODED not in ran.said
    found = {}
    for name in urls:
        (found[name],) = [
            each
            for each in ran.result["findings"]
            if each["what"].startswith(f"{name}: ") and each["where"] == "env"
        ]
    return found


def test_each_way_to_fail_has_its_words(tiny: Laptop, lab: Lab, there: tuple[Ports, Path]) -> None:
    ports, _ = there
    at, app = ports.address, f"app:{ENCODED}@{ports.address}"
    mine = f"this machine's static address {tiny.run('status', '--json').result['address']}"
    expected = {
        "GOOD": (f"postgresql://{app}:{ports.postgres}/postgres", "ok", "lets the machine in", ""),
        "MD5": (
            f"postgres://old:{ENCODED}@{at}:{ports.postgres}/postgres?sslmode=disable", "ok", "accepts the login", ""
        ),
        "WRONG": (f"postgresql://app:no@{at}:{ports.postgres}/postgres", "error", "password auth", "Correct user"),
        "NODB": (f"postgresql://{app}:{ports.postgres}/nodb", "error", "not the database", "Correct the database"),
        "LIST": (f"postgresql://elsewhere:x@{at}:{ports.postgres}/postgres", "error", "pg_hba.conf", mine),
        "TRUST": (
            f"postgresql://{app}:{ports.postgres}/postgres?sslmode=verify-full", "error", "not to be trusted", "TLS"
        ),
        "CLOSED": (f"postgresql://{app}:{ports.closed}/postgres", "error", "refuses the connection", "port"),
        "DROPPED": (f"redis://:{ENCODED}@{at}:{ports.dropped}", "error", "does not answer", mine),
        "NOHOST": ("postgres://u:p@nowhere.invalid/x", "error", "no address for nowhere.invalid", "host"),
        "REDIS": (f"redis://:{ENCODED}@{at}:{ports.redis}/2", "ok", "accepts the login", ""),
        "REDIS_WRONG": (f"redis://:no@{at}:{ports.redis}", "error", "WRONGPASS", "Correct user"),
        "REDIS_NONE": (f"redis://{at}:{ports.redis}", "error", "demands a password", "Correct user"),
        "REDIS_TLS": (f"rediss://:{ENCODED}@{at}:{ports.redis_tls}?ssl_cert_reqs=none", "ok", "accepts", ""),
        "REDIS_SELF": (f"rediss://:{ENCODED}@{at}:{ports.redis_tls}", "error", "self-signed", "TLS"),
        "REDIS_CLEAR": (f"redis://:{ENCODED}@{at}:{ports.redis_tls}", "error", "hung up", "without TLS"),
        "MYSQL": (f"mysql://{app}:{ports.mariadb}/shop", "ok", "accepts the login", ""),
        "MYSQL_CLEAR": (f"mysql+pymysql://{app}:{ports.mariadb}/shop?ssl-mode=DISABLED", "ok", "accepts", ""),
        "MYSQL_WRONG": (f"mysql://app:no@{at}:{ports.mariadb}/shop", "error", "Access denied", "Correct user"),
        "MONGO": (lab.info.database + "/x", "ok", "lets the machine in", ""),
        "MONGO_NOT": (f"mongodb://u:p@{at}:{ports.mariadb}/x", "error", "", "MongoDB"),
    }  # fmt: skip
    found = findings(tiny, 2, **{name: url for name, (url, *_) in expected.items()})
    for name, (_, severity, what, cure) in expected.items():
        assert found[name]["severity"] == severity, found[name]
        assert what in found[name]["what"], found[name]
        assert cure in found[name].get("cure", ""), found[name]


class _Names(socketserver.BaseRequestHandler):
    """A name server over TCP that knows the SRV and TXT records of one cluster."""

    target = ("", 0)

    def handle(self) -> None:
        while head := self.request.recv(2):
            question = self.request.recv(struct.unpack("!H", head)[0])
            end = question.index(b"\0", 12)
            kind = struct.unpack_from("!H", question, end + 1)[0]
            host, port = self.target
            records = []
            if b"_mongodb" in question and b"cluster" in question and kind == 33:
                name = b"".join(bytes([len(part)]) + part.encode() for part in host.split("."))
                records = [struct.pack("!HHH", 0, 0, port) + name + b"\0"]
            elif b"cluster" in question and kind == 16:
                records = [b"\x11authSource=admin&\x0eretryReads=yes"]
            code = 0 if b"cluster" in question else 3
            answer = question[:2] + struct.pack("!5H", 0x8180 | code, 1, len(records), 0, 0) + question[12:]
            for data in records:
                answer += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
            self.request.sendall(struct.pack("!H", len(answer)) + answer)


def test_what_stands_behind_srv_is_asked_of_the_machines_own_resolver(tiny: Laptop, lab: Lab) -> None:
    host, _, port = lab.info.database.removeprefix("mongodb://").partition(":")
    handler = type("Handler", (_Names,), {"target": (host, int(port))})
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer((lab.places.gateway, 53), handler) as names:
        threading.Thread(target=names.serve_forever, daemon=True).start()
        tiny.inside(
            f"cp /etc/resolv.conf /root/resolv && echo nameserver {lab.places.gateway} >/etc/resolv.conf"
        )
        try:
            found = findings(
                tiny,
                2,
                KNOWN=f"mongodb+srv://{CLUSTER}/app?tls=false",
                NONE="mongodb+srv://other.example.net/app",
            )
        finally:
            tiny.inside("cat /root/resolv >/etc/resolv.conf")
            names.shutdown()
    assert found["KNOWN"]["severity"] == "ok" and "MongoDB" in found["KNOWN"]["what"]
    assert "no SRV record _mongodb._tcp.other.example.net" in found["NONE"]["what"]


def test_a_release_with_a_wrong_login_is_refused_and_the_old_serves_on(
    tiny: Laptop, there: tuple[Ports, Path]
) -> None:
    ports, _ = there
    before = tiny.run("status", "--json").result["release"]
    set_env(
        tiny.directory,
        VALUE="x",
        DATABASE_URL=f"postgresql://app:no@{ports.address}:{ports.postgres}/postgres",
    )
    for command in ("up", "deploy"):
        refused = tiny.run(command, code=3)
        assert "DATABASE_URL" in refused.said and "password authentication failed" in refused.said
        assert f"release {before}" in refused.said
    assert tiny.run("status", "--json").result["release"] == before
    good = f"postgresql://app:{ENCODED}@{ports.address}:{ports.postgres}/postgres"
    set_env(tiny.directory, VALUE="x", DATABASE_URL=good)
    done = tiny.run("up")
    assert "accepts the login" in done.said and ENCODED not in done.said


def test_secret_files_come_with_the_release_and_go_back_with_it(
    tiny: Laptop, there: tuple[Ports, Path]
) -> None:
    ports, directory = there
    certificate = (directory / "server.pem").read_text()
    config = tiny.directory / "rehost.toml"
    good = config.read_text()
    write(tiny.directory, {".rehost/keys/ca.pem": certificate, ".rehost/keys/token": "first token of all\n"})
    for name in ("ca.pem", "token"):
        (tiny.directory / ".rehost" / "keys" / name).chmod(0o600)
    files = 'secret_files = [".rehost/keys/ca.pem", ".rehost/keys/token"]'
    config.write_text(good.replace("[env]\n", f"[env]\n{files}\n"))
    # The authority that signed the certificate is one of them.
    redis = f"rediss://:{ENCODED}@{ports.address}:{ports.redis_tls}?ssl_ca_certs=/etc/secrets/ca.pem"
    set_env(tiny.directory, VALUE="with files", REDIS_URL=redis)
    try:
        first = tiny.run("up", "--json").result["release"]

        def inside(command: str) -> str:
            return tiny.inside(f"docker exec -u 1000 {SERVING} sh -c '{command}'")

        assert inside("cat /etc/secrets/ca.pem") == certificate
        assert inside("cat /etc/secrets/token").strip() == "first token of all"
        write(tiny.directory, {".rehost/keys/token": "second token of all\n"})
        changed = tiny.run("up")
        assert "secret file token" in changed.said and "token of all" not in changed.said
        assert inside("cat /etc/secrets/token").strip() == "second token of all"
        assert "Read-only" in inside("(echo x >/etc/secrets/token) 2>&1 || true")
        told = changed.said + tiny.run("rollback", str(first)).said + tiny.run("logs").said
        assert inside("cat /etc/secrets/token").strip() == "first token of all"
        # Also when the container is gone.
        tiny.inside(f"docker rm -f tiny-{first + 1}")
        tiny.run("rollback", str(first + 1))
        assert inside("cat /etc/secrets/token").strip() == "second token of all"
        # On the machine nobody but root finds them, and what is told of them says nothing.
        root = "/var/lib/rehost/tiny/releases"
        assert "denied" in tiny.inside(f"su -s /bin/sh nobody -c 'ls {root}/{first}/secrets' 2>&1 || true")
        assert "token of all" not in tiny.inside(
            f"cat {root}/*/release.json; docker inspect $(docker ps -aq)"
        )
        assert "token of all" not in told
    finally:
        config.write_text(good)
