"""The record of a move: what was moved, when, how long it took, what went wrong and how that ended.

Written in Markdown for a person who was not there. Pure: from the runs of the journal and the final state that
the caller observed. Text from elsewhere is escaped, so that no name or log line can change the page.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rehost.run.events import Event, Json
from rehost.run.journal import CUT_OFF, RUNNING, Run

_MEANING = {CUT_OFF: "cut off: its process died", RUNNING: "still running when this was written"}


class _Step(NamedTuple):
    """One action in one run: from its start to its end, if it had one."""

    run: int  # counted from 1
    id: str
    verb: str
    what: str
    start: float
    result: str
    seconds: float | None
    error: Mapping[str, Json]

    @property
    def title(self) -> str:
        return title(self.verb, self.what)


def record(runs: Sequence[Run], state: Mapping[str, Json]) -> str:
    """The page. `runs`: the oldest first. `state`: the final state by name, in the order to show it; names that
    the opening sentence uses when they are there: app, source, address, health.
    """
    ordered = sorted(runs, key=lambda run: run.start)
    steps = [step for number, run in enumerate(ordered, start=1) for step in _steps(number, run)]
    parts = [
        [f"# The move of {escape(str(state.get('app', 'the app')))}", "", _opening(ordered, state)],
        ["## Final state", "", *_state(state)],
        ["## Timeline", "", "All times are UTC.", *_timeline(ordered, steps)],
        ["## What was created and changed", "", *_changes(ordered, steps)],
        ["## Faults, and how they ended", "", *_faults(ordered, steps)],
        ["## Open points", "", *_open_points(ordered, steps)],
    ]
    if lists := _lists(ordered):
        parts.insert(-1, ["## What came along, and what did not", "", *lists])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def duration(seconds: float) -> str:
    """A span as people say it: "0.4 s", "12 s", "3 min 5 s", "2 h 1 min"."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def title(verb: str, what: str) -> str:
    """An action in words: "create firewall rule web"; an action that is only run speaks for itself."""
    return what if verb in ("run", "") else f"{verb} {what}"


_ESCAPED = re.compile(r"([\\`*<>\[\]|~&#!])|(?<![^\W_])(_+)|(_+)(?![^\W_])")


_OPENERS = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+](?:[-\s]|$)|=))([-+=.)])")


def escape(text: str) -> str:
    """Text as Markdown shows it literally, on one line; fit for a table's cell."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    escaped = _ESCAPED.sub(lambda match: "".join(f"\\{c}" for c in match.group(0)), one_line)
    # At the beginning of a line these would open a list, or underline a heading.
    return _OPENERS.sub(r"\1\\\2", escaped)


def _opening(runs: Sequence[Run], state: Mapping[str, Json]) -> str:
    if not runs:
        return "No run has changed anything yet."
    app = escape(str(state.get("app", "The app")))
    moved = "was moved" if any(run.result == "done" for run in runs) else "is not moved yet; the move began"
    origin = f" from {escape(str(state['source']))}" if state.get("source") else ""
    place = f" to {escape(str(state['address']))}" if state.get("address") else ""
    last = runs[-1]
    worked = duration(sum(run.seconds for run in runs))
    if len(runs) == 1:
        span = f"in one run of {worked}"
    else:
        whole = duration(last.start + last.seconds - runs[0].start)
        span = f"in {len(runs)} runs over {whole}, of which rehost worked {worked}"
    sentences = [f"{app} {moved}{origin}{place} on {_day(runs[0].start)}, {span}."]
    if last.result not in ("done", RUNNING):
        sentences.append(f"The last run, `rehost {last.command}`, {_verb_of(last.result)}.")
    if state.get("health"):
        sentences.append(_sentence(f"Its health check answers: {escape(str(state['health']))}"))
    return " ".join(sentences)


def _state(state: Mapping[str, Json]) -> list[str]:
    rows = [(_label(name), _cell(value)) for name, value in state.items() if value is not None]
    return _table(("", ""), rows) if rows else ["Not observed."]


def _timeline(runs: Sequence[Run], steps: Sequence[_Step]) -> Iterator[str]:
    for number, run in enumerate(runs, start=1):
        yield ""
        yield f"### {number}. `rehost {run.command}`, {_day(run.start)} {_clock(run.start)}"
        yield ""
        yield f"{_capital(_MEANING.get(run.result, run.result))} after {duration(run.seconds)}."
        rows = [
            (
                _clock(step.start),
                escape(_capital(step.title)),
                step.result,
                duration(step.seconds) if step.seconds is not None else "",
            )
            for step in steps
            if step.run == number
        ]
        if rows:
            yield ""
            yield from _table(("at", "step", "result", "took"), rows)


def _changes(runs: Sequence[Run], steps: Sequence[_Step]) -> list[str]:
    rows = [
        (escape(step.what), step.verb + "d", _changed(runs[step.run - 1], step.id), str(step.run))
        for step in steps
        if step.result == "done" and step.verb in ("create", "update", "replace", "delete")
    ]
    return _table(("what", "", "set to", "run"), rows) if rows else ["Nothing."]


def _changed(run: Run, action: str) -> str:
    """The fields of one action as the run's plan showed them."""
    for event in reversed(run.events):
        planned = event.data.get("actions") if event.kind == "plan" else None
        for entry in planned if isinstance(planned, list) else []:
            changes = entry.get("changes") if isinstance(entry, dict) and entry.get("id") == action else None
            if isinstance(changes, list):
                return "; ".join(_change(change) for change in changes if isinstance(change, dict))
    return ""


def _change(change: Mapping[str, Json]) -> str:
    before, after = change.get("before"), change.get("after")
    name = escape(str(change.get("field", "")))
    if before is None:
        return f"{name}: {_cell(after)}"
    return f"{name}: {_cell(before)} → {_cell(after) if after is not None else 'none'}"


def _faults(runs: Sequence[Run], steps: Sequence[_Step]) -> list[str]:
    lines: list[str] = []
    for number, run in enumerate(runs, start=1):
        for event in run.events:
            at = f"Run {number}, {_clock(event.time)}"
            if event.kind == "warning":
                step = _step(steps, number, event.action)
                what = f" ({escape(step.title)})" if step else ""
                lines.append(f"- {at}, warning{what}: {escape(event.text)}{_after_warning(step)}")
            elif event.kind == "end" and event.data.get("result") == "failed":
                failed = _step(steps, number, event.action)
                name = failed.title if failed else event.action
                error = failed.error if failed else {}
                what = _sentence(escape(str(error.get("what") or event.text)))
                ending = _ending(steps, number, event.action)
                lines.append(f"- {at}, failed: **{escape(name)}**: {what} *{ending}*")
                lines.extend(_detail(str(error.get("detail", ""))))
        # A run that failed because a step did is told by the step.
        told = run.result == "failed" and any(
            event.data.get("result") == "failed" for event in run.events[:-1]
        )
        if run.result not in ("done", RUNNING) and not told:
            lines.append(_run_fault(runs, number, run))
    return lines or ["None."]


def _run_fault(runs: Sequence[Run], number: int, run: Run) -> str:
    end = run.events[-1] if run.events else None
    error = end.data.get("error") if end is not None and end.kind == "run-end" else None
    why = f": {escape(str(error.get('what', '')))}" if isinstance(error, dict) else ""
    good = _later_good(runs, number)
    ending = f"Run {good} carried on and ended as it should." if good else "No later run has ended well."
    at = _clock(run.start + run.seconds)
    return f"- Run {number}, {at}, `rehost {run.command}` {_sentence(_verb_of(run.result) + why)} *{ending}*"


def _verb_of(result: str) -> str:
    return {CUT_OFF: "was cut off", "interrupted": "was interrupted", "refused": "was refused"}.get(
        result, "failed"
    )


def _later_good(runs: Sequence[Run], number: int) -> int | None:
    later = range(number + 1, len(runs) + 1)
    return next((n for n in later if runs[n - 1].result == "done"), None)


def _after_warning(step: _Step | None) -> str:
    if step is None:
        return ""
    return {"done": " *The step was done.*", "failed": " *The step failed.*"}.get(step.result, "")


def _ending(steps: Sequence[_Step], run: int, action: str) -> str:
    good = _done_later(steps, run, action)
    return f"Done in run {good}." if good else "Not done since."


def _done_later(steps: Sequence[_Step], run: int, action: str) -> int | None:
    ended = ("done", "unchanged")
    return next((s.run for s in steps if s.run > run and s.id == action and s.result in ended), None)


def _lists(runs: Sequence[Run]) -> list[str]:
    """What the last run that took stock listed; empty when none did."""
    listed = ([event for event in run.events if event.data.get("listed") is True] for run in reversed(runs))
    return [f"- {escape(_capital(event.text))}" for event in next(filter(None, listed), [])]


def _open_points(runs: Sequence[Run], steps: Sequence[_Step]) -> list[str]:
    """What is left to do: points marked open, failed steps never done later, and a last run that ended badly."""
    points: dict[str, None] = {}  # a set that keeps its order
    for number, run in enumerate(runs, start=1):
        for event in run.events:
            if event.data.get("open") is True and not _settled(runs, steps, number, event):
                points[escape(event.text)] = None
        for step in steps:
            if step.run == number and step.result == "failed" and not _done_later(steps, number, step.id):
                cure = f" {escape(str(step.error['cure']))}" if step.error.get("cure") else ""
                points[f"{escape(_capital(step.title))} failed and was not done since.{cure}"] = None
        again = any(later.command == run.command for later in runs[number:])
        if run.result in (CUT_OFF, "interrupted") and not again:
            points[f"`rehost {run.command}` was {run.result}; type it again, it carries on."] = None
    return [f"- {point}" for point in points] or ["None."]


def _settled(runs: Sequence[Run], steps: Sequence[_Step], number: int, point: Event) -> bool:
    """A later run did the same step, or the same command when no step is named, and did not say it again."""
    later = range(number + 1, len(runs) + 1)
    if any(event.text == point.text for n in later for event in runs[n - 1].events):
        return False
    if point.action:
        return _done_later(steps, number, point.action) is not None
    command = runs[number - 1].command
    return any(runs[n - 1].command == command and runs[n - 1].result == "done" for n in later)


def _steps(number: int, run: Run) -> list[_Step]:
    ends = {event.action: event for event in run.events if event.kind == "end"}
    found = []
    for start in (event for event in run.events if event.kind == "start"):
        end = ends.get(start.action)
        seconds = end.data.get("seconds") if end else None
        error = end.data.get("error") if end else None
        found.append(
            _Step(
                run=number,
                id=start.action,
                verb=str(start.data.get("verb", "")),
                what=start.text or start.action,
                start=start.time,
                result=str(end.data.get("result", "done")) if end else run.result,
                seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
                error=error if isinstance(error, dict) else {},
            )
        )
    return found


def _step(steps: Sequence[_Step], run: int, action: str) -> _Step | None:
    return next((step for step in steps if step.run == run and step.id == action), None)


def _detail(text: str) -> list[str]:
    if not text.strip():
        return []
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    clean = ("".join(c for c in line if c.isprintable() or c == "\t") for line in text.rstrip().splitlines())
    return ["", f"  {fence}text", *(f"  {line}" for line in clean), f"  {fence}", ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(value: Json) -> str:
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return escape(", ".join(str(part) for part in value))
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _label(name: str) -> str:
    return escape(_capital(name.replace("_", " ")))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _day(when: float) -> str:
    day = time.gmtime(when)
    return f"{day.tm_mday} {time.strftime('%B %Y', day)}"


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(when))
