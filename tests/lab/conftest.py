"""One lab for the whole suite. Without a lab the suite is named as skipped; in CI that is a failure.

All that is said to the Compute API of any lab of the run is recorded, and held to Google's schema at the end.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehost.lab import control, exchanges, needs
from rehost.lab.places import Places, all_labs
from rehost.run.errors import RehostError
from suite import REPOSITORY, SUMMARY, Lab, Laptop, clear, held_to_schema
from tiny import GCE, plant

# The lab's server is a process of its own and must find the same sources.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
# One file for the labs of the fixtures and of the commands under test. When files run side by side, their processes
# inherit it from the one that started them, which judges it and says what they had to say.
HELPER = "PYTEST_XDIST_WORKER" in os.environ
RECORD_HOME = None if HELPER else tempfile.TemporaryDirectory(prefix="rehost-exchanges-")
RECORD = Path(RECORD_HOME.name, "exchanges.jsonl") if RECORD_HOME else Path(os.environ[exchanges.VARIABLE])
os.environ[exchanges.VARIABLE] = str(RECORD)
SAID = RECORD.with_name("said")
# Load and crashes use more of the processor than a machine that bursts may.
TINY_MACHINE = GCE.replace("e2-micro", "e2-standard-2")
FIRST = "first value of all"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = needs.missing()
    if not missing:
        return
    reason = "the lab cannot run here: " + "; ".join(str(one) for one in missing)
    if os.environ.get("CI"):
        pytest.exit(reason, returncode=1)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if HELPER:
        with SAID.open("a") as said:
            said.writelines(f"{line}\n" for line in SUMMARY)
        return
    if SAID.exists():
        SUMMARY.extend(SAID.read_text().splitlines())
    count, deviations = held_to_schema(RECORD)
    SUMMARY.append(
        f"{count} exchanges with the Compute API held to Google's schema: {len(deviations)} deviations"
    )
    SUMMARY.extend(f"  {line}" for line in deviations[:50])
    if deviations and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("the lab")
    for line in SUMMARY:
        terminalreporter.line(line)


def _sweep_dead() -> None:
    """Labs that earlier, killed runs of this suite left behind: their names hold the run's process id."""
    for name in all_labs():
        words = name.split("-")
        if words[0] == "suite" and words[1].isdigit() and not Path("/proc", words[1]).exists():
            try:
                control.down(name)
            except RehostError as error:  # another run sweeps it at this moment, or something holds it
                SUMMARY.append(f"the dead lab {name} was left: {error.what}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    _sweep_dead()
    name = f"suite-{os.getpid()}"
    info = control.up(name)
    home = tmp_path_factory.mktemp("home")
    environ = {
        **os.environ,
        **control.environment(name),
        "XDG_CONFIG_HOME": str(home / "config"),
        "NO_COLOR": "1",
    }
    try:
        yield Lab(name, info, environ, Places.of(name))
    finally:
        control.down(name)


@pytest.fixture(scope="session")
def laptops(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Laptop]:
    """Makes an empty directory with `rehost` in it."""

    def make(name: str) -> Laptop:
        return Laptop(tmp_path_factory.mktemp(name), lab.environ)

    return make


@pytest.fixture(scope="session")
def moved_tiny(lab: Lab, laptops: Callable[[str], Laptop]) -> Iterator[Laptop]:
    """A tiny app on a machine of its own. The move itself is killed five times on the way, and converges."""
    laptop = laptops("tiny")
    plant(laptop.directory, TINY_MACHINE, VALUE=FIRST)
    for after in (0.7, 2.0, 4.0, 8.0, 16.0):
        laptop.killed("up", after=after + random.random())  # noqa: S311
    laptop.run("up")
    yield laptop
    laptop.run("down", "--yes")


@pytest.fixture(scope="module")
def tiny(moved_tiny: Laptop) -> Laptop:
    """That app as it was after the move, in whichever order the files of the suite come to it."""
    clear(moved_tiny.directory)
    plant(moved_tiny.directory, TINY_MACHINE, VALUE=FIRST)
    moved_tiny.run("up", "--yes")  # services of another file's tests are deleted
    return moved_tiny
