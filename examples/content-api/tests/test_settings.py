"""Settings: what is accepted, what is refused and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app.cache import Cache
from app.database import Database
from app.metrics import Metrics
from app.settings import ConfigurationError, Settings, load
from processes import ROOT, SECRET_KEY, environment

GOOD = {"MONGODB_URL": "mongodb://127.0.0.1:27017", "SECRET_KEY": SECRET_KEY}
NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no .env from the checkout


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in {**GOOD, **variables}.items():
        monkeypatch.setenv(name, value)
    return load()


REFUSED = [
    ({"MONGODB_URL": ""}, "MONGODB_URL is required"),
    ({"MONGODB_URL": "postgres://u:Zx9sentinel@h/db"}, "MONGODB_URL is not valid"),
    ({"MONGODB_URL": "mongodb://"}, "MONGODB_URL is not valid"),
    ({"SECRET_KEY": ""}, "SECRET_KEY is required"),
    ({"SECRET_KEY": "Zx9sentinel-of-31-characters..."}, "SECRET_KEY is not valid: at least 32 characters"),
    ({"ENVIRONMENT": "Zx9sentinel"}, "ENVIRONMENT is not valid: one of development"),
    ({"ENVIRONMENT": "production"}, "ALLOWED_ORIGINS is required when ENVIRONMENT is production"),
    ({"ENVIRONMENT": "production", "ALLOWED_ORIGINS": " , "}, "ALLOWED_ORIGINS is required when"),
    ({"ENVIRONMENT": "production", "ALLOWED_ORIGINS": "*"}, "ALLOWED_ORIGINS must not be *"),
    ({"ALLOWED_ORIGINS": "https://a.example,Zx9sentinel"}, "ALLOWED_ORIGINS is not valid: a comma list"),
    ({"ALLOWED_ORIGINS": "https://a.example/Zx9sentinel"}, "ALLOWED_ORIGINS is not valid"),
    ({"ALLOWED_ORIGINS": "https://[Zx9sentinel"}, "ALLOWED_ORIGINS"),
    ({"FRONTEND_URL": "https://[Zx9sentinel"}, "FRONTEND_URL"),
    ({"FRONTEND_URL": "Zx9sentinel"}, "FRONTEND_URL is not valid"),
    ({"REDIS_URL": "http://Zx9sentinel"}, "REDIS_URL is not valid"),
    ({"PORT": "0"}, "PORT is not valid: the port to listen on, 1 to 65535"),
    ({"PORT": "Zx9sentinel"}, "PORT is not valid"),
    ({"MAX_COMMENT_DEPTH": "11"}, "MAX_COMMENT_DEPTH is not valid"),
    ({"ENABLE_DOCS": "Zx9sentinel"}, "ENABLE_DOCS is not valid: true or false"),
    ({"LOG_LEVEL": "Zx9sentinel"}, "LOG_LEVEL is not valid"),
    ({"DATABASE_NAME": "Zx9sentinel/.."}, "DATABASE_NAME is not valid"),
    ({"POSTS_COLLECTION": "$Zx9sentinel"}, "POSTS_COLLECTION is not valid"),
]


@pytest.mark.parametrize(("variables", "sentence"), REFUSED)
def test_what_is_wrong_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(monkeypatch, **variables)
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(sentence)
    assert "sentinel" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", NAMES)
def test_no_variable_shows_its_value(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever was pasted into the wrong variable: it may be accepted, but it is never repeated."""
    for value in ("://user:Zx9sentinel@\\", "https://Zx9sentinel@[::1", "Zx9sentinel " * 100):
        try:
            loaded(monkeypatch, **{name: value})
        except ConfigurationError as error:
            assert name in str(error)
            assert "sentinel" not in str(error)


@pytest.mark.parametrize("rest", ["u:Zx9@sentinel@h", "h:Zx9sentinel", "h:1/a b?x", "[h"])
def test_a_connection_string_that_the_driver_cannot_read_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    settings = loaded(monkeypatch, MONGODB_URL=f"mongodb://{rest}")
    with pytest.raises(ConfigurationError, match="MONGODB_URL is not valid") as refused:
        Database(settings.mongodb_url.get_secret_value(), "content", settings.collections)
    assert "sentinel" not in str(refused.value)


def test_a_cache_address_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL is not valid") as refused:
        Cache("redis://h:Zx9sentinel", Metrics())
    assert "sentinel" not in str(refused.value)


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(monkeypatch, MONGODB_URL="", SECRET_KEY="short", ENVIRONMENT="production", PORT="x")
    assert [problem.split()[0] for problem in refused.value.problems] == [
        "MONGODB_URL",
        "SECRET_KEY",
        "PORT",
        "ALLOWED_ORIGINS",
    ]


def test_what_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        ENVIRONMENT="Production",
        ALLOWED_ORIGINS="https://a.example/, http://localhost:3000",
        FRONTEND_URL="https://a.example/blog/",
        REDIS_URL="",
        LOG_LEVEL="WARNING",
        STATS_COLLECTION="site.stats",
    )
    assert settings.allowed_origins == ["https://a.example", "http://localhost:3000"]
    assert (settings.environment, settings.log_level) == ("production", "warning")
    assert settings.frontend_url == "https://a.example/blog"
    assert settings.redis_url is None
    assert (settings.port, settings.max_comment_depth, settings.enable_docs) == (8080, 3, False)
    assert settings.collections.stats == "site.stats"
    assert settings.collections.user_reactions == "user_reactions"


def test_secrets_are_the_key_the_strings_and_the_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "mongodb://user:p%40ss,w%3Ard@h1:1,h2:2/x?authSource=a@b"
    settings = loaded(monkeypatch, MONGODB_URL=url, REDIS_URL="redis://:cachepass@h:1/0")
    secrets = settings.secrets()
    assert {url, SECRET_KEY, "redis://:cachepass@h:1/0", "cachepass"} < set(secrets)
    assert {"p%40ss,w%3Ard", "p@ss,w:rd"} < set(secrets)
    assert secrets == sorted(secrets, key=len, reverse=True)
    assert all(secret not in repr(settings) for secret in secrets)


def test_production_without_origins_does_not_start(tmp_path: Path) -> None:
    """The whole process: one line on standard error, a code, no traceback, no value."""
    env = environment(**GOOD, ENVIRONMENT="production")
    done = subprocess.run(
        [sys.executable, "-m", "app"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "content-api cannot start: ALLOWED_ORIGINS is required when ENVIRONMENT is production: "
        "a comma list of origins such as https://app.example.com, without a path\n"
    )


def test_a_dotenv_file_of_the_working_directory_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=9001\nLOG_LEVEL=debug\n")
    settings = loaded(monkeypatch, LOG_LEVEL="error")
    assert settings.port == 9001
    assert settings.log_level == "error", "the environment wins over the file"


def test_the_example_file_names_every_variable_and_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    example = dotenv_values(ROOT / ".env.prod.example")
    assert set(example) == set(NAMES)
    values = {name: value for name, value in example.items() if value}
    settings = loaded(monkeypatch, **{**values, "SECRET_KEY": SECRET_KEY})
    assert settings.environment == "production"


@pytest.mark.parametrize("file", ["README.md", "render.yaml"])
def test_the_papers_name_every_variable(file: str) -> None:
    text = (ROOT / file).read_text()
    missing = [name for name in NAMES if name not in text]
    assert missing == (["HOST"] if file == "render.yaml" else [])  # Render needs no HOST: the image sets it
