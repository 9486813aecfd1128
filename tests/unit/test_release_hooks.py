"""Hooks: real programs, run as a release runs them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rehost.cli import hooking
from rehost.release import decide, hooks
from rehost.release.container import Revision
from rehost.run.engine import Doer, Doing
from rehost.run.errors import RehostError, UsageError
from rehost.run.events import Bus, Event
from rehost.run.plan import Action
from rehost.run.secret import Secret


def put(project: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = project / hooks.FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# -- finding -----------------------------------------------------------------------------------------------


def test_without_hooks_there_are_none(tmp_path: Path) -> None:
    assert hooks.find(tmp_path) == {}
    (tmp_path / ".rehost").mkdir()
    (tmp_path / hooks.FOLDER).touch()  # no directory at all
    assert hooks.find(tmp_path) == {}


def test_hooks_are_found_and_what_helps_them_is_left_alone(tmp_path: Path) -> None:
    one = put(tmp_path, "before-build", "#!/bin/sh\n")
    put(tmp_path, "lib.sh", "", 0o644)
    put(tmp_path, "README.md", "", 0o644)
    (tmp_path / hooks.FOLDER / "on-failure").symlink_to("before-build")
    assert hooks.find(tmp_path) == {"before-build": one, "on-failure": one.with_name("on-failure")}


@pytest.mark.parametrize("name", ["before-deploy", "after_release", "before-builds", "onfailure"])
def test_a_mistyped_name_is_no_silent_nothing(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, "#!/bin/sh\n")
    with pytest.raises(UsageError, match="there is no such hook; did you mean") as wrong:
        hooks.find(tmp_path)
    assert wrong.value.where == f".rehost/hooks/{name}"


def test_what_cannot_be_run_is_told_with_its_cure(tmp_path: Path) -> None:
    path = put(tmp_path, "after-release", "#!/bin/sh\n", 0o644)
    with pytest.raises(UsageError, match="not executable") as wrong:
        hooks.find(tmp_path)
    assert wrong.value.cure == "Type `chmod +x .rehost/hooks/after-release`."
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="a directory"):
        hooks.find(tmp_path)


# -- running -----------------------------------------------------------------------------------------------


def ran(path: Path, project: Path, **facts: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    return asyncio.run(hooks.run(path, project, facts, lines.append)), lines


def test_a_hook_runs_in_the_project_with_the_facts_and_without_input(tmp_path: Path) -> None:
    path = put(
        tmp_path, "before-build", '#!/bin/sh\npwd\necho "$REHOST_APP, $HOME" >&2\ncat\nprintf half\nexit 7\n'
    )
    status, lines = ran(path, tmp_path, REHOST_APP="tiny")
    assert status == 7
    assert lines == [str(tmp_path), f"tiny, {os.environ['HOME']}", "half"]


def test_long_lines_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = put(tmp_path, "before-build", "#!/bin/sh\nprintf '\\377\\n%0300000d\\n' 0\n")
    assert ran(path, tmp_path) == (0, ["\ufffd", "0" * 300_000])


def test_a_program_that_a_hook_leaves_running_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "REST", 0.1)
    path = put(tmp_path, "after-release", f"#!/bin/sh\nsleep 1000 &\necho $! >{tmp_path}/pid\necho started\n")
    assert ran(path, tmp_path) == (0, ["started"])
    os.kill(int((tmp_path / "pid").read_text()), 9)  # it runs still


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    for text in ("just words\n", "#!/no/such/shell\n"):
        path = put(tmp_path, "before-build", text)
        with pytest.raises(UsageError, match="the hook cannot be run") as wrong:
            ran(path, tmp_path)
        assert "#!/bin/sh" in wrong.value.cure


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_hook_ends_with_the_command_that_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does it: the hook, and what it started, also when it does not listen to SIGTERM."""
    monkeypatch.setattr(hooks, "GRACE", 0.1)
    path = put(
        tmp_path,
        "before-build",
        f"#!/bin/sh\ntrap '' TERM\nsleep 1000 & echo $$ $! >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids\nwait\n",
    )

    async def cancelled() -> None:
        task = asyncio.create_task(hooks.run(path, tmp_path, {}, print))
        end = time.monotonic() + 20
        while not (tmp_path / "pids").exists():
            assert time.monotonic() < end, "the hook did not start"
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    end = time.monotonic() + 20
    while not all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split()):
        assert time.monotonic() < end, "the hook and its child did not end"
        time.sleep(0.01)


# -- around a release --------------------------------------------------------------------------------------


def anything(**fields: object) -> Any:
    return SimpleNamespace(**fields)


REVISION = Revision("ada@laptop", "0123456789ab", dirty=True)


class Release:
    """A release of a project whose doers say when they run; `said` is what happened, in order."""

    def __init__(
        self, project: Path, failing: str = "", error: Callable[[], RehostError] | None = None
    ) -> None:
        self.said: list[str] = []
        self.events: list[Event] = []
        self.bus = Bus(self.events.append)
        self.here = anything(
            project=anything(directory=project, app="tiny", domain=anything(name=None)),
            state=anything(current=4),
            released=0,
            address="192.0.2.1",
            serving="release 4",
        )
        self.session = anything(bus=self.bus, command="deploy")
        self.failing = failing
        self.error = error or (lambda: RehostError("it broke"))
        doers = {id_: self.doer(id_) for id_ in (decide.SHIP, decide.BUILD, decide.RELEASE, decide.ROUTES)}
        self.doers = hooking.around(self.session, self.here, doers, 5, lambda: REVISION)

    def doer(self, id_: str) -> Doer:
        async def do(_: Doing) -> None:
            self.said.append(id_)
            if id_ == self.failing:
                raise self.error()

        return do

    def run(self, *ids: str, retries: int = 0) -> None:
        for id_ in ids:
            asyncio.run(self.do(Action(id_, "run", "it", retries=retries)))

    async def do(self, action: Action) -> None:
        await self.doers[action.id](Doing(action, self.bus))

    def told(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]


def log_hooks(project: Path, **bodies: str) -> None:
    """Each hook writes its name and some facts; bodies: what else one does, "before_build" and so on."""
    for name in hooks.NAMES:
        more = bodies.get(name.replace("-", "_"), "")
        put(
            project,
            name,
            '#!/bin/sh\necho "$REHOST_HOOK $REHOST_COMMAND $REHOST_RELEASE over $REHOST_SERVING '
            f'$REHOST_COMMIT$REHOST_DIRTY: $REHOST_ERROR"\n{more}\n',
        )


def test_a_project_without_hooks_keeps_its_doers(tmp_path: Path) -> None:
    release = Release(tmp_path)
    doer = release.doer("x")
    assert hooking.around(release.session, release.here, {"x": doer}, 1, lambda: REVISION) == {"x": doer}


def test_each_hook_runs_once_at_its_place(tmp_path: Path) -> None:
    log_hooks(tmp_path)
    release = Release(tmp_path)
    release.run(decide.SHIP, decide.BUILD, decide.RELEASE, decide.ROUTES)
    facts = "deploy 5 over 4 0123456789ab1: "
    assert release.told("log") == [
        f"{name}: {name} {facts}" for name in ("before-build", "before-release", "after-release")
    ]
    assert all(event.data == {"shown": True} for event in release.events if event.kind == "log")


def test_a_hook_before_something_stops_it(tmp_path: Path) -> None:
    log_hooks(tmp_path, before_build="exit 3", before_release="kill -9 $$")
    release = Release(tmp_path)
    with pytest.raises(
        RehostError, match="the hook before-build ended with status 3; nothing was released"
    ) as no:
        release.run(decide.SHIP)
    assert (no.value.where, no.value.serving) == (".rehost/hooks/before-build", "release 4")
    assert no.value.detail == "before-build deploy 5 over 4 0123456789ab1: "
    with pytest.raises(RehostError, match="the hook before-release was ended by signal 9"):
        release.run(decide.RELEASE)
    assert release.said == []
    assert sum("on-failure" in line for line in release.told("log")) == 2


def test_hooks_after_something_only_warn(tmp_path: Path) -> None:
    log_hooks(tmp_path, after_release="exit 3", on_failure="exit 4")
    release = Release(tmp_path, failing=decide.BUILD)
    release.run(decide.RELEASE)
    with pytest.raises(RehostError, match="it broke"):
        release.run(decide.BUILD)
    assert release.told("warning") == [
        "the hook after-release ended with status 3",
        "the hook on-failure ended with status 4",
    ]
    assert release.told("log")[-1] == "on-failure: on-failure deploy 5 over 4 0123456789ab1: it broke"
    put(tmp_path, "after-release", "no program")
    Release(tmp_path).run(decide.RELEASE)  # it serves: whatever comes after does not change that


def test_the_steps_of_the_machine_itself_have_no_hooks(tmp_path: Path) -> None:
    log_hooks(tmp_path)
    release = Release(tmp_path, failing=decide.ROUTES)
    with pytest.raises(RehostError):
        release.run(decide.ROUTES)
    assert release.told("log") == []


def test_a_step_that_is_tried_again_has_not_failed_yet(tmp_path: Path) -> None:
    log_hooks(tmp_path)
    release = Release(tmp_path, decide.SHIP, lambda: RehostError("the line dropped", retryable=True))
    for _ in range(3):
        with pytest.raises(RehostError):
            release.run(decide.SHIP, retries=2)
    names = [line.partition(":")[0] for line in release.told("log")]
    assert names == ["before-build", "on-failure"]


def test_no_hook_sees_a_secret(tmp_path: Path) -> None:
    log_hooks(tmp_path, on_failure="env | grep -c hunter2hunter2")
    release = Release(tmp_path, decide.RELEASE, lambda: RehostError("it said hunter2hunter2"))
    release.bus.scrubber.add([Secret("hunter2hunter2")])
    with pytest.raises(RehostError):
        release.run(decide.RELEASE)
    assert release.told("log")[-2:] == [
        "on-failure: on-failure deploy 5 over 4 0123456789ab1: it said ***",
        "on-failure: 0",
    ]
