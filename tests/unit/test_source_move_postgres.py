"""What is said and refused of a PostgreSQL that moves; the move itself is in tests/lab/test_moving_postgres.py."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.machine.ssh import Machine, NotOpened
from rehost.run.errors import Refused
from rehost.run.secret import Secret
from rehost.source import move_postgres
from rehost.source.move_postgres import Postgres, Seen
from rehost.source.reach import Door
from rehost.source.reach_pipe import Connection
from rehost.source.reach_url import Database, databases

PASSWORD = "hunter2 'ü'"
GB = 1 << 30
ORIGIN: dict[str, Any] = {
    "version": 15, "size": 2 * GB, "tables": 3, "rows": 20113, "extensions": ["plpgsql", "citext"], "databases": [],
    "settings": [], "roles": [], "publications": 0, "slots": 0,
}  # fmt: skip
SERVICE: dict[str, Any] = {
    "version": 16,
    "owner": "app",
    "role": True,
    "extensions": ["plpgsql", "citext"],
    "freed": 0,
}
NAMES: dict[str, Any] = {"name": "shop", "moved": 0, "moving": 0, "ours": 0, "before": 0}


def one(url: str) -> Database:
    (found,) = databases({"URL": Secret(url)})
    return found


def seen(
    target: dict[str, Any] | None = None, *, free: int = 8 * GB, rows: bool = False, **origin: object
) -> Seen:
    return Seen({**ORIGIN, **origin}, SERVICE, NAMES, free, target, rows)


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("", ""),
        ("?sslmode=require", "require"),
        ("?sslmode=verify-full", "verify-full"),
        ("?sslmode=require&sslrootcert=system", "verify-full"),
        ("?ssl=true", "verify-full"),
        ("?ssl=1", "require"),
        ("?ssl=false", "disable"),
        ("?sslmode=no-verify", ""),
    ],
)
def test_what_an_address_says_of_tls(query: str, mode: str) -> None:
    assert move_postgres.mode(one(f"postgres://u:p@db.example.com/x{query}")) == mode


@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])), st.booleans())
def test_the_origins_address_comes_to_programs_as_it_is(value: str, named: bool) -> None:
    database = one("postgresql+asyncpg://u@a.example.com,b.example.com:6000/x?options=-c%20geqo%3Doff")
    database = database._replace(password=Secret(value), path=value if named else "")
    names = '"$PGHOST" "$PGPORT" "$PGPASSWORD" "${PGDATABASE-none}" "$PGOPTIONS"'
    show = f"MODE=prefer; from_origin sh -c 'printf \"%s|\" {names}'"
    script = f"{move_postgres.from_origin(database)}\n{show}"
    ran = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True).stdout.decode()
    database_shown = value if named and value else "none"
    assert ran == f"a.example.com,b.example.com|5432,6000|{value}|{database_shown}|-c geqo=off|"


@pytest.mark.parametrize(
    ("found", "what", "cure"),
    [
        (seen(version=17), "the origin is PostgreSQL 17, and service db 16", "version 17 or later"),
        (seen(extensions=["plpgsql", "vector", "postgis"]), "lacks: postgis, vector", "pgvector/pgvector:pg"),
        (seen(extensions=["ours"]), "lacks: ours", "[services.db], or drop"),
        (seen()._replace(service={**SERVICE, "role": False}), "no user app", "POSTGRES_USER"),
        (seen()._replace(names={**NAMES, "moving": 1}), "shop_moving that no move has made", "Rename"),
        (seen()._replace(names={**NAMES, "before": 1}), "shop_before that no move has made", "Rename"),
        (seen(free=3 * GB), "may take 3.1 GB, and the machine has 3.0 GB", "`disk`"),
    ],
)
def test_what_cannot_end_well_is_refused(found: Seen, what: str, cure: str) -> None:
    with pytest.raises(Refused) as refused:
        move_postgres.refuse(found, "db", "machine")
    assert what in refused.value.what
    assert cure in refused.value.cure


@pytest.mark.parametrize(
    "found",
    [
        seen(),
        seen(version=11),
        # What an earlier run left, and what an earlier move replaced.
        seen()._replace(names={**NAMES, "moving": 1, "ours": 1, "moved": 1, "before": 1}),
        seen(free=2 * GB)._replace(service={**SERVICE, "freed": 2 * GB}),
    ],
)
def test_the_rest_is_not(found: Seen) -> None:
    move_postgres.refuse(found, "db", "machine")


def test_both_sides_in_words() -> None:
    there, here = move_postgres.contents(seen())
    assert there == ("3 tables, about 20,113 rows, 2.0 GB", False)
    assert here == ("no database yet", True)
    # What migrations made before the move.
    assert move_postgres.contents(seen({"tables": 1, "rows": 0, "size": 1}))[1] == ("1 table, no row", True)
    _, full = move_postgres.contents(seen({"tables": 2, "rows": 1, "size": 7 << 20}, rows=True))
    assert full == ("2 tables, about 1 row, 7.0 MB", False)
    assert move_postgres.contents(seen(tables=0))[0].empty


def test_what_stays_behind_is_named() -> None:
    assert move_postgres.left(ORIGIN) == []
    more = {
        "databases": ["b", "c"],
        "roles": ["carol"],
        "settings": ["search_path"],
        "publications": 1,
        "slots": 2,
    }
    said = move_postgres.left({**ORIGIN, **more})
    assert len(said) == 4
    for words in ("b, c", "carol", "search_path", "1 publication, 2 replication slots"):
        assert any(words in line for line in said)


def test_the_lines_of_a_look() -> None:
    lines = [
        f"origin {json.dumps(ORIGIN)}",
        f"service {json.dumps(SERVICE)}",
        f"names {json.dumps(NAMES)}",
        "free 8589934592",
    ]
    assert move_postgres.parse("\n".join(lines)) == seen()
    more = [*lines, 'target {"tables": 1}', "rows true"]
    assert move_postgres.parse("\n".join(more)) == seen({"tables": 1}, rows=True)


def test_what_a_unit_says() -> None:
    said: list[str] = []
    run = move_postgres._Run(said.append)
    for line in (
        "@step copying",
        "@state 7:7:",
        "@sent 1536",
        "@note sorted otherwise",
        '@counted {"tables": 2, "rows": 1234, "sequences": 0, "objects": 1}',
        "@fail first of all",
        "@fail what came of it",
        "@log its last words",
        "words of another",
    ):
        run.line(line)
    assert run.copied() == ("2 tables, 1,234 rows, 1 large object", "1.5 kB")
    assert (said, run.state, run.notes) == (["copying"], "7:7:", ["sorted otherwise"])
    assert (run.reason, run.log) == ("first of all", ["its last words", "words of another"])


async def nowhere(_host: str, _port: int) -> Connection:
    raise NotOpened("")


async def silent() -> str:
    return ""


def test_no_password_stands_where_others_read() -> None:
    origin = one("postgresql://ada@db.example.com/old")._replace(password=Secret(PASSWORD))
    mover = Postgres(
        Door(nowhere, silent, ""),
        Machine.__new__(Machine),
        origin,
        one("postgres://app:x@db/shop"),
        "shop.db",
        "db",
        "shop",
    )
    work = mover._work()
    shown = work.script + work.tag + work.about + mover.before()
    for text in (mover.swap(), mover.undo()):
        (inner,) = [line for line in text.splitlines() if len(line) > 200]
        shown += text + base64.b64decode(inner).decode()
    assert "hunter2" not in shown
    assert "db.example.com" in shown
    assert "hunter2" not in work.prepare
    (inner,) = [line for line in work.prepare.splitlines() if len(line) > 200]
    assert "hunter2" in base64.b64decode(inner).decode()  # its one way in
    assert mover.secret() == ""
    assert "shop_before" in mover.before()
