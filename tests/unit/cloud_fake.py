"""A small Compute Engine API in memory for the client's tests. Judges every request by Google's own schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx

import discovery
from rehost.cloud.client import Client
from rehost.cloud.credentials import Credentials, Given
from rehost.cloud.model import Desired
from rehost.run.secret import Secret

Json = dict[str, Any]
BASE = "https://compute.googleapis.com/compute/v1/"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAuh9zPNQPMQ4yH5XyJx6vXeM1bQvY9i0Cq0OZ5u4b7W"
PROJECT, ZONE, REGION = "my-project", "us-west1-a", "us-west1"
ROOT = f"projects/{PROJECT}"
FAMILIES = {
    *(
        "instances",
        "disks",
        "addresses",
        "firewalls",
        "zones",
        "regions",
        "machineTypes",
        "images",
        "projects",
    ),
    *("zoneOperations", "regionOperations", "globalOperations"),
}


@cache
def _paths() -> list[tuple[str, str, re.Pattern[str]]]:
    """Method, id and path of all that Google knows; those with the fewest placeholders first."""
    found = [
        (
            method["httpMethod"],
            f"{family}.{name}",
            re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(method["flatPath"]))),
        )
        for family, resource in discovery.document()["resources"].items()
        if family in FAMILIES
        for name, method in resource.get("methods", {}).items()
    ]
    return sorted(found, key=lambda one: one[2].pattern.count("[^/]+"))


@cache
def method_id(http: str, path: str) -> str:
    """Google's name for a request, e.g. "instances.get"."""
    return next(id_ for verb, id_, pattern in _paths() if verb == http and pattern.fullmatch(path))


def desired(**changes: Any) -> Desired:
    base: dict[str, Any] = {
        "app": "content-api",
        "project": PROJECT,
        "zone": ZONE,
        "ssh_user": "ada",
        "ssh_public_key": f"{KEY} ada@laptop",
        "startup_script": "#!/bin/sh\necho ready\n",
    }
    return Desired(**{**base, **changes})


class FakeCloud:
    """Resources by path. `fault` may answer a request instead; `seen` holds every request in order."""

    def __init__(self) -> None:
        self.resources: dict[str, Json] = {}
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.fault: Callable[[str, str], httpx.Response | None] = lambda _method, _path: None
        self.failing_operations: dict[str, Json] = {}  # by "METHOD path": the operation's error
        self.paused: list[float] = []
        self._operations: dict[str, Json] = {}
        self._serial = 1000
        for zone in ("us-west1-a", "us-west1-b", "us-west1-c", "asia-northeast3-a"):
            self.put(f"{ROOT}/zones/{zone}", status="UP", region=f"{BASE}{ROOT}/regions/{zone[:-2]}")
            for kind, cpus, memory in (("e2-micro", 2, 1024), ("e2-small", 2, 2048)):
                self.put(f"{ROOT}/zones/{zone}/machineTypes/{kind}", guestCpus=cpus, memoryMb=memory)
        for region in ("us-west1", "asia-northeast3"):
            quotas = [{"metric": "CPUS", "usage": 0.0, "limit": 8.0}]
            self.put(f"{ROOT}/regions/{region}", quotas=quotas)
        self.put("projects/debian-cloud/global/images/family/debian-12", name="debian-12-bookworm-v20261110")
        self.put(ROOT, name=PROJECT)

    def put(self, path: str, **fields: Any) -> Json:
        self._serial += 1
        self.resources[path] = {
            "name": path.rsplit("/", 1)[-1],
            "id": str(self._serial),
            "selfLink": BASE + path,
            **fields,
        }
        return self.resources[path]

    def client(self, **options: Any) -> Client:
        async def pause(seconds: float) -> None:
            self.paused.append(seconds)

        return Client(
            PROJECT,
            Credentials(Given(Secret("token-of-the-tests"))),
            environ={},
            transport=httpx.MockTransport(self.answer),
            pause=pause,
            **options,
        )

    def changes(self) -> list[str]:
        """The mutating calls so far, as "METHOD path", without the waiting."""
        return [
            f"{method} {path.removeprefix(ROOT + '/')}"
            for method, path, _, _ in self.seen
            if method != "GET" and not path.endswith("/wait")
        ]

    def body(self, call: str) -> Any:
        """The body of the last such call."""
        return next(b for m, p, _, b in reversed(self.seen) if f"{m} {p.removeprefix(ROOT + '/')}" == call)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/compute/v1/")
        query = dict(request.url.params)
        body = json.loads(request.content) if request.content else None
        self.seen.append((request.method, path, query, body))
        if request.url.host == "cloudbilling.googleapis.com":
            return self.fault("GET", path) or httpx.Response(200, json={"billingEnabled": True})
        problems = discovery.request_faults(method_id(request.method, path), query, body)
        assert not problems, problems
        assert request.headers["Authorization"] == "Bearer token-of-the-tests"
        wrong = self.fault(request.method, path)
        if wrong is not None:
            return wrong
        if request.method == "GET":
            return self._get(path, query)
        if path.endswith("/wait"):
            return httpx.Response(200, json={**self._operations[path.split("/")[-2]], "status": "DONE"})
        assert query.get("requestId"), f"{request.method} {path} carries no requestId"
        return self._change(request.method, path, body)

    def _get(self, path: str, query: dict[str, str]) -> httpx.Response:
        if "/aggregated/" in path:
            kind, name = path.rsplit("/", 1)[-1], query["filter"].removeprefix("name=")
            hits = [r for p, r in self.resources.items() if p.endswith(f"/{kind}/{name}")]
            return httpx.Response(200, json={"items": {"zones/all": {kind: hits}, "zones/none": {}}})
        if path in self.resources:
            return httpx.Response(200, json=self.resources[path])
        if path.rsplit("/", 1)[-1] in ("zones", "machineTypes", "firewalls"):
            items = [r for p, r in self.resources.items() if p.rsplit("/", 1)[0] == path]
            return httpx.Response(200, json={"items": items})
        return error(404, "notFound", f"The resource '{path}' was not found")

    def _change(self, method: str, path: str, body: Any) -> httpx.Response:
        operation: Json = {
            "name": f"operation-{len(self.seen)}",
            "status": "PENDING",
            "targetLink": BASE + path,
        }
        parts = path.split("/")
        if parts[2] in ("zones", "regions"):
            operation[parts[2].removesuffix("s")] = BASE + "/".join(parts[:4])
        failure = self.failing_operations.get(f"{method} {path.removeprefix(ROOT + '/')}")
        if failure is not None:
            operation["error"] = {"errors": [failure]}
        else:
            wrong = self._apply(method, path, body)
            if wrong is not None:
                return wrong
        self._operations[operation["name"]] = operation
        return httpx.Response(200, json=operation)

    def _apply(self, method: str, path: str, body: Any) -> httpx.Response | None:
        owner, _, verb = path.rpartition("/")
        if method == "DELETE":
            if self.resources.pop(path, None) is None:
                return error(404, "notFound", f"The resource '{path}' was not found")
            if verb and owner.endswith("/instances"):
                self.resources.pop(f"{owner.removesuffix('/instances')}/disks/{verb}", None)
        elif method == "PATCH":
            self.resources[path] = {**self.resources[path], **body}
        elif verb in ("addresses", "firewalls", "instances"):
            new = f"{path}/{body['name']}"
            if new in self.resources:
                return error(409, "alreadyExists", f"The resource '{new}' already exists")
            self._insert(verb, new, body)
        else:
            return self._act(owner, verb, body)
        return None

    def _insert(self, kind: str, path: str, body: Json) -> None:
        place = BASE + path.rsplit("/", 2)[0]
        if kind == "addresses":
            self.put(path, **body, region=place, address="203.0.113.7", status="RESERVED")
        elif kind == "firewalls":
            self.put(path, **body)
        else:
            self.put(path, **body, zone=place, status="RUNNING", labelFingerprint="bDE=")
            self.resources[path]["metadata"] = {**body["metadata"], "fingerprint": "bTE="}
            self.resources[path]["tags"] = {**body["tags"], "fingerprint": "dDE="}
            new = body["disks"][0].get("initializeParams")
            if new:
                disk = path.rsplit("/", 2)[0] + f"/disks/{new['diskName']}"
                self.put(
                    disk, sizeGb=new["diskSizeGb"], type=new["diskType"], labels=new["labels"], users=[path]
                )

    def _act(self, owner: str, verb: str, body: Any) -> httpx.Response | None:
        thing = self.resources[owner]
        if verb in ("setMetadata", "setTags"):
            field = verb.removeprefix("set").lower()
            if body.get("fingerprint") != thing[field]["fingerprint"]:
                return error(
                    412, "conditionNotMet", "Supplied fingerprint does not match current fingerprint."
                )
            thing[field] = {**body, "fingerprint": "bmV3" + body["fingerprint"]}
        elif verb == "setLabels":
            thing["labels"] = body["labels"]
        elif verb == "setMachineType":
            assert thing["status"] == "TERMINATED"
            thing["machineType"] = BASE + body["machineType"]
        elif verb in ("start", "resume", "stop"):
            thing["status"] = "TERMINATED" if verb == "stop" else "RUNNING"
        elif verb == "resize":
            thing["sizeGb"] = body["sizeGb"]
        elif verb == "deleteAccessConfig":
            thing["networkInterfaces"][0]["accessConfigs"] = []
        elif verb == "addAccessConfig":
            thing["networkInterfaces"][0]["accessConfigs"] = [body]
        else:
            raise AssertionError(f"the fake knows no {verb}")
        return None


def error(status: int, reason: str, message: str, **more: Any) -> httpx.Response:
    """An error as Google words it."""
    listed = [{"domain": "global", "reason": reason, "message": message}]
    body = {"error": {"code": status, "errors": listed, "message": message, **more}}
    return httpx.Response(status, json=body)
