"""`rehost history` on a machine whose probe was recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from machine_state import APP, SERVING
from project_here import last, typed
from test_cli_site import Scripted, machine

__all__ = ["machine"]

FIRST = json.loads(
    next(line for line in SERVING.splitlines() if "releases/1/release.json:" in line).split(":", 1)[1]
)
HISTORY = "".join(
    f"{time}\t{word}\t{number}\t{by}\t{text}\n"
    for time, word, number, by, text in (
        (1795394913.0, "began", 1, "ada@laptop", ""),
        (1795394914.5, "live", 1, "ada@laptop", ""),
        (1795395000.0, "began", 2, "bob@desk", "1"),
        (1795395009.0, "failed", 2, "bob@desk", "not healthy within 8s"),
        (1795395100.0, "began", 3, "ada@laptop", "1"),
        (1795395101.0, "live", 3, "ada@laptop", ""),
        (1795395200.0, "began", 1, "bob@desk", "3"),
        (1795395200.5, "live", 1, "bob@desk", ""),
    )
)  # fmt: skip


def with_release(number: int, state: str, **changes: Any) -> str:
    """The recorded probe with one release more."""
    record = json.dumps({**FIRST, "number": number, **changes})
    place = f"/var/lib/rehost/{APP}/releases/{number}"
    first = next(line for line in SERVING.splitlines() if "releases/1/state:" in line)
    return SERVING.replace(first, f"{first}\n{place}/state:{state}\n{place}/release.json:{record}")


THIRD = with_release(
    3, "replaced", created=1795395100, commit="0123456789ab", dirty=True, env={**FIRST["env"], "NEW": "1"}
)


def test_each_run_has_its_line(machine: Scripted) -> None:
    machine.probe, machine.other = THIRD, (HISTORY, 0)
    lines = [line.split("  ") for line in typed("history").stdout.splitlines()]
    words = [[word.strip() for word in line if word.strip()] for line in lines]
    assert words == [
        ["*", "1", "live", "2026-11-23 00:48:32 UTC", "1.5 s", "ada@laptop", "no commit", "the first that is kept"],
        ["2", "failed", "2026-11-23 00:50:00 UTC", "9.0 s", "bob@desk", "not kept any more; not healthy within 8s"],
        ["3", "replaced", "2026-11-23 00:51:40 UTC", "1.0 s", "ada@laptop", "0123456789ab + changes",
         "env NEW none → set"],
        ["1", "return", "2026-11-23 00:53:20 UTC", "0.5 s", "bob@desk", "back from release 3"],
    ]  # fmt: skip
    ending = last(typed("history", "--json"))
    assert [(one["number"], one["seconds"]) for one in ending["releases"]] == [(1, 1.5), (3, 1.0)]
    assert [(one["number"], one["outcome"], one["again"]) for one in ending["runs"]] == [
        (1, "live", False),
        (2, "failed", False),
        (3, "live", False),
        (1, "live", True),
    ]


def test_two_releases_are_compared_by_name(machine: Scripted) -> None:
    machine.probe = THIRD
    assert typed("history", "--diff", "1", "3").stdout.splitlines() == [
        "commit  no commit → 0123456789ab + changes",
        "env NEW none → set",
    ]
    assert typed("history", "--diff", "3", "1").stdout.splitlines()[-1] == "env NEW set → none"
    assert "are the same" in typed("history", "--diff", "1", "1").stdout
    assert last(typed("history", "--diff", "1", "3", "--json"))["changes"][1] == {
        "field": "env NEW",
        "before": None,
        "after": "set",
    }


def test_a_release_that_is_not_there(machine: Scripted) -> None:
    result = typed("history", "--diff", "1", "9")
    assert result.exit_code == 1
    assert "release 9 is not on the machine" in result.stderr
    assert "Releases that are kept: 1." in result.stderr


def test_images(machine: Scripted) -> None:
    image = FIRST["image"]
    machine.other = (
        f'{image} ["sha256:base","sha256:app"]\n@@layers\n./a/diff:sha256:base\n./a/size:{200 * 2**20}\n'
        "./b/diff:sha256:app\n./b/size:1500\n",
        0,
    )
    people = typed("history", "--images").stdout.splitlines()
    assert " ".join(people[1].split()) == f"* 1 200 MB 2 200 MB in 2 layers 200 MB {image[7:19]}"
    assert people[2].startswith("1 image of content-api take 200 MB")
    (one,) = last(typed("history", "--images", "--json"))["images"]
    assert (one["number"], one["size"], one["layers"]) == (1, 200 * 2**20 + 1500, 2)


def test_one_question_at_a_time(machine: Scripted) -> None:
    assert typed("history", "--images", "--diff", "1", "3").exit_code == 2


@pytest.mark.parametrize("history", ["", "torn"])
def test_without_a_history_the_releases_are_listed(machine: Scripted, history: str) -> None:
    machine.other = (history, 0)
    assert typed("history").stdout.startswith("*   1  live ")
