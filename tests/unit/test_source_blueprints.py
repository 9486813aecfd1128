"""Twenty blueprints of many kinds, each with what must become of it; `data/blueprints/` holds both."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from blueprint_leaves import lost
from rehost.project import config
from rehost.run.secret import Secret
from rehost.source import blueprint, init, init_write, yaml_text
from rehost.source.names import app_name
from rehost.source.render_export import Live
from rehost.source.report import Import, Settings
from render_fake import web

FILES = sorted((Path(__file__).parent / "data" / "blueprints").glob("*.yaml"))


def plain(settings: Settings) -> dict[str, Any]:
    """What was found, without what was not."""
    found: dict[str, Any] = {}
    for each in fields(Settings):
        value = getattr(settings, each.name)
        if isinstance(value, dict):
            value = {key: inner.reveal() for key, inner in value.items() if isinstance(inner, Secret)}
        if value not in (None, {}, (), False):
            found[each.name] = list(value) if isinstance(value, tuple) else value
    return found


def expected(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return read


def imported(path: Path) -> Import:
    return blueprint.read(path, expected(path).get("service"))


def test_there_are_twenty() -> None:
    assert len(FILES) == 20


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_becomes_of_it(path: Path) -> None:
    wanted = expected(path)
    found = imported(path)
    assert plain(found.settings) == wanted["settings"]
    assert [each.field for each in found.carried] == wanted["carried"]
    assert [each.field for each in found.differently] == wanted["differently"]
    assert [each.field for each in found.left] == wanted["left"]
    told = [*(each.to for each in found.carried), *(each.how for each in found.differently)]
    assert all([*told, *(each.why for each in found.left)])


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_leaf_is_lost(path: Path) -> None:
    document, _ = yaml_text.read(path.read_text(encoding="utf-8"), path.name)
    assert isinstance(document, dict)
    found = imported(path)
    chosen = next(
        each for each in services(document) if app_name(str(each.get("name"))) == found.settings.app
    )
    assert lost(document, chosen, found) == []


def services(scope: object) -> list[Any]:
    """All services, production before staging as they stand in the file."""
    if isinstance(scope, list):
        return [found for each in scope for found in services(each)]
    if not isinstance(scope, dict):
        return []
    own = scope.get("services")
    inner = [value for key, value in scope.items() if key in ("projects", "environments", "ungrouped")]
    return [*(own if isinstance(own, list) else []), *services(inner)]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_leaf_is_lost_when_render_itself_is_asked(path: Path, known: bool) -> None:
    """known: whether Render has the file's variables, or none of them."""
    document, _ = yaml_text.read(path.read_text(encoding="utf-8"), path.name)
    assert isinstance(document, dict)
    alone = imported(path)
    chosen = next(
        each for each in services(document) if app_name(str(each.get("name"))) == alone.settings.app
    )
    variables = {key: Secret("x") for key in alone.settings.required} if known else {}
    live = Live(web(1, name=str(chosen["name"])), variables, {})
    found = blueprint.read(path, expected(path).get("service"), live)
    assert lost(document, chosen, found) == []
    told = [each[0] for each in (*found.carried, *found.differently, *found.left)]
    assert len(told) == len(set(told))
    assert set(found.settings.variables) == set(variables)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_init_makes_a_file_that_loads(path: Path, tmp_path: Path) -> None:
    (tmp_path / "render.yaml").write_bytes(path.read_bytes())
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    draft = init.draft(init.find(tmp_path), expected(path).get("service"))
    init_write.write(draft)
    project = config.load(tmp_path)
    wanted = expected(path)["settings"]
    assert (project.app, project.domain.name) == (wanted["app"], wanted.get("domain"))
    assert set(project.env.required) <= set(wanted.get("required", ()))
    assert isinstance(project.machine, config.Gce)
    assert project.machine.zone == wanted["zone"]
    assert project.machine.disk_gb == max(20, wanted.get("disk_gb", 0) + 10)
