"""`rehost init`: rehost.toml made from what a directory holds, with a comment for each choice.

The text is the documented example with its values replaced, so a new file explains itself. Keys that nothing
was found for stand in it as comments.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost.project import dockerfile, dotenv, git
from rehost.project.config import EXAMPLE, parse
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import blueprint, native, render, render_notes
from rehost.source.init_write import Draft
from rehost.source.names import app_name
from rehost.source.render_export import Live
from rehost.source.report import Import, Settings
from rehost.source.variables import port_of

BLUEPRINTS = ("render.yaml", "render.yml")
# The first that is there counts: .env is most often the developer's own.
ENV_FILES = (".env.prod", ".env.production", ".env")
ENV_EXAMPLES = (".env.prod.example", ".env.production.example", ".env.example")
DEFAULT_PORT = 8080
DEFAULT_DISK_GB, SYSTEM_GB = 20, 10

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a directory holds; names are relative to it."""

    directory: Path
    blueprint: str | None
    env_files: tuple[str, ...]
    env_examples: tuple[str, ...]
    dockerfiles: tuple[str, ...]


@dataclass(slots=True)
class _Choices:
    """Values for the example's keys (None: nothing found, so a comment), each with the reason for it.

    notes: what the person should know besides. origin: where the settings come from. image: as in `Draft`.
    """

    origin: str = ""
    values: dict[_Key, object] = field(default_factory=dict)
    reasons: dict[_Key, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    image: native.Draft | None = None

    def put(self, table: str, key: str, value: object, reason: str = "") -> None:
        self.values[table, key] = value
        if reason:
            self.reasons[table, key] = reason


def find(directory: Path) -> Found:
    """Look for a blueprint, env files, their examples and Dockerfiles. Raises UsageError for no directory."""
    if not directory.is_dir():
        raise UsageError(
            "there is no such directory.", cure="Name the app's directory.", where=str(directory)
        )

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if (directory / name).is_file())

    return Found(
        directory,
        next(iter(there(BLUEPRINTS)), None),
        there(ENV_FILES),
        there(ENV_EXAMPLES),
        tuple(sorted(path.name for path in directory.glob("Dockerfile*") if path.is_file())),
    )


def draft(found: Found, service: str | None = None, live: Live | None = None) -> Draft:
    """Choose every value; reads files, writes none. `service` names the blueprint's service that moves.

    live: the service as it stands at Render; it counts where the blueprint says otherwise.

    Raises UsageError for a file that cannot be understood, with its line.
    """
    if found.blueprint is not None:
        report = blueprint.read(found.directory / found.blueprint, service, live)
    elif live is not None:
        report = blueprint.of_live(live)
    elif service is not None:
        raise UsageError(
            f'there is no blueprint to find the service "{service}" in.',
            cure=f"Leave --service out, or put {BLUEPRINTS[0]} there.",
            where=str(found.directory),
        )
    else:
        report = Import()
    settings = report.settings
    env_file = found.env_files[0] if found.env_files else ENV_FILES[0]
    there: Mapping[str, Secret] = {}
    if found.env_files:
        there = dotenv.merge([dotenv.read(found.directory / env_file, env_file)]).values
    additions = {key: value for key, value in settings.variables.items() if key not in there}
    choices = _Choices("From Render." if live is not None else f"From {found.blueprint}.")
    _choose_source(found, settings, choices)
    _choose_build(found, settings, choices)
    _choose_run(found, {**settings.variables, **there}, settings, choices)
    required = _choose_env(found, env_file, settings, choices)
    if live is not None:
        choices.notes += render_notes.about(live, found.directory)
    elif found.blueprint:
        choices.notes.append(
            f"{found.blueprint} is never the whole truth: compare with the variables in Render's dashboard, or set "
            "RENDER_API_KEY and let rehost init compare."
        )
    _note_values(env_file, settings, there, required, choices)
    if git.exposed(found.directory / env_file):
        choices.notes.append(f"git does not ignore {env_file}: add it to .gitignore before it holds secrets.")
    text = fill(EXAMPLE.read_text(encoding="utf-8"), choices.values, choices.reasons)
    parse(text, found.directory)
    report = replace(report, notes=tuple(choices.notes))
    if settings.runtime in native.RUNTIMES and _image(found, choices) is not None:
        report = report.taken_over(native.TAKEN_OVER, "the Dockerfile; see that it does the same")
    made = Draft(found.directory, text, report, env_file, additions, live is not None, settings.secret_files)
    return replace(made, image=choices.image, image_path=str(choices.values["build", "dockerfile"]))


def _choose_source(found: Found, settings: Settings, choices: _Choices) -> None:
    origin = choices.origin
    directory = found.directory.resolve().name
    if settings.app:
        choices.put("", "app", settings.app, origin)
    else:
        choices.put("", "app", app_name(directory), "From the name of the directory.")
    choices.put("source", "blueprint", found.blueprint)
    choices.put("source", "render", settings.render)
    choices.put("source", "url", settings.url)
    choices.put("machine", "project", None)
    if settings.zone:
        free = "in the free tier" if render.is_free(settings.zone) else "not in the free tier"
        choices.put("machine", "zone", settings.zone, f"The nearest to the app's region at Render; {free}.")
    if settings.machine:
        choices.put("machine", "type", settings.machine, "The nearest to the app's plan at Render.")
    if settings.disk_gb is not None and settings.disk_gb + SYSTEM_GB > DEFAULT_DISK_GB:
        size = f"{settings.disk_gb + SYSTEM_GB}GB"
        choices.put(
            "machine", "disk", size, f"The disk at Render has {settings.disk_gb}GB, the system needs 10GB."
        )
    choices.put("domain", "name", settings.domain, origin if settings.domain else "")


def _choose_build(found: Found, settings: Settings, choices: _Choices) -> None:
    origin = choices.origin
    context = _located(found.directory, settings, settings.context) if settings.context else None
    context = context or _normal(settings.root or ".")
    choices.put("build", "context", context, origin if settings.context or settings.root else "")
    choices.put("build", "args", None)
    choices.put("build", "allow", None)
    if settings.dockerfile:
        path = _located(found.directory, settings, settings.dockerfile) or _normal(settings.dockerfile)
        reason = origin
    else:
        path = _located(found.directory, settings, "Dockerfile") or "Dockerfile"
        reason = ""
        if path not in found.dockerfiles and len(found.dockerfiles) == 1 and not settings.root:
            path, reason = found.dockerfiles[0], "The only one in this directory."
    if not (found.directory / path).is_file():
        path = _draft_image(found, settings, path, choices)
    choices.put("build", "dockerfile", path, reason)


def _draft_image(found: Found, settings: Settings, path: str, choices: _Choices) -> str:
    """Drafts a Dockerfile where the source needs none; its path. Says what hinders it."""
    if settings.runtime not in native.RUNTIMES:
        choices.notes.append(f"{path} is not there: write it before rehost up.")
        return path
    root = _normal(settings.root or ".")
    port = port_of(settings.variables.get("PORT")) or DEFAULT_PORT
    try:
        choices.image = native.dockerfile(native.service(settings, port), found.directory / root)
    except UsageError as why:
        choices.notes.append(f"{path} is not there, and could not be drafted: {why.what} {why.cure}")
        return path
    choices.notes += choices.image.notes
    return _normal(posixpath.join(root, "Dockerfile"))


def _image(found: Found, choices: _Choices) -> dockerfile.Dockerfile | None:
    """The Dockerfile that is there, or the drafted one."""
    path = str(choices.values["build", "dockerfile"])
    if choices.image is not None:
        return dockerfile.parse(choices.image.dockerfile, path)
    file = found.directory / path
    return dockerfile.read(file, path) if file.is_file() else None


def _choose_run(found: Found, variables: Mapping[str, Secret], settings: Settings, choices: _Choices) -> None:
    origin = choices.origin
    path = str(choices.values["build", "dockerfile"])
    exposed = image.ports if (image := _image(found, choices)) else ()
    named = port_of(variables.get("PORT"))
    if exposed:
        port = named if named in exposed else exposed[0]
        choices.put("run", "port", port, f"From EXPOSE in {path}.")
        if named is not None and named not in exposed:
            choices.notes.append(
                f"{path} exposes {port}, and the variable PORT says {named}: "
                "set run.port to the one that the app listens on."
            )
    elif named is not None:
        choices.put("run", "port", named, "From the variable PORT.")
    elif settings.port is not None:
        choices.put("run", "port", settings.port, "The port that Render found open.")
    else:
        choices.put("run", "port", DEFAULT_PORT, "Neither EXPOSE nor PORT says which: a guess.")
    if settings.health:
        choices.put("run", "health", settings.health, origin)
    else:
        choices.put(
            "run", "health", "/", "No health path was found; a path that asks the database says more."
        )
    choices.put("run", "health_host", None)
    if settings.memory:
        choices.put("run", "memory", settings.memory, "Fits the app's plan at Render.")
    if settings.stop_grace:
        choices.put("run", "stop_grace", settings.stop_grace, origin)
    choices.put(
        "run", "volumes", [settings.volume] if settings.volume else None, origin if settings.volume else ""
    )


def _choose_env(found: Found, env_file: str, settings: Settings, choices: _Choices) -> list[str]:
    """Also hands back the names of the required variables."""
    choices.put("env", "files", [env_file])
    required = list(settings.required)
    origins = [found.blueprint or "Render"] if required else []
    if found.env_examples:
        example = found.env_examples[0]
        required += dotenv.read(found.directory / example, example).variables
        origins.append(example)
    # What the image sets itself is a default, not a demand.
    given = image.env if (image := _image(found, choices)) else {}
    required = [name for name in dict.fromkeys(required) if name not in given]
    choices.put("env", "required", required, f"The names in {' and '.join(origins)}." if origins else "")
    if len(found.env_files) > 1:
        choices.notes.append(
            f"not used: {', '.join(found.env_files[1:])}. Add to env.files what the app needs."
        )
    return required


def _note_values(
    env_file: str, settings: Settings, there: Mapping[str, Secret], required: list[str], choices: _Choices
) -> None:
    source = "Render" if choices.origin == "From Render." else "the blueprint"
    choices.notes += [
        f"{key}: {env_file} has another value than {source}, and keeps it."
        for key, value in settings.variables.items()
        if key in there and there[key] != value
    ]
    added = [key for key in settings.variables if key not in there]
    missing = [key for key in required if key not in there and key not in added]
    if missing:
        choices.notes.append(f"{env_file} still needs: {', '.join(missing)}.")


def _normal(path: str) -> str:
    return posixpath.normpath(path.lstrip("/") or ".")


def _located(directory: Path, settings: Settings, path: str) -> str | None:
    """Where a path of the blueprint lies: in its rootDir, or, as Render's reference says, in the repository."""
    for base in (settings.root or ".", "."):
        candidate = _normal(posixpath.join(base, path.lstrip("/")))
        if (directory / candidate).exists():
            return candidate
    return None


def fill(example: str, values: Mapping[_Key, object], reasons: Mapping[_Key, str]) -> str:
    """The example with values replaced (None: the line becomes a comment) and reasons above them."""
    filled: list[str] = []
    table = ""
    for line in example.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            table = header[1]
        found = re.fullmatch(r"(\w+) = .*", line)
        key = (table, found[1]) if found else None
        if key is None or found is None or key not in values:
            filled.append(line)
            continue
        if key in reasons:
            filled.append(f"# {reasons[key]}")
        value = values[key]
        filled.append(f"#{line}" if value is None else f"{found[1]} = {_toml(value)}")
    return "\n".join(filled) + "\n"


def _toml(value: object) -> str:
    import tomlkit  # noqa: PLC0415  # only `init` writes TOML

    item = tomlkit.item(value)
    text = item.as_string()
    if isinstance(value, list) and len(text) > 100:
        text = "[\n" + "".join(f"    {tomlkit.item(each).as_string()},\n" for each in value) + "]"
    return text
