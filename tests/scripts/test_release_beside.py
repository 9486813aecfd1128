"""Workers and jobs on the machine: beside.sh and job.sh under a real sh, where Docker and systemd are stand-ins."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rehost.release import jobs, processes, runs
from rehost.release.jobs import Job
from rehost.release.processes import Process
from test_machine_bootstrap import shellcheck

SOURCE = Path(jobs.__file__).parent
APP = "shop"
WEB = {
    "Image": "sha256:1",
    "Env": ["A=1"],
    "Labels": {"rehost.app": APP, "rehost.release": "1"},
    "HostConfig": {"PortBindings": {}},
}
WORKERS = {"worker": Process("python -m worker", 2**26), "clock": Process("clock", 2**26)}
NIGHTLY = Job("python -m report", "0 3 * * *", 60, 2**26)

# What a container does when it starts stands in behave/NAME: "exit 9" or "oom"; else it runs until it is stopped.
DOCKER = """#!/bin/sh
S={state}
for last; do :; done
if [ "$1" = container ]; then shift; fi
case $1 in
  stop | kill | rm | start | update) echo "$*" >>"$S/calls" ;;
esac
case $1 in
  inspect)
    [ -d "$S/containers/$last" ] || {{ echo "Error: No such object: $last" >&2; exit 1; }}
    cd "$S/containers/$last" || exit 1
    case "$*" in
      *RestartCount*) echo "$(cat running) $(cat restarts) $(cat exit) $(cat oom)" ;;
      *Running*OOM*) echo "$(cat running) $(cat exit) $(cat oom)" ;;
      *Running*) cat running ;;
      *ExitCode*) cat exit ;;
    esac ;;
  start)
    cd "$S/containers/$last" || exit 1
    if [ -f "$S/start" ]; then cat "$S/start" >&2; exit 1; fi
    echo true >running; echo false >oom
    case $(cat "$S/behave/$last" 2>/dev/null) in
      exit*) echo false >running; sed 's/exit //' "$S/behave/$last" >exit ;;
      oom) echo false >running; echo 137 >exit; echo true >oom ;;
    esac ;;
  stop | kill)
    for name; do [ ! -d "$S/containers/$name" ] || echo false >"$S/containers/$name/running"; done ;;
  rm) for name; do [ ! -d "$S/containers/$name" ] || rm -r "$S/containers/$name"; done ;;
  ps) cd "$S/containers" && for name in *.[!j]*; do
    [ "$(cat "$name/running" 2>/dev/null)" != true ] || echo "$name"
  done ;;
  rename) mv "$S/containers/$2" "$S/containers/$3" ;;
  network) [ "$2" = create ] || [ -f "$S/network" ] || exit 1; : >"$S/network" ;;
  image) [ -f "$S/pulled" ] ;;
  pull) echo "pull $last" >>"$S/calls"; if [ -f "$S/pull" ]; then cat "$S/pull" >&2; exit 1; fi; : >"$S/pulled" ;;
  exec) shift 2; "$@" ;;
  wait) [ "$(cat "$S/containers/$last/running")" != true ] || exec sleep 60 ;;
  logs) echo "last words of $last" ;;
esac"""
CURL = """#!/bin/sh
S={state}
while [ $# -gt 0 ]; do
  case $1 in -o) out=$2 ;; --data-binary) body=${{2#@}} ;; http:*) name=${{1##*name=}} ;; esac
  shift
done
if [ -f "$S/create" ]; then cat "$S/create" >"$out"; printf 400; exit; fi
mkdir "$S/containers/$name" && cd "$S/containers/$name" || exit 1
cp "$body" body; echo false >running; echo 0 >exit; echo 0 >restarts; echo false >oom
echo "create $name" >>"$S/calls"
printf 201"""
# A timer is active as long as its mark is there.
SYSTEMCTL = """#!/bin/sh
S={state}
for last; do :; done
case $1 in
  show) if [ -f "$S/active/$last" ]; then echo active; else echo inactive; fi ;;
  disable) echo "disable $last" >>"$S/calls"; rm -f "$S/active/$last" ;;
  start) echo "start $last" >>"$S/calls"; : >"$S/active/$last" ;;
  *) echo "$*" >>"$S/calls" ;;
esac"""
# Two seconds pass each time that somebody looks.
DATE = "#!/bin/sh\nn=$(cat {state}/now 2>/dev/null || echo 1000)\necho $((n + 2)) >{state}/now; echo $n\n"


class Site:
    """A machine with prepared releases."""

    def __init__(self, directory: Path) -> None:
        self.state, self.units = directory / "state", directory / "units"
        self.home = directory / "rehost" / APP
        for kept in ("containers", "behave", "active"):
            (self.state / kept).mkdir(parents=True)
        for path in (self.units, self.home / "live", directory / "bin"):
            path.mkdir(parents=True)
        for name, text in {
            "docker": DOCKER,
            "curl": CURL,
            "systemctl": SYSTEMCTL,
            "sleep": "#!/bin/sh\n",
            "date": DATE,
        }.items():
            program = directory / "bin" / name
            program.write_text(text.format(state=self.state))
            program.chmod(0o755)
        self.path = f"{directory}/bin:/usr/bin:/bin"

    def prepare(self, number: int, workers: dict[str, Process], scheduled: dict[str, Job]) -> None:
        files = {**processes.files(WEB, workers), **jobs.files(APP, WEB, scheduled, 5)}
        directory = self.home / "releases" / str(number)
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))

    def here(self, script: str) -> str:
        return script.replace("/var/lib/rehost", str(self.home.parent)).replace(jobs.UNITS, str(self.units))

    def run(self, calls: str) -> subprocess.CompletedProcess[str]:
        """Calls functions of beside.sh as release.sh does."""
        (self.state / "calls").write_text("")
        head = (
            f"APP={APP} GRACE=5 home={self.home}\nset -u\n"
            'running() { docker ps; }\nsay() { echo "$*"; }\nfail() { echo "@fail $1"; exit 3; }\n'
        )
        script = head + self.here((SOURCE / "beside.sh").read_text()) + calls + "\n"
        return self._sh(["-c", script])

    def job(self, *words: str) -> subprocess.CompletedProcess[str]:
        (self.state / "calls").write_text("")
        return self._sh(["-c", self.here((SOURCE / "job.sh").read_text()), "run", APP, "nightly", *words])

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        return self._sh(["-c", self.here(script)])

    def _sh(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", *words], env={"PATH": self.path}, capture_output=True, text=True, check=False, timeout=30
        )

    def behave(self, name: str, how: str) -> None:
        (self.state / "behave" / name).write_text(how)

    @property
    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().splitlines()

    @property
    def running(self) -> list[str]:
        return sorted(
            p.parent.name for p in self.state.glob("containers/*/running") if "true" in p.read_text()
        )

    @property
    def timers(self) -> list[str]:
        return sorted(path.name for path in (self.state / "active").iterdir())

    def runs(self) -> dict[str, dict[str, str]]:
        found = (self.home / "jobs/nightly/runs").iterdir()
        return {
            path.name: dict(line.split("=") for line in (path / "run").read_text().splitlines())
            for path in found
        }


TAKE = 'beside_ready {n}; beside_take_over "{old}" {n} || echo "@bad $beside_why"'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_old_workers_are_stopped_before_the_new_ones_start(site: Site) -> None:
    site.prepare(1, WORKERS, {})
    site.prepare(2, {"worker": WORKERS["worker"]}, {})
    first = site.run(TAKE.format(old="", n=1))
    assert (first.returncode, first.stderr) == (0, "")
    assert site.running == ["shop-1.clock", "shop-1.worker"]
    body = json.loads((site.state / "containers/shop-1.worker/body").read_text())
    assert (body["Cmd"], body["Env"]) == (["python", "-m", "worker"], ["A=1"])
    second = site.run(TAKE.format(old=1, n=2))
    assert "@bad" not in second.stdout
    assert site.calls == [
        "create shop-2.worker",
        "stop -t 5 shop-1.clock shop-1.worker",
        "update --restart no shop-2.worker",
        "start shop-2.worker",
        # Only what has proved itself comes back by itself.
        "update --restart unless-stopped shop-2.worker",
    ]
    assert site.running == ["shop-2.worker"]
    # Again: nothing is done.
    site.run(TAKE.format(old=1, n=2))
    assert site.calls == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [("exit 9", "ended by itself with status 9"), ("oom", "ran out of its memory limit")],
)
def test_a_worker_that_does_not_stay_up_is_told_and_the_old_ones_come_back(
    site: Site, how: str, reason: str
) -> None:
    site.prepare(1, WORKERS, {"nightly": NIGHTLY})
    site.prepare(2, WORKERS, {})
    site.run(TAKE.format(old="", n=1))
    site.behave("shop-2.worker", how)
    ran = site.run(TAKE.format(old=1, n=2) + '; beside_return 1 2; echo "@why $beside_why"')
    assert f"@bad process worker {reason}" in ran.stdout
    assert f"@why process worker {reason}" in ran.stdout
    assert "@log last words of shop-2.worker" in ran.stdout
    assert site.running == ["shop-1.clock", "shop-1.worker"]
    assert [p.name for p in sorted((site.state / "containers").iterdir())] == [
        "shop-1.clock",
        "shop-1.worker",
    ]
    assert site.timers == ["rehost-shop.job.nightly.timer"]


def test_what_docker_refuses_is_told_before_anything_is_stopped(site: Site) -> None:
    site.prepare(1, WORKERS, {})
    site.prepare(2, WORKERS, {})
    site.run(TAKE.format(old="", n=1))
    (site.state / "create").write_text('{"message":"no such image"}')
    ran = site.run(TAKE.format(old=1, n=2))
    assert ran.returncode == 3
    assert "@fail Docker did not create shop-2.clock" in ran.stdout
    assert "no such image" in ran.stdout
    assert site.running == ["shop-1.clock", "shop-1.worker"]


def test_a_worker_that_ends_later_is_seen(site: Site) -> None:
    site.prepare(1, WORKERS, {})
    site.run(TAKE.format(old="", n=1))
    assert site.run('beside_up 1 || echo "@bad"').stdout == ""
    (site.state / "containers/shop-1.worker/restarts").write_text("1\n")
    ran = site.run('beside_up 1 || echo "@bad $beside_why"')
    assert "@bad process worker ended by itself and was started anew" in ran.stdout


def test_timers_are_those_of_the_release_that_serves(site: Site) -> None:
    hourly = NIGHTLY._replace(schedule="0 * * * *")
    site.prepare(1, {}, {"nightly": NIGHTLY, "hourly": hourly})
    site.prepare(2, {}, {"nightly": hourly})
    site.prepare(3, {}, {})
    other = site.units / "rehost-shop-job.job.nightly.timer"  # an app called "shop-job"
    other.write_text("another app's")
    (site.units / "rehost-shopping.job.nightly.timer").write_text("another app's")
    assert site.run(TAKE.format(old="", n=1)).stderr == ""
    assert site.timers == ["rehost-shop.job.hourly.timer", "rehost-shop.job.nightly.timer"]
    units = jobs.unit_files(APP, {"nightly": NIGHTLY, "hourly": hourly}, 5)
    assert {p.name: p.read_text() for p in site.units.glob("rehost-shop.*")} == units
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in site.units.glob("rehost-shop.*"))
    assert (site.home / "jobs/run").read_text() == (SOURCE / "job.sh").read_text()
    site.run(TAKE.format(old="", n=1))
    assert site.calls == []
    # A changed timer is forgotten before it is made, so that it does not catch up.
    site.run(TAKE.format(old=1, n=2))
    name = "rehost-shop.job.nightly.timer"
    assert site.timers == [name]
    order = [
        site.calls.index(call)
        for call in (f"disable {name}", "daemon-reload", f"enable {name}", f"start {name}")
    ]
    assert order == sorted(order)
    assert (site.units / name).read_text() == jobs.timer(APP, "nightly", hourly)
    # One that was stopped by hand is made anew as well.
    (site.state / "active" / name).unlink()
    assert site.run("beside_hold 2").returncode == 0
    assert site.timers == [name]
    site.run(TAKE.format(old=2, n=3))
    assert site.timers == []
    assert sorted(p.name for p in site.units.iterdir()) == [other.name, "rehost-shopping.job.nightly.timer"]


def test_a_run_uses_the_release_that_serves_and_is_written_down(site: Site) -> None:
    site.prepare(4, {}, {"nightly": NIGHTLY})
    (site.home / "live/a").write_text("4\n")
    site.behave("shop.job.nightly", "exit 0")
    assert site.job("60", "5").returncode == 0
    site.behave("shop.job.nightly", "exit 3")
    (site.home / "jobs/nightly/order").write_text("ada@laptop\n")
    assert site.job("60", "5").returncode == 1
    site.behave("shop.job.nightly", "oom")
    assert site.job("60", "5").returncode == 1
    said = {number: (run["status"], run["by"], run["release"]) for number, run in site.runs().items()}
    assert said == {
        "1": ("0", "timer", "4"),
        "2": ("3", "ada@laptop", "4"),
        "3": ("memory", "timer", "4"),
    }
    assert (site.home / "jobs/nightly/runs/2/log").read_text() == "last words of shop.job.nightly\n"
    assert not (site.home / "jobs/nightly/now").exists()


def test_a_run_that_takes_too_long_is_stopped(site: Site) -> None:
    site.prepare(4, {}, {"nightly": NIGHTLY})
    (site.home / "live/b").write_text("4\n")
    site.job("0", "7")
    assert site.runs()["1"]["status"] == "timeout"
    assert "stop -t 7 shop.job.nightly" in site.calls


def test_a_run_that_was_cut_off_is_ended_by_its_unit(site: Site) -> None:
    site.prepare(4, {}, {"nightly": NIGHTLY})
    (site.home / "live/b").write_text("4\n")
    run = site.home / "jobs/nightly/runs/7"
    run.mkdir(parents=True)
    (run / "run").write_text("started=1\nby=timer\nrelease=4\n")
    (site.home / "jobs/nightly/now").write_text("7\n")
    assert site.job("60", "5", "end").returncode == 0
    assert site.runs()["7"]["status"] == "stopped"
    assert "stop -t 5 shop.job.nightly" in site.calls
    assert site.job("60", "5", "end").returncode == 0  # the end of a run that ended by itself
    assert site.calls == []


def test_a_run_without_its_release_says_so(site: Site) -> None:
    assert site.job("60", "5").returncode == 1
    assert site.runs()["1"]["status"] == "failed"
    assert "release none has no job nightly" in (site.home / "jobs/nightly/runs/1/log").read_text()
    site.prepare(4, {}, {"nightly": NIGHTLY})
    (site.home / "live/b").write_text("4\n")
    (site.state / "create").write_text("no such image")
    site.job("60", "5")
    assert "no such image" in (site.home / "jobs/nightly/runs/2/log").read_text()


def test_the_last_twenty_runs_are_kept(site: Site) -> None:
    site.prepare(4, {}, {"nightly": NIGHTLY})
    (site.home / "live/b").write_text("4\n")
    for number in range(8, 30):
        run = site.home / f"jobs/nightly/runs/{number}"
        run.mkdir(parents=True)
        (run / "run").write_text("started=1\nby=timer\nrelease=4\nstatus=0\n")
    site.behave("shop.job.nightly", "exit 0")
    site.job("60", "5")
    assert sorted(map(int, site.runs())) == [*range(11, 31)]


def test_a_run_that_a_power_cut_ended_does_not_run(site: Site) -> None:
    site.prepare(4, {}, {"nightly": NIGHTLY})
    record = {"settings": {"jobs": {"nightly": NIGHTLY._asdict()}}}
    (site.home / "releases/4/release.json").write_text(json.dumps(record))
    (site.home / "live/b").write_text("4\n")
    run = site.home / "jobs/nightly/runs/7"
    run.mkdir(parents=True)
    (run / "run").write_text("started=1\nby=timer\nrelease=4\n")
    (site.home / "jobs/nightly/now").write_text("7\n")

    def listed() -> tuple[bool, bool]:
        (job,) = runs.parse(APP, site.sh(runs.LIST.format(app=APP, otherwise="exit 0")).stdout)
        (seen,) = job.runs
        return seen.running, seen.good

    assert listed() == (False, False)
    (site.state / "active" / "rehost-shop.job.nightly.service").touch()
    assert listed() == (True, True)


def test_the_scripts_are_clean() -> None:
    shellcheck((SOURCE / "beside.sh").read_text(), (SOURCE / "job.sh").read_text())
    asked = (
        runs.LIST.format(app=APP, otherwise="exit 0"),
        runs.RUN.format(no_job=1),
        runs.LOG.format(no_run=1),
    )
    shellcheck(*asked)
