"""The API's front door: finds the method of a request, and asks its handler or a fault for the answer."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field

from rehost.lab import (
    compute_addresses,
    compute_attach,
    compute_body,
    compute_catalog,
    compute_custom_images,
    compute_disks,
    compute_firewalls,
    compute_images,
    compute_instance_calls,
    compute_instances,
    compute_lifetimes,
    compute_networks,
    compute_nics,
    compute_operations,
    compute_policies,
    compute_power,
    compute_project,
    compute_quotas,
    compute_snapshots,
    compute_suspend,
    faults,
)
from rehost.lab.compute_call import METHODS, Call, Method
from rehost.lab.compute_errors import ApiError, unauthenticated
from rehost.lab.compute_firewalls import Packets
from rehost.lab.compute_operations import Operations
from rehost.lab.compute_schedules import Schedules
from rehost.lab.faults import Faults
from rehost.lab.state import Cloud, Resource
from rehost.lab.tokens import Issuer
from rehost.run.errors import UsageError

log = logging.getLogger(__name__)

# Importing a family enters its methods in the table.
FAMILIES = (
    compute_addresses,
    compute_attach,
    compute_catalog,
    compute_custom_images,
    compute_disks,
    compute_firewalls,
    compute_images,
    compute_instance_calls,
    compute_instances,
    compute_lifetimes,
    compute_networks,
    compute_nics,
    compute_operations,
    compute_policies,
    compute_project,
    compute_quotas,
    compute_snapshots,
    compute_suspend,
)


@dataclass(frozen=True)
class Request:
    """What the API needs of an HTTP request. `path` comes after /compute/v1/, without a query."""

    verb: str
    path: str
    query: dict[str, str]
    body: bytes = b""
    bearer: str | None = None


@dataclass(frozen=True)
class Answer:
    """`wire`: how the connection is to fail on order (faults.ON_WIRE); None: the body goes out whole."""

    status: int
    body: Resource
    wire: str | None = None


@dataclass
class Api:
    """The Compute API of one cloud."""

    cloud: Cloud
    issuer: Issuer
    faults: Faults = field(default_factory=Faults)
    operations: Operations = field(init=False)
    packets: Packets = field(init=False)
    schedules: Schedules = field(init=False)

    def __post_init__(self) -> None:
        self.operations = Operations(self.cloud)
        self.packets = Packets(self.cloud)
        self.schedules = Schedules(self.cloud, self.operations, self.packets)
        compute_project.fill(self.cloud)
        compute_networks.fill(self.cloud)
        compute_firewalls.fill(self.cloud)

    async def answer(self, request: Request) -> Answer:
        """Never raises: what breaks in the lab is Google's 500."""
        wire: str | None = None
        try:
            self.check_bearer(request.bearer)
            call, fault = self._call(request)
            if fault in ("hang", "reset", "502"):
                return Answer(502, {}, fault)
            wire = fault if fault in ("lost", "truncated") else None
            body = await self._carried_out(call, request)
            return Answer(200 if body else 204, body, wire)
        except ApiError as error:
            return Answer(error.status, error.body(), wire)
        except Exception as error:
            log.exception("%s %s broke", request.verb, request.path)
            return Answer(500, ApiError(500, "backendError", f"Internal Error. The lab says: {error}").body())

    def check_bearer(self, bearer: str | None) -> None:
        """Raises ApiError 401."""
        if bearer is None or not self.issuer.valid(bearer):
            raise unauthenticated(given=bearer is not None)

    def _call(self, request: Request) -> tuple[Call, str | None]:
        method, path = _method(request)
        call = Call(self.cloud, self.operations, self.packets, method, path, request.query)
        order = self.faults.take(method.id)
        fault = order.fault if order else None
        if fault in faults.IN_ANSWER:
            raise faults.answer(fault, self.cloud.project, self.cloud.number, request.path)
        compute_body.check_query(method, request.query)
        compute_catalog.check_place(call)
        call.body = compute_body.parse(request.body, method.body)
        call.cleared = compute_body.cleared(request.body)
        call.fault = faults.operation_error(order, call)
        call.hold = self.faults.hold(order)
        return call, fault

    async def _carried_out(self, call: Call, request: Request) -> Resource:
        if (known := self.operations.repeated(call, request.path)) is not None:
            return known
        made = call.method.handler(call)
        answer = await made if inspect.isawaitable(made) else made
        self.operations.remember(call, request.path, answer)
        return answer

    async def preempt(self, name: str) -> Resource:
        """Takes the machine of that name away as Compute Engine does with Spot machines; any machine that runs can
        be ordered to go so. The operation, which has just begun. Raises UsageError for one that does not run."""
        for path, instance in self.cloud.everywhere("instances"):
            if (instance["name"], instance["status"]) == (name, "RUNNING"):
                return compute_lifetimes.preempt(self.cloud, self.operations, self.packets, path)
        raise UsageError(f"no machine {name} runs", cure="`rehost lab status` lists the machines.")

    def machine_ended(self, name: str) -> None:
        """A machine powered itself off."""
        for _, instance in self.cloud.everywhere("instances"):
            if instance["name"] == name and instance["status"] == "RUNNING":
                self.packets.ended(name)
                compute_power.ended(self.cloud, instance)


_PATTERNS = [(method.verb, method.pattern, method) for method in METHODS.values()]


def _method(request: Request) -> tuple[Method, dict[str, str]]:
    """The method of a request and the names in its path. Raises ApiError 404, as for any path nobody knows."""
    for verb, pattern, method in _PATTERNS:
        if verb == request.verb and (match := pattern.fullmatch(request.path)):
            return method, match.groupdict()
    raise ApiError(404, "notFound", f"The lab has no method for {request.verb} {request.path}")


def billing_info(project: str) -> Resource:
    """Cloud Billing's projects.getBillingInfo."""
    return {
        "name": f"projects/{project}/billingInfo",
        "projectId": project,
        "billingAccountName": "billingAccounts/000000-000000-000000",
        "billingEnabled": True,
    }
