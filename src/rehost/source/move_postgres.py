"""A PostgreSQL database that moves into a service of the app: dumped from one snapshot, restored beside the target.

Everything runs on the machine, in the service's own image, which has the tools of its version; the data goes from the
origin to the machine directly. See move_postgres.sh and the files beside it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rehost.machine import units
from rehost.machine.ssh import Machine
from rehost.run.errors import Refused, RehostError
from rehost.source import reach
from rehost.source.moving import Content, Copied
from rehost.source.reach_url import Database

WAL: Final = 1 << 30  # bytes: max_wal_size as PostgreSQL comes; a restore fills it
SPARE: Final = 64 << 20
_MODES: Final = {"true": "verify-full", "1": "require", "yes": "require", "false": "disable", "0": "disable"}
_LIBPQ: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_AUTHORITY: Final = "/tmp/rehost-moving.ca"  # noqa: S108 - in the container
# What an address may say besides, as libpq's environment calls it ("Environment Variables" of its documentation).
_OPTIONS: Final = {
    "options": "PGOPTIONS",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
# Images that have what PostgreSQL's own image lacks.
_IMAGES: Final = {
    "vector": "pgvector/pgvector:pg",
    "postgis": "postgis/postgis:",
    "timescaledb": "timescale/timescaledb:latest-pg",
}


class Seen(NamedTuple):
    """What was there on both sides: see move_postgres_look.sh and move_postgres_look.sql. free: in bytes."""

    origin: Mapping[str, Any]
    service: Mapping[str, Any]
    names: Mapping[str, Any]
    free: int
    target: Mapping[str, Any] | None = None
    rows: bool = False  # whether any table of the target holds one


def parse(text: str) -> Seen:
    """The lines of move_postgres_look.sh."""
    words = (line.partition(" ") for line in text.splitlines())
    return Seen(**{word: json.loads(rest) for word, _, rest in words if word in Seen._fields})


def mode(origin: Database) -> str:
    """libpq's sslmode for what the address says, in whichever driver's words; "" when it says nothing."""
    said = (origin.options.get("sslmode") or origin.options.get("ssl") or "").lower()
    if origin.options.get("sslrootcert") == "system":
        return "verify-full"
    found = _MODES.get(said, said)
    return found if found in _LIBPQ else ""


def from_origin(origin: Database) -> str:
    """A function of sh that runs a program with the origin's address in its environment. It holds the password."""
    values = {
        "PGHOST": ",".join(host for host, _ in origin.hosts),
        "PGPORT": ",".join(str(port) for _, port in origin.hosts),
        "PGUSER": origin.user or origin.options.get("user", ""),
        "PGPASSWORD": origin.password.reveal() or origin.options.get("password", ""),
        "PGDATABASE": origin.path or origin.options.get("dbname", ""),
        **{_OPTIONS[name]: value for name, value in origin.options.items() if name in _OPTIONS},
    }
    if mode(origin).startswith("verify"):
        values["PGSSLROOTCERT"] = _AUTHORITY
    # An empty user or database means libpq's default, and so does one that is not set.
    lines = [f"  export {name}={shlex.quote(value)}" for name, value in values.items() if value]
    return "\n".join(("from_origin() (", *lines, '  export PGSSLMODE="$MODE"', '  exec "$@"', ")"))


def inner(target: Database | None, origin: Database | None, script: str, **more: str) -> str:
    """What runs in the container: a script behind the parameters that it needs. With an origin it holds a secret."""
    head = {
        "NAME": target.path if target else "",
        "OWNER": target.user if target else "",
        "MODE": mode(origin) if origin else "",
        "HOST": "",
        **more,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in head.items()]
    if origin:
        lines.append(from_origin(origin))
    return "\n".join((*lines, _text("move_postgres.sh"), _text(script)))


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def in_container(container: str, script: str) -> str:
    """sh for the machine: runs a script in the container. Nothing of it stands in an argv."""
    text = base64.b64encode(script.encode()).decode()
    run = f"docker exec -i {shlex.quote(container)} sh -c 'eval \"$(cat)\"'"
    return f"base64 -d <<'REHOST_INNER' | {run}\n{text}\nREHOST_INNER\n"


def refuse(seen: Seen, service: str, label: str) -> None:
    """Raises Refused for what cannot end well, before anything is copied."""
    origin, ours, names = seen.origin, seen.service, seen.names
    what, cure = "", ""
    lacking = sorted(set(origin["extensions"]) - set(ours["extensions"]))
    need = origin["size"] + min(origin["size"], WAL) + SPARE
    if origin["version"] > ours["version"]:
        what = (
            f"the origin is PostgreSQL {origin['version']}, and service {service} {ours['version']}: too old."
        )
        cure = (
            f"Raise `image` of [services.{service}] to version {origin['version']} or later, with a volume of its own: "
            "a newer server does not start on an older one's files."
        )
    elif lacking:
        what = f"the origin uses extensions that the image of service {service} lacks: {', '.join(lacking)}."
        known = ", ".join(f"{_IMAGES[name]}... has {name}" for name in lacking if name in _IMAGES)
        known = f" ({known})" if known else ""
        cure = f"Name an image that has them in [services.{service}]{known}, or drop them at the origin."
    elif not ours["role"]:
        what = (
            f"the service {service} has no user {ours['owner']}, with which the app's own variable logs in."
        )
        cure = f"Make it there, or let the variable name the one of POSTGRES_USER of service {service}."
    elif names["moving"] and not names["ours"]:
        what = f"service {service} has a database {names['name']}_moving that no move has made."
        cure = "Rename it: the copy needs this name."
    elif names["before"] and not names["moved"]:
        what = f"service {service} has a database {names['name']}_before that no move has made."
        cure = "Rename it: what the move replaces is kept under this name."
    elif need > seen.free + ours["freed"]:
        what = f"the copy may take {size(need)}, and the machine has {size(seen.free + ours['freed'])} free for it."
        cure = "Raise `disk` under [machine] in rehost.toml, then run `rehost up`."
    if what:
        raise Refused(what, where=label, cure=cure)


def size(count: int) -> str:
    """A number of bytes for a person."""
    for unit, shift in (("GB", 30), ("MB", 20), ("kB", 10)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):,.1f} {unit}"
    return f"{count} bytes"


def _counted(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def contents(seen: Seen) -> tuple[Content, Content]:
    """Both sides in words. A target whose tables hold no row is empty: migrations make such."""
    of = [side for side in (seen.origin, seen.target) if side is not None]
    words = [
        f"{_counted(side['tables'], 'table')}, about {_counted(side['rows'], 'row')}, {size(side['size'])}"
        for side in of
    ]
    empty = seen.target is None or not seen.rows
    target = words[1] if seen.target is not None else "no database yet"
    if seen.target is not None and empty:
        target = f"{_counted(seen.target['tables'], 'table')}, no row"
    return Content(words[0], not seen.origin["tables"]), Content(target, empty)


def left(origin: Mapping[str, Any]) -> list[str]:
    """What pg_dump leaves where it is, a sentence each."""
    said = []
    if found := origin["databases"]:
        said.append(f"Other databases of the origin do not move: {', '.join(found)}.")
    if found := origin["roles"]:
        said.append(
            f"All will belong to the app's user; the origin has tables of others, too: {', '.join(found)}. "
            "Grants do not move."
        )
    if found := origin["settings"]:
        said.append(
            f"Settings of the origin's database or user (ALTER DATABASE, ALTER ROLE) do not move: {', '.join(found)}."
        )
    if origin["publications"] or origin["slots"]:
        said.append(
            f"Replication does not move: {_counted(origin['publications'], 'publication')}, "
            f"{_counted(origin['slots'], 'replication slot')}."
        )
    return said


class Postgres:
    """A Mover. door: see reach.of_machine. origin: where the database is today. container: the service's, in Docker.

    target: the app's own variable that names the service, for the database and its user; without one the container's
    POSTGRES_DB and POSTGRES_USER count. notes: sentences for a person, filled by `look` and `copy`.
    """

    def __init__(
        self,
        door: reach.Door,
        machine: Machine,
        origin: Database,
        target: Database | None,
        container: str,
        name: str,
        app: str,
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self._door, self._machine, self._origin, self._target = door, machine, origin, target
        self._container, self._app = container, app

    async def look(self) -> tuple[Content, Content]:
        """Origin and target. Raises Refused for what cannot be moved, with what to do about it."""
        finding = await reach.prove(self._door, self._origin)
        if finding.severity == "error":
            raise Refused(finding.what, where=self._machine.label, cure=finding.cure)
        look, rows = _text("move_postgres_look.sql"), _text("move_postgres_rows.sql")
        script = self._asking("move_postgres_look.sh", LOOK=look, ROWS=rows)
        done = await self._machine.run(script, what="looking at both sides", check=False)
        if done.status != 0:
            raise self._failed("could not be looked at", done.stderr)
        seen = parse(done.stdout)
        refuse(seen, self.name, self._machine.label)
        self.notes = left(seen.origin)
        return contents(seen)

    def _failed(self, what: str, stderr: str) -> RehostError:
        lines = [line for line in stderr.strip().splitlines() if line.strip()]
        down = any("is not running" in line or "No such container" in line for line in lines)
        return RehostError(
            f"the databases of {self.name} {what}: {lines[0] if lines else 'no reason was given'}",
            where=self._machine.label,
            detail="\n".join(lines[1:][-15:]),
            cure="`rehost up` starts the service."
            if down
            else "Put right what is said here, then run the same again.",
        )

    def _authority(self) -> str:
        """A command of sh that writes the certificates that are to be trusted; "" where the address wants none."""
        if not mode(self._origin).startswith("verify"):
            return ""
        text = reach.authority(self._door, self._origin)
        return f"printf '%s' {shlex.quote(text)}" if text else "cat /etc/ssl/certs/ca-certificates.crt"

    def _asking(self, script: str, **more: str) -> str:
        """sh for the machine: runs a script in the service's container that asks the origin, too."""
        given = self._authority()
        if given:
            given += f" | docker exec -i {shlex.quote(self._container)} sh -c 'cat >{_AUTHORITY}' || exit 1\n"
        return given + in_container(self._container, inner(self._target, self._origin, script, **more))

    async def copy(self, say: Callable[[str], None]) -> Copied:
        """Copies as a unit of the machine, which goes on without us; what is under way already is followed."""
        while True:
            run = _Run(say)
            ended = await units.run_unit(self._machine, self._work(), run.line)
            other = ended.attached_tag is not None and ended.attached_tag != self._tag
            if ended.attached_tag is not None and (other or ended.status != 0):
                say("the copy that was under way has ended; copying")
                continue
            if ended.status != 0:
                full = units.DISK_FULL if ended.full else ""
                raise RehostError(
                    f"{self.name} was not copied: {full or run.reason or f'status {ended.status}'}",
                    where=self._machine.label,
                    detail="\n".join(run.log[-30:]),
                    cure=units.MORE_DISK
                    if ended.full
                    else "Nothing that serves was touched. Put right what is said here, then run the same again.",
                )
            # What was under way may have begun before the origin was made quiet.
            if ended.attached_tag is not None and await self._state() != run.state:
                say("the origin was written to since the copy that was under way began; copying once more")
                continue
            self.notes += [note for note in run.notes if note not in self.notes]
            return run.copied()

    async def _state(self) -> str:
        """The origin's transactions: the same text twice says that nothing was written in between."""
        script = self._asking("move_postgres_state.sh")
        done = await self._machine.run(script, what="asking the origin", check=False)
        if done.status != 0:
            raise self._failed("could not be asked", done.stderr)
        return done.stdout.strip()

    @property
    def _tag(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self._origin.hosts)
        return f"{hosts}/{self._origin.path} to {self._target.path if self._target else ''}"

    def _work(self) -> units.Work:
        script = inner(
            self._target,
            self._origin,
            "move_postgres_copy.sh",
            FAIL="@fail ",
            HOST="127.0.0.1",
            COUNT=_text("move_postgres_count.sql"),
            SEQUENCES=_text("move_postgres_sequences.sql"),
        )
        directory = f"/var/lib/rehost/{self._app}/moving/{self.name}/unit"
        head = {"DIR": directory, "CONTAINER": self._container, "MOVER": f"{self._app}.moving.{self.name}"}
        text = base64.b64encode(script.encode()).decode()
        lines = ['chmod 700 "${dir%/*}"', 'rm -f "$dir/authority"']
        if given := self._authority():
            lines.append(f'{given} >"$dir/authority" || exit 1')
        lines += ["base64 -d >\"$dir/inner\" <<'REHOST_INNER' || exit 1", text, "REHOST_INNER"]
        return units.Work(
            unit=f"rehost-{self._app}.moving.{self.name}.service",
            directory=directory,
            about=f"rehost: copies {self.name} of {self._app}",
            tag=self._tag,
            script="".join(f"{key}={shlex.quote(value)}\n" for key, value in head.items())
            + _text("move_postgres_unit.sh"),
            prepare="\n".join(lines),
        )

    def swap(self) -> str:
        return in_container(self._container, inner(self._target, None, "move_postgres_swap.sh"))

    def undo(self) -> str:
        return in_container(self._container, inner(self._target, None, "move_postgres_swap.sh", UNDO="1"))

    def secret(self) -> str:
        """Nothing: the server's socket asks for no password."""
        return ""

    def before(self) -> str:
        """What to tell of what the move has replaced."""
        name = f"{self._target.path if self._target and self._target.path else 'NAME'}_before"
        drop = f'dropdb -U "${{POSTGRES_USER:-postgres}}" {shlex.quote(name)}'
        return (
            f"What service {self.name} held before is its database {name}. When nobody misses it, on the machine "
            f"(`rehost ssh`): sudo docker exec {self._container} sh -c {shlex.quote(drop)}"
        )

    async def close(self) -> None:
        """Nothing is open."""


class _Run:
    """What the unit said so far."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.reason, self.state, self.sent = "", "", 0
        self.log: list[str] = []
        self.notes: list[str] = []
        self.counts: Mapping[str, int] = {}

    def line(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "@step":
            self._say(rest)
        elif word == "@fail":
            self.reason = self.reason or rest
        elif word == "@state":
            self.state = rest
        elif word == "@note":
            self.notes.append(rest)
        elif word == "@sent":
            with contextlib.suppress(ValueError):
                self.sent = int(rest)
        elif word == "@counted":
            self.counts = json.loads(rest)
        else:
            self.log.append(rest if word == "@log" else text)

    def copied(self) -> Copied:
        words = [_counted(self.counts["tables"], "table"), _counted(self.counts["rows"], "row")]
        words += [_counted(self.counts[kind], one) for kind, one in _MORE if self.counts[kind]]
        return Copied(", ".join(words), size(self.sent))


_MORE: Final = (("sequences", "sequence"), ("objects", "large object"))
