"""What runs beside the web process, as rehost.toml has it: [processes.NAME], [jobs.NAME], [services.NAME]."""

from __future__ import annotations

import shlex
from typing import Annotated, NamedTuple

from rehost.project import schedule
from rehost.project.sizes import MB
from rehost.project.values import Duration, Memory, VariableNames, Volumes, checked, matching

LONGEST = 30  # of a name: it stands in names of containers and units, after the app's


def _command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:
        raise ValueError(f'"{value}" has a quote that does not end; close it') from None
    if not words or "\0" in value:
        raise ValueError(f'"{value}" is not a command; for example "python -m app.worker"')
    return value


Command = Annotated[str, checked(_command)]
_name = matching(
    rf"[a-z]([-a-z0-9]{{0,{LONGEST - 2}}}[a-z0-9])?",
    'lower-case letters, digits and "-", beginning with a letter, ending with a letter or digit, '
    f"at most {LONGEST} characters",
)


def part_name(value: object) -> str:
    """The name of a process, a job or a service. Raises ValueError."""
    name = _name(value)
    if name == "web":
        raise ValueError('"web" is the app itself, under [run]; choose another name')
    return name


class Process(NamedTuple):
    """A process beside the web process, of the same image. Without memory, as much as [run] gives, in bytes."""

    command: Command
    memory: Memory | None = None


def _schedule(value: str) -> str:
    schedule.parse(value)
    return value


class Job(NamedTuple):
    """A command that runs at set times, in a container of its own. max_run in seconds, memory in bytes."""

    command: Command
    schedule: Annotated[str, checked(_schedule)]
    max_run: Duration = 3600
    memory: Memory | None = None


# The parts of an image's name: registry and path, then a tag, a digest, or both (Docker's distribution/reference).
_image = matching(
    r"[a-z0-9]([a-z0-9._:-]*/)?([a-z0-9._/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    'the name of an image looks like "redis:7" or "registry.example.com/team/db:16"',
)


def _tagged(value: str) -> str:
    name = _image(value)
    if "@" not in name and ":" not in name.rpartition("/")[2]:
        raise ValueError(
            f'"{name}" says no version; write one, as in "{name}:7": a service changes only when you say so'
        )
    return name


class Service(NamedTuple):
    """A container beside the app, reached by its name. memory in bytes; env: variables of the app's that it gets."""

    image: Annotated[str, checked(_tagged)]
    command: Command | None = None
    volumes: Volumes = ()
    env: VariableNames = ()
    memory: Memory = 256 * MB
    health: Command | None = None
