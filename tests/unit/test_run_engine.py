"""The engine: order, failures, retries, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.run.engine import Doer, Doing, Outcome, apply
from rehost.run.errors import RehostError
from rehost.run.events import Bus, Event
from rehost.run.plan import Action, Plan
from rehost.run.secret import Secret


def act(id_: str, *needs: str, retries: int = 0) -> Action:
    return Action(id_, "run", f"do {id_}", needs=needs, retries=retries)


def ids(actions: list[Action]) -> list[str]:
    return [action.id for action in actions]


def run(
    actions: list[Action],
    doers: dict[str, Doer],
    *,
    concurrency: int = 8,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    outcome = asyncio.run(
        apply(Plan.of(actions), doers, Bus(events.append), concurrency=concurrency, sleep=sleep)
    )
    return outcome, events


async def nothing(_: Doing) -> None:
    return None


async def no_sleep(_: float) -> None:
    return None


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Action], dict[str, int], set[str], int]:
    """Actions that need only earlier ones; how many turns of the loop each takes; which fail; how many at once."""
    size = draw(st.integers(0, 9))
    actions = []
    for number in range(size):
        before = [f"a{n}" for n in range(number)] + ["in place already"]
        actions.append(act(f"a{number}", *draw(st.lists(st.sampled_from(before), unique=True, max_size=3))))
    names = ids(actions)
    turns = {name: draw(st.integers(0, 4)) for name in names}
    bad = draw(st.sets(st.sampled_from(names), max_size=2)) if names else set()
    return draw(st.permutations(actions)), turns, bad, draw(st.integers(1, 4))


@settings(deadline=None)
@given(graphs())
def test_any_graph(graph: tuple[list[Action], dict[str, int], set[str], int]) -> None:
    actions, turns, bad, concurrency = graph
    seen: list[tuple[str, str]] = []
    running: set[str] = set()
    most = 0

    async def doer(doing: Doing) -> None:
        nonlocal most
        name = doing.action.id
        seen.append(("start", name))
        running.add(name)
        most = max(most, len(running))
        for _ in range(turns[name]):
            await asyncio.sleep(0)
        running.discard(name)
        if name in bad:
            seen.append(("failed", name))
            raise RehostError(f"{name} failed")
        seen.append(("done", name))

    outcome, events = run(actions, dict.fromkeys(turns, doer), concurrency=concurrency)

    by_id = {action.id: action for action in actions}
    done, failed, skipped = ids(outcome.done), [f.action.id for f in outcome.failed], ids(outcome.skipped)
    assert sorted(done + failed + skipped) == sorted(by_id)
    assert most <= concurrency
    assert set(failed) == {name for word, name in seen if word == "failed"}
    assert outcome.ok == (not failed)
    for word, name in seen:
        if word == "start":
            for need in set(by_id[name].needs) & set(by_id):
                assert seen.index(("done", need)) < seen.index(("start", name))
    if not bad:
        assert not skipped
    for name in skipped:
        assert ("start", name) not in seen
    # After a failure has been reported, nothing starts.
    ends = [n for n, e in enumerate(events) if e.data.get("result") == "failed"]
    starts = [n for n, e in enumerate(events) if e.kind == "start"]
    same_turn = concurrency  # tasks that were started already when the failure came to light
    assert sum(start > ends[0] for start in starts) <= same_turn if ends else True
    # What started also ended, exactly once.
    assert sorted(e.action for e in events if e.kind == "start") == sorted(done + failed)
    assert sorted(e.action for e in events if e.kind == "end") == sorted(done + failed)


def test_independent_actions_overlap() -> None:
    async def main() -> Outcome:
        met = asyncio.Barrier(3)

        async def doer(_: Doing) -> None:
            await met.wait()  # passes only if all three run at the same time

        plan = Plan.of([act("a"), act("b"), act("c")])
        return await asyncio.wait_for(apply(plan, dict.fromkeys("abc", doer), Bus()), 10)

    assert asyncio.run(main()).ok


def test_a_failure_lets_what_runs_finish_and_starts_nothing_new() -> None:
    failed = asyncio.Event()

    async def bad(_: Doing) -> None:
        failed.set()
        raise RehostError("no")

    async def slow(_: Doing) -> None:
        await failed.wait()
        for _turn in range(5):
            await asyncio.sleep(0)

    actions = [act("bad"), act("slow"), act("after-bad", "bad"), act("after-slow", "slow")]
    outcome, _ = run(actions, {"bad": bad, "slow": slow, "after-bad": nothing, "after-slow": nothing})
    assert ids(outcome.done) == ["slow"]
    assert [(f.action.id, str(f.error)) for f in outcome.failed] == [("bad", "no")]
    assert ids(outcome.skipped) == ["after-bad", "after-slow"]
    assert isinstance(outcome.first_error, RehostError)


def test_every_failure_is_reported() -> None:
    async def main() -> tuple[Outcome, list[Event]]:
        both = asyncio.Barrier(2)
        events: list[Event] = []

        async def bad(doing: Doing) -> None:
            await both.wait()
            raise RehostError(f"{doing.action.id} broke", cure="mend it", detail="last line")

        plan = Plan.of([act("a"), act("b")])
        return await apply(plan, {"a": bad, "b": bad}, Bus(events.append)), events

    outcome, events = asyncio.run(main())
    assert sorted(str(f.error) for f in outcome.failed) == ["a broke mend it", "b broke mend it"]
    ends = {e.action: e for e in events if e.kind == "end"}
    assert ends["a"].text == "a broke"
    assert ends["a"].data["result"] == "failed"
    assert ends["a"].data["error"] == {"what": "a broke", "cure": "mend it", "detail": "last line"}
    assert isinstance(ends["a"].data["seconds"], float)


def test_a_fault_of_ours_is_a_failure_with_its_type() -> None:
    async def faulty(_: Doing) -> None:
        raise KeyError("x")

    outcome, events = run([act("a")], {"a": faulty})
    assert isinstance(outcome.first_error, KeyError)
    assert events[-1].data["error"] == {"what": "KeyError: 'x'", "fault": "KeyError"}


@pytest.mark.parametrize(
    ("breaks", "retries", "ok"), [(0, 0, True), (2, 2, True), (3, 2, False), (1, 0, False)]
)
def test_retries(breaks: int, retries: int, ok: bool) -> None:
    pauses: list[float] = []
    tries = 0

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def flaky(_: Doing) -> None:
        nonlocal tries
        tries += 1
        if tries <= breaks:
            raise RehostError("the line dropped", retryable=True)

    outcome, events = run([act("a", retries=retries)], {"a": flaky}, sleep=sleep)
    assert outcome.ok is ok
    assert tries == min(breaks, retries) + 1
    assert pauses == [1.0, 2.0, 4.0][: min(breaks, retries)]
    warnings = [e for e in events if e.kind == "warning"]
    assert [e.data["retry"] for e in warnings] == list(range(1, len(pauses) + 1))
    if warnings:
        assert warnings[0].text == f"the line dropped. Trying again in 1 s (1 of {retries})."
    assert [e.kind for e in events].count("start") == 1


def test_pauses_stop_growing() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def bad(_: Doing) -> None:
        raise RehostError("no", retryable=True)

    run([act("a", retries=7)], {"a": bad}, sleep=sleep)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("error", [RehostError("no"), ValueError("no")])
def test_what_may_not_be_retried_is_not(error: Exception) -> None:
    tries = 0

    async def bad(_: Doing) -> None:
        nonlocal tries
        tries += 1
        raise error

    outcome, _ = run([act("a", retries=5)], {"a": bad}, sleep=no_sleep)
    assert tries == 1
    assert outcome.first_error is error


def test_a_missing_doer_is_found_before_anything_starts() -> None:
    started: list[str] = []

    async def doer(doing: Doing) -> None:
        started.append(doing.action.id)

    with pytest.raises(LookupError, match=r"no doer for b"):
        run([act("a"), act("b")], {"a": doer})
    assert not started


def test_cancelling_waits_for_the_clean_up() -> None:
    events: list[Event] = []
    cleaned: list[str] = []

    async def main() -> None:
        running = asyncio.Barrier(3)

        async def careful(doing: Doing) -> None:
            try:
                await running.wait()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for _ in range(20):
                    await asyncio.sleep(0)
                cleaned.append(doing.action.id)
                raise

        plan = Plan.of([act("a"), act("b"), act("c", "a")])
        task = asyncio.create_task(apply(plan, dict.fromkeys("abc", careful), Bus(events.append)))
        await running.wait()
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()  # an impatient second time must not leave the clean-up behind
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sorted(cleaned) == ["a", "b"]
    assert [(e.action, e.data["result"]) for e in events if e.kind == "end"] == [
        ("a", "stopped"),
        ("b", "stopped"),
    ]


def test_a_doer_that_cancels_itself_is_not_done() -> None:
    async def odd(_: Doing) -> None:
        raise asyncio.CancelledError

    outcome, events = run([act("a"), act("b", "a")], {"a": odd, "b": nothing})
    assert not outcome.done
    assert str(outcome.first_error) == "a was cancelled from within"
    assert events[-1].data["result"] == "failed"


def test_what_a_doer_tells() -> None:
    async def doer(doing: Doing) -> None:
        doing.progress("waiting for hunter2hunter2")
        doing.log("line")
        doing.note("mind", open_point=True)
        doing.warning("careful")
        doing.unchanged()

    events: list[Event] = []
    bus = Bus(events.append)
    bus.scrubber.add([Secret("hunter2hunter2")])
    asyncio.run(apply(Plan.of([act("a")]), {"a": doer}, bus))
    told = [(e.kind, e.text, dict(e.data)) for e in events[1:-1]]
    assert told == [
        ("progress", "waiting for ***", {}),
        ("log", "line", {}),
        ("note", "mind", {"open": True}),
        ("warning", "careful", {}),
    ]
    assert events[-1].data["result"] == "unchanged"
    assert {e.action for e in events} == {"a"}
