"""The lab's API with machines that exist in memory alone; every answer is judged by Google's discovery document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import discovery
from rehost.lab.compute import Answer, Api, Request
from rehost.lab.hardware import STOP_PATIENCE, Hardware, MachineSpec, PacketRule, PluggedDisk
from rehost.lab.state import Cloud, relative
from rehost.lab.tokens import Issuer

Json = dict[str, Any]
P = ParamSpec("P")
ISSUER = Issuer("lab-test")  # one key for all tests: making it takes a while
ZONE = "projects/lab-test/zones/us-west1-a"
REGION = "projects/lab-test/regions/us-west1"
GLOBAL = "projects/lab-test/global"
FAMILY = "projects/debian-cloud/global/images/family/debian-12"


class FakeMachines:
    """Remembers what it was told. `broken` makes the next boot fail."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specs: dict[str, MachineSpec] = {}
        self.on: set[str] = set()
        self.rules: dict[str, list[PacketRule]] = {}
        self.external: dict[str, str | None] = {}
        self.hardware: dict[str, Hardware] = {}
        self.disks: dict[str, list[PluggedDisk]] = {}
        self.suspended: set[str] = set()
        self.resets = 0
        self.patience = STOP_PATIENCE  # of the last stop
        self.broken = False

    async def create(self, spec: MachineSpec) -> None:
        self.specs[spec.name] = spec
        self.external[spec.name] = spec.external
        self.hardware[spec.name] = spec.hardware
        self.disks[spec.name] = list(spec.disks)
        self.serial(spec.name).write_bytes(b"")

    async def boot(self, name: str, rules: Sequence[PacketRule]) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError("no power")
        self.on.add(name)
        self.rules[name] = list(rules)

    async def stop(self, name: str, patience: float = STOP_PATIENCE) -> None:
        self.patience = patience
        self.on.discard(name)
        self.suspended.discard(name)

    async def reset(self, name: str) -> None:
        assert name in self.on
        self.resets += 1

    async def delete(self, name: str) -> None:
        self.on.discard(name)
        self.suspended.discard(name)
        self.specs.pop(name, None)
        self.disks.pop(name, None)

    async def attach(self, name: str, disk: PluggedDisk, *, first: bool = False) -> None:
        self.disks[name].insert(0 if first else len(self.disks[name]), disk)

    async def detach(self, name: str, disk_name: str) -> None:
        self.disks[name] = [disk for disk in self.disks[name] if disk.name != disk_name]

    async def suspend(self, name: str) -> None:
        assert name in self.on
        self.suspended.add(name)

    async def resume(self, name: str) -> None:
        self.suspended.remove(name)

    async def set_hardware(self, name: str, hardware: Hardware) -> None:
        self.hardware[name] = hardware

    def running(self, name: str) -> bool:
        return name in self.on

    async def set_rules(self, name: str, rules: Sequence[PacketRule]) -> None:
        self.rules[name] = list(rules)

    async def set_external(self, name: str, address: str | None) -> None:
        self.external[name] = address

    def serial(self, name: str) -> Path:
        return self.directory / f"{name}.serial"


class FakeDisks:
    """Key -> (gigabytes, what is on it). A copy's content is its source's key, and so on."""

    def __init__(self) -> None:
        self.contents: dict[str, tuple[int, str]] = {}

    async def make(self, key: str, gigabytes: int, source: str | None = None) -> None:
        self.contents[key] = (gigabytes, self._on(source) if source else "blank")

    async def copy(self, source: str, key: str) -> int:
        size, _ = self.contents.get(source, (10, ""))
        self.contents[key] = (size, self._on(source))
        return 4096

    async def grow(self, key: str, gigabytes: int) -> None:
        self.contents[key] = (gigabytes, self.contents[key][1])

    async def delete(self, key: str) -> None:
        self.contents.pop(key, None)

    def _on(self, source: str) -> str:
        return source if source.startswith("public/") else self.contents[source][1]


class Lab:
    """One project of the lab. `call` returns an answer, `done` the operation's end."""

    def __init__(self, directory: Path) -> None:
        self.machines = FakeMachines(directory)
        self.disks = FakeDisks()
        self.cloud = Cloud(
            project="lab-test",
            account=ISSUER.email,
            subnet="10.70.1.0/24",
            gateway="10.70.1.1",
            internal=[f"10.70.1.{last}" for last in range(2, 100)],
            external=[f"10.70.1.{last}" for last in range(100, 255)],
            machines=self.machines,
            disks=self.disks,
            pace=0,
        )
        self.api = Api(self.cloud, ISSUER)
        self.bearer: str | None = ISSUER.token()

    async def call(self, verb: str, path: str, body: object = None, **query: str) -> Answer:
        raw = b"" if body is None else json.dumps(body).encode()
        answer = await self.api.answer(Request(verb, path, query, raw, self.bearer))
        assert judged(verb, path, query, body, answer) == []
        return answer

    async def get(self, path: str, **query: str) -> Json:
        answer = await self.call("GET", path, **query)
        assert answer.status == 200, answer.body
        return answer.body

    async def refused(self, verb: str, path: str, body: object = None, **query: str) -> Json:
        """The error of a call that must fail."""
        answer = await self.call(verb, path, body, **query)
        assert answer.status >= 400, answer.body
        error: Json = answer.body["error"]
        assert error["code"] == answer.status
        assert error["errors"][0]["message"] == error["message"]
        return error

    async def ended(self, verb: str, path: str, body: object = None, **query: str) -> Json:
        """The operation that a call started, DONE."""
        answer = await self.call(verb, path, body, **query)
        assert answer.status == 200, answer.body
        waited = await self.call("POST", relative(answer.body["selfLink"]) + "/wait")
        assert waited.body["status"] == "DONE"
        return waited.body

    async def done(self, verb: str, path: str, body: object = None, **query: str) -> Json:
        """As `ended`, and it went well."""
        operation = await self.ended(verb, path, body, **query)
        assert "error" not in operation, operation
        return operation

    async def insert(self, name: str = "app", **more: Any) -> Json:
        """An instance that runs."""
        await self.done("POST", f"{ZONE}/instances", instance(name, **more))
        return await self.get(f"{ZONE}/instances/{name}")


def instance(name: str = "app", **more: Any) -> Json:
    """The body of an insert."""
    return {
        "name": name,
        "machineType": f"{ZONE}/machineTypes/e2-micro",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": FAMILY}}],
        "networkInterfaces": [
            {"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
        ],
        **more,
    }


def judged(verb: str, path: str, query: Mapping[str, str], body: object, answer: Answer) -> list[str]:
    """What Google's document finds wrong with an exchange: an answer that is none, a bad request carried out."""
    exchange = {"agent": "", "verb": verb, "path": path, "query": query, "request": body}
    return discovery.exchange_faults(
        exchange | {"status": answer.status, "answer": answer.body, "wire": answer.wire}
    )


def asynced(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Runs an asynchronous test in a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        asyncio.run(main())

    return run
