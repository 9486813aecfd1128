"""Which platform's file tells where the app runs today, and its reader."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import compose, fly, heroku
from rehost.source.report import Import

BLUEPRINTS = ("render.yaml", "render.yml")
# The first that is there counts. A compose file comes last: it is most often for developing.
ORDER = (*BLUEPRINTS, fly.FILE, *heroku.FILES, *compose.FILES)
# app.json is also the name of Expo's file, which has none of these.
_HEROKU_KEYS = {"env", "formation", "addons", "buildpacks", "stack", "scripts", "success_url"}


class Door(NamedTuple):
    """The file that is read, "" for none, and those that are there besides. chosen: it was asked for."""

    file: str
    others: tuple[str, ...] = ()
    chosen: bool = False


def find(directory: Path, chosen: str | None = None) -> Door:
    """The door of a directory. Raises UsageError for a chosen file that is not there, or of no known kind."""
    there = tuple(name for name in ORDER if (directory / name).is_file() and _is_one(directory / name))
    if chosen is None:
        return Door(there[0], _besides(there[0], there)) if there else Door("")
    if not (directory / chosen).is_file():
        raise UsageError(
            "there is no such file.", cure="Name one of this directory with --from.", where=chosen
        )
    if _kind(chosen) == "":
        raise UsageError(
            "rehost does not know this kind of file.",
            cure=f"Known: {', '.join(ORDER)}, and names that end in compose.yml or compose.yaml.",
            where=chosen,
        )
    return Door(chosen, _besides(chosen, there), chosen=True)


def _besides(file: str, there: Sequence[str]) -> tuple[str, ...]:
    """What is not read when `file` is: Heroku's files are read together."""
    return tuple(name for name in there if name != file and not (_kind(name) == _kind(file) == "heroku"))


def _is_one(path: Path) -> bool:
    if path.name != "app.json":
        return True
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return (path.parent / "Procfile").is_file()
    return isinstance(found, dict) and bool(_HEROKU_KEYS & found.keys())


def _kind(file: str) -> str:
    """ "render", "fly", "heroku", "compose"; "" for what is none."""
    name = Path(file).name
    if name in BLUEPRINTS or (name.startswith("render.") and name.endswith((".yaml", ".yml"))):
        return "render"
    if name.startswith("fly.") and name.endswith(".toml"):
        return "fly"
    if name in heroku.FILES:
        return "heroku"
    return "compose" if "compose" in name and name.endswith((".yml", ".yaml")) else ""


def is_blueprint(file: str) -> bool:
    return _kind(file) == "render"


def is_compose(file: str) -> bool:
    return _kind(file) == "compose"


def read(
    directory: Path, file: str, service: str | None, given: Mapping[str, Secret] = MappingProxyType({})
) -> Import:
    """The import of a file that is no blueprint. given: variables with the values that they have at the platform.

    Raises UsageError as the file's reader.
    """
    kind = _kind(file)
    if service is not None and kind != "compose":
        raise UsageError(
            "it describes one app, and --service names one of several.",
            cure="Leave --service out.",
            where=file,
        )
    if kind == "fly":
        made = fly.read(directory / file)
    elif kind == "heroku":
        made = heroku.read((directory / file).parent, given)
    else:
        made = compose.read(directory / file, service)
    variables = {**made.settings.variables, **given}
    required = tuple(dict.fromkeys((*made.settings.required, *given)))
    return replace(made, settings=replace(made.settings, variables=variables, required=required))


def notes(door: Door, importing: Import, given: Collection[str]) -> Iterator[str]:
    """What the person should know about the file that was read. given: names of variables whose values are known."""
    if door.others and door.file:
        there = ", ".join(door.others)
        yield f"{there}: there too, and not read. {door.file} counts; `rehost init --from FILE` chooses."
    kind = _kind(door.file)
    if kind == "fly" and not given:
        yield (
            "fly.toml holds no secrets: write those that `fly secrets list` names into the env file. "
            "`fly ssh console -C env` shows their values while the app runs."
        )
    if kind == "heroku" and not given:
        yield (
            "the values of config vars are at Heroku: `heroku config --json >config.json`, then rehost init with "
            "--config-vars config.json; delete that file afterwards."
        )
    if kind == "compose" and importing.settings.variables:
        yield f"{door.file} may be for developing: see that each value in the env file is right for the public."
