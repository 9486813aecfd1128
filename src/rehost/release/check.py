"""Can this project be built and released? Findings about Dockerfile, context, ports and health, from here alone."""

from __future__ import annotations

from rehost.project import dockerfile, env_check
from rehost.project.config import Project
from rehost.release import context, local_build, registry
from rehost.run.errors import RehostError
from rehost.run.findings import Finding

# A context of this size takes minutes over a home line, and most often holds what should not travel.
LARGE_CONTEXT = 100 * 2**20


def findings(project: Project) -> list[Finding]:
    """What can be said without the network. Changes nothing but the cache of file hashes."""
    return [
        *env_check.findings(project),
        *_image(project),
        *_health(project),
        *_domain(project),
    ]


def _image(project: Project) -> list[Finding]:
    if project.build.image:
        return _prebuilt(project.build.image)
    found = _dockerfile(project)
    if project.dockerfile.is_file():  # or else the context would say the same once more
        found += _context(project)
    if project.build.on == "here":
        try:
            local = local_build.look()
        except RehostError as wrong:
            return [*found, Finding("error", wrong.what, wrong.cure, wrong.where)]
        found.append(Finding("ok", f"Docker {local.version} builds the image here, on {local.platform}"))
    return found


def _prebuilt(name: str) -> list[Finding]:
    """What this computer knows of its registry. Whether the image is there is seen from the machine alone."""
    reference = registry.parse(name)
    try:
        login = registry.login(reference.registry)
    except RehostError as wrong:
        return [Finding("error", wrong.what, wrong.cure, wrong.where)]
    known = "with the login of this computer's Docker" if login else "without a login, as everybody may"
    return [Finding("ok", f"the machine pulls {name} from {reference.registry} {known}")]


def _dockerfile(project: Project) -> list[Finding]:
    name = project.build.dockerfile
    try:
        read = dockerfile.read(project.dockerfile, name, project.build.args)
    except RehostError as wrong:
        return [Finding("error", wrong.what, wrong.cure, wrong.where or name)]
    found = [Finding("ok", f"{name} builds on {', '.join(read.images) or 'nothing'}", where=name)]
    if read.syntax:
        found.append(
            Finding(
                "warning",
                f"the line `# syntax={read.syntax}` makes the builder fetch that image before it reads on.",
                "Leave the line out unless the file needs it.",
                name,
            )
        )
    if read.ports and project.run.port not in read.ports:
        ports = ", ".join(map(str, read.ports))
        found.append(
            Finding(
                "warning",
                f"the Dockerfile exposes {ports}, rehost.toml says port {project.run.port}.",
                "Correct `port` under [run], or make sure that the app listens on PORT.",
                "rehost.toml, [run] port",
            )
        )
    kept = {each.partition(":")[2] for each in project.run.volumes}
    found += [
        Finding(
            "warning",
            f"the Dockerfile makes {path} a volume, and no volume of rehost.toml is there: what the app writes to it "
            "is gone with the next release.",
            f'If it has to stay, write volumes = ["data:{path}"] and exclusive = true under [run].',
            "rehost.toml, [run] volumes",
        )
        for path in (each.rstrip("/") for each in read.volumes)
        if path and path not in kept
    ]
    unknown = sorted(set(project.build.args) - set(read.args))
    if unknown:
        found.append(
            Finding(
                "warning",
                f"the Dockerfile declares no ARG {', '.join(unknown)}.",
                "Take it out of `args` under [build], or add the ARG line.",
                "rehost.toml, [build] args",
            )
        )
    return found


def _context(project: Project) -> list[Finding]:
    try:
        read = context.read(
            project.directory,
            context=project.build.context,
            dockerfile=project.build.dockerfile,
            args=project.build.args,
            allow=project.build.allow,
        )
    except RehostError as wrong:
        return [Finding("error", wrong.what, wrong.cure, wrong.where)]
    largest = ", ".join(f"{context.shown(entry.path)} {_size(entry.size)}" for entry in read.largest(10))
    what = f"the build context has {_size(read.total_bytes)} in {len(read.entries)} names; largest: {largest or 'none'}"
    if read.total_bytes > LARGE_CONTEXT:
        return [
            Finding(
                "warning",
                what + ".",
                "Name in .dockerignore what the build does not need.",
                project.build.context,
            )
        ]
    return [Finding("ok", what, where=project.build.context)]


def _health(project: Project) -> list[Finding]:
    run = project.run
    if run.health == "/":
        return [
            Finding(
                "warning",
                "the health gate asks for /, which most apps answer even when their database is gone.",
                "Give the app a path that looks at what it needs, and name it as `health` under [run].",
                "rehost.toml, [run] health",
            )
        ]
    return [Finding("ok", f"a release counts as healthy when {run.health} answers {run.health_status}")]


def _domain(project: Project) -> list[Finding]:
    if project.domain.name is None:
        return [
            Finding(
                "warning",
                "no domain is named: the app will be reached by its address, without TLS.",
                "Name it as `name` under [domain].",
                "rehost.toml, [domain] name",
            )
        ]
    return [Finding("ok", f"the proxy will answer for {project.domain.name}")]


def _size(number: int) -> str:
    if number < 1 << 10:
        return f"{number} B"
    return f"{number / 2**10:.0f} kB" if number < 1 << 20 else f"{number / 2**20:.1f} MB"
