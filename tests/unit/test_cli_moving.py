"""`rehost move`: which moves, from where to where, and what is refused before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine_state import APP, releases, serving
from project_here import STANDING, last, make, typed
from rehost.cli import checking, moving
from rehost.cli.moving import Move
from rehost.machine.probe import Container, MachineState
from rehost.project.config import Project, parse
from rehost.project.moves import Directory, Variable
from rehost.release import decide
from rehost.run.errors import Refused, UsageError
from rehost.run.findings import Finding
from rehost.run.secret import Secret
from rehost.source.moving import Content
from rehost.source.reach_url import databases
from test_release_container import SETTINGS

MOVES = """
[services.redis]
image = "redis:7"
volumes = ["redis-data:/data"]
[moves]
data = "srv-abc@ssh.oregon.render.com:/var/data"
redis = "OLD_REDIS_URL"
"""
TOML = STANDING.replace("[run]\n", '[run]\nvolumes = ["data:/data"]\n') + MOVES
OLD = "rediss://red-1:hunter2-old@oregon-keyvalue.render.com:6379"


def project() -> Project:
    return parse(TOML, Path())


def machine(**changes: Any) -> MachineState:
    record = SETTINGS._replace(volumes=("data:/data",)).as_json()
    there = Container("id", f"{APP}.redis", APP, 0, "running", "Up", "", (), "service:redis")
    fields: dict[str, Any] = {
        "current": 1,
        "releases": releases(["live"], settings=record, context="sha256:c"),
        "containers": (there,),
        "services": {"redis": {"volumes": ["redis-data:/data"]}},
    }
    return serving(**{**fields, **changes})


def test_all_moves_or_those_that_are_named() -> None:
    assert list(moving.chosen(project(), ())) == ["data", "redis"]
    assert list(moving.chosen(project(), ("redis",))) == ["redis"]
    with pytest.raises(UsageError, match="has no redsi") as wrong:
        moving.chosen(project(), ("redsi",))
    assert '"redis"' in wrong.value.cure


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "not given"),
        ("hunter2-old", "no address of a database"),
        ("mysql://u:hunter2-old@db.example.com/x", "mysql"),
        ("redis://:hunter2-old@redis:6379", "the service redis itself"),
        ("redis://:hunter2-old@red-abc:6379", "inside its platform alone"),
    ],
)
def test_an_old_address_that_is_none_is_named_and_never_shown(value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as wrong:
        moving.old_database("redis", "OLD_REDIS_URL", {"OLD_REDIS_URL": Secret(value)})
    assert wrong.value.cure
    assert "hunter2" not in str(wrong.value)


def test_the_apps_own_address_of_the_service_is_the_target() -> None:
    values = {
        "OTHER": Secret("postgresql://u:p@redis/x"),
        "ELSEWHERE": Secret("redis://:p@cache.example.com"),
        "REDIS_URL": Secret("redis://:p@redis:6379/2"),
    }
    origin = moving.old_database("redis", "OLD", {"OLD": Secret(OLD)})
    found = moving.new_database("redis", origin, values)
    assert found is not None
    assert found.variable == "REDIS_URL"
    assert moving.new_database("redis", origin, {}) is None


def test_the_machine_must_have_a_place_for_what_comes() -> None:
    wanted = project()

    def check(state: MachineState) -> None:
        moving.check_there(wanted, state, wanted.moves, "here")

    check(machine())
    for state, said in (
        (machine(current=0, releases=()), "no release"),
        (machine(containers=()), "does not run"),
        (machine(releases=releases(["live"], settings=SETTINGS.as_json())), "no volume data"),
    ):
        with pytest.raises(Refused, match=said) as refused:
            check(state)
        assert "rehost up" in refused.value.cure


def test_a_service_stands_still_while_its_volume_moves() -> None:
    assert moving.still(machine(), project().moves) == ()
    assert moving.still(machine(), {"redis-data": Directory("", "old", "/data")}) == ("redis",)


class Holder:
    """As much of a mover as the plan looks at."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_the_plan_copies_all_and_then_swaps_once() -> None:
    def move(name: str, *, empty: bool) -> Move:
        held = Content("nothing" if empty else "3 keys", empty)
        return Move(Holder(name), "service", Variable("OLD"), Content("9 keys", empty=False), held)  # type: ignore[arg-type]

    rehearsal = moving.plan_of([move("a", empty=True)], APP, rehearse=True)
    assert [action.id for action in rehearsal.actions] == ["copy/a"]
    plan = moving.plan_of([move("a", empty=True), move("b", empty=True)], APP, rehearse=False)
    assert plan.actions[-1].needs == ("copy/a", "copy/b")
    assert not plan.destructive
    plan = moving.plan_of([move("a", empty=True), move("b", empty=False)], APP, rehearse=False)
    (swap,) = plan.destructive
    assert "what b had is kept aside" in swap.what
    assert [(c.before, c.after) for c in swap.changes[:2]] == [(None, "9 keys"), ("3 keys", "9 keys")]


def test_old_addresses_reach_no_container_and_are_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make(tmp_path, monkeypatch, TOML)
    with (directory / ".env.prod").open("a") as env:
        env.write(f"OLD_REDIS_URL={OLD}\n")
    ran = typed("move", "redis", "--json")
    assert last(ran)["exit"] == 1  # nobody listens there
    assert "hunter2" not in ran.output
    from rehost.cli import making, show
    from rehost.cli.session import Options, Session

    session = Session("move", Options(), show.JsonLines())
    given = making.read_values(session, parse(TOML, directory))
    assert "OLD_REDIS_URL" not in given
    assert "OTHER" in given
    assert "hunter2-old" not in session.bus.scrubber.scrub(f"at {OLD}")
    monkeypatch.setenv("OLD_REDIS_URL", "redis://:another@db.example.com")
    values = moving.addresses(session, parse(TOML, directory))
    assert "another" in values["OLD_REDIS_URL"].reveal()


def test_nothing_to_move_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, monkeypatch, STANDING)
    ran = typed("move", "--json")
    assert ran.exit_code == 2
    assert "moving-data.md" in last(ran)["error"]["cure"]


def test_check_names_a_variable_that_a_move_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, monkeypatch, TOML)
    found = [one for one in last(typed("check", "--json"))["findings"] if "redis" in one["what"]]
    assert any("OLD_REDIS_URL" in one["what"] and one["severity"] == "warning" for one in found)


def test_an_old_database_that_is_gone_does_not_fail_check() -> None:
    named = databases({"OLD_REDIS_URL": Secret(OLD), "REDIS_URL": Secret(OLD)})
    gone = [Finding("error", each.variable, "mend it") for each in named]
    softened = checking.softened(gone, named, project())
    assert {one.what: one.severity for one in softened} == {"OLD_REDIS_URL": "warning", "REDIS_URL": "error"}


def test_a_move_that_was_cut_off_is_ended_before_a_release() -> None:
    wanted = decide.Desired(APP, "sha256:c", {}, SETTINGS, (), 3)
    stopped = machine(moving="swapping", containers=(), services={})
    plan = decide.plan(wanted, stopped)
    assert plan[0].id == decide.SETTLE
    assert decide.SETTLE in plan[1].needs  # and all others need that one
    # A container that the move stopped is no reason for a release.
    changes = [change.field for action in plan for change in action.changes]
    assert "container" not in changes
