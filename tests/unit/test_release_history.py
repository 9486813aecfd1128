"""The history's lines become runs of releases."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rehost.release import history
from rehost.release.history import Run

A = "ada@laptop"


def lines(*events: tuple[float, str, int, str]) -> str:
    return "".join(f"{time:.9f}\t{word}\t{number}\t{A}\t{text}\n" for time, word, number, text in events)


def test_a_release_a_rollback_and_forward_again() -> None:
    text = lines(
        (10, "began", 1, ""), (11, "live", 1, ""), (12, "ended", 1, ""),
        (20, "began", 2, "1"), (21.5, "live", 2, ""), (31, "ended", 2, ""),
        (40, "began", 1, "2"), (40.5, "live", 1, ""), (41, "ended", 1, ""),
        (50, "began", 2, "1"), (50.5, "live", 2, ""), (51, "ended", 2, ""),
    )  # fmt: skip
    assert history.runs(text) == [
        Run(1, A, 0, 10, 11, 12, "live"),
        Run(2, A, 1, 20, 21.5, 31, "live"),
        Run(1, A, 2, 40, 40.5, 41, "live", again=True),
        Run(2, A, 1, 50, 50.5, 51, "live", again=True),
    ]
    assert [run.seconds for run in history.runs(text)] == [1, 1.5, 0.5, 0.5]


def test_how_runs_end() -> None:
    failed, returned, cut, cut_late = history.runs(
        lines(
            (10, "began", 2, "1"), (15, "failed", 2, "not healthy within 5s"),
            (20, "began", 3, "1"), (21, "live", 3, ""), (25, "returned", 3, "1 it ended by itself"),
            (25.1, "failed", 3, "it ended by itself; the traffic is back on release 1"),
            (30, "began", 4, "1"),
            (40, "began", 5, "1"), (41, "live", 5, ""),
        )
    )  # fmt: skip
    assert (failed.outcome, failed.why, failed.seconds) == ("failed", "not healthy within 5s", 5)
    assert (returned.outcome, returned.why) == ("returned", "it ended by itself")
    assert returned.seconds is not None
    assert (cut.outcome, cut.seconds) == ("cut off", None)
    assert (cut_late.outcome, cut_late.seconds, cut_late.ended) == ("live", 1, None)


def test_a_release_from_before_there_was_a_history_can_be_returned_to() -> None:
    first, back = history.runs(lines((10, "began", 8, "7"), (11, "live", 8, ""), (20, "began", 7, "8")))
    assert (first.again, back.again) == (False, True)


def test_what_a_release_leaves_to_do_may_end_after_the_next_began() -> None:
    first, second = history.runs(
        lines((10, "began", 1, ""), (11, "live", 1, ""), (12, "began", 2, "1"), (13, "ended", 1, ""))
    )
    assert (first.ended, second.ended) == (13, None)


def test_torn_lines_are_passed_over() -> None:
    whole = lines((10, "began", 1, ""), (11, "live", 1, ""))
    assert history.runs("\n1.5\tbeg" + "\n" + whole + "x\tbegan\t2\ta\tb\n12.0\tlive\n") == history.runs(
        whole
    )
    assert history.runs("11.0\tlive\t1\tada\t\n") == []  # its beginning was cut away


@given(st.text(alphabet="\t\n19.abelivndfg", max_size=200))
def test_any_text_is_some_history(text: str) -> None:
    history.runs(text)
