"""What is said at the end of an `up`: never that an app answers which does not run yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_state import serving
from project_here import make
from rehost.cli import doing, show
from rehost.cli.session import Options, Session
from rehost.cli.site import Site
from rehost.edge import answer
from rehost.machine.probe import Health, MachineState
from rehost.project import config
from rehost.run.errors import Exit, RehostError

GOOD = Health(200, 0.01, "fine")


class Here(Site):
    """The machine's state changes from probe to probe; the last one stays."""

    def __init__(self, project: config.Project, *health: Health | None) -> None:
        super().__init__(project, None, None)
        self.state = serving()
        self.seen = iter(health)

    async def probe(self) -> MachineState:
        assert self.state is not None
        self.state = self.state._replace(health=next(self.seen, self.state.health))
        return self.state


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Project]:
    async def at_once(seconds: float) -> None:
        assert seconds > 0

    monkeypatch.setattr(asyncio, "sleep", at_once)
    yield config.load(make(tmp_path, monkeypatch))


def answering(monkeypatch: pytest.MonkeyPatch, *statuses: int) -> list[int]:
    left = list(statuses)

    async def ask(address: str, path: str, host: str = "") -> answer.Answer:
        return answer.Answer(
            left.pop(0) if len(left) > 1 else left[0], "said", f"http://{address}{path}#{host}"
        )

    monkeypatch.setattr(answer, "ask", ask)
    return left


def told(here: Here) -> tuple[int, Session]:
    session = Session("up", Options(), show.Plain())
    return asyncio.run(doing.tell(session, here)), session


def test_an_app_that_is_still_starting_is_waited_for(
    project: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 502, 502, 503, 200)
    code, session = told(Here(project, None, None, GOOD))
    assert (code, session.parts["status"]) == (Exit.DONE, 200)


def test_what_a_healthy_app_answers_is_its_own_affair(
    project: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 503)
    code, session = told(Here(project, GOOD))
    assert (code, session.parts["status"]) == (Exit.DONE, 503)


def test_an_app_that_does_not_come_is_no_success(
    project: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 502)
    impatient = project._replace(run=project.run._replace(health_deadline=0))
    with pytest.raises(RehostError, match="gives 502 after 0 s") as failed:
        told(Here(impatient, None))
    assert "rehost logs" in failed.value.cure


def test_an_address_that_is_silent_is_said_at_once(
    project: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 0)
    with pytest.raises(RehostError, match="does not answer from here"):
        told(Here(project))
