"""The root, /health, /status: while the database comes and goes (nx-27017, which is not MongoDB)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.build import BUILD_FILE, Build, read_build
from processes import PASSWORD, ROOT, Api, Mongo, StartApi, eventually, free_port


def test_the_root_answers_exactly(shared_api: Api) -> None:
    answer = shared_api.http.get("/")
    assert answer.status_code == 200
    assert answer.text == '{"message":"Content Management API","status":"running"}'


def test_healthy(shared_api: Api) -> None:
    answer = shared_api.http.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["disk"].pop("free_bytes") > 0
    assert body["disk"].pop("status") in ("ok", "low")
    assert body == {
        "status": "ok",
        "database": {"status": "ok", "indexes": "ready"},
        "cache": {"status": "absent"},
        "disk": {},
    }
    assert answer.headers["cache-control"] == "no-store"


def test_the_database_is_stopped_and_comes_back(start_api: StartApi, tmp_path: Path) -> None:
    mongo = Mongo(tmp_path)
    try:
        api = start_api(MONGODB_URL=mongo.url)
        eventually("healthy", api.healthy)
        api.user.http.post("/posts", json={"title": "Before", "body": "x"}).raise_for_status()
        mongo.stop()
        for _ in range(3):
            answer = api.http.get("/health")
            assert answer.status_code == 503
            assert answer.json()["status"] == "failing"
            assert answer.json()["database"] == {"status": "lost", "indexes": "ready"}
        assert api.http.get("/").status_code == 200, "the process itself lives"
        mongo = Mongo(tmp_path, mongo.port)
        eventually("healthy again", api.healthy)
        assert api.http.get("/posts/before").json()["title"] == "Before"
        assert api.output().count("database lost") == 1
        assert api.output().count("database is back") == 1
    finally:
        mongo.stop()


def test_without_a_database_reads_and_writes_are_503(start_api: StartApi) -> None:
    api = start_api(MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}/?timeoutMS=200")
    new = {"handle": "someone", "email": "a@example.com", "password": PASSWORD}
    for answer in (api.http.get("/posts/x"), api.http.post("/auth/register", json=new)):
        assert answer.status_code == 503
        assert answer.json() == {"detail": "The database cannot be reached."}
        assert answer.headers["retry-after"] == "5"
    assert "Traceback" not in api.output()


def test_a_start_before_the_database(start_api: StartApi, tmp_path: Path) -> None:
    """The process starts, says that it is not healthy, and is once the database is there."""
    port = free_port()
    api = start_api(MONGODB_URL=f"mongodb://127.0.0.1:{port}/?timeoutMS=200")
    answer = api.http.get("/health")
    assert answer.status_code == 503
    assert answer.json()["database"] == {"status": "lost", "indexes": "pending"}
    mongo = Mongo(tmp_path, port)
    try:
        eventually("healthy", api.healthy)
        assert api.http.get("/health").json()["database"] == {"status": "ok", "indexes": "ready"}
    finally:
        mongo.stop()


def test_status_tells_the_build_of_the_hidden_file(shared_api: Api) -> None:
    body = shared_api.http.get("/status").json()
    assert body["build"] == json.loads((ROOT / ".content-api.json").read_text())
    assert body["environment"] == "development"
    assert body["uptime_seconds"] >= 0


def test_the_build_file_has_the_version_of_the_project() -> None:
    build = read_build()
    assert BUILD_FILE.name.startswith("."), "hidden on purpose: a move that loses hidden files is seen"
    assert build is not None
    assert f'\nversion = "{build.version}"\n' in (ROOT / "pyproject.toml").read_text()


def test_a_build_file_that_did_not_travel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_build(tmp_path / ".content-api.json") is None
    assert ".content-api.json is missing" in caplog.text
    (tmp_path / ".content-api.json").write_text("{}")
    assert read_build(tmp_path / ".content-api.json") is None
    (tmp_path / ".content-api.json").write_text('{"version": "1", "commit": "abc"}')
    assert read_build(tmp_path / ".content-api.json") == Build(version="1", commit="abc")
