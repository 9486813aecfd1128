"""drain, watch_for, before_release and exclusive: how they are written, kept, and told in the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine_state import APP, container, serving
from rehost.cli.making import settings_of
from rehost.machine.probe import Unit
from rehost.project import config, mistakes
from rehost.release import decide
from rehost.release.container import Settings
from test_release_container import SETTINGS
from test_release_decide import desired, record

FILE = 'app = "a"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n[run]\n'


def run(*lines: str) -> config.Run:
    return config.parse(FILE + "\n".join(lines), Path()).run


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('"python -m app.migrate"', ("python", "-m", "app.migrate")),
        ("\"sh -c 'a && b'\"", ("sh", "-c", "a && b")),
        ('["sh", "-c", "a  b", ""]', ("sh", "-c", "a  b", "")),
    ],
)
def test_a_command_is_a_string_or_its_words(written: str, words: tuple[str, ...]) -> None:
    assert run(f"before_release = {written}").before_release == words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('before_release = ""', "is not a command"),
        ("before_release = []", "is not a command"),
        ('before_release = "sh -c \'a"', "a quote that does not end"),
        ("before_release = 3", "a string in quotes"),
        ("before_release = [3]", "a string in quotes"),
        ('exclusive = "yes"', "true or false"),
        ('drain = "soon"', "is not a duration"),
        ('before_release_limit = "0s"', "is no time at all"),
    ],
)
def test_mistakes(line: str, said: str) -> None:
    with pytest.raises(mistakes.ConfigError) as wrong:
        run(line)
    assert said in str(wrong.value)


def test_no_time_at_all_is_a_time_to_drain_or_to_watch() -> None:
    found = run('drain = "0s"', 'watch_for = "0s"')
    assert (found.drain, found.watch_for) == (0, 0)


def test_they_are_a_part_of_a_release_and_older_records_go_without() -> None:
    project = config.parse(
        FILE + 'drain = "5s"\nwatch_for = "10s"\nbefore_release = "a b"\nexclusive = true\n', Path()
    )
    found = settings_of(project)
    assert (found.drain, found.watch_for, found.before_release, found.exclusive) == (5, 10, ("a", "b"), True)
    assert Settings.from_json(json.loads(json.dumps(found.as_json()))) == found
    # What is as it was before there were these keys is no reason for a release.
    assert SETTINGS.as_json().keys().isdisjoint({"drain", "watch_for", "before_release", "exclusive"})


def test_the_plan_says_that_there_will_be_an_interruption() -> None:
    wanted = desired(settings=SETTINGS._replace(exclusive=True))
    state = serving(releases=(record(desired()),), containers=(container(1),))
    (told,) = (action.changes for action in decide.plan(wanted, state) if action.id == decide.RELEASE)
    assert "AN INTERRUPTION" in [change.field for change in told]
    # Where nothing runs, nothing is interrupted.
    down = state._replace(containers=())
    (told,) = (action.changes for action in decide.plan(wanted, down) if action.id == decide.RELEASE)
    assert "AN INTERRUPTION" not in [change.field for change in told]


def test_what_is_being_drained_is_no_leftover() -> None:
    old, new = container(1), container(2)
    state = serving(containers=(old, new), current=2)
    assert decide.leftovers(state, APP) == [old.name]
    state = state._replace(units={**state.units, f"rehost-{APP}-drain.service": Unit("active", "running")})
    assert decide.leftovers(state, APP) == []
