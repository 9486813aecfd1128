"""Workers, scheduled jobs and a service on a real machine, on the one that the tiny app has."""

from __future__ import annotations

import pytest

from suite import Laptop, until, write
from tiny import set_env

WORKER = """import os, signal, sys, time
print("working as", sys.argv[1], "with", os.environ["VALUE"], flush=True)
if os.environ.get("WORKER") == "crash":
    sys.exit("the worker gives up")
signal.signal(signal.SIGTERM, lambda *_: sys.exit("the worker is finishing"))
while True:
    time.sleep(1)
"""
BESIDE = """
[processes.worker]
command = "python -u worker.py 'two words'"
memory = "32MB"

[jobs.report]
command = "sh -c 'echo report of $VALUE; exit 3'"
schedule = "0 3 * * *"

[jobs.slow]
command = "sleep 60"
schedule = "0 4 1 * 1"
max_run = "1s"
"""
# No other image can be had in a lab than the one of Python. As the first process of a container its server would not
# hear SIGTERM.
SERVICE = """
[services.store]
image = "python:3.11-slim-bookworm"
command = '''sh -c 'python3 -u -m http.server $PORT --directory /data & trap "kill $!" TERM; wait; wait' '''
volumes = ["store:/data"]
env = ["PORT"]
memory = "32MB"
health = '''python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8080))' '''
"""


@pytest.fixture(scope="module")
def app(tiny: Laptop) -> Laptop:
    """The tiny app with a worker, two jobs and a service."""
    plain = (tiny.directory / "rehost.toml").read_text()
    write(tiny.directory, {"worker.py": WORKER, "rehost.toml": plain + BESIDE + SERVICE})
    set_env(tiny.directory, VALUE="first with workers")
    tiny.run("up")
    return tiny


def running(laptop: Laptop, kind: str) -> list[str]:
    shown = laptop.inside(f"docker ps --filter label=rehost.{kind} --format '{{{{.Names}}}}'")
    return sorted(shown.split())


def test_a_worker_goes_with_its_release(app: Laptop) -> None:
    status = app.run("status", "--json").result
    first = status["release"]
    assert status["processes"]["worker"].startswith("Up")
    assert running(app, "process") == [f"tiny-{first}.worker"]
    said = app.run("logs", "--process", "worker").out
    assert "working as two words with ***" in said  # a value of the environment
    assert app.run("exec", "--process", "worker", "--", "printenv", "VALUE").out == "first with workers\n"
    assert app.run("up", "--json").result["changed"] is False

    # Another command is a release, and no build.
    config = app.directory / "rehost.toml"
    good = config.read_text()
    config.write_text(good.replace("two words", "others"))
    planned = app.run("plan", "--json").result["actions"]
    assert [action["id"] for action in planned] == ["release/switch"]
    app.run("up")
    assert running(app, "process") == [f"tiny-{first + 1}.worker"]
    assert "the worker is finishing" in app.run("logs", "--process", "worker", "--release", str(first)).out
    app.run("rollback")
    assert running(app, "process") == [f"tiny-{first}.worker"]
    config.write_text(good)


def test_a_service_is_reached_by_its_name_and_nowhere_else(app: Laptop) -> None:
    ask = "import urllib.request; print(urllib.request.urlopen('http://store:8080/').status)"
    for process in ([], ["--process", "worker"]):
        assert app.run("exec", *process, "--", "python", "-c", ask).out == "200\n"
    assert app.run("status", "--json").result["services"]["store"].startswith("Up")
    # What the web process publishes is all there is, on 127.0.0.1.
    ports = app.inside("docker ps --filter label=rehost.app=tiny --format '{{.Names}}={{.Ports}}'").split(
        "\n"
    )
    published = [line for line in ports if not line.endswith("=") and line]
    assert len(published) == 1
    assert "=127.0.0.1:" in published[0]
    before = app.inside("docker ps -q --filter label=rehost.service")
    assert before
    # A replacement that fails leaves the one before.
    config = app.directory / "rehost.toml"
    good = config.read_text()
    config.write_text(good.replace("--directory /data", "--directory"))
    planned = app.run("plan", "--json").result["actions"]
    assert [(action["id"], action["verb"]) for action in planned] == [("service/store", "update")]
    failed = app.run("up", code=1)
    assert "expected one argument" in failed.said
    assert app.inside("docker ps -q --filter label=rehost.service") == before
    config.write_text(good)
    assert app.run("up", "--json").result["changed"] is False


def test_a_worker_that_dies_at_once_changes_nothing(app: Laptop) -> None:
    before = running(app, "process")
    set_env(app.directory, VALUE="first with workers", WORKER="crash")
    failed = app.run("up", code=1)
    assert "process worker ended by itself with status 1" in failed.said
    assert "the worker gives up" in failed.said
    assert running(app, "process") == before
    set_env(app.directory, VALUE="first with workers")
    assert app.run("health").code == 0


def test_what_was_stopped_by_hand_works_again(app: Laptop) -> None:
    (worker,) = running(app, "process")
    app.inside(f"docker stop -t 1 {worker}; systemctl stop rehost-tiny.job.slow.timer")
    assert "does not run" in app.run("status").said
    changed = {c["field"] for a in app.run("plan", "--json").result["actions"] for c in a["changes"]}
    assert changed == {"process worker", "rehost-tiny.job.slow.timer"}
    app.run("up")
    assert running(app, "process") == [worker]
    assert app.run("up", "--json").result["changed"] is False


def test_a_job_runs_now_and_by_its_timer(app: Laptop) -> None:
    ran = app.run("jobs", "run", "report", code=3)
    # No shell but the one that is named, which knows the variables of the release.
    assert ran.out == "report of ***\n"
    late = app.run("jobs", "run", "slow", code=1)
    assert "took longer than its max_run" in late.said
    assert running(app, "job") == []
    jobs = {job["name"]: job for job in app.run("jobs", "--json", code=1).result["jobs"]}
    assert all(job["next"] for job in jobs.values())
    assert [run["status"] for run in jobs["report"]["runs"]] == ["3"]
    assert [run["status"] for run in jobs["slow"]["runs"]] == ["timeout"]
    assert app.run("jobs", "log", "report").out == "report of ***\n"
    kept = app.inside("cat /var/lib/rehost/tiny/jobs/report/runs/*/log")
    assert kept == "report of first with workers\n"
    assert "no job nightly" in app.run("jobs", "run", "nightly", code=1).said
    assert app.inside("grep -l 'first with' /etc/systemd/system/rehost-* || true") == ""
    # As the timer starts it, twice at once.
    unit = "rehost-tiny.job.report.service"
    app.inside(f"systemctl start --no-block {unit}; systemctl start --no-block {unit}")

    def by() -> list[str]:
        listed = app.run("jobs", "--json", code=None).result["jobs"]
        runs = next(job["runs"] for job in listed if job["name"] == "report")
        return [run["by"] for run in runs if run["status"] == "3"]

    until(lambda: by()[0] == "timer", "the run of the timer has ended", 30)
    assert len(by()) == 2


def test_what_stands_no_more_in_the_file_goes_and_a_service_only_when_somebody_says_so(app: Laptop) -> None:
    plain = (app.directory / "rehost.toml").read_text().replace(BESIDE + SERVICE, "")
    write(app.directory, {"rehost.toml": plain})
    assert "--yes" in app.run("deploy", code=3).said
    assert len(running(app, "service")) == 1
    app.run("up", "--yes")
    assert running(app, "service") == []
    assert "tiny.store" in app.inside("docker volume ls -q")
    assert running(app, "process") == []
    assert app.inside("ls /etc/systemd/system | grep -c [.]job[.] || true").strip() == "0"
    assert app.run("jobs", "--json").result["jobs"] == []
