"""`rehost check` on the files of a project: one command says what is missing, and names the line that demands it."""

from __future__ import annotations

from pathlib import Path

import pytest

from project_here import STANDING, last, make, typed
from rehost.cli import checking
from rehost.project import config
from rehost.run.errors import Exit, UsageError
from rehost.run.findings import Finding
from rehost.source import contract_python

SETTINGS = (
    "from pydantic_settings import BaseSettings\n\n\nclass Settings(BaseSettings):\n    database_url: str\n"
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path, monkeypatch, STANDING + '[source]\nurl = "https://shop.onrender.com"\n')


def amiss(directory: Path, elsewhere: tuple[Path, ...] = ()) -> list[Finding]:
    return [one for one in checking.findings(config.load(directory), elsewhere) if one.severity != "ok"]


def test_a_variable_that_the_code_demands_fails_the_check_and_names_the_line(directory: Path) -> None:
    (directory / "settings.py").write_text(SETTINGS)
    checked = typed("check", "--json")
    assert checked.exit_code == Exit.USAGE
    (error,) = [
        one
        for one in last(checked)["findings"]
        if one["severity"] == "error" and one["where"] == "settings.py:5"
    ]
    assert error["what"].startswith("DATABASE_URL: Settings.database_url demands it")
    assert error["cure"].startswith("Type `rehost env set DATABASE_URL`")
    assert "settings.py:5: DATABASE_URL" in typed("check").stdout
    with (directory / ".env.prod").open("a") as file:
        file.write("DATABASE_URL=postgres://db.example.com/x\n")
    assert not [one for one in amiss(directory) if one.severity == "error"]


def test_what_the_image_or_rehost_gives_is_not_missing(directory: Path) -> None:
    (directory / "Dockerfile").write_text("FROM scratch\nENV MODE=x\nEXPOSE 8080\nCOPY . .\n")
    (directory / "a.py").write_text(
        "import os\nfor n in ('MODE', 'PORT'): os.environ['MODE'], os.environ['PORT']\n"
    )
    assert not [one for one in amiss(directory) if one.severity == "error"]


def test_what_does_not_travel_demands_nothing(directory: Path) -> None:
    (directory / "tool.py").write_text("import os\nos.environ['TOOL']\n")
    assert [one.where for one in amiss(directory) if one.severity == "error"] == ["tool.py:2"]
    (directory / ".dockerignore").write_text(".env*\n.rehost\ntool.py\n")
    assert not [one for one in amiss(directory) if one.severity == "error"]


def test_callers_here_and_in_another_checkout(directory: Path, tmp_path: Path) -> None:
    (directory / "cors.py").write_text('ORIGINS = ["https://shop.onrender.com"]\n')
    frontend = tmp_path / "frontend"
    frontend.mkdir()
    (frontend / ".env.production").write_text("TOKEN=hunter2\nVITE_API=https://shop.onrender.com\n")
    found = amiss(directory, (frontend,))
    places = {one.where: one.what for one in found if "shop.onrender.com" in one.what}
    assert places["cors.py:1"].startswith("a CORS origin")
    assert places[f"{frontend}/.env.production:2"].startswith("a frontend's build variable")
    assert "hunter2" not in repr(found)
    told = typed("check", "--callers", str(frontend)).stdout
    assert f"{frontend}/.env.production:2" in told
    empty = tmp_path / "empty"
    empty.mkdir()
    clean = [one for one in checking.findings(config.load(directory), (empty,)) if one.where == str(empty)]
    assert [(one.severity, "shop.onrender.com" in one.what) for one in clean] == [("ok", True)]


def test_a_checkout_that_is_not_there(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        amiss(directory, (tmp_path / "none",))
    assert typed("check", "--callers", str(tmp_path / "none")).exit_code == Exit.USAGE


@pytest.mark.parametrize("broken", ["Dockerfile", ".env.prod"])
def test_what_is_not_there_is_told_once_and_what_the_code_demands_all_the_same(
    directory: Path, broken: str
) -> None:
    (directory / "settings.py").write_text(SETTINGS)
    (directory / broken).unlink()
    errors = [one for one in amiss(directory) if one.severity == "error"]
    assert [one.where.rpartition("/")[2] for one in errors if "settings.py" not in one.where] == [broken]
    assert [one.where for one in errors if "settings.py" in one.where] == ["settings.py:5"]


def test_an_env_file_that_cannot_be_read_says_nothing_of_what_is_missing(directory: Path) -> None:
    (directory / "settings.py").write_text(SETTINGS)
    (directory / ".env.prod").write_text("no assignment\n")
    errors = [one for one in amiss(directory) if one.severity == "error"]
    assert {one.where for one in errors} == {".env.prod:1"}


def test_a_place_is_named_from_the_project_and_a_required_variable_once(directory: Path) -> None:
    (directory / "api").mkdir()
    (directory / "api" / "settings.py").write_text(SETTINGS)
    (directory / "Dockerfile").rename(directory / "api" / "Dockerfile")
    text = (
        directory / "rehost.toml"
    ).read_text() + '[build]\ncontext = "api"\ndockerfile = "api/Dockerfile"\n'
    (directory / "rehost.toml").write_text(text.replace("required = [", 'required = ["DATABASE_URL", '))
    errors = [one for one in amiss(directory) if one.severity == "error"]
    assert [(one.where, one.what.partition(":")[0]) for one in errors] == [
        ("api/settings.py:5", "DATABASE_URL")
    ]


def test_what_an_image_demands_that_is_pulled_is_not_read_from_here(directory: Path) -> None:
    (directory / "settings.py").write_text(SETTINGS)
    text = (directory / "rehost.toml").read_text() + '[build]\nimage = "ghcr.io/me/app:1"\n'
    (directory / "rehost.toml").write_text(text)
    found = checking.findings(config.load(directory))
    assert not [one for one in found if one.severity == "error"]
    assert any("the image is prebuilt" in one.what for one in found)


def test_a_caller_inside_the_project_is_told_once(directory: Path) -> None:
    (directory / "web").mkdir()
    (directory / "web" / ".env.production").write_text("VITE_API=https://shop.onrender.com\n")
    found = [one for one in amiss(directory, (directory / "web",)) if "build variable" in one.what]
    assert len(found) == 1


def test_of_much_python_the_settings_and_what_is_near_the_top_are_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract_python, "MOST_PARSED", 400)
    reads = "import os\nTOKEN = os.environ['TOKEN']\n" + "x = 1\n" * 30
    for name in ("far/below/a.py", "near.py"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(reads)
    (directory / "settings.py").write_text(SETTINGS)
    found = checking.findings(config.load(directory))
    assert [one.where for one in found if one.severity == "error"] == ["near.py:2", "settings.py:5"]
    assert any("1 files were too large, or too many" in one.what for one in found)
