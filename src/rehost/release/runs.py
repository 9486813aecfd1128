"""Runs of jobs on the machine: what is kept of them, and one that is started by hand and followed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from rehost.machine.ssh import Machine
from rehost.release.logs import CURRENT
from rehost.run.errors import RehostError, UsageError

_NO_JOB: Final = 76
_NO_RUN: Final = 77
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

# How a run ended, besides by itself with an exit status. See job.sh.
WORDS: Final[Mapping[str, str]] = {
    "timeout": "took longer than its max_run and was stopped",
    "memory": "ran out of its memory limit",
    "stopped": "was stopped on the machine",
    "failed": "could not be started",
    "": "was cut off: the machine went down, or the run was killed",
}

LIST: Final = (
    CURRENT
    + """cd /var/lib/rehost/{app} || exit 0
grep -asH '' "releases/$n/release.json" jobs/*/runs/*/run
for now in jobs/*/now; do
  [ -f "$now" ] || continue
  job=${{now%/now}}
  # After a power cut it is there, and nothing runs.
  case $(systemctl show -p ActiveState --value "rehost-{app}.job.${{job#jobs/}}.service") in
    inactive | failed) ;;
    # It may end just now.
    *) number=$(cat "$now" 2>/dev/null) && [ -n "$number" ] && echo "$now:$number" ;;
  esac
done
echo @timers
systemctl list-timers --all --output=json 'rehost-{app}.job.*.timer'
"""
)

# Two people who start it in the same moment see the same run. The unit's own end is waited for, whoever started it.
RUN: Final = """
unit=rehost-$APP.job.$JOB.service
jobs=/var/lib/rehost/$APP/jobs/$JOB
[ -f "/etc/systemd/system/$unit" ] || exit {no_job}
umask 077
mkdir -p "$jobs/runs"
active() {{ case $(systemctl show -p ActiveState --value "$unit") in inactive | failed) return 1 ;; esac; }}
exec 9>"$jobs/lock"
flock 9
if active; then
  echo "@running $(cat "$jobs/now" 2>/dev/null)"
else
  printf '%s\\n' "$BY" >"$jobs/order" || exit 74
  systemctl start --no-block "$unit" || exit 70
  while [ -f "$jobs/order" ] && active; do sleep 0.1; done
fi
flock -u 9
id=$(ls "$jobs/runs" | sort -n | tail -n 1)
run=$jobs/runs/$id
echo "@run $id"
until [ -f "$run/begun" ] || grep -q '^status=' "$run/run" || ! active; do sleep 0.1; done
if [ -f "$run/begun" ]; then docker logs --follow "$APP.job.$JOB" 2>&1 | sed -u 's/^/@log /'; else
  sed 's/^/@log /' "$run/log"
fi
while active; do sleep 0.2; done
echo "@status $(sed -n 's/^status=//p' "$run/run")"
"""

LOG: Final = """
cd /var/lib/rehost/$APP/jobs/$JOB/runs 2>/dev/null || exit {no_run}
id=${{RUN:-$(ls | sort -n | tail -n 1)}}
[ -n "$id" ] && [ -d "$id" ] || exit {no_run}
if [ "$(cat ../now 2>/dev/null)" = "$id" ] && [ -f "$id/begun" ]; then exec docker logs "$APP.job.$JOB" 2>&1; fi
exec cat "$id/log"
"""


class Run(NamedTuple):
    """One run. started, ended: seconds since 1970, ended 0 while it runs or when it was cut off.

    status: the exit status, or a word of WORDS. by: "timer", or who started it.
    """

    number: int
    started: int
    ended: int
    status: str
    by: str
    release: int
    running: bool

    @property
    def good(self) -> bool:
        return self.running or self.status == "0"


class Listed(NamedTuple):
    """A job of the release that serves. next: seconds since 1970 (UTC), 0 when its timer does not wait."""

    name: str
    command: str
    schedule: str
    next: int
    runs: tuple[Run, ...]


async def listed(machine: Machine, app: str) -> list[Listed]:
    """The jobs of the release that serves, with their runs, the latest first."""
    done = await machine.run(LIST.format(app=app, otherwise="exit 0"), what="reading the jobs")
    return parse(app, done.stdout)


def parse(app: str, text: str) -> list[Listed]:
    """What the machine said of the jobs; no text at all when nothing serves."""
    files, _, timers = text.partition("@timers\n")
    texts: dict[str, list[str]] = {}
    for line in filter(None, files.split("\n")):
        path, content = line.split(":", 1)
        texts.setdefault(path, []).append(content)
    record = next((lines for path, lines in texts.items() if path.endswith("/release.json")), None)
    if record is None:
        return []
    found: dict[str, Any] = json.loads("\n".join(record))["settings"].get("jobs", {})
    due = {one["unit"]: int(one["next"] or 0) // 1_000_000 for one in json.loads(timers or "[]")}
    return [
        Listed(
            name,
            job["command"],
            job["schedule"],
            due.get(f"rehost-{app}.job.{name}.timer", 0),
            _runs(name, texts),
        )
        for name, job in found.items()
    ]


def _runs(name: str, texts: Mapping[str, list[str]]) -> tuple[Run, ...]:
    now = int("".join(texts.get(f"jobs/{name}/now", ["0"])))
    runs = []
    for path, lines in texts.items():
        if place := re.fullmatch(rf"jobs/{name}/runs/(\d+)/run", path):
            said = dict(line.split("=", 1) for line in lines)
            number = int(place[1])
            status = said.get("status", "")
            runs.append(
                Run(
                    number=number,
                    started=int(said["started"]),
                    ended=int(said.get("ended", 0)),
                    status=status,
                    by=said["by"],
                    release=int(said["release"] or 0),
                    running=number == now and not status,
                )
            )
    return tuple(sorted(runs, key=lambda run: -run.number))


def checked(name: str) -> str:
    """A name as jobs have it. Raises UsageError for anything else: it goes into a script."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a job.", cure="`rehost jobs` lists them.")
    return name


class Seen(NamedTuple):
    """How a run that was followed ended. joined: it was running already."""

    number: int
    status: str
    joined: bool


async def run(machine: Machine, app: str, job: str, by: str, on_line: Callable[[str], None]) -> Seen:
    """Runs a job now, or joins the run that is under way. Raises RehostError when there is no such job."""
    words: dict[str, str] = {}

    def line(text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "@log":
            on_line(rest)
        else:
            words[word] = rest

    head = f"APP={app} JOB={checked(job)} BY={shlex.quote(by)}\n"
    done = await machine.stream(
        head + RUN.format(no_job=_NO_JOB), line, what=f"running job {job}", check=False
    )
    if done.status == _NO_JOB:
        raise RehostError(
            f"the release that serves has no job {job}.",
            where=machine.label,
            cure="`rehost jobs` lists them; one that is new in rehost.toml comes with `rehost up`.",
        )
    if done.status != 0:
        raise RehostError(
            f"job {job} could not be started: {done.stderr.strip() or f'status {done.status}'}",
            where=machine.label,
            cure="`journalctl -u 'rehost-*'` on the machine tells more; `rehost up` sets its timers up anew.",
        )
    return Seen(int(words["@run"] or 0), words.get("@status", ""), "@running" in words)


async def log(
    machine: Machine, app: str, job: str, number: int | None, on_line: Callable[[str], None]
) -> None:
    """Hands over what a run wrote, the last one without a number. Raises RehostError when there is no such run."""
    head = f"APP={app} JOB={checked(job)} RUN={number or ''}\n"
    done = await machine.stream(
        head + LOG.format(no_run=_NO_RUN), on_line, what="reading a job's log", check=False
    )
    if done.status != 0:
        which = f"run {number}" if number else "run"
        raise RehostError(
            f"no {which} of job {job} is kept.", where=machine.label, cure="`rehost jobs` lists the runs."
        )
