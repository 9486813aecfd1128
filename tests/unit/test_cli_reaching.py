"""When a database is tried: before a release that names it anew, and never for what is excepted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_state import fresh
from project_here import ENV, make
from rehost.cli import making, reaching
from rehost.project import config
from rehost.release import decide
from rehost.run.plan import Action
from test_cli_making import ids, settled, site, wanted

URL = "DATABASE_URL=postgres://u:hunter2@db.example.com/x\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Project]:
    yield config.load(make(tmp_path, monkeypatch))


def given(project: config.Project, more: str) -> None:
    (project.directory / ".env.prod").write_text(ENV + more)


def proving(project: config.Project, more: str) -> list[Action]:
    given(project, more)
    plan = making.whole_plan(site(project, fresh()), wanted(project))
    return [action for action in plan.actions if action.id == reaching.PROVE]


def test_a_first_release_waits_for_the_login(project: config.Project) -> None:
    given(project, URL)
    plan = making.whole_plan(site(project, fresh()), wanted(project))
    by_id = {action.id: action for action in plan.actions}
    assert "DATABASE_URL" in by_id[reaching.PROVE].what
    assert reaching.PROVE in by_id[decide.RELEASE].needs
    assert reaching.PROVE in by_id[decide.BUILD].needs
    assert "hunter2" not in repr(plan)


def test_only_what_is_new_is_tried(project: config.Project) -> None:
    given(project, URL)
    here = settled(project)
    assert ids(making.whole_plan(here, wanted(project))) == []
    given(project, URL + "MORE=1\n")
    assert ids(making.whole_plan(here, wanted(project))) == [decide.RELEASE]
    given(project, URL.replace("hunter2", "hunter3"))
    assert ids(making.whole_plan(here, wanted(project))) == [reaching.PROVE, decide.RELEASE]
    given(project, URL + "CACHE=redis://cache.example.com\n")
    (prove, _) = making.whole_plan(here, wanted(project)).actions
    assert "CACHE" in prove.what and "DATABASE_URL" not in prove.what


def test_what_only_containers_know_is_not_tried(project: config.Project) -> None:
    assert proving(project, "CACHE=redis://cache:6379\nOTHER_DB=postgres://u:p@localhost/x\n") == []


def test_what_the_file_excepts_is_not_tried(project: config.Project) -> None:
    assert len(proving(project, URL)) == 1
    excepted = project._replace(env=project.env._replace(unproved=("DATABASE_URL",)))
    assert proving(excepted, URL) == []
