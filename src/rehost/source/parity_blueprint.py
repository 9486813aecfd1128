"""What a blueprint's services relied on: disks, commands before a deploy, jobs, instances."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rehost.project.config import Project
from rehost.run.errors import UsageError
from rehost.run.findings import Finding
from rehost.source import yaml_text
from rehost.source.names import app_name
from rehost.source.yaml_text import Mapped, Text


def services(path: Path, app: str) -> tuple[Mapped, ...]:
    """The services of a blueprint, the app's own first; none when it cannot be read or has none of that name.

    A blueprint that is wrong is `rehost init`'s to tell of.
    """
    try:
        document, _ = yaml_text.read(path.read_text(encoding="utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError, UsageError):
        return ()
    listed: list[Mapped] = []
    ahead: list[Text] = [document]
    while ahead:
        scope = ahead.pop(0)
        if isinstance(scope, dict):
            found = scope.get("services")
            listed += [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
            for key in ("projects", "environments", "ungrouped"):
                inner = scope.get(key, [])
                ahead += inner if isinstance(inner, list) else [inner]
    answering = [each for each in listed if each.get("type") in ("web", "pserv")]
    own = [each for each in answering if app_name(str(each.get("name", ""))) == app]
    first = own[0] if own else answering[0] if len(answering) == 1 else None
    return () if first is None else (first, *(each for each in listed if each is not first))


def findings(project: Project, listed: tuple[Mapped, ...]) -> list[Finding]:
    """Rows about the app's own service, then about those beside it."""
    if not listed:
        return []
    where = project.source.blueprint or "render.yaml"
    found = [*_own(project, listed[0], where)]
    known = {*project.processes, *project.jobs}
    for each in listed[1:]:
        found += _beside(each, where, known)
    return found


def _own(project: Project, service: Mapped, where: str) -> Iterator[Finding]:
    disk = service.get("disk")
    path = str(disk.get("mountPath", "")).rstrip("/") if isinstance(disk, dict) else ""
    volume = next((each.partition(":")[0] for each in project.run.volumes if each.endswith(f":{path}")), "")
    if path and volume and volume not in project.moves:
        yield Finding(
            "warning",
            f"the disk at {path}: what it holds stays at Render.",
            f'Write {volume} = "SERVICE@ssh.REGION.render.com:{path}" under [moves] (Render: Connect, SSH), and let '
            "`rehost move` bring it after the first `rehost up`.",
            where,
        )
    if path and volume:
        if project.run.exclusive:
            yield Finding(
                "ok",
                f"the disk at {path}: a release stops the old container first, as at Render",
                where=where,
            )
        else:
            yield Finding(
                "warning",
                f"the disk at {path} is a volume here. Render stopped the old container before it started the new; "
                "here both have the volume for the length of a release.",
                "Write exclusive = true under [run] for an app whose files only one process may open (SQLite, an "
                "index).",
                where,
            )
    elif path:
        yield Finding(
            "warning",
            f"the disk at {path} has no volume here: what the app writes there ends with each release.",
            f'Write volumes = ["data:{path}"] under [run].',
            where,
        )
    if service.get("preDeployCommand") and project.run.before_release:
        yield Finding("ok", "before_release runs before each switch, as preDeployCommand did", where=where)
    elif service.get("preDeployCommand"):
        yield Finding(
            "warning",
            "preDeployCommand: nothing stands in its place.",
            "Write it as before_release under [run].",
            where,
        )
    if service.get("initialDeployHook"):
        yield Finding(
            "warning",
            "initialDeployHook: rehost runs no command after the first release alone.",
            "Run it with `rehost exec`, or let the app do it when it starts.",
            where,
        )
    several = service.get("numInstances", "1") != "1" or service.get("scaling")
    if several:
        yield Finding(
            "warning",
            "several instances ran at Render; rehost runs one container on one machine.",
            "Choose a machine.type that carries the load.",
            where,
        )
    if str(service.get("plan", "")) == "free":
        yield Finding("ok", "the free plan slept after 15 minutes; the machine does not", where=where)


def _beside(service: Mapped, where: str, known: Collection[str]) -> Iterator[Finding]:
    """known: the names of the processes and jobs that rehost.toml has."""
    name = str(service.get("name", "")) or "(no name)"
    kind = str(service.get("type", ""))
    if kind in ("cron", "worker") and app_name(name)[:30].strip("-") in known:
        yield Finding(
            "warning",
            f"{name} runs here with the release: it must not run at Render as well.",
            "Suspend it there in the moment of the move.",
            where,
        )
    elif kind == "cron":
        yield Finding(
            "warning",
            f"the cron job {name} ({service.get('schedule', '')} in UTC) stays at Render.",
            "Write it under [jobs] if it is the app's own code, or keep it there, with addresses that it still "
            "reaches; never let it run on both sides.",
            where,
        )
    elif kind == "worker":
        yield Finding(
            "warning",
            f"the worker {name} stays at Render.",
            "Write it under [processes] if it is the app's own code, or keep it there; its queue must be one that both "
            "sides reach.",
            where,
        )
    elif kind == "pserv":
        yield Finding(
            "warning",
            f"the private service {name} stays at Render, where nobody outside reaches it by its name.",
            "Give it a public address, or move it to the machine as an app of its own.",
            where,
        )
    elif kind in ("keyvalue", "redis"):
        yield Finding(
            "warning",
            f"the Key Value store {name} stays at Render, and its internal address ends there.",
            "Let the machine's address in (ipAllowList), and use its external address; or give the app one of its own "
            "([services.redis]) and let `rehost move` bring what it holds.",
            where,
        )
