"""Images that the machine does not build: what is planned, and when a registry is asked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from machine_state import APP, SERVING, fresh, releases, serving
from project_here import TOML, make
from rehost.cli import making, show
from rehost.cli.session import Options, Session
from rehost.cli.site import Site
from rehost.machine import bootstrap, probe
from rehost.machine.probe import Image, MachineState
from rehost.machine.ssh import Machine
from rehost.project import config
from rehost.release import check, decide, pull
from rehost.release.registry import Login, Reference
from rehost.run.errors import RehostError
from rehost.run.events import Event

NAME = "ghcr.io/me/app:1.2"
NOW, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PULLED = Image("sha256:img", (f"rehost/{APP}:{NOW[7:19]}",), "", 1, 1)


class Silent:
    """An open connection over which nobody talks."""

    peer, label = "203.0.113.10", "vm"


def project_of(directory: Path, monkeypatch: pytest.MonkeyPatch, build: str) -> config.Project:
    return config.load(make(directory, monkeypatch, toml=f"{TOML}\n[build]\n{build}\n"))


class Asked:
    """Stands for the registry behind the machine: what it answers, and who asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: str | RehostError = NEW
        self.logins: list[Login | None] = []

        async def ask(_machine: Machine, _name: Reference, login: Login | None, platform: str) -> str:
            assert platform == "linux/amd64"
            self.logins.append(login)
            if isinstance(self.answer, RehostError):
                raise self.answer
            return self.answer

        monkeypatch.setattr(pull, "ask", ask)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Asked]:
    auth = base64.b64encode(b"ada:a long password").decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {"ghcr.io": {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    yield Asked(monkeypatch)


def resolve(
    project: config.Project, state: MachineState | None
) -> tuple[making.Wanted, Site, list[Event], Session]:
    run, events = Session("up", Options(), show.Plain()), list[Event]()
    run.bus.add(events.append)
    here = Site(project, None, None)
    here.state = state
    here.machine = cast("Machine", Silent())
    wanted = making.Wanted(project, making.read_values(run, project), making.read_context(project))
    return asyncio.run(making.resolved(run, here, wanted)), here, events, run


def of(record: dict[str, str], **changes: object) -> MachineState:
    """A machine whose release 1 is of such an image."""
    return fresh(
        releases=releases(["live"], salt="s", env={}, settings={}, **record),
        current=1,
        live_slot="a",
        images=(PULLED,),
        **changes,
    )


def test_a_tag_that_moved_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    project = project_of(tmp_path, monkeypatch, f'image = "{NAME}"')
    state = of({"context": NOW, "source": NAME})
    wanted, here, _, run = resolve(project, state)
    assert wanted.digest == NEW
    assert asked.logins == [wanted.login]
    assert run.bus.scrubber.scrub("with a long password") == "with ***"
    actions = decide.plan(making.release_desired(wanted, here), state)
    assert [action.id for action in actions] == [decide.PULL, decide.RELEASE]
    assert actions[0].what == f"pull {NAME}"
    assert actions[1].needs == (decide.PULL,)
    assert actions[1].changes[0] == ("code", "a" * 12, "b" * 12)
    # It stayed: it is not pulled again, whatever else changed.
    asked.answer = NOW
    wanted, here, _, _ = resolve(project, state)
    actions = decide.plan(making.release_desired(wanted, here), state)
    assert [action.id for action in actions] == [decide.RELEASE]
    assert "code" not in [change.field for change in actions[0].changes]


def test_a_digest_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    project = project_of(tmp_path, monkeypatch, f'image = "{NAME}@{NOW}"')
    wanted, *_ = resolve(project, of({"context": NOW, "source": NAME}))
    assert (wanted.digest, wanted.login) == (NOW, None)
    # One that is not there yet will be pulled, and the registry will want to know by whom.
    wanted, *_ = resolve(project, fresh())
    assert wanted.digest == NOW
    assert wanted.login is not None
    assert asked.logins == []


def test_a_registry_that_is_away_keeps_nobody_from_releasing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    project = project_of(tmp_path, monkeypatch, f'image = "{NAME}"')
    asked.answer = pull.RegistryAway("ghcr.io does not answer the machine.")
    wanted, _, events, _ = resolve(project, of({"context": NOW, "source": NAME}))
    assert wanted.digest == NOW
    assert any("taken for what it was" in event.text for event in events if event.kind == "warning")
    # Not when the release is of something else, and not for any other fault.
    with pytest.raises(pull.RegistryAway):
        resolve(project, of({"context": NOW, "source": "other"}))
    asked.answer = RehostError("there is no image")
    with pytest.raises(RehostError, match="there is no image"):
        resolve(project, of({"context": NOW, "source": NAME}))


def test_a_machine_that_cannot_ask_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    project = project_of(tmp_path, monkeypatch, f'image = "{NAME}"')
    wanted, here, _, _ = resolve(project, None)
    assert wanted.digest == ""
    actions = making.machine_actions(here, wanted)
    assert [action.id for action in actions] == [bootstrap.ACTION, decide.PULL, decide.RELEASE]
    wanted, *_ = resolve(project, of({"context": NOW, "source": NAME}, platform=""))
    assert wanted.digest == NOW
    assert asked.logins == []


def test_a_build_here_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_of(tmp_path, monkeypatch, 'on = "here"')
    wanted, here, _, _ = resolve(project, fresh())
    for state in (None, here.state):
        actions = decide.plan(making.release_desired(wanted, here), state)
        assert [action.id for action in actions] == [decide.BUILD, decide.SEND, decide.RELEASE]
        assert [action.what for action in actions[:2]] == [f"build the image of {APP} here", "send the image"]
        assert [action.needs for action in actions[1:]] == [(decide.BUILD,), (decide.SEND,)]
    built = fresh(images=(PULLED._replace(context=wanted.context.digest),))
    actions = decide.plan(making.release_desired(wanted, here), built)
    assert [action.id for action in actions] == [decide.RELEASE]


def test_no_digest_is_no_image() -> None:
    state = fresh(images=(PULLED, PULLED._replace(tags=(f"rehost/{APP}:",))))
    assert decide.built_image(state, "") == ""
    assert decide.built_image(state, NOW) == "sha256:img"


def test_the_probe_lists_images_by_label_and_by_name() -> None:
    labelled = json.dumps({"Id": "sha256:1", "RepoTags": None, "Labels": {"rehost.context": "c"}})
    named = json.dumps({"Id": "sha256:2", "RepoTags": [f"rehost/{APP}:x"], "Labels": None})
    mark = SERVING.partition(" ")[0]
    before, _, rest = SERVING.partition(f"\n{mark} images\n")
    after = rest[rest.index(f"\n{mark} ") :]
    text = f"{before}\n{mark} images\n[{labelled}]\n{mark} tagged\n[{labelled},{named}]{after}"
    found = probe.parse(text).images
    assert [(each.id, each.context, each.tags) for each in found] == [
        ("sha256:1", "c", ()),
        ("sha256:2", "", (f"rehost/{APP}:x",)),
    ]
    assert serving().platform == "linux/amd64"


def test_check_tells_of_the_registry_and_of_the_docker_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    def told(build: str, directory: str) -> list[tuple[str, str]]:
        (tmp_path / directory).mkdir()
        found = check.findings(project_of(tmp_path / directory, monkeypatch, build))
        return [(each.severity, each.what) for each in found]

    assert asked.logins == []
    found = told(f'image = "{NAME}"', "one")
    assert ("ok", f"the machine pulls {NAME} from ghcr.io with the login of this computer's Docker") in found
    assert not any("Dockerfile" in what or "context" in what for _, what in found)
    assert any(
        what.endswith("without a login, as everybody may") for _, what in told('image = "redis"', "two")
    )
    monkeypatch.setenv("PATH", str(tmp_path / "docker"))
    assert ("error", "there is no Docker on this computer.") in told('on = "here"', "three")
    (tmp_path / "docker" / "config.json").write_text("{")
    assert any(severity == "error" for severity, what in told('image = "redis"', "four") if "Docker" in what)
