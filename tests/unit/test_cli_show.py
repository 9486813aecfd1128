"""Displays, plans, questions and errors, captured as text."""

from __future__ import annotations

import asyncio
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rehost.cli import show
from rehost.cli.show import JsonLines, Plain, clean, confirm, error_text, plan_text, summary
from rehost.cli.terminal import Terminal
from rehost.run.errors import Interrupted, Refused, RehostError
from rehost.run.events import Event, Json, Kind
from rehost.run.plan import Action, Change, Plan

PLAN = Plan.of(
    [
        Action("ip", "create", "static address api-ip", (Change("region", None, "us-west1"),)),
        Action(
            "fw",
            "update",
            "firewall rule api-web",
            (
                Change("ports", ["80"], ["80", "443"]),
                Change("sources", ["10.0.0.0/8"], None),
                Change("text", "a\nb", True),
            ),
        ),
        Action(
            "vm",
            "replace",
            "machine api",
            (Change("type", "e2-micro", "e2-small"), Change("tag", None, "web")),
        ),
        Action("old", "delete", "machine old", (Change("disk_gb", 20, None),)),
        Action("build", "run", "build the image", needs=("vm",)),
    ]
)


def ev(at: float, kind: Kind, text: str = "", action: str = "", **data: Json) -> Event:
    return Event(kind, text, action, data, time=1000.0 + at)


STORY = [
    ev(0, "run-start", command="up"),
    ev(0, "progress", "Reading the machine"),
    ev(1, "plan", actions=[]),
    ev(1, "start", "machine api", "vm", verb="create"),
    ev(2, "progress", "booting", "vm"),
    ev(3, "progress", "installing docker", "vm"),
    ev(12, "progress", "docker is there", "vm"),
    ev(13, "note", "its address is 203.0.113.7", "vm"),
    ev(14, "end", "", "vm", result="done", seconds=13.0),
    ev(15, "start", "build the image", "build", verb="run"),
    ev(16, "log", "\x1b[31m#7 RUN pip\x1b[0m install", "build"),
    ev(65, "warning", "the line dropped", "build"),
    ev(75, "end", "no", "build", result="failed", seconds=60.0, error={"what": "step 7 failed"}),
    ev(75, "run-end", result="failed", exit=1, seconds=75.0),
]


def tell(display: Plain | JsonLines, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    for event in STORY:
        display(event)
    out, err = capsys.readouterr()
    return out, err


def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = tell(Plain(), capsys)
    assert out == ""
    assert err.splitlines() == [
        "00:00  ...          Reading the machine",
        "00:01  start        create machine api",
        "00:12  ...          create machine api: docker is there",
        "00:13  note         create machine api: its address is 203.0.113.7",
        "00:14  done         create machine api (13 s)",
        "00:15  start        build the image",
        "01:05  warning      build the image: the line dropped",
        "01:15  failed       build the image: step 7 failed (1 min 0 s)",
        "01:15  failed       1 min 15 s",
    ]


async def shown(told: list[Event], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a plain display has shown once it has caught up."""
    display = Plain()
    for event in told:
        display(event)
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(2 * show.QUIET_GAP, done.set_result, None)
    await done
    return [line.partition("  ")[2] for line in capsys.readouterr().err.splitlines()]


def test_plain_shows_later_what_came_too_soon(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "QUIET_GAP", 0.1)
    begin = [Event("start", "machine", "vm", {"verb": "create"})]
    soon = [Event("progress", text, "vm") for text in ("booting", "installing")]
    log = [Event("log", "Reading package lists", "vm")]
    before = ["start        create machine"]
    late = "...          create machine: installing"
    assert asyncio.run(shown([*begin, *soon, *log], capsys)) == [*before, late]
    # Not what something else has followed.
    end = Event("end", "", "vm", {"result": "done", "seconds": 0.0})
    ended = [*before, "done         create machine (0.0 s)"]
    assert asyncio.run(shown([*begin, *soon, end], capsys)) == ended
    looked = [Event("progress", text) for text in ("reading the cloud", "reading the machine")]
    assert asyncio.run(shown([*looked, *begin], capsys)) == ["...          reading the cloud", *before]


def test_plain_verbose_shows_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = tell(Plain(verbose=True), capsys)[1].splitlines()
    assert "00:02  ...          create machine api: booting" in lines
    assert "00:03  ...          create machine api: installing docker" in lines
    assert "00:16  |            build the image: #7 RUN pip install" in lines


def test_plain_quiet_shows_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    lines = tell(Plain(quiet=True), capsys)[1].splitlines()
    assert [line.split()[1] for line in lines] == ["warning", "failed", "failed"]


def test_plain_says_nothing_at_the_end_of_a_command_that_only_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = Plain()
    display(ev(0, "run-start"))
    display(ev(0, "run-end", result="done", exit=0, seconds=0.1))
    display.out("the answer")
    assert capsys.readouterr() == ("the answer\n", "")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonLines()
    out, err = tell(display, capsys)
    assert err == ""
    assert [json.loads(line) for line in out.splitlines()] == [event.as_json() for event in STORY]
    display.out("text is for people")
    display.error(RehostError("told by the result"))
    display.end({"result": "failed", "exit": 1})
    assert capsys.readouterr() == ('{"result": "failed", "exit": 1}\n', "")


def terminal(events: list[Event], *, at: float, quiet: bool = False, verbose: bool = False) -> str:
    """What a terminal of 60 columns got by `at`, without control sequences; last, what moves at that moment."""
    screen = io.StringIO()
    console = Console(
        file=screen, width=60, height=20, force_terminal=True, highlight=False, color_system=None
    )
    display = Terminal(quiet=quiet, verbose=verbose, console=console, clock=lambda: 1000.0 + at)
    for event in events:
        display(event)
    display.pause()
    console.print(display._render())
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", screen.getvalue())


def test_terminal_shows_what_runs() -> None:
    logs = [ev(16, "log", f"#{n} RUN pip install {'x' * 60}", "build") for n in range(9)]
    text = terminal([*STORY[:10], *logs], at=17.5)
    assert "• create machine api: its address is 203.0.113.7" in text
    assert "✓ create machine api  (13 s)" in text
    moving = [line.strip() for line in text.splitlines()[-7:]]
    assert re.fullmatch(r"\S build the image  2\.5 s", moving[0])
    assert [line[:14] for line in moving[1:]] == [f"│ #{n} RUN pip i" for n in range(3, 9)]
    assert all(line.endswith("…") and len(line) <= 57 for line in moving[1:])


def test_terminal_shows_progress_beside_what_runs() -> None:
    text = terminal(STORY[:6], at=4)
    assert "create machine api  3.0 s  installing docker" in text.splitlines()[-1]
    assert "Reading the machine" in terminal(STORY[:2], at=4).splitlines()[-1]


def test_terminal_tells_how_it_ended() -> None:
    text = terminal(STORY, at=80)
    assert "! build the image: the line dropped" in text
    assert "✗ build the image  step 7 failed (1 min 0 s)" in text
    done = [*STORY[:9], ev(15, "run-end", result="done", exit=0, seconds=15.0)]
    assert "Done in 15 s." in terminal(done, at=16)


def test_terminal_verbose_keeps_the_log() -> None:
    assert "  │ #7 RUN pip install\n" in terminal(STORY, at=80, verbose=True)


def test_terminal_quiet_does_not_move() -> None:
    text = terminal(STORY, at=80, quiet=True)
    assert text.splitlines() == [
        "! build the image: the line dropped",
        "✗ build the image  step 7 failed (1 min 0 s)",
    ]


def test_terminal_reads_no_markup() -> None:
    assert "[bold]x[/]" in terminal([ev(0, "note", "[bold]x[/]")], at=1)


def test_a_plan() -> None:
    assert plan_text(PLAN) == (
        "  + create   static address api-ip\n"
        "               region  us-west1\n"
        "  ~ update   firewall rule api-web\n"
        "               ports    80         → 80, 443\n"
        "               sources  10.0.0.0/8 → none\n"
        '               text     "a\\nb"     → true\n'
        "-/+ replace  machine api\n"
        "               type  e2-micro → e2-small\n"
        "               tag   none     → web\n"
        "  - delete   machine old\n"
        "               disk_gb  20\n"
        "  > run      build the image\n"
        "\n"
        "1 to create, 1 to update, 1 to replace, 1 to delete, 1 to run"
    )


def test_a_plan_in_colour_has_the_same_text() -> None:
    assert clean(plan_text(PLAN, colour=True).replace("\n", "↵")) == plan_text(PLAN).replace("\n", "↵")
    assert "\x1b[31m-/+ replace" in plan_text(PLAN, colour=True)


def test_summaries() -> None:
    assert summary(Plan.of([])) == "Nothing to change."
    assert plan_text(Plan.of([])) == "Nothing to change."
    safe = Plan.of([Action("a", "create", "a"), Action("b", "create", "b"), Action("c", "update", "c")])
    assert summary(safe) == "2 to create, 1 to update, nothing to delete"


SAFE = Plan.of([Action("a", "create", "a")])


def never(_: str) -> str:
    raise AssertionError("nobody should be asked")


@pytest.mark.parametrize(
    ("plan", "yes", "tty"), [(SAFE, False, False), (SAFE, False, True), (PLAN, True, False)]
)
def test_confirm_passes_without_a_question(plan: Plan, yes: bool, tty: bool) -> None:
    confirm(plan, yes, tty=tty, ask=never)


def test_confirm_refuses_when_nobody_is_there() -> None:
    with pytest.raises(Refused, match="replace machine api, delete machine old") as refused:
        confirm(PLAN, False, tty=False, ask=never)
    assert "--yes" in refused.value.cure
    assert refused.value.exit == 3


@pytest.mark.parametrize("answer", ["y", "Y", " yes "])
def test_confirm_asks(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    confirm(PLAN, False, tty=True, ask=lambda _: answer)
    assert "This will replace machine api, delete machine old." in capsys.readouterr().err


def test_confirm_says_what_is_lost_where_something_is(capsys: pytest.CaptureFixture[str]) -> None:
    one = Action("disk", "replace", "the disk; the old one stays", kept=True)
    for actions, lost in (([one], False), ([one, Action("app", "delete", "the app")], True)):
        confirm(Plan.of(actions), False, tty=True, ask=lambda _: "y")
        assert ("is lost" in capsys.readouterr().err) is lost


@pytest.mark.parametrize("answer", ["", "n", "no", "yes please"])
def test_confirm_takes_no_for_an_answer(answer: str) -> None:
    with pytest.raises(Refused, match="not confirmed"):
        confirm(PLAN, False, tty=True, ask=lambda _: answer)


def test_confirm_at_the_end_of_input() -> None:
    def gone(_: str) -> str:
        raise EOFError

    with pytest.raises(Refused):
        confirm(PLAN, False, tty=True, ask=gone)


def test_confirm_and_ctrl_c() -> None:
    def stopped(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        confirm(PLAN, False, tty=True, ask=stopped)


def test_an_error_in_full() -> None:
    error = RehostError(
        "the health check failed",
        where="api on 203.0.113.7",
        serving="release 3",
        cure="Correct what the log shows, then type `rehost deploy` again.",
        detail="\nboom\x1b[2J\n  at x\n",
    )
    assert error_text(error, width=60) == (
        "Error: the health check failed\n"
        "  where          api on 203.0.113.7\n"
        "  still serving  release 3\n"
        "  what to do     Correct what the log shows, then type\n"
        "                 `rehost deploy` again.\n"
        "\n"
        "  | boom\n"
        "  |   at x"
    )


def test_short_errors() -> None:
    assert error_text(RehostError("no")) == "Error: no"
    assert error_text(Refused("no")) == "Refused: no"
    assert error_text(Interrupted("no")) == "Stopped: no"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("plain é 한", "plain é 한"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("10%\r50%\r100%\n", "100%"),
        ("a\tb", "a    b"),
        ("a\x08\x7f\x00b", "ab"),
        ("\x9b31mx", "31mx"),
    ],
)
def test_clean(line: str, text: str) -> None:
    assert clean(line) == text


@given(st.text())
def test_nothing_clean_moves_the_cursor(text: str) -> None:
    assert clean(text).isprintable()
