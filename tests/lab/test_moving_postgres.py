"""A PostgreSQL database that moves into a service of the app: from a real server, by the machine's own container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

import servers
import service_images
from rehost.cli import visit
from rehost.machine import keys, ssh
from rehost.run.errors import Refused, RehostError
from rehost.run.secret import Secret
from rehost.source import reach
from rehost.source.move_postgres import Postgres
from rehost.source.moving import Copied
from rehost.source.reach_url import databases
from suite import Lab, Laptop, until, write
from tiny import set_env

T = TypeVar("T")
ENCODED = quote(servers.PASSWORD, safe="")
ORIGIN, TARGET = 'old "Shop"-1=2', "shop's-New\"=x"
COPY, BEFORE = f"{TARGET}_moving", f"{TARGET}_before"
INSIDE = "wire and steam"  # the password of the service
# What the app is to work with.
OWN = f"postgresql://app-user:{quote(INSIDE)}@postgres/{quote(TARGET, safe='')}"
UNIT = "rehost-tiny.moving.postgres.service"
CERTIFICATE = [""]  # of the origin's server
SERVICE = """
[services.postgres]
image = "postgres:15"
volumes = ["moved-postgres:/var/lib/postgresql/data"]
env = ["POSTGRES_PASSWORD", "POSTGRES_USER"]
memory = "256MB"
health = "pg_isready -h 127.0.0.1"

[moves]
postgres = "OLD_DATABASE_URL"
"""
# What a database of some years has: odd names, each kind of thing that is not only rows, and 100,000 rows.
CONTENT = r"""
CREATE EXTENSION pgcrypto;
CREATE EXTENSION citext;
COMMENT ON EXTENSION citext IS 'of ours';
CREATE SCHEMA "Odd ""schema"" o'f";
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE big (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL,
  longer int GENERATED ALWAYS AS (length(body) * 2) STORED);
CREATE TABLE seen (big bigint, PRIMARY KEY (big));
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NEW; END$$;
CREATE TRIGGER see AFTER INSERT ON big FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO big (body) SELECT md5(i::text) FROM generate_series(1, 100000) i;
CREATE TABLE "Odd ""schema"" o'f"."a table; --" ("select" serial, "with
line" text[], doc jsonb, raw bytea, m mood, mail citext UNIQUE);
INSERT INTO "Odd ""schema"" o'f"."a table; --" ("with
line", doc, raw, m, mail) VALUES
  (ARRAY['a', NULL, '"x"'], '{"a": [1, null]}', '\x00ff0a', 'bad', 'Ada@example.org'), (NULL, NULL, NULL, NULL, NULL);
CREATE TABLE hen (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO hen VALUES (1, 1); INSERT INTO egg VALUES (1, 1); COMMIT;
CREATE TABLE events (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE events_new PARTITION OF events DEFAULT;
INSERT INTO events SELECT '2023-12-01'::date + i, i FROM generate_series(1, 60) i;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM big;
CREATE SEQUENCE "Down.Seq" INCREMENT -5;
SELECT nextval('"Down.Seq"'), nextval('"Down.Seq"');
SELECT lo_from_bytea(4711, '\x6c61726765');
CREATE TABLE private (a int);
ALTER TABLE private ENABLE ROW LEVEL SECURITY;
INSERT INTO private VALUES (1);
ANALYZE;
"""
TABLES = 8
# A row every few milliseconds, which a trigger doubles, and a sequence that goes on.
WRITER = """WITH new AS (INSERT INTO big (body) VALUES ('more') RETURNING id)
SELECT nextval('"Down.Seq"') FROM new \\watch 0.005
"""


class Origin:
    """The old server, and what asks it as its owner."""

    def __init__(self, directory: Path, address: str, port: int) -> None:
        self.address, self.port = address, port
        program, self._environ = servers.found("initdb", "postgresql-15")
        self._words = [
            str(Path(program).with_name("psql")),
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(directory),
        ]
        self._words += ["-p", str(port)]

    def url(
        self, database: str = ORIGIN, login: str = f"app:{ENCODED}", port: int = 0, more: str = ""
    ) -> str:
        return f"postgresql://{login}@{self.address}:{port or self.port}/{quote(database, safe='')}{more}"

    def command(self, user: str, database: str) -> list[str]:
        return [*self._words, "-U", user, "-d", named(database)]

    def ready(self) -> bool:
        words = [*self.command("owner", "template1"), "-c", "SELECT 1"]
        return not subprocess.run(words, env=self._environ, capture_output=True, check=False).returncode

    def ask(self, statements: str, *, user: str = "app", database: str = ORIGIN) -> str:
        done = subprocess.run(
            self.command(user, database),
            input=statements,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def session(self, statements: str) -> Iterator[subprocess.Popen[str]]:
        """A session that stays, until the block ends."""
        process = subprocess.Popen(
            self.command("app", ORIGIN), env=self._environ, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(statements)
            process.stdin.flush()
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()

    @contextlib.contextmanager
    def holding(self, table: str) -> Iterator[subprocess.Popen[str]]:
        """Nobody else sees the table, until the session commits or the block ends."""
        with self.session(f"BEGIN; LOCK TABLE {table};\n") as held:
            locked = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND granted"  # noqa: S608
            until(lambda: self.ask(locked) == "1", f"{table} is locked")
            yield held

    def waits(self, what: str) -> bool:
        """Whether a session of rehost waits for a lock with these words in its statement."""
        asked = "SELECT query FROM pg_stat_activity WHERE application_name = 'rehost' AND wait_event_type = 'Lock'"
        return what in self.ask(asked, user="owner", database="postgres")


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    address = lab.places.gateway
    port = servers.free_port(address)
    with tempfile.TemporaryDirectory(prefix="rehost-pg-") as made:
        directory = Path(made)
        os.chown(directory, servers.NOBODY, servers.NOBODY)
        servers.certificate(directory, address)
        CERTIFICATE[0] = (directory / "server.pem").read_text()
        with servers.postgres(directory, address, port):
            found = Origin(directory, address, port)
            until(found.ready, "the origin lets somebody in")
            quoted = ORIGIN.replace('"', '""')
            found.ask(
                f'CREATE DATABASE "{quoted}" OWNER app; ALTER DATABASE "{quoted}" SET work_mem = 8192;'
                "CREATE DATABASE other;",
                user="owner",
                database="template1",
            )
            found.ask(CONTENT)
            yield found
            # A server that is told to end waits for its sessions: of one that was cut off it does not know yet.
            end = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
            found.ask(f"{end} AND datname IS NOT NULL", user="owner", database="template1")


class Service:
    """The app's own PostgreSQL on the machine, over one connection that stays open."""

    def __init__(self, machine: ssh.Machine, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self._machine, self._address, self._loop = machine, address, loop

    def begin(self, work: Coroutine[object, object, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.begin(work).result(90)

    def inside(self, script: str) -> str:
        """On the machine, as root."""
        return self.run(self._machine.run(script)).stdout.strip()

    def ask(self, statements: str, *, database: str = TARGET, user: str = "boss") -> str:
        words = shlex.join(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", named(database)])
        return self.inside(
            f"docker exec -i tiny.postgres {words} <<'REHOST_ASKED'\n{statements}\nREHOST_ASKED\n"
        )

    def names(self) -> set[str]:
        always = {"template0", "template1", "postgres", "boss"}
        return set(self.ask("SELECT datname FROM pg_database", database="template1").splitlines()) - always

    @contextlib.contextmanager
    def staying(self) -> Iterator[None]:
        """A session on the database that serves, which nobody ends on the other side."""
        words = shlex.join(["psql", "-U", "boss", "-d", named(TARGET), "-c", "SELECT pg_sleep(60)"])
        there = self.begin(self._machine.run(f"docker exec tiny.postgres {words}", check=False))
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        until(lambda: self.ask(asked) != "0", "a session on the database")
        yield
        assert "terminating connection" in there.result(60).stderr

    def mover(self, url: str) -> Postgres:
        (origin,) = databases({"OLD_DATABASE_URL": Secret(url)})
        (target,) = databases({"DATABASE_URL": Secret(OWN)})
        door = reach.of_machine(self._machine, self._address)
        door.authorities = {"ca.pem": CERTIFICATE[0]}
        return Postgres(door, self._machine, origin, target, "tiny.postgres", "postgres", "tiny")

    def copied(self, url: str) -> Copied:
        return self.run(self.mover(url).copy(lambda _line: None))

    def swapped(self, url: str, *, undo: bool = False) -> ssh.Output:
        mover = self.mover(url)
        return self.run(self._machine.run(mover.undo() if undo else mover.swap(), check=False))


def named(database: str) -> str:
    """As psql takes a name with "=" in it."""
    text = database.replace("\\", r"\\").replace("'", r"\'")
    return f"dbname='{text}'"


@pytest.fixture(scope="module")
def service(tiny: Laptop, lab: Lab, origin: Origin) -> Iterator[Service]:
    """The service with a database of an app user who is not its superuser; one table with one row is in it."""
    service_images.give(lab, tiny, "postgres:15")
    config = tiny.directory / "rehost.toml"
    write(tiny.directory, {"rehost.toml": config.read_text() + SERVICE})
    values = {"POSTGRES_PASSWORD": INSIDE, "POSTGRES_USER": "boss", "DATABASE_URL": OWN}
    set_env(tiny.directory, VALUE="with a database", OLD_DATABASE_URL=origin.url(), **values)
    tiny.run("up")
    where = visit.recall(tiny.directory)
    assert where is not None
    key = keys.own_key(Path(tiny.environ["XDG_CONFIG_HOME"]) / "rehost" / "ssh").file
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opened = ssh.connect(where.address, user=where.user, host_keys=where.host_keys, key_file=key)
    machine = asyncio.run_coroutine_threadsafe(opened, loop).result(30)
    try:
        found = Service(machine, where.address, loop)
        user = f"CREATE USER \"app-user\" PASSWORD '{INSIDE}';"
        quoted = TARGET.replace('"', '""')
        found.ask(f'{user} CREATE DATABASE "{quoted}" OWNER "app-user";', database="template1")
        found.ask("CREATE TABLE here (a int); INSERT INTO here VALUES (1); ANALYZE", user="app-user")
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(machine.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_database_is_copied_while_it_is_written_to(service: Service, origin: Origin) -> None:
    mover = service.mover(origin.url())
    with origin.session(WRITER):
        until(lambda: int(origin.ask("SELECT count(*) FROM big")) > 100_000, "somebody writes")
        there, here = service.run(mover.look())
        done = service.run(mover.copy(lambda _line: None))
        after = int(origin.ask("SELECT count(*) FROM big"))
    assert (there.empty, here.empty) == (False, False)
    assert there.words.startswith(f"{TABLES} tables, about ")
    assert here.words.startswith("1 table, about ")
    assert len(mover.notes) == 2
    assert "other" in mover.notes[0]
    assert "work_mem" in mover.notes[1]
    asked = "SELECT (SELECT count(*) FROM big), (SELECT count(*) FROM seen), (SELECT max(id) FROM big)"
    counted = service.ask(asked, database=COPY)
    rows = int(counted.split("|")[0])
    assert counted == f"{rows}|{rows}|{rows}"
    assert 100_000 < rows < after
    # The others: two odd rows, hen and egg, 60 events, a private one.
    assert done.counted == f"{TABLES} tables, {2 * rows + 65:,} rows, 3 sequences, 1 large object"
    # What serves is as it was.
    assert service.ask("SELECT count(*) FROM here") == "1"


def test_the_copy_is_what_the_origin_holds_and_belongs_to_the_apps_user(
    service: Service, origin: Origin
) -> None:
    service.copied(origin.url(more="?sslmode=verify-full&sslrootcert=/etc/secrets/ca.pem"))
    asked = ";\n".join(
        (
            'SELECT *, "with\nline"[2] IS NULL FROM "Odd ""schema"" o\'f"."a table; --" ORDER BY 1',
            "SELECT md5(string_agg(b::text, ',' ORDER BY id)) FROM big b",
            "SELECT *, tableoid::regclass FROM events ORDER BY 1",
            'SELECT last_value, hen, egg FROM hen, egg, "Down.Seq"',
            "SELECT lo_get(4711)",
            "SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'citext'",
            "SELECT last_value, is_called FROM big_id_seq",
            "SELECT relname, relrowsecurity FROM pg_class WHERE relname = 'private'",
            "SELECT conrelid::regclass, conname, condeferred FROM pg_constraint WHERE contype = 'f' ORDER BY 2",
        )
    )
    assert service.ask(asked, database=COPY, user="app-user") == origin.ask(asked)
    others = service.ask(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname !~ '^(pg_|information_)' AND pg_get_userbyid(relowner) <> 'app-user'",
        database=COPY,
    )
    assert others == "0"
    roles = (
        "SELECT pg_get_userbyid(datdba), (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'rehost%') "
        "FROM pg_database WHERE datname = current_database()"
    )
    assert service.ask(roles, database=COPY) == "app-user|0"
    # It goes on counting where it stood, and the trigger is there.
    service.ask("INSERT INTO big (body) VALUES ('one')", database=COPY, user="app-user")
    last = "SELECT max(big) FROM seen"
    assert int(service.ask(last, database=COPY)) == int(origin.ask(last)) + 1
    service.copied(origin.url())
    assert service.ask(last, database=COPY) == origin.ask(last)


def test_the_swap_and_the_way_back(service: Service, origin: Origin) -> None:
    url, big, here = origin.url(), "SELECT count(*) FROM big", "SELECT count(*) FROM here"
    with service.staying():  # somebody who is not the app
        for _ in range(2):
            assert service.swapped(url).status == 0
            assert service.names() == {TARGET, BEFORE}
    assert service.ask(big) == origin.ask(big)
    assert service.ask(here, database=BEFORE) == "1"
    for _ in range(2):
        assert service.swapped(url, undo=True).status == 0
        assert service.names() == {TARGET, COPY}
    assert service.ask(here) == "1"
    assert service.swapped(url).status == 0
    # A second move: what the first one replaced goes, what it brought is kept.
    origin.ask("INSERT INTO private VALUES (2)")
    service.copied(url)
    assert service.names() == {TARGET, COPY, BEFORE}
    assert service.swapped(url).status == 0
    assert service.names() == {TARGET, BEFORE}
    private = "SELECT count(*) FROM private"
    assert [service.ask(private, database=name) for name in (TARGET, BEFORE)] == ["2", "1"]


def test_what_is_cut_off_is_never_swapped_in(service: Service, origin: Origin) -> None:
    url = origin.url()
    mover = "docker ps --quiet --filter name=tiny.moving.postgres"
    for kill in (f"systemctl kill -s KILL {UNIT}", "docker restart -t 1 tiny.postgres >/dev/null"):
        with origin.holding("private"):
            copying = service.begin(service.mover(url).copy(lambda _line: None))
            until(lambda: origin.waits("LOCK TABLE"), "pg_dump waits for a table")
            service.inside(kill)
            if "restart" not in kill:
                until(lambda: not service.inside(mover), "the dump has ended with its unit")
        with pytest.raises(RehostError):
            copying.result(60)
        until(lambda: service.inside("docker exec tiny.postgres pg_isready -h 127.0.0.1 || :"), "it is up")
        swapped = service.swapped(url)
        assert swapped.status != 0
        assert "is not whole" in swapped.stderr
        # For the server it was nothing but sessions that ended.
        assert service.inside("docker logs tiny.postgres 2>&1 | grep -c 'terminated by signal' || :") == "0"
    service.copied(url)
    assert service.swapped(url).status == 0


def test_who_comes_later_follows_and_copies_anew_what_was_written_since(
    service: Service, origin: Origin
) -> None:
    said: list[str] = []
    with origin.holding("private") as held:
        first = service.begin(service.mover(origin.url()).copy(lambda _line: None))
        until(lambda: origin.waits("LOCK TABLE"), "pg_dump waits for a table")
        first.cancel()
        second = service.begin(service.mover(origin.url()).copy(said.append))
        until(lambda: said, "the second one follows")
        held.communicate("INSERT INTO hen VALUES (3); COMMIT;\n")
        second.result(60)
    assert any("copying once more" in line for line in said)
    hens = "SELECT count(*) FROM hen"
    assert service.ask(hens, database=COPY) == origin.ask(hens)
    # The secret was nowhere but in the container's environment, while it was needed.
    search = f"<<'REHOST_SEARCH' || :\n{servers.PASSWORD}\n{ENCODED}\nREHOST_SEARCH\n"
    assert service.inside(f"grep -rlF -f - /var/lib/rehost /var/log /run/log /tmp {search}") == ""


def test_a_difference_fails_the_move(service: Service, origin: Origin) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'hen'::regclass AND NOT granted"
    with origin.holding("private") as held:
        copying = service.begin(service.mover(origin.url()).copy(lambda _line: None))
        until(lambda: origin.waits("LOCK TABLE"), "pg_dump waits for a table")
        # This one gets the hens as soon as the dump is over, so that counting stops there.
        with origin.session("BEGIN; LOCK TABLE hen;\n"):
            until(lambda: origin.ask(waiting) == "1", "somebody waits for the hens")
            held.communicate("COMMIT;\n")
            until(lambda: origin.waits("FROM ONLY public.hen"), "the origin's rows are counted")
            service.ask("DELETE FROM events WHERE n = 60", database=COPY)
    with pytest.raises(RehostError, match=r"public\.events_new: 30 at the origin, 29 in the copy"):
        copying.result(60)
    assert "is not whole" in service.swapped(origin.url()).stderr


def test_the_command_line_does_it_all(service: Service, origin: Origin, tiny: Laptop) -> None:
    origin.ask("INSERT INTO private VALUES (4)")
    private = "SELECT count(*) FROM private"
    before = service.ask(private)
    rehearsed = tiny.run("move", "--rehearse")
    assert f"{TABLES} tables" in rehearsed.said
    assert service.ask(private) == before
    moved = tiny.run("move", "--yes")
    assert service.ask(private, user="app-user") == origin.ask(private)
    assert service.ask(private, database=BEFORE) == before
    assert "work_mem" in moved.said
    assert "dropdb" in moved.said
    assert servers.PASSWORD not in rehearsed.said + moved.said


def test_what_cannot_work_is_refused_before_anything_is_copied(service: Service, origin: Origin) -> None:
    control = "/usr/share/postgresql/15/extension/citext.control"
    service.inside(f"docker exec tiny.postgres mv {control} /tmp/")
    names = service.names()
    closed = servers.free_port(origin.address)
    for url, words in (
        (origin.url(login="app:wrong"), "password authentication failed"),
        (origin.url(port=closed), "refuses the connection"),
        (origin.url("nodb"), "does not exist"),
        (origin.url(login="elsewhere:x"), "pg_hba.conf"),
        (origin.url(), "lacks: citext"),
    ):
        with pytest.raises(Refused, match=words) as refused:
            service.run(service.mover(url).look())
        assert refused.value.cure
        assert servers.PASSWORD not in str(refused.value)
    service.inside(f"docker exec tiny.postgres mv /tmp/citext.control {control}")
    assert service.names() == names
