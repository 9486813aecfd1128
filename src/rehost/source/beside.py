"""Workers and cron jobs of a blueprint that are the app's own code: processes and jobs of the same image."""

from __future__ import annotations

from dataclasses import replace

from rehost.project import schedule
from rehost.project.dotenv import NAME
from rehost.run.secret import Secret
from rehost.source import commands
from rehost.source.report import Ledger, Settings
from rehost.source.service import kind_of
from rehost.source.yaml_text import Mapped

# What an image is built from. `env` is the old name of `runtime`.
_BUILT_FROM = ("repo", "branch", "rootDir", "dockerfilePath", "dockerContext", "image")
_ONCE = "stop it at Render in the moment in which it runs here: it must not run on both sides"


def carry(shown: str, service: Mapped, app: Mapped, settings: Settings, ledger: Ledger) -> Settings | None:
    """`settings` with the process or job that a service becomes; None where it is none of the app's own.

    settings: with the app's variables.
    """
    kind = kind_of(service)
    if kind not in ("worker", "cron") or not _same(service, app):
        return None
    docker = _runtime(service) in ("docker", "image")
    written = service.get("dockerCommand" if docker else "startCommand")
    command = commands.of_list(written) if isinstance(written, str) else ""
    label = str(service.get("name") or "")
    name = commands.name(label, (*settings.processes, *settings.jobs))
    if not command or name is None:
        return None
    settings, more = _variables(service, app, settings)
    if not docker and (service.get("buildCommand") or "") != (app.get("buildCommand") or ""):
        more += "; its buildCommand is another one: see that the app's image has what it needs"
    if kind == "worker":
        ledger.change(shown, f"processes.{name}, of the same image with the same variables{more}; {_ONCE}")
        return replace(settings, processes={**settings.processes, name: command})
    when = str(service.get("schedule") or "").strip()
    try:
        schedule.parse(when)
    except ValueError:
        return None
    ledger.change(shown, f"jobs.{name}, at the same times (UTC), of the same image{more}; {_ONCE}")
    return replace(settings, jobs={**settings.jobs, name: (command, when)})


def _runtime(service: Mapped) -> object:
    return service.get("runtime") or service.get("env")


def _same(service: Mapped, app: Mapped) -> bool:
    """Whether both are built from the same: what neither says is Render's default for both."""
    return _runtime(service) == _runtime(app) and all(
        (service.get(key) or "") == (app.get(key) or "") for key in _BUILT_FROM
    )


def _variables(service: Mapped, app: Mapped, settings: Settings) -> tuple[Settings, str]:
    """`settings` with the variables that it has and the app has not, where the file has their values; and what to say.

    A process has the app's variables: one that has another value there is told of.
    """
    entries = _entries(service)
    groups = {each.get("fromGroup") for each in entries} - {each.get("fromGroup") for each in _entries(app)}
    values = dict(settings.variables)
    added: list[str] = []
    other: list[str] = []
    unknown: list[str] = []
    for each in entries:
        key, value = each.get("key"), each.get("value")
        if not isinstance(key, str) or not NAME.fullmatch(key):
            continue
        if key in settings.required:
            known = settings.variables.get(key)
            if not isinstance(value, str) or known is None or known.reveal() != value:
                other += [key] if isinstance(value, str) else []
        elif isinstance(value, str):
            values[key] = Secret(value)
            added.append(key)
        else:
            unknown.append(key)
    said = [
        f"; {', '.join(added)} of its own: in the env file" if added else "",
        f"; {', '.join(other)} had another value there: it gets the app's" if other else "",
        f"; {', '.join(unknown)} it had besides: write what it needs into the env file" if unknown else "",
    ]
    if groups:
        named = ", ".join(sorted(map(str, groups)))
        said.append(f"; it linked {named}, and the app does not: write what it needs into the env file")
    required = (*settings.required, *added)
    return replace(settings, variables=values, required=required), "".join(said)


def _entries(service: Mapped) -> list[Mapped]:
    listed = service.get("envVars")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
