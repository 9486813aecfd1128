"""From what is wanted and what is there to a plan: the part that decides, as data."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_state import APP, fresh, image, serving
from project_here import ENV, TOML, make
from rehost.cli import doing, making, show, visit
from rehost.cli.session import Options, Session
from rehost.cli.site import Site
from rehost.cloud.model import Desired, Instance, Observed
from rehost.machine import bootstrap
from rehost.machine.probe import Health, MachineState
from rehost.project import config
from rehost.release import decide, hooks, ship
from rehost.release.container import fingerprints
from rehost.run.errors import RehostError, UsageError
from rehost.run.events import Event
from rehost.run.plan import Plan
from rehost.run.secret import Secret


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Project]:
    yield config.load(make(tmp_path, monkeypatch))


def session() -> Session:
    return Session("up", Options(), show.Plain())


def wanted(project: config.Project) -> making.Wanted:
    return making.Wanted(project, making.read_values(session(), project), making.read_context(project))


def site(project: config.Project, state: MachineState | None, observed: Observed | None = None) -> Site:
    here = Site(project, None, None)
    here.state, here.observed = state, observed
    return here


# -- reading ---------------------------------------------------------------------------------------------------


def test_values_are_masked_from_then_on(project: config.Project) -> None:
    run = session()
    values = making.read_values(run, project)
    assert values == {"PORT": Secret("8080"), "SECRET_KEY": Secret("hunter2 hunter2"), "OTHER": Secret("1")}
    assert run.bus.scrubber.scrub("says hunter2 hunter2") == "says ***"


def test_other_code_than_was_sent_last_is_expected(project: config.Project) -> None:
    def expected(given: making.Wanted) -> tuple[str, str]:
        ahead = visit.Ahead()
        making.expect(ahead, given)
        return ahead.app, ahead.begin

    now, none = wanted(project), ("", "")
    assert expected(now) == none  # nothing was ever sent: it may be there
    visit.note_sent(project.directory, now.context.digest)
    assert expected(now) == none
    visit.note_sent(project.directory, "sha256:other")
    app, script = expected(now)
    assert app == project.app
    assert script == ship.script(ship.wanted(now.context), f"/var/lib/rehost/{app}/context", doing.whoami())
    for build in (project.build._replace(on="here"), project.build._replace(image="redis:7")):
        assert expected(now._replace(project=project._replace(build=build))) == none
    (project.directory / hooks.FOLDER).mkdir(parents=True)
    assert expected(now) == none  # a hook may take its time, and nobody else could send meanwhile


def test_a_required_variable_that_is_missing(project: config.Project) -> None:
    (project.directory / ".env.prod").write_text("OTHER=hunter2hunter2\n")
    run = session()
    with pytest.raises(UsageError) as missing:
        making.read_values(run, project)
    assert missing.value.what == "required variables are missing: SECRET_KEY."
    assert missing.value.where == ".env.prod"
    assert "`rehost env set SECRET_KEY`" in missing.value.cure
    assert run.bus.scrubber.scrub("hunter2hunter2") == "***"


def test_commands_that_do_without_env_files_say_that_nothing_is_masked(project: config.Project) -> None:
    (project.directory / ".env.prod").unlink()
    run, events = session(), list[Event]()
    run.bus.add(events.append)
    making.learn_secrets(run, project)
    assert [(e.kind, e.text) for e in events] == [
        ("warning", "values of secrets are not masked: there is no such env file.")
    ]


def test_settings_are_those_of_the_file(tmp_path: Path) -> None:
    text = TOML.replace(
        'health = "/health"', 'health = "/h"\nhealth_status = "200-399"\nstop_grace = "1m"\nport = 1'
    )
    settings = making.settings_of(config.parse(text, tmp_path))
    assert settings.as_json() == {
        "port": 1,
        "health": "/h",
        "health_low": 200,
        "health_high": 399,
        "health_host": "api.example.com",
        "health_deadline": 120,
        "memory": 400 * 2**20,
        "stop_grace": 60,
    }


def test_the_context_decides_what_is_built(project: config.Project) -> None:
    first = wanted(project).context.digest
    (project.directory / ".env.prod").write_text(ENV + "MORE=1\n")  # ignored by .dockerignore
    assert wanted(project).context.digest == first
    (project.directory / "app").write_text("changed\n")
    assert wanted(project).context.digest != first
    desired = making.release_desired(wanted(project), site(project, None))
    assert (desired.app, desired.keep, desired.hosts[0]) == (APP, 5, "api.example.com")
    assert set(desired.values) == {"PORT", "SECRET_KEY", "OTHER", "MORE"}


# -- plans -----------------------------------------------------------------------------------------------------

WANTED_IN_CLOUD = Desired(
    app=APP,
    project="my-project",
    zone="us-west1-a",
    ssh_user="ada",
    ssh_public_key="ssh-ed25519 AAAA",
    startup_script="#!/bin/sh\n",
)


def ids(plan: Plan) -> list[str]:
    return [action.id for action in plan.actions]


def test_the_whole_plan_of_a_machine_yet_to_be_made(project: config.Project) -> None:
    here = site(project, None, Observed())
    here.cloud = WANTED_IN_CLOUD
    plan = making.whole_plan(here, wanted(project))
    in_cloud = [id_ for id_ in ids(plan) if "/" in id_ and not id_.startswith(("machine/", "release/"))]
    assert len(in_cloud) == 4  # address, two firewall rules, machine
    machine = [making.CONNECT, bootstrap.ACTION, decide.SHIP, decide.BUILD, decide.RELEASE]
    assert [id_ for id_ in ids(plan) if id_ in machine] == machine
    by_id = {action.id: action for action in plan.actions}
    assert set(by_id[making.CONNECT].needs) == set(in_cloud)
    for id_ in (bootstrap.ACTION, decide.SHIP):
        assert making.CONNECT in by_id[id_].needs
    assert not plan.destructive


def test_a_machine_that_cannot_be_read_is_not_called_new(project: config.Project) -> None:
    instance = Instance(APP, "1", "us-west1-a", "TERMINATED", "e2-micro", {"rehost-app": APP}, (), {}, "", "")
    here = site(project, None, Observed(instance=instance))
    here.cloud = WANTED_IN_CLOUD
    plan = making.whole_plan(here, wanted(project))
    assert making.CONNECT in ids(plan)
    assert not any(action.verb == "create" and action.id.startswith("release/") for action in plan.actions)


def settled(project: config.Project) -> Site:
    """A machine on which exactly this project serves."""
    here = site(project, fresh())
    order = making.release_desired(wanted(project), here)
    ports = {APP: (20000, 20001)}
    record = {
        "context": order.context,
        "salt": "s",
        "env": fingerprints(order.values, "s"),
        "settings": order.settings.as_json(),
    }
    state = serving(ports=ports, images=(image("sha256:built", order.context),))
    release = state.releases[0]._replace(record=record)
    here.state = state._replace(releases=(release,), caddy=decide.proxy_config(order, state))
    return here


def test_nothing_is_planned_where_all_is_as_wanted(project: config.Project) -> None:
    here = settled(project)
    assert not making.whole_plan(here, wanted(project))


def test_a_changed_variable_alone_is_one_step(project: config.Project) -> None:
    here = settled(project)
    (project.directory / ".env.prod").write_text(ENV.replace("OTHER=1", "OTHER=2"))
    plan = making.whole_plan(here, wanted(project))
    assert ids(plan) == [decide.RELEASE]
    assert [change.field for change in plan.actions[0].changes] == ["env OTHER"]


def test_drift_of_the_machine_alone_is_one_step(project: config.Project) -> None:
    here = settled(project)
    assert here.state is not None
    here.state = here.state._replace(swap_files=())
    assert ids(making.whole_plan(here, wanted(project))) == [bootstrap.ACTION]


# -- what is said at the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "code", "words"),
    [
        (Health(200, 0.0123, "fine"), 0, "answers 200 in 12 ms"),
        (Health(204, 0.001, ""), 0, "answers 204"),
        (Health(500, 0.5, "broken"), 1, "is not healthy"),
        (Health(0, 5.0, ""), 1, "is not healthy"),
        (None, 1, "answers nothing"),
    ],
)
def test_unchanged(
    project: config.Project, capsys: pytest.CaptureFixture[str], health: Any, code: int, words: str
) -> None:
    run = session()
    here = site(project, serving(health=health))
    assert making.unchanged(run, here) == code
    told = capsys.readouterr()
    assert words in told.out + told.err
    assert "Nothing to do: release 1" in told.out
    assert (run.parts["changed"], run.parts["healthy"], run.parts["release"]) == (False, code == 0, 1)


@pytest.mark.parametrize(
    ("uptimes", "statuses", "probes"),
    [
        ((5.0, 6.0, 7.0), (502, 0, 200), 2),
        ((5.0,), (200,), 0),
        ((90_000.0,), (502,), 0),  # it has had its time
        ((119.0, 121.0), (503, 503), 1),  # health_deadline is 120 s
    ],
)
def test_an_app_that_starts_with_its_machine_is_waited_for(
    project: config.Project,
    monkeypatch: pytest.MonkeyPatch,
    uptimes: tuple[float, ...],
    statuses: tuple[int, ...],
    probes: int,
) -> None:
    states = [
        serving(uptime=up, health=Health(status, 0.1, ""))
        for up, status in zip(uptimes, statuses, strict=True)
    ]
    here = site(project, states[0])
    seen: list[int] = []

    async def probe() -> MachineState:
        seen.append(1)
        here.state = states[len(seen)]
        return here.state

    async def at_once(_seconds: float) -> None:
        return None

    monkeypatch.setattr(here, "probe", probe)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    asyncio.run(making.wake(session(), here))
    assert len(seen) == probes


def test_a_machine_that_was_not_read(project: config.Project) -> None:
    with pytest.raises(RehostError):
        making.state_of(site(project, None))


# -- who releases which code ---------------------------------------------------------------------------------------


def git(directory: Path, *words: str) -> None:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(
        ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.com", *words],
        cwd=directory,
        env=environ,
        check=True,
        capture_output=True,
    )


def test_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    nothing = doing.revision(tmp_path)
    assert (nothing.by, nothing.commit, nothing.dirty) == ("ada@laptop", "", False)
    app = tmp_path / "repository/app"
    app.mkdir(parents=True)
    git(tmp_path / "repository", "init", "-q")
    before_any = doing.revision(app)
    assert (before_any.commit, before_any.dirty) == ("", False)
    (app / "file").write_text("1")
    git(app, "add", "file")
    git(app, "commit", "-q", "-m", "first")
    clean = doing.revision(app)
    assert len(clean.commit) == 12
    assert not clean.dirty
    (tmp_path / "repository/elsewhere").write_text("1")  # beside the app: not its code
    assert not doing.revision(app).dirty
    (app / "file").write_text("2")
    changed = doing.revision(app)
    assert (changed.commit, changed.dirty) == (clean.commit, True)


def test_a_computer_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doing.revision(tmp_path)
    assert (found.commit, found.dirty) == ("", False)
