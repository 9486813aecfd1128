"""Where tokens come from, how they are kept, and that a warm run needs nothing heavy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rehost.cloud.credentials import Credentials, Gcloud, Given, KeyFile, find, project_of
from rehost.cloud.errors import Unauthenticated
from rehost.run.errors import Exit, UsageError


class TokenServer(ThreadingHTTPServer):
    """A token endpoint that answers as Google's. `status` other than 200 refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.asked: list[dict[str, list[str]]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/token"


class _TokenHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, TokenServer)
        server.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        body = {"access_token": f"token-{len(server.asked)}", "expires_in": 3600, "token_type": "Bearer"}
        if server.status != 200:
            body = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        data = json.dumps(body).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def service_account(directory: Path, private_key: str, token_uri: str) -> Path:
    path = directory / "key.json"
    info = {
        "type": "service_account",
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": private_key,
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(info))
    return path


def test_a_service_account_gets_a_token_that_is_kept(
    tmp_path: Path, tokens: TokenServer, private_key: str
) -> None:
    path = service_account(tmp_path, private_key, tokens.url)
    cache = tmp_path / "cache"
    source = find({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    first = asyncio.run(Credentials(source, cache=cache).token())
    again = asyncio.run(Credentials(source, cache=cache).token())
    assert first.reveal() == again.reveal() == "token-1"
    assert tokens.asked[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700
    assert "robot" not in kept.name
    assert source.words.startswith("robot@my-project")


def test_an_old_token_or_a_broken_cache_is_replaced(
    tmp_path: Path, tokens: TokenServer, private_key: str
) -> None:
    source = find({"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, private_key, tokens.url))})
    cache = tmp_path / "cache"

    def token() -> str:
        return asyncio.run(Credentials(source, cache=cache).token()).reveal()

    assert token() == "token-1"
    (kept,) = cache.iterdir()
    kept.write_text(json.dumps({"token": "old", "expires": time.time() + 60}))
    assert token() == "token-2"
    for broken in ("", "[]", "{}", '{"token": "x", "expires": "never"}'):
        kept.write_text(broken)
        assert token().startswith("token-")
    assert len(tokens.asked) == 6


def test_without_a_place_to_keep_tokens_it_works_too(
    tmp_path: Path, tokens: TokenServer, private_key: str
) -> None:
    source = find({"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, private_key, tokens.url))})
    (tmp_path / "file").write_text("")

    async def run() -> list[str]:
        credentials = Credentials(source, cache=tmp_path / "file" / "cache")
        first = await credentials.token()
        assert await credentials.refused(first)
        return [first.reveal(), (await credentials.token()).reveal()]

    assert asyncio.run(run()) == ["token-1", "token-2"]


def test_another_key_or_endpoint_does_not_get_this_ones_token(
    tmp_path: Path, tokens: TokenServer, private_key: str
) -> None:
    cache = tmp_path / "cache"
    for number, url in enumerate((tokens.url, tokens.url + "?other"), 1):
        source = find({"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, private_key, url))})
        assert asyncio.run(Credentials(source, cache=cache).token()).reveal() == f"token-{number}"
    assert len(list(cache.iterdir())) == 2


def test_a_refused_key_says_what_to_do(tmp_path: Path, tokens: TokenServer, private_key: str) -> None:
    tokens.status = 400
    source = find({"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, private_key, tokens.url))})
    with pytest.raises(Unauthenticated, match="make a new key") as caught:
        asyncio.run(Credentials(source, cache=tmp_path).token())
    assert "Invalid JWT Signature" in caught.value.what
    assert private_key.splitlines()[1] not in str(caught.value)


def test_a_token_endpoint_that_does_not_answer(tmp_path: Path, private_key: str) -> None:
    path = service_account(tmp_path, private_key, "http://127.0.0.1:1/token")
    with pytest.raises(Unauthenticated, match="/token did not answer"):
        asyncio.run(Credentials(find({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}), cache=tmp_path).token())


def test_a_key_that_is_broken(tmp_path: Path) -> None:
    path = service_account(tmp_path, "no key", "http://127.0.0.1:1/token")
    with pytest.raises(Unauthenticated, match="make a new key"):
        asyncio.run(Credentials(find({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}), cache=tmp_path).token())


WARM = """
import asyncio, sys
from pathlib import Path
sys.modules["requests"] = None  # not one of our dependencies
from rehost.cloud.credentials import Credentials, find
token = asyncio.run(Credentials(find(), cache=Path(sys.argv[1])).token())
print(token.reveal(), "google.auth" in sys.modules, "httpx" in sys.modules)
"""


def test_a_warm_run_imports_neither_google_auth_nor_httpx(
    tmp_path: Path, tokens: TokenServer, private_key: str
) -> None:
    env = {
        **os.environ,
        "GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, private_key, tokens.url)),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    env.pop("CLOUDSDK_AUTH_ACCESS_TOKEN", None)

    def once() -> str:
        command = [sys.executable, "-c", WARM, str(tmp_path / "cache")]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()

    assert once() == "token-1 True True"
    assert once() == "token-1 False False"


def test_a_token_in_the_environment_wins_and_is_never_written(tmp_path: Path) -> None:
    source = find({"CLOUDSDK_AUTH_ACCESS_TOKEN": " abc ", "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"})
    assert isinstance(source, Given)
    credentials = Credentials(source, cache=tmp_path / "cache")
    assert asyncio.run(credentials.token()).reveal() == "abc"
    assert "abc" not in repr(source)
    assert not (tmp_path / "cache").exists()


def _gcloud(directory: Path, script: str) -> dict[str, str]:
    program = directory / "bin" / "gcloud"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": str(program.parent), "CLOUDSDK_CONFIG": str(directory / "config")}


def test_gcloud_is_asked_when_there_is_nothing_else(tmp_path: Path) -> None:
    env = _gcloud(tmp_path, f'echo "$@" >> {tmp_path}/calls; echo token-of-gcloud')
    source = find(env)
    assert isinstance(source, Gcloud)
    for _ in range(2):
        found = asyncio.run(Credentials(source, cache=tmp_path / "cache").token())
        assert found.reveal() == "token-of-gcloud"
    assert (tmp_path / "calls").read_text() == "auth print-access-token\n"


def test_gcloud_with_another_account_has_another_identity(tmp_path: Path) -> None:
    source = find(_gcloud(tmp_path, "echo x"))
    before = source.identity
    (tmp_path / "config" / "configurations").mkdir(parents=True)
    (tmp_path / "config" / "configurations" / "config_default").write_text("[core]\naccount = eve\n")
    assert source.identity != before


def test_gcloud_that_is_not_signed_in(tmp_path: Path) -> None:
    source = find(_gcloud(tmp_path, "echo 'You do not currently have an active account' >&2; exit 1"))
    with pytest.raises(UsageError) as caught:
        asyncio.run(Credentials(source, cache=tmp_path / "cache").token())
    assert "active account" in caught.value.detail


def test_what_gcloud_wrote_at_login_is_found(tmp_path: Path) -> None:
    info = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(info))
    source = find({"CLOUDSDK_CONFIG": str(tmp_path)})
    assert isinstance(source, KeyFile)
    assert "authorized_user" in source.words


def test_no_credentials_says_the_three_ways(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find({"CLOUDSDK_CONFIG": str(tmp_path), "PATH": str(tmp_path)})
    assert caught.value.exit is Exit.USAGE
    for way in (
        "gcloud auth application-default login",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUDSDK_AUTH_ACCESS_TOKEN",
    ):
        assert way in caught.value.cure


@pytest.mark.parametrize("text", [None, "", "not json", "[]", "{}", '{"type": 5}'])
def test_a_file_that_is_no_credentials_file(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        find({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    assert caught.value.where == str(path)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("configured", "environ", "project"),
    [
        ("mine", {"GOOGLE_CLOUD_PROJECT": "other"}, "mine"),
        (None, {"GOOGLE_CLOUD_PROJECT": "one", "CLOUDSDK_CORE_PROJECT": "two"}, "one"),
        ("", {"CLOUDSDK_CORE_PROJECT": "two"}, "two"),
    ],
)
def test_the_project(configured: str | None, environ: dict[str, str], project: str) -> None:
    assert project_of(configured, environ) == project


def test_no_project() -> None:
    with pytest.raises(UsageError, match="GOOGLE_CLOUD_PROJECT"):
        project_of(None, {})


def test_external_credentials_of_an_unknown_type(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"type": "of_another_cloud"}))
    credentials: Any = Credentials(find({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}), cache=tmp_path)
    with pytest.raises(Unauthenticated):
        asyncio.run(credentials.token())
