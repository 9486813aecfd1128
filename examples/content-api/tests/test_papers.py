"""The files around the code agree with it and with each other."""

from __future__ import annotations

import re
import tomllib

from processes import ROOT


def names(requirements: str) -> set[str]:
    return set(re.findall(r"^[a-z][\w.-]*", requirements, re.MULTILINE))


def test_the_lock_pins_every_dependency_by_hash_and_names_no_index() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = re.split(r"\n(?=[a-z])", "\n" + lock)[1:]
    assert {name for line in project["dependencies"] for name in names(line)} <= names(lock)
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+ \\\n    --hash=sha256:", entry), entry
    assert "://" not in lock
    assert not re.search(r"^\s*-(-index|-extra|-find|-trusted|i|f)", lock, re.MULTILINE)


def test_the_tests_requirements_hold_the_applications() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = (ROOT / "requirements-test.txt").read_text().splitlines()
    assert set(project["dependencies"]) <= set(listed)


def test_the_image_gets_the_hidden_file_and_no_secret() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = {line for line in ignored if line and not line.startswith("#")}
    assert {".env*", ".git", "**/__pycache__"} <= patterns
    assert not any(
        pattern.startswith((".content", ".*", "*"))
        for pattern in patterns - {"**/__pycache__"}
        if "/" not in pattern
    )
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "syntax=" not in dockerfile
    assert "HEALTHCHECK" not in dockerfile
