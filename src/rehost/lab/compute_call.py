"""A call of the API, and the table of methods that resource families fill by `@method`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
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


# Projects whose images everybody may use, as gcloud asks for them. In the lab one of them has some.
IMAGE_PROJECT = "debian-cloud"
PUBLIC_PROJECTS = frozenset(
    [
        IMAGE_PROJECT,
        "centos-cloud",
        "cos-cloud",
        "fedora-coreos-cloud",
        "opensuse-cloud",
        "oracle-linux-cloud",
        "rhel-cloud",
        "rhel-sap-cloud",
        "rocky-linux-accelerator-cloud",
        "rocky-linux-cloud",
        "suse-cloud",
        "suse-sap-cloud",
        "ubuntu-os-accelerator-images",
        "ubuntu-os-cloud",
        "ubuntu-os-pro-cloud",
        "windows-cloud",
        "windows-sql-cloud",
    ]
)


@dataclass
class Call:
    """One request, past authentication. `fault` waits for the operation that the call starts, which awaits `hold`."""

    cloud: Cloud
    operations: Operations
    packets: Packets
    method: Method
    path: dict[str, str]
    query: dict[str, str]
    body: Resource = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()  # fields of the body that are null
    fault: OperationError | None = None
    hold: Callable[[], Awaitable[None]] | None = None

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
        return self.verb != "GET" and "Operations." not in self.id

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.template))


METHODS: dict[str, Method] = {}
# Methods that change something and know no requestId, in Google's document.
_WITHOUT_REQUEST_ID = ("images.setLabels", "snapshots.setLabels")


def method(
    id_: str, verb: str, template: str, *, body: str = "", query: frozenset[str] | tuple[str, ...] = ()
) -> Callable[[Handler], Handler]:
    """Enters a handler in the table. Methods that change something take `requestId` and answer an operation."""

    def enter(handler: Handler) -> Handler:
        made = Method(id_, verb, f"projects/{{project}}{template}", handler, body, frozenset(query))
        if made.mutating and id_ not in _WITHOUT_REQUEST_ID:
            made = replace(made, query=made.query | {"requestId"})
        METHODS[id_] = made
        return handler

    return enter
