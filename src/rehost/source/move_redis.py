"""Moves what a Redis, Valkey or Key Value store holds into a service on the machine. See redis_copy.py.

The copy is another database number of the same server; the swap is SWAPDB. A mark in the copy's database says what that
database is: "copying", "copy" (verified), or "before" (what the service held before the swap). It changes in the same
step as the databases do, so whoever comes after a cut knows by it alone how far things were.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Callable
from typing import Any, Final

from rehost.machine.ssh import Machine
from rehost.run.errors import Refused, RehostError
from rehost.source import reach, reach_redis, redis_look, redis_swap
from rehost.source.moving import Content, Copied
from rehost.source.reach_pipe import Fault
from rehost.source.reach_url import Database
from rehost.source.redis_copy import Copying
from rehost.source.redis_side import MARKER, NotAllowed, Side, shown
from rehost.source.resp import Client, Command

ROUNDS: Final = 6  # how often what changed meanwhile is sent again before that is given up
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds after each break of a connection in one copy
_TRIAL: Final = b"rehost:trial"


class Redis:
    """A Mover. target: the variable of the app that names the service, None where no variable does.

    container: Docker's name. rehearse: keys that change all the while are a remark, and no failure.
    """

    def __init__(
        self,
        door: reach.Door,
        machine: Machine,
        origin: Database,
        target: Database | None,
        container: str,
        name: str,
        rehearse: bool = False,
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self._door = door
        self._machine = machine
        self._origin = origin
        self._target = target
        self._container = container
        self._rehearse = rehearse
        self._numbers = (_number(origin), _number(target))
        self._spare = -1
        self._gives_way = False  # what was kept before an earlier move: said by look, so copy may remove it
        self._inspected: dict[str, Any] = {}
        self._sent = self._size = 0
        self._clients: list[Client] = []

    async def look(self) -> tuple[Content, Content]:
        """Raises Refused for what would not work; changes nothing."""
        await self._prove()
        self.notes.clear()
        try:
            theirs, ours = await self._open_origin(), await self._open_target()
            origin, there = await _facts(theirs.client), await _facts(ours.client)
            place = await self._place(ours)
            spare = await self._find(ours, there, place)
            from_, to = self._numbers
            if origin.cluster:
                raise Refused(
                    f"what {self._origin.variable} names is a cluster: one address shows a part of its keys alone",
                    cure="Move it by its provider's export, or let the app fill a new store.",
                    where=self.name,
                )
            self.notes += redis_look.fits(origin, from_, there, spare, place)
            self.notes += redis_look.remarks(origin, from_, there, place)
            try:
                await self._try(theirs, ours)
            except NotAllowed as no:
                what = f"{no.what} (from {origin.version} to {there.version})"
                raise Refused(what, cure=no.cure, where=self.name) from no
            await self._select(ours, to)
            counts = await theirs.size(), await ours.size()
            kept = await self._kept(ours)
        except Fault as fault:
            raise self._broken(fault) from fault
        finally:
            await self.close()
        if kept and self._rehearse:
            raise self._occupied(kept)
        self._gives_way = kept > 0
        before = f", and {kept:,} of before the last move, which give way" if kept else ""
        memory = f", about {redis_look.size(redis_look.share(origin, from_))}" if origin.dataset else ""
        return (
            Content(f"{counts[0]:,} keys{memory} ({origin.version})", counts[0] == 0),
            Content(f"{counts[1]:,} keys ({there.version}){before}", counts[1] == 0 and not kept),
        )

    async def copy(self, say: Callable[[str], None]) -> Copied:
        """Raises RehostError when keys still differ after ROUNDS, unless it is a rehearsal."""
        self._sent = self._size = 0
        self.notes.clear()
        for pause in (*PAUSES, -1.0):
            try:
                return await self._rounds(say)
            except (Fault, RehostError) as broke:
                error = self._broken(broke) if isinstance(broke, Fault) else broke
                if not error.retryable or pause < 0:
                    raise error from broke
                say(f"{error.what}; once more, from where it was")
            finally:
                await self.close()
            await asyncio.sleep(pause)
        raise AssertionError("the last one returns or raises")

    async def _rounds(self, say: Callable[[str], None]) -> Copied:
        theirs, ours = await self._begin()
        changes = (await _facts(theirs.client)).changes
        copying = Copying(theirs, ours, say)
        try:
            for number in range(1, ROUNDS + 1):
                last = await copying.round(await theirs.size())
                if last.clean:
                    break
                say(f"round {number}: {last.sent:,} keys sent, {last.removed:,} removed; comparing")
        finally:
            self._sent, self._size = self._sent + copying.sent, self._size + copying.size
        told = f"{self._sent:,} keys, {redis_look.size(self._size)}"
        count = await ours.size() - 1
        if last.clean:
            ours.expected("SET", await ours.client.one("SET", MARKER, "copy"))
            changes = (await _facts(theirs.client)).changes - changes
            if changes > 0 and not self._rehearse:  # less when it was saved meanwhile
                self.notes.append(
                    f"Somebody wrote to {theirs.label} while it was copied ({changes:,} changes). What comes after the "
                    "comparison is not in the copy: is the old app quiet?"
                )
            return Copied(f"{count:,} keys", told)
        names = ", ".join(shown(key) for key in last.differed)
        what = f"keys in {theirs.label} change faster than they are copied, {ROUNDS} times over ({names})"
        if not self._rehearse:
            raise RehostError(
                what,
                where=self.name,
                cure="Make the app quiet where it runs today (on Render: maintenance mode), then run it again.",
            )
        self.notes.append(f"In the move itself the app must be quiet where it runs today: {what}.")
        return Copied(f"{count:,} keys, some of which still change", told)

    def swap(self) -> str:
        """SWAPDB, where the copy was verified; nothing where that is done already."""
        return self._turn("copy", "before", f"service {self.name} has what was copied", must=True)

    def undo(self) -> str:
        """SWAPDB back, where it was swapped; nothing else."""
        return self._turn("before", "copying", f"service {self.name} has what it had before", must=False)

    def secret(self) -> str:
        return self._target.password.reveal() if self._target is not None else ""

    def before(self) -> str:
        """Where what the service held is kept, and how it goes."""
        return (
            f"database {self._spare} of service {self.name}; `redis-cli -n {self._spare} FLUSHDB` in the container "
            f"{self._container} removes it"
        )

    async def close(self) -> None:
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    def _turn(self, mark: str, then: str, about: str, *, must: bool) -> str:
        if self._spare < 0:
            raise RehostError("nothing was copied yet", where=self.name, cure="Copy first.")
        numbers = (self._numbers[1], self._spare)
        options = ["-p", str(self._target.hosts[0][1] if self._target is not None else 6379)]
        if self._target is not None and self._target.user:
            options += ["--user", self._target.user]
        return redis_swap.turn(self._container, options, numbers, mark, then, about, must=must)

    # -- reaching both sides -------------------------------------------------------------------------------

    async def _prove(self) -> None:
        """Raises Refused: the origin does not let the machine in, in the words of `rehost check`."""
        if self._origin.inside:
            raise Refused(
                f"{self._origin.variable} names {self._origin.hosts[0][0]}, which only the platform itself finds",
                cure="Give the store's external address (on Render: Connect, External), and let the machine's address "
                f"{self._door.address} into its access list.",
                where=self.name,
            )
        found = await reach.prove(self._door, self._origin)
        if found.severity != "ok":
            raise Refused(found.what, cure=found.cure, where=self.name)

    async def _open_origin(self) -> Side:
        """Raises NotAllowed, Fault."""
        host, port = self._origin.hosts[0]
        client = await self._login(self._origin, host, port)
        return await self._side(client, f"the store of {self._origin.variable}")

    async def _open_target(self) -> Side:
        """On the network of Docker: the service publishes no port. Raises RehostError, Fault."""
        self._inspected = await self._inspect()
        networks = self._inspected["NetworkSettings"]["Networks"].values()
        address = next((each["IPAddress"] for each in networks if each["IPAddress"]), "")
        port = self._target.hosts[0][1] if self._target is not None else 6379
        if self._target is not None and self._target.tls:
            raise Refused(
                f"{self._target.variable} speaks TLS with service {self.name}, which is not provided for",
                cure="Write redis:// there: the service is on a network of the app's own, inside the machine.",
                where=self.name,
            )
        plain = (self._target or Database("", "redis", ((address, port),)))._replace(path="", options={})
        try:
            client = await self._login(plain, address, port)
        except Fault as fault:
            login = fault.kind == "login"
            named = f" with what {self._target.variable} says" if self._target is not None else ""
            raise RehostError(
                f"service {self.name} on the machine lets nobody in{named}: {fault.words or fault.kind}",
                where=self._machine.label,
                cure=f"Give the app a variable with the service's address, redis://:PASSWORD@{self.name}:{port}."
                if login
                else f"`rehost status` shows whether it runs; `docker logs {self._container}` there says why not.",
                retryable=not login,
            ) from fault
        return await self._side(client, f"service {self.name}")

    async def _login(self, database: Database, host: str, port: int) -> Client:
        """Raises Fault."""
        pipe = await self._door.open(host, port, reach.SECONDS)
        try:
            async with asyncio.timeout(reach.SECONDS):
                await reach_redis.login(pipe, database, host, reach.authority(self._door, database))
        except TimeoutError:
            pipe.close()
            raise Fault("silent", "it took the connection and then said nothing") from None
        except BaseException:
            pipe.close()
            raise
        return Client(pipe)

    async def _side(self, client: Client, label: str) -> Side:
        self._clients.append(client)
        side = Side(client, label)
        await side.prepare()
        return side

    async def _inspect(self) -> dict[str, Any]:
        out = await self._machine.run(
            f"docker container inspect {shlex.quote(self._container)}",
            what=f"asking for {self._container}",
            check=False,
        )
        found = json.loads(out.stdout or "[]")
        if not found or not found[0]["State"]["Running"]:
            raise Refused(
                f"service {self.name} does not run on the machine",
                cure="`rehost up` starts it.",
                where=self._machine.label,
                retryable=True,
            )
        inspected: dict[str, Any] = found[0]
        return inspected

    def _broken(self, fault: Fault) -> RehostError:
        return RehostError(
            f"a connection broke in the middle: {fault.words or fault.kind}",
            where=self.name,
            cure="Run the same command again: it sends only what is missing.",
            retryable=True,
        )

    # -- databases -----------------------------------------------------------------------------------------

    async def _begin(self) -> tuple[Side, Side]:
        """Both sides, with the copy's database chosen and marked. Raises RehostError, Fault."""
        theirs, ours = await self._open_origin(), await self._open_target()
        there = await _facts(ours.client)
        await self._find(ours, there, await self._place(ours))
        kept = await self._kept(ours)
        if kept and not self._gives_way:
            raise self._occupied(kept)
        await self._select(ours, self._spare)
        if kept:
            ours.expected("FLUSHDB", await ours.client.one("FLUSHDB", "ASYNC"))
        ours.expected("SET", await ours.client.one("SET", MARKER, "copying"))
        return theirs, ours

    async def _place(self, ours: Side) -> redis_look.Place:
        configured = {}
        for name in ("databases", "save", "dir"):
            match await ours.client.one("CONFIG", "GET", name):
                case [bytes(key), bytes(value)]:
                    configured[key.decode()] = value.decode()
        return redis_look.place(self.name, self._inspected, configured)

    async def _find(self, ours: Side, there: redis_look.Facts, place: redis_look.Place) -> int:
        marked = []
        for number in there.keys:
            await self._select(ours, number)
            if await ours.client.one("EXISTS", MARKER) == 1:
                marked.append(number)
        self._spare = redis_look.spare(there, place, self._numbers[1], marked)
        return self._spare

    async def _select(self, side: Side, number: int) -> None:
        side.expected(f"SELECT {number}", await side.client.one("SELECT", number))

    async def _kept(self, ours: Side) -> int:
        """How many keys of before an earlier move are still there."""
        await self._select(ours, self._spare)
        return await ours.size() - 1 if await ours.client.one("GET", MARKER) == b"before" else 0

    def _occupied(self, kept: int) -> Refused:
        return Refused(
            f"service {self.name} keeps {kept:,} keys of before the last move where the copy goes, in database "
            f"{self._spare}",
            cure=f"`rehost move {self.name}` replaces them. To rehearse, remove them first: `redis-cli -n "
            f"{self._spare} FLUSHDB` in the container {self._container}.",
            where=self.name,
        )

    async def _try(self, theirs: Side, ours: Side) -> None:
        """Whether the service takes a payload of the origin; it is taken out at once. Raises NotAllowed, Fault."""
        key = theirs.expected("RANDOMKEY", await theirs.client.one("RANDOMKEY"))
        if not isinstance(key, bytes):
            return
        ((payload, _),) = await theirs.payloads([key])
        if payload:
            await self._select(ours, self._spare)
            commands: list[Command] = [("RESTORE", _TRIAL, 0, payload, "REPLACE"), ("DEL", _TRIAL)]
            ours.expected("RESTORE", (await ours.client.ask(commands))[0])


def _number(database: Database | None) -> int:
    text = (database.path or database.options.get("db", "")) if database is not None else ""
    return int(text) if text.isdecimal() else 0


async def _facts(client: Client) -> redis_look.Facts:
    info, now = await client.one("INFO"), await client.one("TIME")
    clock = 0.0
    match now:
        case [bytes(seconds), bytes(micros)]:
            clock = int(seconds) * 1000 + int(micros) / 1000 - time.time() * 1000
    return redis_look.facts(info.decode(errors="replace") if isinstance(info, bytes) else "", clock)
