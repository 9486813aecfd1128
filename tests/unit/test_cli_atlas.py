"""`rehost atlas` against a server of the test that answers as Atlas's Administration API v2 does, keys included."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from project_here import last, make, typed
from rehost.cli import visit
from rehost.run.errors import UsageError
from rehost.source import atlas

LIST = "/api/atlas/v2/groups/5f/accessList"
ADDRESS = "203.0.113.9"


class Api(http.server.BaseHTTPRequestHandler):
    """A project's access list, in pages of two, for the key "public" by Digest or the account "client" by token."""

    entries: ClassVar[list[dict[str, str]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self._let_in():
            page = int(parse_qs(urlsplit(self.path).query)["pageNum"][0])
            part = self.entries[2 * page - 2 : 2 * page]
            self._say(200, {"results": part, "totalCount": len(self.entries), "links": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/oauth/token":
            good = self.headers["Authorization"] == "Basic " + base64.b64encode(b"client:hunter2").decode()
            if body != "grant_type=client_credentials" or not good:
                self._say(401, {"error": "invalid_client", "error_description": "no such client"})
            else:
                self._say(200, {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"})
        elif self._let_in():
            self.entries.extend(json.loads(body))
            self._say(201, {"results": self.entries})

    def do_DELETE(self) -> None:
        if self._let_in():
            value = unquote(self.path.removeprefix(f"{LIST}/"))
            self.entries[:] = [each for each in self.entries if value not in each.values()]
            self._say(204, None)

    def _let_in(self) -> bool:
        self.asked.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
        assert self.headers["Accept"] == "application/vnd.atlas.2023-01-01+json"
        given = self.headers["Authorization"] or ""
        if given == "Bearer a-token" or (given.startswith("Digest ") and self._digest(given)):
            return True
        self.send_response(401)
        self.send_header(
            "WWW-Authenticate", 'Digest realm="MMS Public API", nonce="n0", algorithm=MD5, qop="auth"'
        )
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _digest(self, given: str) -> bool:
        """RFC 2617, computed here anew."""
        part: dict[str, str] = dict(re.findall(r'(\w+)="?([^",]+)"?', given))

        def md5(*words: str) -> str:
            return hashlib.md5(":".join(words).encode(), usedforsecurity=False).hexdigest()

        who = md5("public", "MMS Public API", "hunter2")
        what = md5(self.command, self.path)
        return part["response"] == md5(who, "n0", part["nc"], part["cnonce"], "auth", what)

    def _say(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose machine is remembered, and the API."""
    directory = make(tmp_path, monkeypatch)
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "x")
    visit.remember(directory, visit.Remembered("content-api", ADDRESS, "ada", ("k",), "1", "/", "h"))
    Api.asked.clear()
    Api.entries[:] = [
        {"ipAddress": "198.51.100.1", "cidrBlock": "198.51.100.1/32", "comment": "Render"},
        {"cidrBlock": "0.0.0.0/0", "comment": ""},
        {"ipAddress": "198.51.100.3", "cidrBlock": "198.51.100.3/32", "comment": "office"},
    ]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("MONGODB_ATLAS_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("MONGODB_ATLAS_PROJECT_ID", "5f")
        yield directory
        server.shutdown()


def keys(monkeypatch: pytest.MonkeyPatch, kind: str, *, right: bool = True) -> None:
    names = {
        "account": ("MONGODB_ATLAS_CLIENT_ID", "client", "MONGODB_ATLAS_CLIENT_SECRET"),
        "key": ("MONGODB_ATLAS_PUBLIC_API_KEY", "public", "MONGODB_ATLAS_PRIVATE_API_KEY"),
    }[kind]
    monkeypatch.setenv(names[0], names[1])
    monkeypatch.setenv(names[2], "hunter2" if right else "wrong-hunter3")


@pytest.mark.parametrize("kind", ["account", "key"])
def test_the_machine_is_let_in_once(here: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    keys(monkeypatch, kind)
    done = typed("atlas")
    assert done.exit_code == 0, done.output
    assert {"ipAddress": ADDRESS, "comment": "rehost: content-api"} in Api.entries
    assert "0.0.0.0/0  (everybody may connect)" in done.output and "198.51.100.3  office" in done.output
    before = len(Api.entries)
    again = typed("atlas", "--json")
    assert (again.exit_code, last(again)["changed"], len(Api.entries)) == (0, False, before)
    assert [each["entry"] for each in last(again)["others"]] == ["198.51.100.1", "0.0.0.0/0", "198.51.100.3"]
    assert "hunter2" not in done.output + again.output
    journal = "".join(path.read_text() for path in (here / ".rehost" / "journal").iterdir())
    assert "hunter2" not in journal and "a-token" not in journal


def test_what_is_removed_was_on_the_list_and_somebody_agreed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, "key")
    assert typed("atlas", "--remove", "198.51.100.1").exit_code == 3
    assert len(Api.entries) == 3
    done = typed("atlas", "--remove", "198.51.100.1", "--remove", "0.0.0.0/0", "--yes")
    assert done.exit_code == 0, done.output
    assert [each.get("ipAddress") for each in Api.entries] == ["198.51.100.3", ADDRESS]
    assert [each for each in Api.asked if not each.startswith(("GET", "POST"))] == [
        *(f"DELETE {LIST}/198.51.100.1", f"DELETE {LIST}/0.0.0.0/0")
    ]
    assert typed("atlas", "--remove", "192.0.2.1", "--yes").exit_code == 2
    assert typed("atlas", "--remove", ADDRESS, "--yes").exit_code == 3


@pytest.mark.parametrize("kind", ["account", "key"])
def test_wrong_keys_are_told(here: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    keys(monkeypatch, kind, right=False)
    done = typed("atlas")
    assert done.exit_code == 1, done.output
    assert "Atlas answers 401" in done.output and "hunter3" not in done.output


def test_missing_keys_are_named(here: Path) -> None:
    done = typed("atlas")
    assert done.exit_code == 2
    assert "MONGODB_ATLAS_CLIENT_SECRET" in done.output


def test_keys_go_over_https_alone() -> None:
    environ = {
        "MONGODB_ATLAS_PROJECT_ID": "5f",
        "MONGODB_ATLAS_CLIENT_ID": "c",
        "MONGODB_ATLAS_CLIENT_SECRET": "s",
        "MONGODB_ATLAS_BASE_URL": "http://atlas.example.com",
    }
    with pytest.raises(UsageError, match="https alone"):
        atlas.access(environ)
    assert atlas.access({**environ, "MONGODB_ATLAS_BASE_URL": ""}).base == "https://cloud.mongodb.com"
