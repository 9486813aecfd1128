"""`rehost init` for an app that Render builds without a Dockerfile: it is shown, written, and never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from project_here import last, typed
from rehost.project import config, dockerfile

BLUEPRINT = """services:
  - type: web
    name: shop
    runtime: python
    rootDir: api
    buildCommand: pip install -r requirements.txt
    startCommand: uvicorn main:app --host 0.0.0.0 --port $PORT
    envVars:
      - {key: PYTHON_VERSION, value: 3.11.9}
      - {key: PORT, value: 9000}
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RENDER_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "requirements.txt").write_text("uvicorn\n")
    (tmp_path / "api" / "main.py").write_text("app = None\n")
    (tmp_path / "render.yaml").write_text(BLUEPRINT)
    return tmp_path


def test_the_image_is_written_shown_and_named_in_rehost_toml(directory: Path) -> None:
    made = typed("init")
    assert made.exit_code == 0, made.output
    text = (directory / "api" / "Dockerfile").read_text()
    read = dockerfile.parse(text)
    assert read.images == ("python:3.11-slim-bookworm",)
    assert 'CMD ["sh", "-c", "exec uvicorn main:app --host 0.0.0.0 --port $PORT"]' in made.stdout
    assert (directory / "api" / ".dockerignore").is_file()
    project = config.load(directory)
    assert (project.build.context, project.build.dockerfile) == ("api", "api/Dockerfile")
    assert project.run.port == 9000 == read.ports[0]
    # A second run finds what the first wrote, and changes nothing.
    again = typed("init", "--json")
    assert again.exit_code == 0, again.output
    assert last(again)["written"] is False
    assert (directory / "api" / "Dockerfile").read_text() == text


def test_what_the_image_carries_is_not_called_left(directory: Path) -> None:
    found = last(typed("init", "--json"))
    assert last(typed("init", "--json"))["left"] == found["left"], "the second run says the same"
    left = {each["field"] for each in found["left"]}
    assert not left & {"service.runtime", "service.buildCommand", "service.startCommand"}
    differently = {each["field"]: each["how"] for each in found["differently"]}
    assert differently["service.startCommand"] == "the Dockerfile; see that it does the same"


def test_a_dockerfile_that_is_there_stays(directory: Path) -> None:
    (directory / "api" / "Dockerfile").write_text("FROM mine\n")
    assert typed("init").exit_code == 0
    assert (directory / "api" / "Dockerfile").read_text() == "FROM mine\n"


def test_what_cannot_be_drafted_is_said(directory: Path) -> None:
    (directory / "render.yaml").write_text(BLUEPRINT.replace("    startCommand", "    x"))
    found = last(typed("init", "--json"))
    assert any("could not be drafted: nothing says how the app starts" in note for note in found["notes"])
    assert not (directory / "api" / "Dockerfile").exists()
