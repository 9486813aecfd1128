"""rehost.toml: read, checked, and handed on as frozen values.

The schema is these models; `example.toml` beside this file is its reference page. Every mistake of a file is
reported at once, each with its line, its key and the cure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

from rehost.project import mistakes, moves, table
from rehost.project.processes import Job, Process, Service, part_name
from rehost.project.sizes import GB, MB
from rehost.project.toml_lines import key_lines
from rehost.project.values import (
    Address,
    AppName,
    Arguments,
    BuildPlace,
    Disk,
    DomainName,
    Duration,
    HealthStatus,
    HostHeader,
    ImageFamily,
    ImageName,
    MachineType,
    Memory,
    Pause,
    Port,
    ProjectId,
    Ranges,
    RelativePath,
    RenderService,
    SecretFiles,
    Statuses,
    Strings,
    Url,
    User,
    VariableNames,
    Volumes,
    WebPath,
    Words,
    Zone,
    one_of,
    shown,
    whole,
    yes_or_no,
)
from rehost.run.errors import UsageError

FILE = "rehost.toml"
EXAMPLE = Path(__file__).with_name("example.toml")


class Source(NamedTuple):
    """Where the app runs today. render: the ID of its service there."""

    render: RenderService | None = None
    blueprint: RelativePath | None = None
    url: Url | None = None


class Gce(NamedTuple):
    """A machine that rehost creates on Compute Engine. disk is in bytes (see `disk_gb`)."""

    provider: Annotated[str, one_of("gce")]
    zone: Zone
    project: ProjectId | None = None
    type: MachineType = "e2-micro"
    disk: Disk = 20 * GB
    disk_type: Annotated[str, one_of("pd-standard", "pd-balanced", "pd-ssd")] = "pd-standard"
    image: ImageFamily = "debian-12"
    ssh_sources: Ranges = ("0.0.0.0/0",)

    @property
    def disk_gb(self) -> int:
        return self.disk // GB


class Host(NamedTuple):
    """A machine that stands already, reached by ssh. Without a user, the ssh configuration says."""

    provider: Annotated[str, one_of("host")]
    address: Address
    user: User | None = None
    port: Port = 22


class Build(NamedTuple):
    """How the image is built. Paths are relative to the project's directory. image: a prebuilt one in its place."""

    context: RelativePath = "."
    dockerfile: RelativePath = "Dockerfile"
    on: BuildPlace = "machine"
    args: Arguments = MappingProxyType({})
    allow: Strings = ()
    image: ImageName | None = None


class Run(NamedTuple):
    """How the container runs. memory is in bytes, times are in seconds.

    volumes: "name:/path in the container". before_release: the words of a command.
    """

    port: Port = 8080
    health: WebPath = "/"
    health_status: HealthStatus = Statuses(200, 299)
    health_host: HostHeader | None = None
    health_deadline: Duration = 120
    memory: Memory = 400 * MB
    stop_grace: Duration = 30
    keep: Annotated[int, whole(1, 100)] = 5
    volumes: Volumes = ()
    exclusive: Annotated[bool, yes_or_no] = False
    drain: Pause = 30
    watch_for: Pause = 0
    before_release: Words = ()
    before_release_limit: Duration = 600


class Env(NamedTuple):
    """Where the container's variables come from. Files are relative to the project's directory.

    secret_files: files that the container finds at /etc/secrets. unproved: variables that name databases which are
    not tried before a release.
    """

    files: Strings = (".env.prod",)
    required: VariableNames = ()
    secret_files: SecretFiles = ()
    unproved: VariableNames = ()


class Domain(NamedTuple):
    """The public name of the app."""

    name: DomainName | None = None


class Project(NamedTuple):
    """A whole rehost.toml. directory: where it stands, which its paths are relative to; not a key of the file."""

    app: AppName
    machine: Gce | Host
    source: Source = Source()
    build: Build = Build()
    run: Run = Run()
    env: Env = Env()
    domain: Domain = Domain()
    processes: Mapping[str, Process] = MappingProxyType({})
    jobs: Mapping[str, Job] = MappingProxyType({})
    services: Mapping[str, Service] = MappingProxyType({})
    moves: Mapping[str, moves.Origin] = MappingProxyType({})
    directory: Path = Path()

    @property
    def context(self) -> Path:
        return self.directory / self.build.context

    @property
    def dockerfile(self) -> Path:
        return self.directory / self.build.dockerfile

    @property
    def env_files(self) -> tuple[Path, ...]:
        return tuple(self.directory / name for name in self.env.files)

    @property
    def origins(self) -> frozenset[str]:
        """The variables that [moves] names: for the command that moves, and never for a container."""
        return frozenset(each.name for each in self.moves.values() if isinstance(each, moves.Variable))

    @property
    def health_host(self) -> str:
        """The Host header under which the health gate asks the app."""
        return self.run.health_host or self.domain.name or "localhost"


PROVIDERS: Final[Mapping[str, type[Gce] | type[Host]]] = {"gce": Gce, "host": Host}
TABLES: Final[Mapping[str, type[NamedTuple]]] = {
    "source": Source,
    "build": Build,
    "run": Run,
    "env": Env,
    "domain": Domain,
}
# Tables of tables: [processes.worker].
NAMED: Final[Mapping[str, type[NamedTuple]]] = {
    "processes": Process,
    "jobs": Job,
    "services": Service,
}


def known_keys() -> dict[tuple[str, ...], frozenset[str]]:
    """The keys that each table knows, by the table's path; [machine] once for each provider, ("processes", "NAME")."""
    models: dict[tuple[str, ...], type[NamedTuple]] = {(name,): model for name, model in TABLES.items()}
    models |= {("machine", name): model for name, model in PROVIDERS.items()}
    models |= {(name, "NAME"): model for name, model in NAMED.items()}
    top = frozenset({"app", "machine", "moves", *TABLES, *NAMED})
    return {(): top, **{path: frozenset(table.kinds(model)) for path, model in models.items()}}


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
    faults: list[mistakes.Fault] = []
    project = _read(document, directory, faults)
    if project is None:
        lines = key_lines(text.replace("\r\n", "\n"))
        raise mistakes.ConfigError(file, [fault.at(lines) for fault in faults])
    return project


def _read(document: Mapping[str, Any], directory: Path, faults: list[mistakes.Fault]) -> Project | None:
    known = known_keys()
    top = table.read(_Top, {name: document[name] for name in document if name == "app"}, (), known, faults)
    machine = _machine(document, known, faults)
    tables: dict[str, Any] = {}
    for name, value in document.items():
        if name in TABLES:
            tables[name] = table.read(TABLES[name], value, (name,), known, faults)
        elif name in NAMED:
            tables[name] = table.read_each(NAMED[name], part_name, value, (name,), known, faults)
        elif name not in known[()]:
            faults.append(mistakes.unknown((name,), known[()], known))
    if "moves" in document:
        tables["moves"] = moves.read(document["moves"], faults)
        if not faults:  # or else what it points to may stand in what could not be read
            run, services = tables.get("run", Run()), tables.get("services", {})
            named = {one.partition(":")[0] for each in (run, *services.values()) for one in each.volumes}
            faults += moves.misplaced(tables["moves"], named, services)
    faults += _of_prebuilt(document.get("build"))
    if faults or top is None or machine is None:
        return None
    return Project(app=top.app, machine=machine, directory=directory, **tables)


def _of_prebuilt(build: object) -> Iterator[mistakes.Fault]:
    """Mistakes of a [build] that names a prebuilt image, and how to build one."""
    if isinstance(build, Mapping) and "image" in build:
        for name in build:
            if name != "image" and name in Build._fields:
                said = f"an image that is pulled is not built; take out {name}, or image"
                yield mistakes.wrong(("build", name), said)


class _Top(NamedTuple):
    """The keys above all tables."""

    app: AppName


def _machine(
    document: Mapping[str, Any], known: mistakes.Tables, faults: list[mistakes.Fault]
) -> Gce | Host | None:
    """[machine], whose provider decides what else may stand there."""
    data = document.get("machine")
    provider = data.get("provider") if isinstance(data, dict) else None
    if "machine" not in document:
        faults.append(mistakes.missing(("machine",)))
    elif isinstance(data, dict) and provider is None:
        faults.append(mistakes.missing(("machine", "provider")))
    elif isinstance(data, dict) and str(provider) not in PROVIDERS:
        said = f"{shown(provider)} is not known; one of {', '.join(map(shown, PROVIDERS))}"
        faults.append(mistakes.wrong(("machine", "provider"), said))
    else:
        return table.read(PROVIDERS.get(str(provider), Gce), data, ("machine",), known, faults)
    return None
