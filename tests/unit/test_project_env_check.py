from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rehost.project import git
from rehost.project.config import Project, parse
from rehost.project.env_check import findings


def project(directory: Path, required: str = '"A"', files: str = '".env"') -> Project:
    text = f'app = "a"\n[machine]\nprovider = "host"\naddress = "h"\n[env]\nfiles = [{files}]\n'
    return parse(f"{text}required = [{required}]\n", directory)


def env(directory: Path, text: str, mode: int = 0o600) -> None:
    (directory / ".env").write_text(text)
    (directory / ".env").chmod(mode)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def said(found: Project) -> list[tuple[str, str, str]]:
    return [(each.severity, each.what, each.where) for each in findings(found)]


def test_all_in_order(tmp_path: Path) -> None:
    env(tmp_path, "A=1\nB=2")
    assert said(project(tmp_path)) == [("ok", "2 variables, none of the required ones missing.", "env")]


def test_missing_empty_and_double(tmp_path: Path) -> None:
    env(tmp_path, "A=\nC=1\nC=2")
    assert said(project(tmp_path, '"A", "B"')) == [
        ("warning", "C: set again in line 3, which counts.", ".env:2"),
        ("error", "B: required, and in no env file.", ".env"),
        ("warning", "A: required, and empty.", ".env:1"),
    ]


def test_no_file_and_a_bad_one_are_errors_and_nothing_is_called_missing(tmp_path: Path) -> None:
    env(tmp_path, "A=1\nhunter2secret")
    found = findings(project(tmp_path, files='".env", "none.env"'))
    assert [(each.severity, each.where) for each in found] == [("error", ".env:2"), ("error", "none.env")]
    assert all(each.cure for each in found)
    assert "hunter2secret" not in repr(found)


def test_the_name_of_a_service_beside_the_app_is_no_private_name_of_a_platform(tmp_path: Path) -> None:
    env(tmp_path, "A=redis://cache:6379")
    alone = project(tmp_path)
    assert [each for each in said(alone) if "name without a domain" in each[1]]
    text = (
        'app = "a"\n[machine]\nprovider = "host"\naddress = "h"\n[env]\nfiles = [".env"]\n'
        '[services.cache]\nimage = "redis:7"\n'
    )
    beside = parse(text, tmp_path)
    assert said(beside) == [("ok", "1 variable, none of the required ones missing.", "env")]


def test_a_file_that_others_can_open(tmp_path: Path) -> None:
    env(tmp_path, "A=1", 0o644)
    first = findings(project(tmp_path))[0]
    assert (first.severity, first.what) == ("warning", "others can open the file (mode 0644).")
    assert first.cure == "Type: chmod 600 .env"


def test_git_ignores_it_or_would_take_it_or_has_it(checkout: Path) -> None:
    env(checkout, "A=1")
    assert "git add" in said(project(checkout))[0][1]
    (checkout / ".gitignore").write_text(".env\n")
    assert said(project(checkout))[0][0] == "ok"
    subprocess.run(["git", "-C", str(checkout), "add", "-f", ".env"], check=True)
    assert "keeps versions" in said(project(checkout))[0][1]


def test_outside_a_checkout_git_has_nothing_to_say(tmp_path: Path) -> None:
    env(tmp_path, "A=1")
    assert not git.tracked(tmp_path / ".env")
    assert not git.exposed(tmp_path / ".env")
    assert not git.tracked(tmp_path / "none" / ".env")


def test_no_env_files_at_all(tmp_path: Path) -> None:
    found = findings(project(tmp_path, files=""))
    assert [(each.severity, each.what) for each in found] == [("error", "A: required, and in no env file.")]
    assert "env.files" in found[0].cure
