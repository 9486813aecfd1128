"""Faults of the API on order: the next calls of a method are answered with what goes wrong in real clouds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rehost.lab import fault_kinds
from rehost.lab.compute_call import METHODS, Call
from rehost.lab.compute_errors import (
    ApiError,
    OperationError,
    not_found,
    quota_exceeded,
    stale_fingerprint,
    stockout,
    unauthenticated,
)
from rehost.lab.fault_kinds import IN_ANSWER, IN_OPERATION, OF_CALLS, ON_WIRE
from rehost.run.errors import UsageError

__all__ = ["IN_ANSWER", "IN_OPERATION", "ON_WIRE", "Faults", "Order", "answer", "operation_error"]

BILLING_METHOD = "projects.getBillingInfo"


@dataclass
class Order:
    """`method` may hold * ("instances.*"); `times` is what is left; seconds: of a fault that has a length."""

    method: str
    fault: str
    times: int
    seconds: float | None = None

    def listed(self) -> dict[str, object]:
        made: dict[str, object] = {"method": self.method, "fault": self.fault, "times": self.times}
        if self.seconds is not None:
            made["seconds"] = self.seconds
        return {**made, "text": fault_kinds.text(made)}


class Faults:
    """Orders, first come first served."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self._held: dict[asyncio.Event, Order] = {}

    def order(self, method: str, fault: str, times: int = 1, seconds: float | None = None) -> None:
        check(method, fault, times, seconds)
        self.orders.append(Order(method, fault, times, seconds or OF_CALLS[fault].seconds))

    def clear(self, method: str | None = None) -> int:
        """Takes orders back, all or those of a method, and lets go operations that they hold. Returns how many."""
        held = [event for event, order in self._held.items() if method in (None, order.method)]
        for event in held:
            event.set()
        kept = [order for order in self.orders if method not in (None, order.method)]
        gone = len(self.orders) - len(kept)
        self.orders = kept
        return gone + len(held)

    def listed(self) -> list[dict[str, object]]:
        """What is in force, for `lab status`."""
        held = [{**order.listed(), "times": 0} for order in self._held.values()]
        return [order.listed() for order in self.orders] + [
            {**one, "text": f"an operation of {one['method']} is held: {one['fault']}"} for one in held
        ]

    def hold(self, order: Order | None) -> Callable[[], Awaitable[None]] | None:
        """What an operation waits for before its work, when it was ordered to be slow or never to end."""
        if order is None or order.fault not in ("slow", "endless"):
            return None

        async def held() -> None:
            lifted = asyncio.Event()
            self._held[lifted] = order
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lifted.wait(), order.seconds)
            finally:
                del self._held[lifted]

        return held

    def take(self, method: str) -> Order | None:
        """The fault for this call, if one is ordered; it is used up by it."""
        for order in self.orders:
            if fnmatchcase(method, order.method):
                order.times -= 1
                if order.times <= 0:
                    self.orders.remove(order)
                return order
        return None


def check(method: str, fault: str, times: int, seconds: float | None = None) -> None:
    """Raises UsageError for an order that could never be served."""
    known = {**{id_: m.mutating for id_, m in METHODS.items()}, BILLING_METHOD: False}
    matched = [id_ for id_ in known if fnmatchcase(id_, method)]
    if not matched:
        raise UsageError(
            f"no method of the lab's API is called {method!r}",
            cure=f"{fault_kinds.near(method, known)}Write it as Google does, for example instances.insert, or with "
            "a star: 'instances.*'; a machine is meant by `machine NAME`.",
        )
    kind = fault_kinds.kind(fault, OF_CALLS, "a method of the API")
    if fault in IN_OPERATION and not any(known[id_] for id_ in matched):
        raise UsageError(
            f"{fault} is an error of operations, and {method} starts none",
            cure="Order it for a method that changes something, for example instances.insert.",
        )
    fault_kinds.check_extent(kind, times, seconds)


def answer(fault: str, project: str, number: str, path: str) -> ApiError:
    """The refusal of a fault of IN_ANSWER, in Google's words. `path` is the resource that was asked for."""
    if fault == "accessNotConfigured":
        return _not_enabled(number)
    if fault == "billing":
        return ApiError(
            403,
            "forbidden",
            f"This API method requires billing to be enabled. Please enable billing on project #{number} by visiting "
            f"https://console.developers.google.com/billing/enable?project={number} then retry. If you enabled "
            "billing for this project recently, wait a few minutes for the action to propagate to our systems "
            "and retry.",
            rpc="PERMISSION_DENIED",
            details=[_info("BILLING_DISABLED", project, number)],
        )
    if fault in ("rateLimitExceeded", "429"):
        return ApiError(
            403 if fault == "rateLimitExceeded" else 429,
            "rateLimitExceeded",
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
            f"'compute.googleapis.com' for consumer 'project_number:{number}'.",
            domain="usageLimits",
            rpc="PERMISSION_DENIED" if fault == "rateLimitExceeded" else "RESOURCE_EXHAUSTED",
            details=[_info("RATE_LIMIT_EXCEEDED", project, number)],
        )
    return {
        "401": unauthenticated(given=True),
        "404": not_found(path),
        "409": ApiError(409, "alreadyExists", f"The resource '{path}' already exists"),
        "412": stale_fingerprint("metadata"),
        "500": ApiError(500, "backendError", "Internal Error"),
        "503": ApiError(503, "backendError", "The service is currently unavailable.", rpc="UNAVAILABLE"),
    }[fault]


def operation_error(order: Order | None, call: Call) -> OperationError | None:
    """The operation's error for a fault of IN_OPERATION; None for one that only delays it."""
    fault = order.fault if order else ""
    zone = call.path.get("zone", "us-west1-a")
    kind = str(call.body.get("machineType", "e2-micro")).rsplit("/", 1)[-1]
    if fault == "stockout":
        return stockout(call.cloud.project, zone, kind)
    if fault == "quota":
        return quota_exceeded("CPUS", 24.0, call.path.get("region", zone.rsplit("-", 1)[0]))
    if fault == "operation-409":
        return OperationError(
            "RESOURCE_ALREADY_EXISTS",
            f"The resource '{_target(call)}' already exists",
            status=409,
            phrase="CONFLICT",
        )
    if fault == "operation-412":
        stale = stale_fingerprint("metadata")
        return OperationError("CONDITION_NOT_MET", stale.message, status=412, phrase="PRECONDITION FAILED")
    return None


def _target(call: Call) -> str:
    """What a call is about: its path's last name, or the name in its body."""
    name = call.body.get("name") or [*call.path.values(), ""][-1]
    return f"{call.scope}/{call.method.id.split('.')[0]}/{name}"


def _info(reason: str, project: str, number: str) -> dict[str, object]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {
            "consumer": f"projects/{number}",
            "service": "compute.googleapis.com",
            "containerInfo": project,
        },
    }


def _not_enabled(number: str) -> ApiError:
    url = f"https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project={number}"
    info = _info("SERVICE_DISABLED", number, number)
    info["metadata"] = {
        "consumer": f"projects/{number}",
        "service": "compute.googleapis.com",
        "serviceTitle": "Compute Engine API",
        "activationUrl": url,
        "containerInfo": number,
    }
    return ApiError(
        403,
        "accessNotConfigured",
        f"Compute Engine API has not been used in project {number} before or it is disabled. Enable it by visiting "
        f"{url} then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our "
        "systems and retry.",
        domain="usageLimits",
        rpc="PERMISSION_DENIED",
        details=[
            info,
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Google developers console API activation", "url": url}],
            },
        ],
    )
