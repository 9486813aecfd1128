"""What can be said of a project before anything is built: each finding, and the word that it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehost.project import config
from rehost.release import check
from rehost.run.findings import Finding

TOML = """app = "shop"
[machine]
provider = "gce"
zone = "us-west1-a"
[run]
health = "/health"
[env]
files = [".env.prod"]
[domain]
name = "api.example.com"
"""
DOCKERFILE = "FROM python:3.11-slim\nEXPOSE 8080\nCOPY . .\n"


def findings(directory: Path, toml: str = TOML, dockerfile: str | None = DOCKERFILE) -> list[Finding]:
    (directory / "rehost.toml").write_text(toml)
    (directory / ".env.prod").write_text("A=1\n")
    (directory / ".env.prod").chmod(0o600)
    (directory / ".dockerignore").write_text(".env*\n.rehost\n")
    if dockerfile is not None:
        (directory / "Dockerfile").write_text(dockerfile)
    return check.findings(config.load(directory))


def amiss(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.severity != "ok"]


def test_a_project_without_a_fault(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert amiss(found) == []
    told = " ".join(one.what for one in found)
    for part in ("python:3.11-slim", "build context has", "/health answers", "api.example.com"):
        assert part in told


@pytest.mark.parametrize(
    ("toml", "dockerfile", "severity", "what", "where"),
    [
        (TOML, None, "error", "Dockerfile", "Dockerfile"),
        (TOML, "RUN true\n", "error", "FROM", "Dockerfile"),
        (
            TOML,
            "# syntax=docker/dockerfile:1\n" + DOCKERFILE,
            "warning",
            "syntax=docker/dockerfile:1",
            "Dockerfile",
        ),
        (
            TOML,
            "FROM a\nEXPOSE 3000 9000\n",
            "warning",
            "exposes 3000, 9000, rehost.toml says port 8080",
            "[run] port",
        ),
        (
            TOML,
            'FROM a\nVOLUME ["/data/", "/kept"]\n',
            "warning",
            "makes /data a volume",
            "[run] volumes",
        ),
        (TOML + "[build]\nargs = { B = '1' }\n", DOCKERFILE, "warning", "declares no ARG B", "[build] args"),
        (TOML.replace('"/health"', '"/"'), DOCKERFILE, "warning", "asks for /", "[run] health"),
        (
            TOML.replace('name = "api.example.com"', ""),
            DOCKERFILE,
            "warning",
            "no domain is named",
            "[domain] name",
        ),
        (TOML + "[build]\ncontext = 'none'\n", DOCKERFILE, "error", "none", ""),
    ],
)
def test_each_finding(
    tmp_path: Path, toml: str, dockerfile: str | None, severity: str, what: str, where: str
) -> None:
    found = [one for one in amiss(findings(tmp_path, toml, dockerfile)) if what in f"{one.where} {one.what}"]
    assert found, "no such finding"
    assert found[0].severity == severity
    assert where in found[0].where
    assert found[0].cure


def test_a_volume_of_the_dockerfile_that_is_kept_is_none(tmp_path: Path) -> None:
    toml = TOML.replace("[run]", '[run]\nvolumes = ["kept:/kept"]')
    said = [one.what for one in amiss(findings(tmp_path, toml, DOCKERFILE + "VOLUME /kept\n"))]
    assert not any("volume" in one for one in said)


def test_an_error_in_one_part_does_not_hide_the_others(tmp_path: Path) -> None:
    found = findings(tmp_path, TOML.replace('"/health"', '"/"').replace('name = "api.example.com"', ""), None)
    told = " ".join(one.what for one in amiss(found))
    assert "asks for /" in told
    assert "no domain is named" in told


def test_a_missing_variable(tmp_path: Path) -> None:
    found = findings(
        tmp_path, TOML.replace('files = [".env.prod"]', 'files = [".env.prod"]\nrequired = ["A", "B"]')
    )
    (missing,) = amiss(found)
    assert missing.severity == "error"
    assert "B" in missing.what


def test_a_large_context_names_its_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LARGE_CONTEXT", 20_000)
    for number in range(12):
        (tmp_path / f"file{number:02}").write_bytes(bytes(1024 * (number + 1)))
    (large,) = amiss(findings(tmp_path))
    assert large.severity == "warning"
    assert "file11 12 kB, file10 11 kB" in large.what
    assert "file02 3 kB" in large.what
    assert "file01" not in large.what
    assert ".dockerignore" in large.cure


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 kB"), (2**20 - 1, "1024 kB"), (5 * 2**20, "5.0 MB")],
)
def test_sizes(size: int, text: str) -> None:
    assert check._size(size) == text
