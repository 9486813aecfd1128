"""Render's own variables: where sources name them, and what they are on a machine of one's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from project_here import STANDING, make
from rehost.cli import making
from rehost.cli.session import Options, Session
from rehost.cli.show import Plain
from rehost.project import config, git, platform
from rehost.project.config import Project, parse


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("os.environ.get('RENDER_EXTERNAL_HOSTNAME')", {"RENDER_EXTERNAL_HOSTNAME"}),
        ("process.env.RENDER_EXTERNAL_URL || x", {"RENDER_EXTERNAL_URL"}),
        ("DEBUG = 'RENDER' not in os.environ", {"RENDER"}),
        ("if (process.env.RENDER) {", {"RENDER"}),
        ("ENV['RENDER'] && ENV.fetch(\"WEB_CONCURRENCY\") { 2 }", {"RENDER", "WEB_CONCURRENCY"}),
        ("os.getenv('IS_PULL_REQUEST') == 'true'", {"IS_PULL_REQUEST"}),
        ("RENDER = canvas.RENDER; RENDER_MODE = 1; env = { A: x.RENDER_TARGET }", set()),
        ("MY_RENDER_EXTERNAL_URL", set()),
    ],
)
def test_what_sources_name(text: str, names: set[str]) -> None:
    assert platform.mentioned("app/a.js", text.encode()) == names
    assert platform.mentioned("docs/README.md", text.encode()) == set()


def project(tmp_path: Path, domain: str = '[domain]\nname = "api.example.com"\n') -> Project:
    return parse(f'app = "shop"\n[machine]\nprovider = "host"\naddress = "h"\n{domain}', tmp_path)


def test_values(tmp_path: Path) -> None:
    names = {*platform.GIVEN, *platform.NOT_GIVEN}
    assert platform.values(names, project(tmp_path)) == {
        "IS_PULL_REQUEST": "false",
        "RENDER": "true",
        "RENDER_EXTERNAL_HOSTNAME": "api.example.com",
        "RENDER_EXTERNAL_URL": "https://api.example.com",
        "RENDER_SERVICE_NAME": "shop",
        "RENDER_SERVICE_TYPE": "web",
        "WEB_CONCURRENCY": "1",
    }
    assert "RENDER_EXTERNAL_URL" not in platform.values(names, project(tmp_path, ""))
    assert platform.values({"RENDER"}, project(tmp_path)) == {"RENDER": "true"}


def test_the_commit_is_the_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    assert git.head(tmp_path) == ("", "")
    subprocess.run(
        ["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True
    )
    values = platform.values({"RENDER_GIT_COMMIT", "RENDER_GIT_BRANCH"}, project(tmp_path))
    assert len(values["RENDER_GIT_COMMIT"]) == 40
    assert values["RENDER_GIT_BRANCH"] == "main"
    subprocess.run(["git", "-C", str(tmp_path), "checkout", "-q", "--detach"], check=True)
    assert git.head(tmp_path) == (values["RENDER_GIT_COMMIT"], "")


async def environment(here: Project) -> dict[str, str]:
    wanted = await making.read_wanted(Session("up", Options(), Plain()), here)
    return {name: value.reveal() for name, value in wanted.values.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    directory = make(tmp_path, monkeypatch, STANDING)
    (directory / "a.py").write_text(
        "os.environ['RENDER_EXTERNAL_URL'], 'RENDER' in os.environ, 'WEB_CONCURRENCY'"
    )
    (directory / "Dockerfile").write_text("FROM scratch\nENV WEB_CONCURRENCY=3\nCOPY . .\n")
    return config.load(directory)


async def _twice(here: Project) -> None:
    for _ in range(2):  # the second time from the cache of the files' hashes
        found = await environment(here)
        assert found.keys() == {"PORT", "SECRET_KEY", "OTHER", "RENDER", "RENDER_EXTERNAL_URL"}
        assert (found["RENDER"], found["RENDER_EXTERNAL_URL"]) == ("true", "https://api.example.com")


def test_the_container_gets_what_its_sources_name_unless_the_image_has_it(here: Project) -> None:
    import asyncio

    asyncio.run(_twice(here))


def test_the_users_own_value_wins(here: Project) -> None:
    import asyncio

    with (here.directory / ".env.prod").open("a") as file:
        file.write("RENDER=false\n")
    assert asyncio.run(environment(here))["RENDER"] == "false"
