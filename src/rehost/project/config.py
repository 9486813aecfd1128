"""rehost.toml: read, checked, and handed on as frozen values.

The schema is these models; `example.toml` beside this file is its reference page. Every mistake of a file is
reported at once, each with its line, its key and the cure.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

# pydantic searches every installed distribution for plugins when its first model is made: 35 ms of each run.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from rehost.project import mistakes
from rehost.project.sizes import GB, MB
from rehost.project.values import (
    Address,
    AppName,
    BuildPlace,
    Disk,
    DomainName,
    Duration,
    HealthStatus,
    HostHeader,
    ImageFamily,
    MachineType,
    Memory,
    Port,
    ProjectId,
    Ranges,
    RelativePath,
    Statuses,
    Strings,
    Url,
    User,
    VariableName,
    VariableNames,
    WebPath,
    Zone,
)
from rehost.run.errors import UsageError

FILE = "rehost.toml"
EXAMPLE = Path(__file__).with_name("example.toml")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Source(_Table):
    """Where the app runs today."""

    blueprint: RelativePath | None = None
    url: Url | None = None


class Gce(_Table):
    """A machine that rehost creates on Compute Engine. disk is in bytes (see `disk_gb`)."""

    provider: Literal["gce"]
    project: ProjectId | None = None
    zone: Zone
    type: MachineType = "e2-micro"
    disk: Disk = 20 * GB
    disk_type: Literal["pd-standard", "pd-balanced", "pd-ssd"] = "pd-standard"
    image: ImageFamily = "debian-12"
    ssh_sources: Ranges = ("0.0.0.0/0",)

    @property
    def disk_gb(self) -> int:
        return self.disk // GB


class Host(_Table):
    """A machine that stands already, reached by ssh. Without a user, the ssh configuration says."""

    provider: Literal["host"]
    address: Address
    user: User | None = None
    port: Port = 22


class Build(_Table):
    """How the image is built. Paths are relative to the project's directory."""

    context: RelativePath = "."
    dockerfile: RelativePath = "Dockerfile"
    on: BuildPlace = "machine"
    args: dict[VariableName, str] = Field(default_factory=dict)
    allow: Strings = ()


class Run(_Table):
    """How the container runs. memory is in bytes; health_deadline and stop_grace in seconds."""

    port: Port = 8080
    health: WebPath = "/"
    health_status: HealthStatus = Statuses(200, 299)
    health_host: HostHeader | None = None
    health_deadline: Duration = 120
    memory: Memory = 400 * MB
    stop_grace: Duration = 30
    keep: Annotated[int, Field(ge=1, le=100)] = 5


class Env(_Table):
    """Where the container's variables come from. Files are relative to the project's directory."""

    files: Strings = (".env.prod",)
    required: VariableNames = ()


class Domain(_Table):
    """The public name of the app."""

    name: DomainName | None = None


class Project(_Table):
    """A whole rehost.toml, and the directory that it stands in."""

    app: AppName
    source: Source = Source()
    machine: Annotated[Gce | Host, Field(discriminator="provider")]
    build: Build = Build()
    run: Run = Run()
    env: Env = Env()
    domain: Domain = Domain()

    _directory: Path = PrivateAttr(default_factory=Path)

    @property
    def directory(self) -> Path:
        """What the paths of the file are relative to. Not a key of the file."""
        return self._directory

    @property
    def context(self) -> Path:
        return self._directory / self.build.context

    @property
    def dockerfile(self) -> Path:
        return self._directory / self.build.dockerfile

    @property
    def env_files(self) -> tuple[Path, ...]:
        return tuple(self._directory / name for name in self.env.files)

    @property
    def health_host(self) -> str:
        """The Host header under which the health gate asks the app."""
        return self.run.health_host or self.domain.name or "localhost"


def known_keys() -> dict[tuple[str, ...], frozenset[str]]:
    """The keys that each table knows, by the table's path; [machine] once for each provider."""
    models: dict[tuple[str, ...], type[BaseModel]] = {
        (): Project,
        ("source",): Source,
        ("machine", "gce"): Gce,
        ("machine", "host"): Host,
        ("build",): Build,
        ("run",): Run,
        ("env",): Env,
        ("domain",): Domain,
    }
    return {path: frozenset(model.model_fields) for path, model in models.items()}


def load(directory: Path) -> Project:
    """The project of a directory. Raises UsageError (ConfigError for mistakes in the file)."""
    path = directory / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no {FILE} in {directory.absolute()}.",
            cure='Type "rehost init" there to make one, or name another directory with --project.',
        ) from None
    except OSError as failed:
        raise UsageError(
            f"cannot be read: {failed.strerror}.", cure="Check its owner and mode.", where=str(path)
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failed:
        line = data.count(b"\n", 0, failed.start) + 1
        mistake = mistakes.Mistake(line, "", "this is not UTF-8", "save the file as UTF-8")
        raise mistakes.ConfigError(str(path), [mistake]) from None
    return parse(text, directory, str(path))


def parse(text: str, directory: Path, file: str = FILE) -> Project:
    """The project that a text describes; `file` is the name that errors give it. Raises ConfigError."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise mistakes.ConfigError(file, [mistakes.of_syntax(wrong, text)]) from None
    try:
        project = Project.model_validate(document)
    except ValidationError as wrong:
        found = mistakes.of_validation(wrong, text.replace("\r\n", "\n"), known_keys())
        raise mistakes.ConfigError(file, found) from None
    project._directory = directory
    return project
