"""The record: the page as a whole, and that no text can change its structure."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rehost.run.events import Event, Json
from rehost.run.journal import Run
from rehost.run.record import duration, escape, record

T = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


def event(
    at: float, kind: str, text: str = "", action: str = "", data: dict[str, Json] | None = None
) -> Event:
    return Event(kind, text, action, data or {}, time=T + at)  # type: ignore[arg-type]


def step(
    at: float, id_: str, verb: str, what: str, seconds: float, result: str = "done", *, error: Json = None
) -> list[Event]:
    end: dict[str, Json] = {"result": result, "seconds": seconds}
    if error:
        end["error"] = error
    return [event(at, "start", what, id_, {"verb": verb}), event(at + seconds, "end", "", id_, end)]


def planned(id_: str, *changes: tuple[str, Json, Json]) -> Json:
    return {"id": id_, "changes": [{"field": f, "before": b, "after": a} for f, b, a in changes]}


FIRST = Run(
    "up",
    T,
    95.0,
    "failed",
    (
        event(0, "run-start", data={"command": "up"}),
        event(1, "plan", data={"actions": [planned("vm", ("type", None, "e2-micro"), ("disk", None, 20))]}),
        *step(2, "vm", "create", "machine content-api", 61.0),
        event(64, "warning", "the line dropped. Trying again in 1 s (1 of 2).", "build", {"retry": 1}),
        *step(
            63,
            "build",
            "run",
            "build the image",
            32.0,
            "failed",
            error={"what": "step 7 failed", "detail": "E: `no`\n| exit 1"},
        ),
        event(95, "run-end", data={"result": "failed", "exit": 1, "error": {"what": "step 7 failed"}}),
    ),
)
SECOND = Run(
    "up", T + 200, 3.0, "cut off", (event(200, "run-start"), event(203, "start", "build the image", "build"))
)
THIRD = Run(
    "up",
    T + 300,
    44.2,
    "done",
    (
        event(300, "run-start"),
        event(300, "plan", data={"actions": [planned("fw", ("ports", ["80"], ["80", "443"]))]}),
        *step(301, "fw", "update", "firewall rule content-api-web", 2.0),
        *step(303, "build", "run", "build the image", 40.0),
        event(343.5, "note", "Point api.example.com at 203.0.113.7", "build", {"open": True}),
        *step(344, "swap", "create", "swap file", 0.1, "unchanged"),
        event(344.2, "run-end", data={"result": "done", "exit": 0}),
    ),
)

# ruff: noqa: E501 - a page has long lines
GOLDEN = r"""# The move of content-api

content-api was moved from Render to 203.0.113.7 on 15 January 2027, in 3 runs over 5 min 44 s, of which rehost worked 2 min 22 s. Its health check answers: 200.

## Final state

|  |  |
| --- | --- |
| App | content-api |
| Source | Render |
| Address | 203.0.113.7 |
| Release | 1 |
| Health | 200 |
| Monthly cost | $7.11 |

## Timeline

All times are UTC.

### 1. `rehost up`, 15 January 2027 08:00:00

Failed after 1 min 35 s.

| at | step | result | took |
| --- | --- | --- | --- |
| 08:00:02 | Create machine content-api | done | 1 min 1 s |
| 08:01:03 | Build the image | failed | 32 s |

### 2. `rehost up`, 15 January 2027 08:03:20

Cut off: its process died after 3.0 s.

| at | step | result | took |
| --- | --- | --- | --- |
| 08:03:23 | Build the image | cut off |  |

### 3. `rehost up`, 15 January 2027 08:05:00

Done after 44 s.

| at | step | result | took |
| --- | --- | --- | --- |
| 08:05:01 | Update firewall rule content-api-web | done | 2.0 s |
| 08:05:03 | Build the image | done | 40 s |
| 08:05:44 | Create swap file | unchanged | 0.1 s |

## What was created and changed

| what |  | set to | run |
| --- | --- | --- | --- |
| machine content-api | created | type: e2-micro; disk: 20 | 1 |
| firewall rule content-api-web | updated | ports: 80 → 80, 443 | 3 |

## Faults, and how they ended

- Run 1, 08:01:04, warning (build the image): the line dropped. Trying again in 1 s (1 of 2). *The step failed.*
- Run 1, 08:01:35, failed: **build the image**: step 7 failed. *Done in run 3.*

  ```text
  E: `no`
  | exit 1
  ```

- Run 2, 08:03:23, `rehost up` was cut off. *Run 3 carried on and ended as it should.*

## Open points

- Point api.example.com at 203.0.113.7
"""

STATE: dict[str, Json] = {
    "app": "content-api",
    "source": "Render",
    "address": "203.0.113.7",
    "release": 1,
    "image": None,
    "health": "200",
    "monthly cost": "$7.11",
}


def test_the_page() -> None:
    assert record([THIRD, FIRST, SECOND], STATE) == GOLDEN


def test_what_is_open_after_runs_that_ended_badly() -> None:
    page = record([FIRST, SECOND], {"app": "content-api"})
    assert "content-api is not moved yet; the move began on 15 January 2027" in page
    assert "The last run, `rehost up`, was cut off." in page
    assert "*Not done since.*" in page
    assert "*No later run has ended well.*" in page
    points = page.partition("## Open points")[2]
    assert "- Build the image failed and was not done since." in points
    assert "- `rehost up` was cut off; type it again, it carries on." in points


def test_what_an_import_listed_is_in_the_record() -> None:
    def taken(at: float, *texts: str) -> Run:
        notes = (event(at, "note", text, "project/rehost.toml", {"listed": True}) for text in texts)
        return Run("init", T + at, 1.0, "done", tuple(notes))

    page = record(
        [taken(0, "carried over: old"), taken(9, "carried over: a → b", "not carried over: c"), SECOND], {}
    )
    section = page.partition("## What came along, and what did not\n\n")[2].partition("\n\n##")[0]
    assert section == "- Carried over: a → b\n- Not carried over: c"
    assert "came along" not in record([SECOND], {})


def test_nothing_yet() -> None:
    page = record([], {})
    assert "No run has changed anything yet." in page
    assert page.endswith("## Open points\n\nNone.\n")


def test_a_point_that_a_later_run_does_not_repeat_is_settled() -> None:
    again = Run("up", T + 400, 41, "done", (*step(401, "build", "run", "build the image", 40.0),))
    assert "Point api" not in record([THIRD, again], {}).partition("## Open points")[2]
    other = Run("up", T + 400, 2, "done", (*step(401, "fw", "update", "firewall rule", 1.0),))
    assert "Point api" in record([THIRD, other], {}).partition("## Open points")[2]


def texts(tokens: list[Token]) -> str:
    return "".join(
        child.content
        for token in tokens
        for child in token.children or ()
        if child.type in ("text", "code_inline", "text_special")
    )


def page_of(text: str) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)


def shown(text: str) -> str:
    """How a text should look: on one line, without what cannot be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


MARKS = st.text(st.sampled_from("ab1 _*`~|<>[]()!#&;.+-=\\\n\t:/\"'éß한"), max_size=30)


@given(MARKS | st.text(max_size=30))
@example("- - -")
@example("1) x")
@example("a_b __c__ _d_")
@example("&lt;b&gt;")
@example("![x](http://y)")
def test_escaped_text_shows_as_it_is(text: str) -> None:
    for page in (escape(text), f"- {escape(text)}", f"# {escape(text)}"):
        tokens = page_of(page)
        assert texts(tokens) == shown(text)
        allowed = {"paragraph", "bullet", "list", "heading", "inline"}
        assert all(token.type.split("_")[0] in allowed for token in tokens), tokens


@given(MARKS, MARKS)
def test_no_text_breaks_a_table(name: str, value: str) -> None:
    tokens = page_of(record([], {"x" + name: value}))
    table = tokens[
        [t.type for t in tokens].index("table_open") : [t.type for t in tokens].index("table_close")
    ]
    assert [t.type for t in table].count("td_open") == 2
    cells = [texts([t]) for t in table if t.type == "inline"][-2:]
    assert cells == [shown("X" + name.replace("_", " ")), shown(value)]


@given(st.text(st.sampled_from("ab`~\n |#"), max_size=40))
def test_no_detail_ends_its_block(detail: str) -> None:
    bad = Run(
        "up",
        T,
        9,
        "failed",
        (*step(1, "a", "run", "a", 1.0, "failed", error={"what": "no", "detail": detail}),),
    )
    fences = [t for t in page_of(record([bad], {})) if t.type == "fence"]
    assert len(fences) == bool(detail.strip())
    if fences:
        lines = [line.rstrip() for line in detail.rstrip().splitlines()]
        assert [line.rstrip() for line in fences[0].content.splitlines()] == lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7265, "2 h 1 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
