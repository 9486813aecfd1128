"""A call of the API, and the table of methods that resource families fill by `@method`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rehost.lab.compute_errors import OperationError
from rehost.lab.state import Cloud, Resource

if TYPE_CHECKING:
    from rehost.lab.compute_firewalls import Packets
    from rehost.lab.compute_operations import Operations

# Parameters that every Google API takes (the discovery document's own "parameters").
COMMON_QUERY = frozenset(
    [
        "$.xgafv",
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userIp",
    ]
)
LIST_QUERY = frozenset(("filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess"))
AGGREGATED_QUERY = LIST_QUERY | {"includeAllScopes", "serviceProjectNumber"}


# Whose images everybody may use; the lab knows one other project.
IMAGE_PROJECT = "debian-cloud"


@dataclass
class Call:
    """One request, past authentication. `fault` waits for the operation that the call starts."""

    cloud: Cloud
    operations: Operations
    packets: Packets
    method: Method
    path: dict[str, str]
    query: dict[str, str]
    body: Resource = field(default_factory=dict)
    fault: OperationError | None = None

    @property
    def project(self) -> str:
        return f"projects/{self.cloud.project}"

    @property
    def scope(self) -> str:
        """The part of the project that the call is about: "projects/p/zones/z", ".../regions/r", ".../global"."""
        if "zone" in self.path:
            return f"{self.project}/zones/{self.path['zone']}"
        if "region" in self.path:
            return f"{self.project}/regions/{self.path['region']}"
        return f"{self.project}/global"


Handler = Callable[[Call], Resource | Awaitable[Resource]]


@dataclass(frozen=True)
class Method:
    """`id` as in the discovery document, "instances.insert"; `body` names a table in compute_body."""

    id: str
    verb: str
    template: str
    handler: Handler
    body: str
    query: frozenset[str]

    @property
    def mutating(self) -> bool:
        """Whether the answer is a new operation."""
        return "requestId" in self.query

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.template))


METHODS: dict[str, Method] = {}


def method(
    id_: str, verb: str, template: str, *, body: str = "", query: frozenset[str] | tuple[str, ...] = ()
) -> Callable[[Handler], Handler]:
    """Enters a handler in the table. Methods that change something take `requestId` and answer an operation."""

    def enter(handler: Handler) -> Handler:
        changes = verb != "GET" and not id_.endswith(".wait")
        names = frozenset(query) | ({"requestId"} if changes else frozenset())
        METHODS[id_] = Method(id_, verb, f"projects/{{project}}{template}", handler, body, names)
        return handler

    return enter
