"""What stands beside the app in a compose file: processes of its own image, and services of other images."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Container
from dataclasses import replace
from typing import NamedTuple

from rehost.project.dotenv import NAME
from rehost.project.processes import Service, part_name
from rehost.project.sizes import MB
from rehost.project.table import kinds
from rehost.project.values import SMALLEST_MEMORY
from rehost.run.secret import Secret
from rehost.source import commands, compose_parts, rooms
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree
from rehost.source.report import Settings
from rehost.source.yaml_text import Mapped, Text

_ELSEWHERE = (
    "give the app the address of one that stays where it is, or write a table for it under [services]"
)
# Keys that need no word of their own: each service has what they ask for, or loses nothing.
_QUIET = frozenset(
    ("image", "restart", "container_name", "hostname", "networks", "expose", "depends_on", "pull_policy")
)


class _Made(NamedTuple):
    """A table of [services], the variables that it needs in the env file, and what of the service is not in it."""

    table: dict[str, object]
    variables: dict[str, Secret]
    required: list[str]
    left: list[str]


def carry(tree: Tree, app: str, settings: Settings) -> Settings:
    """`settings` with the processes and services of all others than `app`; each is told of as a whole."""
    processes: dict[str, str] = {}
    built = tree.at("services", app, "build") or tree.at("services", app, "image")
    for name, one in tree.table("services").items():
        if name == app:
            continue
        way: Way = ("services", name)
        found = one if isinstance(one, dict) else {}
        same = built is not None and built in (found.get("build"), found.get("image"))
        line = compose_parts.command(found.get("command"))
        known = commands.name(name, {*processes, *settings.services})
        if same and line and known is not None:
            more = _only_there(tree, way, settings)
            tree.change(way, f"processes.{known}, of the same image with the same variables{more}")
            processes[known] = line
        elif same:
            tree.leave(
                way,
                "it is built as the app, and says no command of its own",
                "write what it runs into rehost.toml under [processes], if it is another process",
            )
        elif "build" in found:
            tree.leave(
                way,
                "it is built from other sources, and rehost moves one app at a time",
                "run rehost init in a directory of its own for it",
            )
        else:
            settings = _service(tree, way, found, settings, processes)
    return replace(settings, processes=processes)


def _only_there(tree: Tree, way: Way, settings: Settings) -> str:
    """Variables that the process has and the app has not."""
    own = [
        key for _, key, _ in compose_parts.pairs(tree, (*way, "environment")) if key not in settings.required
    ]
    return f"; {', '.join(own)} it had besides: write what it needs into the env file" if own else ""


def _service(tree: Tree, way: Way, one: Mapped, settings: Settings, taken: Container[str]) -> Settings:
    """A container of another image, which the app reaches by its name here as there."""
    image, name = one.get("image"), str(way[-1])
    what = f"it is another program ({image})" if isinstance(image, str) and image else "it has no image"
    try:
        if part_name(name) in taken:
            raise ValueError("its name is taken")
        made = _table(tree, way, one, settings)
    except ValueError as wrong:
        tree.leave(way, f"{what}, and could not be written under [services]: {wrong}", _ELSEWHERE)
        return settings
    besides = f"; not taken: {', '.join(made.left)}" if made.left else ""
    data = "; its volumes are empty at first" if "volumes" in made.table else ""
    tree.change(
        way,
        f"services.{name}, beside the app and published nowhere; the app reaches it by that name{data}{besides}. Take "
        "the table out if the app is to use one that stays where it is",
    )
    return replace(
        settings,
        services={**settings.services, name: made.table},
        variables={**settings.variables, **made.variables},
        required=tuple(dict.fromkeys((*settings.required, *made.required))),
    )


def _table(tree: Tree, way: Way, one: Mapped, settings: Settings) -> _Made:
    """Raises ValueError, with the reason, for what a table of [services] must have and this one has not."""
    known = kinds(Service)
    image = one.get("image")
    table: dict[str, object] = {
        "image": known["image"](compose_parts.literal(image) if isinstance(image, str) else "")
    }
    left = [key for key in one if key not in (*_QUIET, *_READ)]
    left += [f"deploy.{key}" for key in tree.table(*way, "deploy") if key != "resources"]
    left += [f"healthcheck.{key}" for key in tree.table(*way, "healthcheck") if key != "test"]
    command = compose_parts.command(one.get("command"))
    if command:
        table["command"] = known["command"](command)
    kept = _volumes(tree, way, left)
    if kept:
        table["volumes"] = [*known["volumes"](kept)]
    made = _Made(table, {}, [], left)
    names = _environment(tree, way, settings, made)
    if names:
        table["env"] = names
    size = tree.text(*way, "mem_limit") or tree.text(*way, "deploy", "resources", "limits", "memory")
    memory = int(size) // MB if size.isdecimal() else rooms.megabytes(size)
    if memory and memory * MB >= SMALLEST_MEMORY:
        table["memory"] = f"{memory}MB"
    health = _health(tree.at(*way, "healthcheck", "test"))
    if health:
        table["health"] = known["health"](health)
    return made


_READ = ("command", "volumes", "environment", "mem_limit", "deploy", "healthcheck")


def _volumes(tree: Tree, way: Way, left: list[str]) -> list[str]:
    kept: list[str] = []
    for _, each in tree.items(*way, "volumes"):
        try:
            volume = compose_parts.volume(each)
        except ValueError:
            volume = None
        if volume is None:
            left.append(f"the volume {':'.join(compose_parts.mounted(each)).strip(':')}")
        else:
            kept.append(volume)
    return kept


def _environment(tree: Tree, way: Way, settings: Settings, made: _Made) -> list[str]:
    """The names that it gets of the env file. One that the app has with another value cannot be given to both."""
    names: list[str] = []
    for _, key, value in compose_parts.pairs(tree, (*way, "environment")):
        known = compose_parts.interpolated(value) if value else None
        there = settings.variables.get(key)
        if not NAME.fullmatch(key):
            made.left.append(f"environment.{key}")
            continue
        if key in settings.required and known is not None and (there is None or there.reveal() != known):
            made.left.append(f"environment.{key}, of which the app has a value of its own")
            continue
        names.append(key)
        made.required.append(key)
        if known is not None and there is None:
            made.variables[key] = Secret(known)
    return names


def _health(test: Text | None) -> str:
    """healthcheck.test as one command; "" for none."""
    if isinstance(test, str):
        return f"sh -c {shlex.quote(compose_parts.literal(test))}" if test.strip() else ""
    words = [compose_parts.literal(each) for each in test or () if isinstance(each, str)]
    shape: dict[str, Callable[[list[str]], str]] = {
        "CMD": shlex.join,
        "CMD-SHELL": lambda rest: f"sh -c {shlex.quote(' '.join(rest))}",
    }
    return shape[words[0]](words[1:]) if len(words) > 1 and words[0] in shape else ""
