"""Names of images, and logins as docker(1) keeps them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from rehost.release.registry import Login, login, parse
from rehost.run.errors import RehostError, UsageError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest", "registry"),
    [
        ("redis", "redis", "latest", "", "docker.io"),
        ("me/app:1.2", "me/app", "1.2", "", "docker.io"),
        ("ghcr.io/me/app", "ghcr.io/me/app", "latest", "", "ghcr.io"),
        ("localhost:5000/app", "localhost:5000/app", "latest", "", "localhost:5000"),
        ("localhost/app:1", "localhost/app", "1", "", "localhost"),
        (f"127.0.0.1:5000/a/b:1@{DIGEST}", "127.0.0.1:5000/a/b", "", DIGEST, "127.0.0.1:5000"),
        (f"redis@{DIGEST}", "redis", "", DIGEST, "docker.io"),
    ],
)
def test_a_name_taken_apart(text: str, name: str, tag: str, digest: str, registry: str) -> None:
    found = parse(text)
    assert (found.name, found.tag, found.digest, found.registry) == (name, tag, digest, registry)


def ask(directory: Path, config: Any, registry: str = "ghcr.io", helper: str = "") -> Login | None:
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if helper:
        program = directory / "docker-credential-box"
        program.write_text(f'#!/bin/sh\nread -r asked\necho "$asked" >{directory}/asked\n{helper}\n')
        program.chmod(0o755)
    return login(registry, {"DOCKER_CONFIG": str(directory), "PATH": f"{directory}:/usr/bin:/bin"})


def told(found: Login | None) -> Any:
    assert found is not None
    return json.loads(base64.urlsafe_b64decode(found.header.reveal()))


def plain(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("key", ["ghcr.io", "https://ghcr.io", "https://ghcr.io/v2/"])
def test_a_login_kept_in_the_file(tmp_path: Path, key: str) -> None:
    found = ask(tmp_path, {"auths": {"other.io": plain("eve", "no"), key: plain("ada", "p:ß?>~")}})
    assert told(found) == {"username": "ada", "password": "p:ß?>~", "serveraddress": "ghcr.io"}
    assert found is not None and found.password.reveal() == "p:ß?>~"
    assert "ada" not in str(found)


def test_docker_io_has_a_key_of_its_own(tmp_path: Path) -> None:
    found = ask(tmp_path, {"auths": {"https://index.docker.io/v1/": plain("ada", "secret")}}, "docker.io")
    assert told(found)["username"] == "ada"


def test_a_token(tmp_path: Path) -> None:
    found = ask(tmp_path, {"auths": {"ghcr.io": {"auth": "", "identitytoken": "long one"}}})
    assert told(found) == {"identitytoken": "long one", "serveraddress": "ghcr.io"}


@pytest.mark.parametrize(
    "config", [{"credsStore": "box"}, {"credHelpers": {"ghcr.io": "box"}, "credsStore": "no"}]
)
def test_a_helper_is_asked(tmp_path: Path, config: dict[str, Any]) -> None:
    found = ask(tmp_path, config, helper="""echo '{"Username": "ada", "Secret": "from the box"}'""")
    assert told(found) == {"username": "ada", "password": "from the box", "serveraddress": "ghcr.io"}
    assert (tmp_path / "asked").read_text() == "ghcr.io\n"
    found = ask(tmp_path, config, helper="""echo '{"Username": "<token>", "Secret": "a token"}'""")
    assert told(found) == {"identitytoken": "a token", "serveraddress": "ghcr.io"}


@pytest.mark.parametrize("config", [{}, [], {"auths": {}}, {"auths": {"ghcr.io": {}}}, {"auths": None}])
def test_nobody_is_logged_in(tmp_path: Path, config: Any) -> None:
    assert ask(tmp_path, config) is None
    assert login("ghcr.io", {"DOCKER_CONFIG": str(tmp_path / "none")}) is None


def test_a_helper_that_knows_nothing_and_one_that_fails(tmp_path: Path) -> None:
    config = {"credsStore": "box"}
    assert ask(tmp_path, config, helper="echo credentials not found in native keychain; exit 1") is None
    with pytest.raises(RehostError, match="status 3") as fault:
        ask(tmp_path, config, helper="echo the secret is 12345 >&2; exit 3")
    assert "12345" not in str(fault.value)
    with pytest.raises(RehostError, match="no user and secret"):
        ask(tmp_path, config, helper="echo '{}'")
    with pytest.raises(UsageError, match="docker-credential-none"):
        ask(tmp_path, {"credsStore": "none"})


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        ask(tmp_path, "{")
