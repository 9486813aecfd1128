"""Fixtures that start the processes of the tests and stop them at the end."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from processes import Api, Mongo, StartApi, eventually


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongo]:
    """One database server for all tests that leave it running; each test has its own database in it."""
    server = Mongo(tmp_path_factory.mktemp("mongo"))
    yield server
    server.stop()


@pytest.fixture
def database_name() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def start_api(tmp_path: Path) -> Iterator[StartApi]:
    """Start the API with these variables; stopped with SIGTERM when the test ends."""
    with ExitStack() as stack:

        def start(**variables: str) -> Api:
            api = Api(tmp_path / f"api-{uuid.uuid4().hex[:8]}", **variables)
            stack.callback(api.stop)
            return api

        yield start


@pytest.fixture(scope="session")
def shared_api(mongo: Mongo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One API for the tests that neither stop nor configure it. Their posts meet in one database."""
    api = Api(
        tmp_path_factory.mktemp("api"),
        MONGODB_URL=mongo.url,
        DATABASE_NAME=f"test-{uuid.uuid4().hex}",
        FRONTEND_URL="https://www.example.com/",
        ALLOWED_ORIGINS="https://www.example.com, https://admin.example.com",
        ENABLE_DOCS="true",
    )
    eventually("the API is healthy", api.healthy)
    yield api
    code = api.stop()
    assert code == 0, f"SIGTERM ended in {code}: {api.output()}"


@pytest.fixture
def cache_directory(tmp_path: Path) -> Path:
    """Skips, by name, where there is no redis-server; CI must have it."""
    if shutil.which("redis-server") is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return tmp_path
