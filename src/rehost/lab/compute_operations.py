"""Operations: what every changing call answers, and what a client waits for."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ALL_ZONES, ZONES
from rehost.lab.compute_errors import OperationError, invalid, not_found
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.state import Cloud, Resource, link, timestamp

log = logging.getLogger(__name__)

# Compute Engine's operations.wait answers after 2 minutes at the latest, done or not.
LONGEST_WAIT = 120.0
# At pace 1.0: seconds PENDING, and seconds RUNNING before the work itself.
PENDING, RUNNING = 0.05, 0.15
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Work = Callable[[], Awaitable[None]]
Hold = Callable[[], Awaitable[None]] | None


class Operations:
    """Starts operations, and knows those of the past by name and by requestId."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._by_request: dict[str, tuple[str, Resource]] = {}
        self._done: dict[str, asyncio.Event] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()

    def repeated(self, call: Call, url: str) -> Resource | None:
        """The operation that the same requestId started before. `url` is the request's path: an id of another
        request is refused, as is one that is not a UUID or is all zeros."""
        request = call.query.get("requestId")
        if request is None:
            return None
        if not _UUID.fullmatch(request) or not request.strip("0-"):
            raise invalid("requestId", request, "Must be a valid, non-zero UUID.")
        if request not in self._by_request:
            return None
        first, operation = self._by_request[request]
        if first != f"{call.method.id} {url}":
            raise invalid("requestId", request, "Request ID was used for another request.")
        return operation

    def remember(self, call: Call, url: str, operation: Resource) -> None:
        if request := call.query.get("requestId"):
            self._by_request[request] = (f"{call.method.id} {url}", operation)

    def start(
        self,
        call: Call,
        kind: str,
        target: str,
        work: Work,
        undo: Callable[[], None] | None = None,
        lock: str = "",
    ) -> Resource:
        """The operation of a call: `begin` with the call's scope, fault and requestId."""
        operation = self.begin(
            call.scope, kind, target, work, undo=undo, fault=call.fault, hold=call.hold, lock=lock
        )
        if request := call.query.get("requestId"):
            operation["clientOperationId"] = request
        return operation

    def begin(
        self,
        scope: str,
        kind: str,
        target: str,
        work: Work,
        *,
        undo: Callable[[], None] | None = None,
        fault: OperationError | None = None,
        hold: Hold = None,
        user: str = "",
        lock: str = "",
    ) -> Resource:
        """An operation on `target` that does `work`, one at a time per target (or per `lock`). `undo` runs when
        it failed. One that has a `user` was called by nobody: a system event."""
        now = timestamp()
        name = f"operation-{int(time.time() * 1000)}-{secrets.token_hex(6)}-{secrets.token_hex(8)}"
        if user:
            name = f"systemevent-{int(time.time() * 1000)}-{secrets.token_hex(6)}-{secrets.token_hex(8)}"
        path = f"{scope}/operations/{name}"
        operation = self.cloud.add(
            path,
            {
                "kind": "compute#operation",
                "operationType": kind,
                "targetLink": link(target),
                "targetId": self.cloud.resources.get(target, {}).get("id", self.cloud.number),
                "status": "PENDING",
                "user": user or self.cloud.account,
                "progress": 0,
                "insertTime": now,
            },
        )
        if not scope.endswith("/global"):
            word = "zone" if "/zones/" in scope else "region"
            operation[word] = link(scope)
        self._done[path] = asyncio.Event()
        task = asyncio.create_task(self._run(path, operation, lock or target, work, undo, fault, hold))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    async def _run(
        self,
        path: str,
        operation: Resource,
        target: str,
        work: Work,
        undo: Callable[[], None] | None,
        fault: OperationError | None,
        hold: Hold,
    ) -> None:
        pace = self.cloud.pace
        try:
            await asyncio.sleep(PENDING * pace)
            if hold:
                operation |= {"status": "RUNNING", "startTime": timestamp()}
                await hold()  # without the lock: what is done to the same thing meanwhile is not held
            async with self._locks[target]:
                operation |= {"status": "RUNNING", "startTime": timestamp()}
                await asyncio.sleep(RUNNING * pace)
                operation["progress"] = 50
                await (_failing(fault) if fault else work())
        except OperationError as error:
            operation |= error.fields()
        except Exception as error:  # whatever broke, the client must see its operation end
            log.exception("%s of %s failed", operation["operationType"], target)
            operation |= OperationError(
                "INTERNAL_ERROR",
                f"Internal error. The lab says: {error}",
                status=500,
                phrase="INTERNAL SERVER ERROR",
            ).fields()
        finally:
            if "error" in operation and undo:
                undo()
            operation |= {"status": "DONE", "progress": 100, "endTime": timestamp()}
            self._done.pop(path).set()
            self.cloud.touch()

    async def wait(self, path: str, seconds: float = LONGEST_WAIT) -> Resource:
        """The operation once it is DONE, or as it is after `seconds`."""
        operation = self.cloud.get(path)
        if path in self._done:
            try:
                await asyncio.wait_for(self._done[path].wait(), seconds)
            except TimeoutError:
                log.info("%s is not done after %s s", operation["name"], seconds)
        return operation

    def forget(self, path: str) -> None:
        """Deletes the record of an operation; one that still runs is carried out all the same."""
        self.cloud.remove(path)

    async def close(self) -> None:
        """Ends what still runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _failing(fault: OperationError) -> None:
    raise fault


def _operation_path(call: Call) -> str:
    wanted = call.path["operation"]
    path = f"{call.scope}/operations/{wanted}"
    if path in call.cloud.resources:
        return path
    for operation in call.cloud.under(f"{call.scope}/operations"):
        if operation["id"] == wanted:
            return f"{call.scope}/operations/{operation['name']}"
    raise not_found(path)


def _get(call: Call) -> Resource:
    return call.cloud.get(_operation_path(call))


def _list(call: Call) -> Resource:
    return page(call, "compute#operationList", call.cloud.under(f"{call.scope}/operations"))


def _delete(call: Call) -> Resource:
    call.operations.forget(_operation_path(call))
    return {}


@method("globalOperations.aggregatedList", "GET", "/aggregated/operations", query=AGGREGATED_QUERY)
def _aggregated(call: Call) -> Resource:
    places = ["global", *(f"regions/{region}" for region in ZONES), *(f"zones/{zone}" for zone in ALL_ZONES)]
    scopes = {place: call.cloud.under(f"{call.project}/{place}/operations") for place in places}
    return aggregated(call, "compute#operationAggregatedList", "operations", scopes)


async def _wait(call: Call) -> Resource:
    return await call.operations.wait(_operation_path(call))


for _family, _where in (
    ("zoneOperations", "/zones/{zone}"),
    ("regionOperations", "/regions/{region}"),
    ("globalOperations", "/global"),
):
    method(f"{_family}.get", "GET", f"{_where}/operations/{{operation}}")(_get)
    method(f"{_family}.list", "GET", f"{_where}/operations", query=LIST_QUERY)(_list)
    method(f"{_family}.delete", "DELETE", f"{_where}/operations/{{operation}}")(_delete)
    method(f"{_family}.wait", "POST", f"{_where}/operations/{{operation}}/wait")(_wait)
