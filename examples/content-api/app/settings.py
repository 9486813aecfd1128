"""What the environment says, checked before anything starts.

A message about a wrong variable names the variable and what it must be, and never repeats its value: what was
pasted into the wrong variable may be a password. Pydantic's own messages are therefore not shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MOST_UPLOAD_MB = 100
SHORTEST_MASKED = 4  # masking a password of one or two letters would make the logs unreadable


class ConfigurationError(Exception):
    """The process cannot start as configured. `problems` holds one sentence for each wrong variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Collections:
    """The names of the seven collections."""

    users: str
    posts: str
    comments: str
    post_stats: str
    user_reactions: str
    files: str
    stats: str


CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,119}$")]


def _collection(default: str) -> str:
    name: str = Field(default, description="a collection's name: letters, digits, dot, dash and underscore")
    return name


class Settings(BaseSettings):
    """The environment, typed. A description says what a variable must be, and is what an error shows."""

    # An empty variable counts as one that is not set: platforms can't always leave a variable out.
    model_config = SettingsConfigDict(env_ignore_empty=True, env_file=".env", extra="ignore")

    environment: Literal["development", "test", "staging", "production"] = Field(
        "development", description="one of development, test, staging, production"
    )
    mongodb_url: SecretStr = Field(
        description="a connection string that begins with mongodb:// or mongodb+srv://"
    )
    secret_key: SecretStr = Field(min_length=32, description="at least 32 characters, kept secret")
    database_name: str = Field(
        "content",
        pattern=r"^[A-Za-z0-9_-]{1,63}$",
        description="the database's name: at most 63 letters, digits, dashes and underscores",
    )
    host: str = Field("127.0.0.1", min_length=1, description="the address to listen on")
    port: int = Field(8080, ge=1, le=65535, description="the port to listen on, 1 to 65535")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="one of debug, info, warning, error"
    )
    max_comment_depth: int = Field(3, ge=1, le=10, description="how deep comments nest, 1 to 10")
    data_directory: Path = Field(Path("data"), description="the directory that keeps uploaded files")
    max_upload_mb: int = Field(10, ge=1, le=MOST_UPLOAD_MB, description="largest upload, 1 to 100 MB")
    enable_docs: bool = Field(
        False, description="true or false: serve the interactive documentation at /docs"
    )
    enable_cors: bool = Field(True, description="true or false: let browsers of ALLOWED_ORIGINS call the API")
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        validate_default=True,
        description="a comma list of origins such as https://app.example.com, without a path",
    )
    frontend_url: str | None = Field(
        None, description="the address of the web site that shows the posts, http:// or https://"
    )
    redis_url: SecretStr | None = Field(
        None,
        description="the cache's address, redis://, rediss:// or unix://; leave it out for no cache",
    )
    users_collection: CollectionName = _collection("users")
    posts_collection: CollectionName = _collection("posts")
    comments_collection: CollectionName = _collection("comments")
    post_stats_collection: CollectionName = _collection("post_stats")
    user_reactions_collection: CollectionName = _collection("user_reactions")
    files_collection: CollectionName = _collection("files")
    stats_collection: CollectionName = _collection("stats")

    @field_validator("environment", "log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("mongodb_url")
    @classmethod
    def _mongodb(cls, value: SecretStr) -> SecretStr:
        return _of_scheme(value, "mongodb", "mongodb+srv")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        return value and _of_scheme(value, "redis", "rediss", "unix")

    @field_validator("frontend_url")
    @classmethod
    def _web(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_web_address(value):
            raise ValueError
        return value.rstrip("/")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip().rstrip("/") for part in value.split(",") if part.strip()]
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str], info: ValidationInfo) -> list[str]:
        production = info.data.get("environment") == "production"
        if production and not value:
            raise ValueError("is required when ENVIRONMENT is production")
        if production and "*" in value:
            raise ValueError("must not be * when ENVIRONMENT is production")
        if not all(
            origin == "*" or (_is_web_address(origin) and not urlsplit(origin).path) for origin in value
        ):
            raise ValueError
        return value

    @property
    def collections(self) -> Collections:
        """The seven collection names as one value."""
        return Collections(
            users=self.users_collection,
            posts=self.posts_collection,
            comments=self.comments_collection,
            post_stats=self.post_stats_collection,
            user_reactions=self.user_reactions_collection,
            files=self.files_collection,
            stats=self.stats_collection,
        )

    def secrets(self) -> list[str]:
        """All that must not stand in a log: the key, whole connection strings, and the passwords in them."""
        urls = [url.get_secret_value() for url in (self.mongodb_url, self.redis_url) if url]
        passwords = [password for url in urls for password in _passwords(url)]
        found = {self.secret_key.get_secret_value(), *urls, *passwords}
        # The longest first: a secret that contains another is masked as a whole.
        return sorted((text for text in found if len(text) >= SHORTEST_MASKED), key=len, reverse=True)


def load() -> Settings:
    """Read the environment, and a file `.env` of the working directory where there is one.

    Raises ConfigurationError with one sentence for each variable that is missing or wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError([_sentence(detail) for detail in error.errors()]) from None
    except UnicodeDecodeError:
        raise ConfigurationError(["the file .env is not UTF-8 text"]) from None


def _sentence(detail: ErrorDetails) -> str:
    field = str(detail["loc"][0])
    expected = Settings.model_fields[field].description
    if detail["type"] == "missing":
        fault = "is required"
    else:
        # Our own validators raise ValueError with a sentence, or bare where the description says it all.
        fault = str(detail.get("ctx", {}).get("error", "")) or "is not valid"
    return f"{field.upper()} {fault}: {expected}"


def _of_scheme(value: SecretStr, *schemes: str) -> SecretStr:
    scheme, separator, rest = value.get_secret_value().partition("://")
    if scheme not in schemes or not separator or not rest:
        raise ValueError
    return value


def _is_web_address(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)


def _passwords(url: str) -> list[str]:
    """The password of a connection string, as written and decoded. Hosts may be several, so no URL parser."""
    found = re.match(r"[^:/]+://[^:@/?]*:([^/?]+)@", url)
    return [found[1], unquote(found[1])] if found else []
