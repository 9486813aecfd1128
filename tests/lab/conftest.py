"""One lab for the whole suite. Without a lab the suite is named as skipped; in CI that is a failure."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehost.lab import control, needs
from rehost.lab.places import Places
from suite import REPOSITORY, Lab, Laptop
from tiny import GCE, plant

# The lab's server is a process of its own and must find the same sources.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")


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


def _sweep_dead() -> None:
    """Labs that earlier, killed runs of this suite left behind."""
    root = Places.of("default").state.parent
    for state in root.glob("suite-*"):
        places = Places.of(state.name)
        if not control.running(places):
            control.down(state.name)


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
def tiny(lab: Lab, laptops: Callable[[str], Laptop]) -> Iterator[Laptop]:
    """A tiny app on a machine of its own. The move itself is killed five times on the way, and converges."""
    laptop = laptops("tiny")
    plant(laptop.directory, GCE, VALUE="first value of all")
    for after in (0.7, 2.0, 4.0, 8.0, 16.0):
        laptop.killed("up", after=after + random.random())  # noqa: S311
    laptop.run("up")
    yield laptop
    laptop.run("down", "--yes")
