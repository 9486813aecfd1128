"""Heroku's app.json and Procfile (Dev Center, "app.json Schema", "The Procfile", "heroku.yml").

Neither holds config vars: app.json names them, and their values are Heroku's alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from rehost.project.dotenv import NAME
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import blueprint, commands, rooms, yaml_text
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree, plain
from rehost.source.names import app_name
from rehost.source.report import Import, Ledger, Settings
from rehost.source.yaml_text import Mapped, Text

FILES = ("app.json", "Procfile", "heroku.yml")
_PROCESS = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
_COPY = "save its value with `heroku config:get` or --config-vars, and write it into the env file"
_ABOUT = ("it describes the app to people", "")
_LEFT = {
    **dict.fromkeys(("description", "keywords", "website", "repository", "logo", "success_url"), _ABOUT),
    "stack": ("the image is built from a Dockerfile", ""),
    "buildpacks": (
        "the image is built from a Dockerfile",
        "see that the Dockerfile does what each buildpack did",
    ),
    "image": ("the image is built from a Dockerfile", ""),
    "environments": ("rehost makes no review or test apps", ""),
}
_SCRIPTS = {
    "postdeploy": ("rehost runs no command after the first release alone", "run it by hand (rehost exec)"),
    "pr-predestroy": ("rehost makes no review apps", ""),
    "test": ("rehost runs no tests", ""),
}


def read(directory: Path, given: Mapping[str, Secret] = MappingProxyType({})) -> Import:
    """The import of the files that are there. given: config vars with their values.

    Raises UsageError for a file that is not understood.
    """
    ledger = Ledger()
    settings = Settings(runtime=_runtime(directory))
    if (directory / "app.json").is_file():
        settings = _app_json(directory, settings, ledger, given)
    docker = (directory / "heroku.yml").is_file()
    if (directory / "Procfile").is_file():
        # With a heroku.yml it is Heroku who does not look at the Procfile.
        settings = _procfile(directory, settings, ledger, counts=not docker)
    if docker:
        settings = _heroku_yml(directory, settings, ledger)
    return ledger.close(settings)


def config_vars(path: Path) -> dict[str, Secret]:
    """What `heroku config --json` wrote. Raises UsageError."""
    found = _json(path)
    return {
        name: Secret(value)
        for name, value in found.items()
        if isinstance(value, str) and NAME.fullmatch(name)
    }


def _runtime(directory: Path) -> str | None:
    return None if (directory / "Dockerfile").is_file() else commands.language(directory)


def _json(path: Path) -> Mapped:
    try:
        found = plain(json.loads(blueprint.text_of(path)))
    except json.JSONDecodeError as wrong:
        # Not the library's sentence: it may quote a value.
        raise UsageError(
            "not valid JSON.",
            cure="Correct the line, or the one above it.",
            where=f"{path.name}:{wrong.lineno}",
        ) from None
    except RecursionError:
        raise UsageError("it is nested too deep.", cure="Simplify it.", where=path.name) from None
    if not isinstance(found, dict):
        raise UsageError("its top is no object.", cure="It begins with {.", where=path.name)
    return found


def _app_json(directory: Path, settings: Settings, ledger: Ledger, given: Collection[str]) -> Settings:
    tree = Tree(_json(directory / "app.json"), ledger)
    name = tree.text("name")
    if name:
        tree.change(("name",), f'app = "{app_name(name)}"') if app_name(name) != name else tree.carry(
            ("name",), "app"
        )
        settings = replace(settings, app=app_name(name))
    settings = _env(tree, settings, given)
    for script in tree.table("scripts"):
        tree.leave(
            ("scripts", script),
            *_SCRIPTS.get(script, ("rehost does not know this script", "see what it does")),
        )
    settings = _formation(tree, settings)
    for path, addon in tree.items("addons"):
        plan = (
            addon if isinstance(addon, str) else str(addon.get("plan", "")) if isinstance(addon, dict) else ""
        )
        tree.leave(
            path,
            f"the add-on {plan.partition(':')[0] or 'there'} stays at Heroku",
            "its variables must stand in the env file. Heroku changes the credentials of its databases by itself: move "
            "the data to a place of your own, or attach credentials that stay",
        )
    for key, (why, todo) in _LEFT.items():
        tree.leave((key,), why, todo)
    tree.close()
    return settings


def _env(tree: Tree, settings: Settings, given: Collection[str]) -> Settings:
    """A variable is its value, or an object with description, value, required and generator."""
    values: dict[str, Secret] = {}
    required: list[str] = []
    for key, written in tree.table("env").items():
        path = ("env", key)
        if not NAME.fullmatch(key):
            tree.leave(path, "no env file can hold a variable of this name", "rename it")
            continue
        value = (
            written
            if isinstance(written, str)
            else written.get("value")
            if isinstance(written, dict)
            else None
        )
        if key in given:
            tree.carry(path, "the env file, with the value that Heroku has")
            required.append(key)
        elif isinstance(value, str):
            tree.change(
                path,
                "the env file, with the value of app.json; Heroku may have another: compare `heroku config`",
            )
            values[key] = Secret(value)
            required.append(key)
        elif tree.text(*path, "required").lower() == "false":
            tree.leave(path, "it may be missing, and app.json has no value for it", _COPY)
        elif tree.text(*path, "generator") == "secret":
            tree.change(
                path, f"env.required; Heroku made its value: {_COPY}, a new one would end every session"
            )
            required.append(key)
        else:
            tree.change(path, f"env.required; its value stands at Heroku alone: {_COPY}")
            required.append(key)
    return replace(settings, variables=values, required=tuple(required))


def _formation(tree: Tree, settings: Settings) -> Settings:
    for name in tree.table("formation"):
        path = ("formation", name)
        size = rooms.DYNOS.get(tree.text(*path, "size").lower())
        room = rooms.room(size) if size else None
        several = tree.text(*path, "quantity") not in ("", "0", "1")
        if name == "web" and room:
            tree.change(
                (*path, "size"),
                f'machine.type = "{room.machine}" and run.memory = "{room.memory}", the nearest to the dyno',
            )
            settings = replace(settings, machine=room.machine, memory=room.memory)
        else:
            tree.leave(
                (*path, "size"),
                "each process gets as much memory as run.memory says",
                "set it in rehost.toml",
            )
        if several:
            tree.leave(
                (*path, "quantity"),
                "rehost runs one container of each",
                "choose a machine.type that carries the load",
            )
        else:
            tree.carry((*path, "quantity"), "one container on one machine")
    return settings


def _procfile(directory: Path, settings: Settings, ledger: Ledger, *, counts: bool) -> Settings:
    processes = dict(settings.processes)
    for line in blueprint.text_of(directory / "Procfile").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _PROCESS.fullmatch(line.strip())
        if found is None:
            ledger.leave(
                f"Procfile.{line.partition(':')[0].strip() or '(nothing)'}",
                "the line is not understood",
                "see what it starts",
            )
            continue
        name, run = found[1], found[2]
        place = f"Procfile.{name}"
        if not counts:
            ledger.leave(place, "Heroku does not look at it where a heroku.yml is there")
        elif name == "web":
            settings = replace(settings, start_command=run)
            if settings.runtime:
                ledger.change(place, "CMD of the Dockerfile")
            else:
                ledger.leave(
                    place, "rehost starts the image as its Dockerfile says", "see that its CMD does the same"
                )
        elif name == "release":
            ledger.change(
                place, "run.before_release: it runs in a container of the new image, before each switch"
            )
            settings = replace(settings, before_release=commands.command(run))
        else:
            _process(place, name, run, processes, ledger)
    return replace(settings, processes=processes)


def _process(place: str, name: str, run: str, processes: dict[str, str], ledger: Ledger) -> None:
    known = commands.name(name, processes)
    if known is None:
        ledger.leave(
            place, "its name is not allowed, or taken", "write it into rehost.toml under [processes]"
        )
    else:
        ledger.change(place, f"processes.{known}, of the same image with the same variables")
        processes[known] = commands.command(run)


def _lines(value: Text | None) -> str:
    """A command: one line, or a list of lines that run one after the other."""
    lines = value if isinstance(value, list) else [value]
    written = " && ".join(each for each in lines if isinstance(each, str) and each.strip())
    return commands.command(written) if written else ""


def _heroku_yml(directory: Path, settings: Settings, ledger: Ledger) -> Settings:
    document, twice = yaml_text.read(blueprint.text_of(directory / "heroku.yml"), "heroku.yml")
    for key, number in twice:
        ledger.leave(
            f"heroku.yml.{key}, line {number}", "the key stands twice", "remove one: the last counts"
        )
    tree = Tree({"heroku.yml": document}, ledger)
    top: Way = ("heroku.yml",)
    dockerfile = tree.text(*top, "build", "docker", "web")
    if dockerfile:
        tree.carry((*top, "build", "docker", "web"), "build.dockerfile")
        settings = replace(settings, dockerfile=dockerfile, runtime=None)
    for name in tree.table(*top, "build", "config"):
        tree.leave(
            (*top, "build", "config", name),
            "build arguments stay readable in the image",
            "write it into build.args",
        )
    processes = dict(settings.processes)
    for name, run in tree.table(*top, "run").items():
        path: Way = (*top, "run", name)
        # A process of its own image ({image: web}) is one of another image.
        line = _lines(run.get("command") if isinstance(run, dict) else run)
        if name == "web":
            tree.leave(
                path, "rehost starts the image as its Dockerfile says", "see that its CMD does the same"
            )
        else:
            commands.process(tree, path, name, line, processes)
    release = _lines(tree.at(*top, "release", "command"))
    if release:
        tree.change((*top, "release", "command"), "run.before_release: in a container of the new image")
        tree.leave((*top, "release", "image"), "it is the image of the release")
        settings = replace(settings, before_release=release)
    for way, addon in tree.items(*top, "setup", "addons"):
        plan = addon.get("plan") if isinstance(addon, dict) else ""
        tree.leave(way, f"the add-on {plan} stays at Heroku", "its variables must stand in the env file")
    for name in tree.table(*top, "setup", "config"):
        tree.leave((*top, "setup", "config", name), "config vars stand at Heroku", _COPY)
    tree.close()
    return replace(settings, processes=processes)
