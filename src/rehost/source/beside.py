"""Workers and cron jobs of a blueprint that are the app's own code: processes and jobs of the same image."""

from __future__ import annotations

from dataclasses import replace

from rehost.project import schedule
from rehost.source import commands
from rehost.source.report import Ledger, Settings
from rehost.source.service import kind_of
from rehost.source.yaml_text import Mapped

# What an image is built from. `env` is the old name of `runtime`.
_BUILT_FROM = ("repo", "branch", "rootDir", "dockerfilePath", "dockerContext", "buildCommand", "image")
_ONCE = "stop it at Render in the moment in which it runs here: it must not run on both sides"


def carry(shown: str, service: Mapped, app: Mapped, settings: Settings, ledger: Ledger) -> Settings | None:
    """`settings` with the process or job that a service becomes; None where it is none of the app's own.

    settings: with the app's variables.
    """
    kind = kind_of(service)
    if kind not in ("worker", "cron") or not _same(service, app):
        return None
    docker = _runtime(service) == "docker"
    written = service.get("dockerCommand" if docker else "startCommand")
    command = commands.of_list(written) if isinstance(written, str) else ""
    label = str(service.get("name") or "")
    name = commands.name(label, (*settings.processes, *settings.jobs))
    if not command or name is None:
        return None
    more = _only_there(service, settings)
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


def _only_there(service: Mapped, settings: Settings) -> str:
    """Variables that it has and the app has not."""
    listed = service.get("envVars")
    names = [each.get("key") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    own = [name for name in names if isinstance(name, str) and name not in settings.required]
    return f"; {', '.join(own)} it had besides: write what it needs into the env file" if own else ""
