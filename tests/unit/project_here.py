"""A project in a directory of the test, and commands typed in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rehost.cli.main import root

TOML = """app = "content-api"

[machine]
provider = "gce"
project = "my-project"
zone = "us-west1-a"

[run]
health = "/health"

[env]
files = [".env.prod"]
required = ["SECRET_KEY"]

[domain]
name = "api.example.com"
"""
# A machine that stands, on whose port nobody listens: what needs it fails at once.
STANDING = TOML.replace(
    'provider = "gce"\nproject = "my-project"\nzone = "us-west1-a"',
    'provider = "host"\naddress = "127.0.0.1"\nuser = "ada"\nport = 1',
)
ENV = "SECRET_KEY='hunter2 hunter2'\nOTHER=1\n"
CREDENTIALS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_CONFIG",
    "GOOGLE_CLOUD_PROJECT",
    "CLOUDSDK_CORE_PROJECT",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "SSH_AUTH_SOCK",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
)


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str = TOML) -> Path:
    """A whole project, with an empty home and no credentials; the current directory is in it."""
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    # Neither gcloud nor anything else that knows an account.
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.chdir(project)
    (project / "rehost.toml").write_text(toml)
    (project / ".env.prod").write_text(ENV)
    (project / ".env.prod").chmod(0o600)
    (project / ".dockerignore").write_text(".env*\n.rehost\n")
    (project / "Dockerfile").write_text("FROM scratch\nEXPOSE 8080\nCOPY app /\n")
    (project / "app").write_text("app\n")
    return project


def typed(*words: str, stdin: bytes | str = b"") -> Result:
    """What `rehost WORDS` does."""
    return CliRunner().invoke(root, list(words), prog_name="rehost", input=stdin)


def last(result: Result) -> dict[str, Any]:
    """The object that --json ends with; each line before it is one as well."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    ending: dict[str, Any] = lines[-1]
    assert {"result", "exit", "command", "seconds"} <= set(ending)
    assert ending["exit"] == result.exit_code
    return ending


def files(directory: Path) -> dict[str, bytes]:
    """Every file of the project by its name, without what a run notes for itself."""
    found = {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(".rehost/")}
