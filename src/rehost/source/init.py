"""`rehost init`: rehost.toml made from what a directory holds, with a comment for each choice.

The text is the documented example with its values replaced, so a new file explains itself. Keys that nothing
was found for stand in it as comments.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from rehost.project import dockerfile, dotenv, git
from rehost.project.config import EXAMPLE, parse
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import blueprint, commands, doors, init_write, native, render, render_notes
from rehost.source.init_text import Key, fill
from rehost.source.init_write import Draft
from rehost.source.names import app_name
from rehost.source.render_export import Live
from rehost.source.report import Import, Settings
from rehost.source.variables import port_of

# The first that is there counts: .env is most often the developer's own.
ENV_FILES = (".env.prod", ".env.production", ".env")
ENV_EXAMPLES = (".env.prod.example", ".env.production.example", ".env.example")
DEFAULT_PORT = 8080
_EXCLUSIVE = (
    "As today: two containers must not write the same files (SQLite, an index), so the old one stops first.\n"
    "# With false nothing is interrupted, and both have the volume for the length of a switch."
)
DEFAULT_DISK_GB, SYSTEM_GB = 20, 10


@dataclass(frozen=True, slots=True)
class Found:
    """What a directory holds; names are relative to it. door: the file that says where the app runs today."""

    directory: Path
    door: doors.Door
    env_files: tuple[str, ...]
    env_examples: tuple[str, ...]
    dockerfiles: tuple[str, ...]

    @property
    def blueprint(self) -> str | None:
        return self.door.file if self.door.file and doors.is_blueprint(self.door.file) else None


@dataclass(slots=True)
class _Choices:
    """Values for the example's keys (None: nothing found, so a comment), each with the reason for it.

    notes: what the person should know besides. origin: where the settings come from. image: as in `Draft`.
    """

    origin: str = ""
    values: dict[Key, object] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    image: native.Draft | None = None

    def put(self, table: str, key: str, value: object, reason: str = "") -> None:
        self.values[table, key] = value
        if reason:
            self.reasons[table, key] = reason


def find(directory: Path, chosen: str | None = None) -> Found:
    """Look for a platform's file, env files, their examples and Dockerfiles. chosen: the file that counts.

    Raises UsageError for no directory, and for a chosen file that is none.
    """
    if not directory.is_dir():
        raise UsageError(
            "there is no such directory.", cure="Name the app's directory.", where=str(directory)
        )

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if (directory / name).is_file())

    return Found(
        directory,
        doors.find(directory, chosen),
        there(ENV_FILES),
        there(ENV_EXAMPLES),
        tuple(sorted(path.name for path in directory.glob("Dockerfile*") if path.is_file())),
    )


def draft(
    found: Found,
    service: str | None = None,
    live: Live | None = None,
    given: Mapping[str, Secret] = MappingProxyType({}),
) -> Draft:
    """Choose every value; reads files, writes none. `service` names the one of the file's services that moves.

    live: the service as it stands at Render; it counts where the blueprint says otherwise. given: variables with the
    values that they have at the platform.

    Raises UsageError for a file that cannot be understood, with its line.
    """
    report, unread = _report(found, service, live, given)
    settings = report.settings
    # The file's own env files, else the first that is there.
    env_files = settings.env_files or found.env_files[:1] or ENV_FILES[:1]
    env_file = env_files[-1]
    present = [name for name in env_files if (found.directory / name).is_file()]
    there = dotenv.merge([dotenv.read(found.directory / name, name) for name in present]).values
    additions = {key: value for key, value in settings.variables.items() if key not in there}
    choices = _Choices("From Render." if live is not None else f"From {found.door.file}.")
    _choose_source(found, settings, choices)
    _choose_build(found, settings, choices)
    _choose_run(found, {**settings.variables, **there}, settings, choices)
    required = _choose_env(found, env_files, settings, choices)
    choices.notes += unread
    if live is None and not unread:
        choices.notes += doors.notes(found.door, report, given)
    if live is not None:
        choices.notes += render_notes.about(live, found.directory)
    elif found.blueprint:
        choices.notes.append(
            f"{found.blueprint} is never the whole truth: compare with the variables in Render's dashboard, or set "
            "RENDER_API_KEY and let rehost init compare."
        )
    _note_values(env_file, settings, there, required, choices)
    choices.notes += init_write.kept(found.directory, settings.secret_files)
    if git.exposed(found.directory / env_file):
        choices.notes.append(
            f"git does not ignore {env_file}: add it to .gitignore before it holds secrets "
            f"(`echo '{env_file}' >> .gitignore`)."
        )
    text = fill(EXAMPLE.read_text(encoding="utf-8"), choices.values, choices.reasons, settings)
    parse(text, found.directory)
    report = replace(report, notes=tuple(choices.notes))
    if settings.runtime in native.RUNTIMES and _image(found, choices) is not None:
        report = report.taken_over(native.TAKEN_OVER, "the Dockerfile; see that it does the same")
    secret = live is not None or bool(given)
    made = Draft(found.directory, text, report, env_file, additions, secret, settings.secret_files)
    return replace(made, image=choices.image, image_path=str(choices.values["build", "dockerfile"] or ""))


def _report(
    found: Found, service: str | None, live: Live | None, given: Mapping[str, Secret]
) -> tuple[Import, list[str]]:
    """The import, and a note when a file that nobody asked for could not be read."""
    if found.blueprint is not None:
        return blueprint.read(found.directory / found.blueprint, service, live), []
    if live is not None:
        return blueprint.of_live(live), []
    if found.door.file:
        try:
            return doors.read(found.directory, found.door.file, service, given), []
        except UsageError as wrong:
            if found.door.chosen or service is not None or not doors.is_compose(found.door.file):
                raise
            return Import(), [f"{found.door.file} was not read: {wrong.what} {wrong.cure}"]
    if service is not None:
        raise UsageError(
            f'there is no blueprint to find the service "{service}" in.',
            cure=f"Leave --service out, or put {doors.BLUEPRINTS[0]} there.",
            where=str(found.directory),
        )
    return Import(), []


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
        choices.put("machine", "zone", settings.zone, f"The nearest to the app's region; {free}.")
    if settings.machine:
        choices.put("machine", "type", settings.machine, "The nearest to what the app has today.")
    if settings.disk_gb is not None and settings.disk_gb + SYSTEM_GB > DEFAULT_DISK_GB:
        size = f"{settings.disk_gb + SYSTEM_GB}GB"
        choices.put(
            "machine", "disk", size, f"The app's disk has {settings.disk_gb}GB, the system needs 10GB."
        )
    choices.put("domain", "name", settings.domain, origin if settings.domain else "")


def _choose_build(found: Found, settings: Settings, choices: _Choices) -> None:
    origin = choices.origin
    if settings.image:
        choices.put("build", "image", settings.image, origin)
        for key in ("context", "dockerfile", "on", "args", "allow"):
            choices.put("build", key, None)
        return
    if settings.runtime == "image":
        choices.notes.append("the name of its image is not known: write it as `image`, alone under [build].")
    context = _located(found.directory, settings, settings.context) if settings.context else None
    context = context or _normal(settings.root or ".")
    choices.put("build", "context", context, origin if settings.context or settings.root else "")
    choices.put("build", "args", dict(settings.args) or None, origin if settings.args else "")
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
    root = _normal(settings.root or ".")
    if settings.runtime is None and not found.door.file:
        settings = replace(settings, runtime=commands.language(found.directory / root))
    if settings.runtime not in native.RUNTIMES:
        choices.notes.append(f"{path} is not there: write it before rehost up.")
        if not (found.door.file or settings.app or found.env_files or found.env_examples):
            choices.notes.append(
                f"nothing here says what the app is: is {found.directory.resolve()} its directory? rehost init reads "
                f"{', '.join(doors.ORDER)}, env files, and a Dockerfile."
            )
        return path
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
    path = str(choices.values["build", "dockerfile"] or "")
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
        choices.put("run", "port", settings.port, "The port that the app listens on today.")
    else:
        choices.put("run", "port", DEFAULT_PORT, "Neither EXPOSE nor PORT says which: a guess.")
    if settings.health:
        choices.put("run", "health", settings.health, origin)
    else:
        choices.put(
            "run", "health", "/", "No health path was found; a path that asks the database says more."
        )
    choices.put("run", "health_host", None)
    choices.put("run", "before_release", settings.before_release, origin if settings.before_release else "")
    if settings.memory:
        choices.put("run", "memory", settings.memory, "Fits what the app has today.")
    if settings.stop_grace:
        choices.put("run", "stop_grace", settings.stop_grace, origin)
    choices.put("run", "volumes", [*settings.volumes] or None, origin if settings.volumes else "")
    if settings.volumes:
        choices.put("run", "exclusive", value=True, reason=_EXCLUSIVE)


def _choose_env(found: Found, env_files: Sequence[str], settings: Settings, choices: _Choices) -> list[str]:
    """Also hands back the names of the required variables."""
    choices.put("env", "files", [*env_files])
    choices.put("env", "unproved", None)
    folder = f"{init_write.STATE}/{init_write.SECRET_FILES}"
    kept = [f"{folder}/{name}" for name in sorted(settings.secret_files)]
    choices.put("env", "secret_files", kept or None, choices.origin if kept else "")
    required = list(settings.required)
    origins = [found.door.file or "Render"] if required else []
    if found.env_examples:
        example = found.env_examples[0]
        required += dotenv.read(found.directory / example, example).variables
        origins.append(example)
    # What the image sets itself is a default, not a demand.
    given = image.env if (image := _image(found, choices)) else {}
    required = [name for name in dict.fromkeys(required) if name not in given]
    choices.put("env", "required", required, f"The names in {' and '.join(origins)}." if origins else "")
    unused = [name for name in found.env_files if name not in env_files]
    if unused:
        choices.notes.append(f"not used: {', '.join(unused)}. Add to env.files what the app needs.")
    return required


def _note_values(
    env_file: str, settings: Settings, there: Mapping[str, Secret], required: list[str], choices: _Choices
) -> None:
    source = choices.origin.removeprefix("From ").removesuffix(".")
    choices.notes += [
        f"{key}: {env_file} has another value than {source}, and keeps it."
        for key, value in settings.variables.items()
        if key in there and there[key] != value
    ]
    added = [key for key in settings.variables if key not in there]
    missing = [key for key in required if key not in there and key not in added]
    if missing:
        choices.notes.append(
            f"{env_file} still needs: {', '.join(missing)}. `rehost env set NAME` asks for each."
        )


def _normal(path: str) -> str:
    return posixpath.normpath(path.lstrip("/") or ".")


def _located(directory: Path, settings: Settings, path: str) -> str | None:
    """Where a path of the blueprint lies: in its rootDir, or, as Render's reference says, in the repository."""
    for base in (settings.root or ".", "."):
        candidate = _normal(posixpath.join(base, path.lstrip("/")))
        if (directory / candidate).exists():
            return candidate
    return None
