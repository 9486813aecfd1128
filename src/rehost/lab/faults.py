"""Faults on order: the next N calls of a method are answered with what goes wrong in real clouds."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from rehost.lab.compute_call import METHODS, Call
from rehost.lab.compute_errors import (
    ApiError,
    OperationError,
    not_found,
    quota_exceeded,
    stockout,
    unauthenticated,
)
from rehost.run.errors import UsageError

IN_OPERATION = ("stockout", "quota")
# hang: no answer, for ever. reset: the connection breaks before anything was done. lost: it breaks after the call
# was carried out. truncated: carried out, and the answer breaks off in the middle. 502: the front end's HTML.
ON_WIRE = ("hang", "reset", "lost", "truncated", "502")
IN_ANSWER = (
    "accessNotConfigured",
    "billing",
    "rateLimitExceeded",
    "401",
    "404",
    "409",
    "412",
    "429",
    "500",
    "503",
)
ALL = (*IN_ANSWER, *IN_OPERATION, *ON_WIRE)
BILLING_METHOD = "projects.getBillingInfo"


@dataclass
class Order:
    """`method` may hold * ("instances.*"); `times` is what is left."""

    method: str
    fault: str
    times: int


class Faults:
    """Orders, first come first served."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def order(self, method: str, fault: str, times: int = 1) -> None:
        check(method, fault, times)
        self.orders.append(Order(method, fault, times))

    def clear(self) -> None:
        self.orders.clear()

    def take(self, method: str) -> str | None:
        """The fault for this call, if one is ordered; it is used up by it."""
        for order in self.orders:
            if fnmatchcase(method, order.method):
                order.times -= 1
                if order.times <= 0:
                    self.orders.remove(order)
                return order.fault
        return None


def check(method: str, fault: str, times: int) -> None:
    """Raises UsageError for an order that could never be served."""
    known = {**{id_: m.mutating for id_, m in METHODS.items()}, BILLING_METHOD: False}
    matched = [id_ for id_ in known if fnmatchcase(id_, method)]
    if fault not in ALL:
        raise UsageError(
            f"{fault!r} is not a fault that the lab has", cure=f"Choose one of: {', '.join(ALL)}."
        )
    if not matched:
        raise UsageError(
            f"no method of the lab's API is called {method!r}",
            cure="Write it as Google does, for example instances.insert, or with a star: instances.*",
        )
    if fault in IN_OPERATION and not any(known[id_] for id_ in matched):
        raise UsageError(
            f"{fault} is an error of operations, and {method} starts none",
            cure="Order it for a method that changes something, for example instances.insert.",
        )
    if times < 1:
        raise UsageError(f"a fault cannot be answered {times} times", cure="Give 1 or more.")


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
        "412": ApiError(
            412,
            "conditionNotMet",
            "Supplied fingerprint does not match current metadata fingerprint.",
            location="If-Match",
        ),
        "500": ApiError(500, "backendError", "Internal Error"),
        "503": ApiError(503, "backendError", "The service is currently unavailable.", rpc="UNAVAILABLE"),
    }[fault]


def operation_error(fault: str | None, call: Call) -> OperationError | None:
    """The operation's error for a fault of IN_OPERATION."""
    zone = call.path.get("zone", "us-west1-a")
    kind = str(call.body.get("machineType", "e2-micro")).rsplit("/", 1)[-1]
    if fault == "stockout":
        return stockout(call.cloud.project, zone, kind)
    if fault == "quota":
        return quota_exceeded("CPUS", 24.0, call.path.get("region", zone.rsplit("-", 1)[0]))
    return None


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
