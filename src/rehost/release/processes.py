"""What runs beside the web process from the same image: workers, as data. The script is beside.sh."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple


class Process(NamedTuple):
    """A process of a release. command: split into words as a shell would. memory in bytes."""

    command: str
    memory: int


def body(web: Mapping[str, Any], name: str, process: Process) -> dict[str, Any]:
    """Docker's container for a process: as the web process's, with another command and nothing published."""
    return {
        **beside(web, process.command, process.memory),
        "Labels": {**web["Labels"], "rehost.process": name},
    }


def beside(web: Mapping[str, Any], command: str, memory: int) -> dict[str, Any]:
    """What is the same for processes and jobs: image, environment, volumes and limits of the web process.

    The image's health check is the web process's, so it is left out (Engine API 1.41, `Healthcheck`); and what answers
    requests goes before them to the processor.
    """
    own = ("PortBindings", "CpuShares")
    host = {name: value for name, value in web["HostConfig"].items() if name not in own}
    return {
        **{name: value for name, value in web.items() if name != "ExposedPorts"},
        "Cmd": shlex.split(command),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {**host, "Memory": memory, "MemorySwap": 2 * memory},
    }


def files(web: Mapping[str, Any], processes: Mapping[str, Process]) -> dict[str, Any]:
    """The files of a release from which beside.sh makes its processes."""
    return {f"process.{name}.json": body(web, name, process) for name, process in processes.items()}
