"""The journal: written as it goes, read back after anything."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.run.errors import UsageError
from rehost.run.events import Event
from rehost.run.journal import Journal, load, runs

NOON = 1_800_000_000.25  # 2027-01-15 08:00:00.250 UTC


def written(project: Path, command: str = "up", *, now: float = NOON, end: str = "done") -> Path:
    journal = Journal(project, command, now=now)
    journal(Event("run-start", data={"command": command, "version": "1"}, time=now))
    journal(Event("start", "the machine", "vm", {"verb": "create"}, time=now + 1))
    journal(Event("end", "", "vm", {"result": "done", "seconds": 2.5}, time=now + 3.5))
    if end:
        journal(Event("run-end", data={"result": end, "exit": 0}, time=now + 4))
    journal.close()
    return journal.path


def test_a_run_reads_back(tmp_path: Path) -> None:
    path = written(tmp_path, "env set")
    assert path == tmp_path / ".rehost/journal/20270115T080000.250Z-env-set.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / ".rehost/.gitignore").read_text() == "*\n!/hooks/\n!/hooks/**\n"
    (run,) = runs(tmp_path)
    assert (run.command, run.start, run.seconds, run.result) == ("env set", NOON, 4.0, "done")
    assert [event.kind for event in run.events] == ["run-start", "start", "end", "run-end"]
    assert run.events[1] == Event("start", "the machine", "vm", {"verb": "create"}, time=NOON + 1)


def test_every_event_is_in_the_file_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "up", now=NOON)
    journal(Event("note", "here"))
    assert b'"here"' in journal.path.read_bytes()
    journal.close()


def test_no_run_is_no_error(tmp_path: Path) -> None:
    assert runs(tmp_path) == []


@given(st.integers(min_value=0))
def test_a_torn_last_line_is_left_out(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = written(tmp_path_factory.mktemp("torn"))
    whole = path.read_bytes()
    size = cut % len(whole)
    path.write_bytes(whole[:size])
    run = load(path)
    assert len(run.events) == whole[:size].count(b"\n")
    assert run.result == "cut off"
    assert run.command == "up"


def test_damage_before_the_end_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"kind":"note"}\n' + lines[2])
    with pytest.raises(UsageError, match=r"jsonl:2: this line of the journal is not an event"):
        runs(tmp_path)


def test_killed_is_cut_off_and_living_is_running(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from rehost.run.events import Event; from rehost.run.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]), 'up')\n"
        "j(Event('run-start', data={'command': 'up'})); j(Event('start', 'the machine', 'vm'))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        (run,) = runs(tmp_path)
        assert run.result == "running"
        writer.send_signal(signal.SIGKILL)
    (run,) = runs(tmp_path)
    assert run.result == "cut off"
    assert [event.kind for event in run.events] == ["run-start", "start"]


def test_runs_of_the_same_moment_don_t_overwrite_each_other(tmp_path: Path) -> None:
    first, second = written(tmp_path), written(tmp_path)
    assert first != second
    assert [run.path for run in runs(tmp_path)] == [first, second]


def test_the_last_runs_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        Journal(tmp_path, "up", now=NOON + number, keep=4).close()
    names = sorted(path.name for path in (tmp_path / ".rehost/journal").iterdir())
    assert names == [f"20270115T08000{n}.250Z-up.jsonl" for n in (2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("kind", "keep", "left"), [("note", False, 0), ("note", True, 1), ("start", False, 1)]
)
def test_a_run_that_changed_nothing_may_leave_no_file(
    tmp_path: Path, kind: str, keep: bool, left: int
) -> None:
    journal = Journal(tmp_path, "up")
    journal(Event("start" if kind == "start" else "note", "x", "x"))
    journal.close(keep=keep)
    assert len(runs(tmp_path)) == left


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".rehost").write_text("a file is in the way")
    with pytest.raises(UsageError, match="the journal cannot be written"):
        Journal(tmp_path, "up")


def test_a_full_disk_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "up")

    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        journal(Event("note", "x"))
    assert journal.broken.endswith("No space left on device")
    journal.close()
