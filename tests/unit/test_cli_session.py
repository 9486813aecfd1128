"""Commands as processes: exit codes, errors, journals, signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from rehost.cli.session import Session, common
from rehost.run.engine import Doing
from rehost.run.errors import Refused, RehostError, UsageError
from rehost.run.journal import runs
from rehost.run.plan import Action, Plan
from rehost.run.secret import Secret

Body = Callable[[Session], Awaitable[int | None]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rehost.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(body: Body, *typed: str, journal: bool = True) -> Result:
    @click.group()
    def root() -> None: ...

    root.command("up")(common(journal=journal)(body))
    return CliRunner().invoke(root, ["up", *typed], prog_name="rehost")


def last(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


async def changes(session: Session, error: Exception | None = None) -> None:
    async def doer(doing: Doing) -> None:
        doing.log("hunter2hunter2")
        if error:
            raise error

    session.bus.scrubber.add([Secret("hunter2hunter2")])
    plan = Plan.of([Action("a", "create", "thing")])
    session.show_plan(plan)
    session.confirm(plan, False)
    await session.apply(plan, {"a": doer})


def test_a_command_that_does_something(project: Path) -> None:
    async def body(session: Session) -> None:
        await changes(session)
        session.out("The app answers, says hunter2hunter2")
        session.result(url="http://x/")

    result = invoke(body)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "  + create   thing",
        "",
        "1 to create, nothing to delete",
        "The app answers, says ***",
    ]
    assert "done         create thing (0.0 s)" in result.stderr
    (run,) = runs(project)
    assert (run.command, run.result) == ("up", "done")
    assert [e.kind for e in run.events] == ["run-start", "plan", "start", "log", "end", "run-end"]
    assert "hunter2" not in (run.path or Path()).read_text()


def test_json(project: Path) -> None:
    async def body(session: Session) -> None:
        await changes(session)
        session.out("for people")
        session.result(url="http://x/")

    result = invoke(body, "--json")
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines[:-1]] == ["run-start", "plan", "start", "log", "end", "run-end"]
    assert lines[0]["data"]["command"] == "up"
    seconds = lines[-1].pop("seconds")
    assert isinstance(seconds, float)
    assert lines[-1] == {"result": "done", "exit": 0, "command": "up", "url": "http://x/"}


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (RehostError("no", cure="Mend it.", detail="hunter2hunter2"), 1, "failed"),
        (UsageError("no", cure="Mend it."), 2, "usage"),
        (Refused("no", cure="Mend it."), 3, "refused"),
    ],
)
def test_errors(project: Path, error: RehostError, code: int, word: str) -> None:
    async def body(session: Session) -> None:
        await changes(session, error)

    result = invoke(body)
    assert result.exit_code == code
    assert f"{'Refused' if code == 3 else 'Error'}: no\n  what to do     Mend it.\n" in result.stderr
    assert "hunter2" not in result.output
    assert [run.result for run in runs(project)] == [word]
    ending = last(invoke(body, "--json"))
    assert (ending["result"], ending["exit"], ending["error"]["what"]) == (word, code, "no")


def test_every_failure_is_shown(project: Path) -> None:
    async def body(session: Session) -> None:
        both = asyncio.Barrier(2)

        async def bad(doing: Doing) -> None:
            await both.wait()
            raise RehostError(f"{doing.action.id} broke")

        await session.apply(Plan.of([Action(i, "run", i) for i in "ab"]), {"a": bad, "b": bad})

    result = invoke(body)
    assert result.exit_code == 1
    assert "Error: a broke" in result.stderr
    assert "Error: b broke" in result.stderr
    ending = last(invoke(body, "--json"))
    assert sorted([ending["error"]["what"], ending["other_errors"][0]["what"]]) == ["a broke", "b broke"]


def test_errors_in_a_group_are_shown_each(project: Path) -> None:
    async def body(session: Session) -> None:
        raise ExceptionGroup("two", [RehostError("first"), ExceptionGroup("", [UsageError("second")])])

    result = invoke(body)
    assert result.exit_code == 2
    assert "Error: first\nError: second\n" in result.stderr


def test_a_fault_of_ours(project: Path) -> None:
    async def body(session: Session) -> None:
        await changes(session, KeyError("hunter2hunter2"))

    result = invoke(body)
    assert result.exit_code == 1
    assert "This is a fault in rehost, not in what you did: KeyError: '***'" in result.stderr
    assert "Traceback" not in result.stderr
    (kept,) = (project / ".rehost/journal").glob("*.fault.txt")
    assert str(kept) in result.stderr
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    text = kept.read_text()
    assert "KeyError: '***'" in text
    assert "Traceback" in text
    assert "| Traceback" in invoke(body, "--verbose").stderr


def test_a_fault_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def body(session: Session) -> None:
        raise ValueError("no")

    result = invoke(body, journal=False)
    (kept,) = tmp_path.glob("rehost-*.fault.txt")
    assert str(kept) in result.stderr


def test_a_run_that_changes_nothing_leaves_no_journal(project: Path) -> None:
    async def body(session: Session) -> None:
        session.note("nothing to do")

    assert invoke(body).exit_code == 0
    assert runs(project) == []


def test_a_command_s_own_exit_code(project: Path) -> None:
    async def body(session: Session) -> int:
        return 7

    assert invoke(body, journal=False).exit_code == 7
    assert last(invoke(body, "--json", journal=False))["result"] == "failed"


def test_the_project_is_found_upwards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "a/b").mkdir(parents=True)
    monkeypatch.chdir(project / "a/b")
    found: list[Path] = []

    async def body(session: Session) -> None:
        found.append(session.directory)

    assert invoke(body).exit_code == 0
    assert found == [project.resolve()]
    (project / "a/rehost.toml").touch()
    assert invoke(body).exit_code == 0
    assert invoke(body, "--project", str(project)).exit_code == 0
    assert found[1:] == [(project / "a").resolve(), project.resolve()]


def test_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def body(session: Session) -> None:
        raise AssertionError("it must not begin")

    for typed in ([], ["--project", "."]):
        result = invoke(body, *typed)
        assert result.exit_code == 2
        assert "there is no rehost.toml" in result.stderr
        assert "rehost init" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_quiet_and_verbose_exclude_each_other(project: Path) -> None:
    async def body(session: Session) -> None: ...

    result = invoke(body, "-q", "-v")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_nobody_is_asked_with_json(project: Path) -> None:
    async def body(session: Session) -> None:
        plan = Plan.of([Action("vm", "delete", "machine")])
        session.show_plan(plan)
        session.confirm(plan, False)

    result = invoke(body, "--json")
    assert result.exit_code == 3
    assert last(result)["result"] == "refused"


PROGRAM = """
import asyncio, sys
import click
from rehost.cli.session import Session, common
from rehost.run.engine import Doing
from rehost.run.plan import Action, Plan

@click.group()
def root() -> None: ...

@root.command()
@click.option("--stubborn", is_flag=True)
@common(journal=True)
async def up(session: Session, stubborn: bool) -> None:
    async def first(doing: Doing) -> None: ...
    async def waits(doing: Doing) -> None:
        doing.progress("ready")
        try:
            await asyncio.Event().wait()
        finally:
            doing.progress("cleaning")
            if stubborn:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            doing.progress("clean")
    plan = Plan.of([Action("a", "create", "a"), Action("b", "create", "b", needs=("a",))])
    await session.apply(plan, {"a": first, "b": waits})

@root.command()
@common()
async def flood(session: Session) -> None:
    while True:
        session.out("line")

@root.command()
@common(journal=True)
async def long(session: Session) -> None:
    async def writes(doing: Doing) -> None:
        for _ in range(3_000):
            doing.log("x" * 100)
    await session.apply(Plan.of([Action("a", "create", "a")]), {"a": writes})

root.main(prog_name="rehost")
"""


def start(project: Path, *typed: str, **more: Any) -> subprocess.Popen[str]:
    program = project / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    return subprocess.Popen(
        [sys.executable, str(program), *typed],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(project: Path, number: signal.Signals) -> None:
    with start(project, "up", "--verbose") as process:
        read_until(process, "ready")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "create b: clean\n" in err
    assert "Stopped: 1 step done, and what was done stays done" in err
    assert "Type `rehost up` again" in err
    (run,) = runs(project)
    assert run.result == "interrupted"
    assert [e.data["result"] for e in run.events if e.kind == "end"] == ["done", "stopped"]


def test_a_second_signal_leaves_at_once(project: Path) -> None:
    with start(project, "up", "--verbose", "--stubborn") as process:
        read_until(process, "ready")
        process.send_signal(signal.SIGINT)
        read_until(process, "cleaning")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert runs(project)[0].result == "cut off"


def test_a_reader_that_leaves_is_no_error(project: Path) -> None:
    with start(project, "flood") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_reader_that_leaves_does_not_stop_a_change(project: Path) -> None:
    with start(project, "long", "--json") as process:
        assert process.stdout is not None
        while '"start"' not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
    (run,) = runs(project)
    assert run.result == "done"
    assert sum(e.kind == "log" for e in run.events) == 3_000
