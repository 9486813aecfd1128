"""Who asks: finds the user's Google credentials and turns them into access tokens, kept until they expire.

google-auth is imported only when a new token is needed, so that a warm run does not pay for it. Tokens lie
in the user's cache directory, in files that only the user can read, under a hash of who they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rehost.cloud.errors import Unauthenticated
from rehost.run.errors import UsageError
from rehost.run.secret import Secret

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# A token is not used any more this long before it expires: it must outlive the request that carries it.
MARGIN_SECONDS = 120
# gcloud does not say when its token expires; it renews by itself in the last five minutes.
GCLOUD_SECONDS = 240
GCLOUD_TIMEOUT = 60

THREE_WAYS = (
    "Do one of these: `gcloud auth application-default login`; or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "path of a service account's key file; or set CLOUDSDK_AUTH_ACCESS_TOKEN to an access token."
)


class Token(NamedTuple):
    """An access token. expires: Unix time in seconds; 0 when nobody knows."""

    value: Secret
    expires: float

    def fresh(self, now: float) -> bool:
        return self.expires - MARGIN_SECONDS > now


class Source(Protocol):
    """Somewhere tokens come from. identity: text that differs when the account or the token endpoint does."""

    @property
    def words(self) -> str: ...
    @property
    def identity(self) -> str: ...
    async def fetch(self) -> Token: ...


class Given(NamedTuple):
    """A token in the environment: used as it is."""

    value: Secret
    words: str = "the access token in CLOUDSDK_AUTH_ACCESS_TOKEN"
    identity: str = ""

    async def fetch(self) -> Token:
        return Token(self.value, 0)


class KeyFile(NamedTuple):
    """Application default credentials in a file: a service account's key, or what gcloud wrote at login."""

    path: Path
    info: Mapping[str, Any]
    digest: str

    @property
    def words(self) -> str:
        who = self.info.get("client_email") or self.info.get("account") or self.info.get("type")
        return f"{who} ({self.path})"

    @property
    def identity(self) -> str:
        return f"file {self.digest} {self.info.get('token_uri', '')}"

    async def fetch(self) -> Token:
        return await asyncio.to_thread(_exchange, self)


class Gcloud(NamedTuple):
    """The account that gcloud is signed in with."""

    program: str
    config: Path

    words: str = "the account of gcloud"

    @property
    def identity(self) -> str:
        """Differs when another account or configuration is chosen."""
        parts = [self.program, str(self.config)]
        parts += [
            os.environ.get(name, "") for name in ("CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_ACTIVE_CONFIG_NAME")
        ]
        for file in (self.config / "active_config", *sorted(self.config.glob("configurations/config_*"))):
            parts.append(file.read_text(errors="replace") if file.is_file() else "")
        return "gcloud " + hashlib.sha256("\0".join(parts).encode()).hexdigest()

    async def fetch(self) -> Token:
        process = await asyncio.create_subprocess_exec(
            self.program,
            "auth",
            "print-access-token",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), GCLOUD_TIMEOUT)
        except (TimeoutError, asyncio.CancelledError):
            process.kill()
            await process.wait()
            raise
        token = out.decode().strip()
        if process.returncode or not token:
            raise UsageError(
                "no credentials for Google Cloud: `gcloud auth print-access-token` failed.",
                cure=THREE_WAYS,
                detail=err.decode(errors="replace").strip(),
            )
        return Token(Secret(token), time.time() + GCLOUD_SECONDS + MARGIN_SECONDS)


def find(environ: Mapping[str, str] | None = None) -> Source:
    """Where tokens will come from. Raises UsageError that says the ways when there is nothing."""
    env = os.environ if environ is None else environ
    token = env.get("CLOUDSDK_AUTH_ACCESS_TOKEN", "").strip()
    if token:
        return Given(Secret(token))
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS", "").strip()
    if named:
        return key_file(Path(named).expanduser())
    config = Path(env.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    if (config / "application_default_credentials.json").is_file():
        return key_file(config / "application_default_credentials.json")
    program = shutil.which("gcloud", path=env.get("PATH"))
    if program:
        return Gcloud(program, config)
    raise UsageError("no credentials for Google Cloud were found.", cure=THREE_WAYS)


def key_file(path: Path) -> KeyFile:
    """Reads a credentials file. Raises UsageError when it is not one."""
    try:
        raw = path.read_bytes()
        info = json.loads(raw)
    except OSError as error:
        raise UsageError(
            f"the credentials file cannot be read: {error.strerror}.",
            where=str(path),
            cure="Check GOOGLE_APPLICATION_CREDENTIALS, or unset it to use what gcloud is signed in with.",
        ) from error
    except ValueError as error:
        raise _no_key_file(path) from error
    if not isinstance(info, dict) or not isinstance(info.get("type"), str):
        raise _no_key_file(path)
    return KeyFile(path, info, hashlib.sha256(raw).hexdigest())


def _no_key_file(path: Path) -> UsageError:
    return UsageError(
        "this is not a Google credentials file (JSON with a type).",
        where=str(path),
        cure="Make a new key: https://console.cloud.google.com/iam-admin/serviceaccounts, or run "
        "`gcloud auth application-default login`.",
    )


def project_of(configured: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The project: what rehost.toml says, else what the environment says. Raises UsageError for none."""
    env = os.environ if environ is None else environ
    for found in (configured, env.get("GOOGLE_CLOUD_PROJECT"), env.get("CLOUDSDK_CORE_PROJECT")):
        if found and found.strip():
            return found.strip()
    raise UsageError(
        "no Google Cloud project is named.",
        where="rehost.toml, [machine] project",
        cure="Write the project's id there, or set GOOGLE_CLOUD_PROJECT.",
    )


class Credentials:
    """Access tokens from one source, kept in memory and in the user's cache until they nearly expire."""

    def __init__(self, source: Source, *, cache: Path | None = None) -> None:
        self.source = source
        self._cache = cache if cache is not None else cache_directory()
        self._token: Token | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> Secret:
        """A token that is valid now. Raises Unauthenticated or UsageError when none can be had."""
        async with self._lock:
            if isinstance(self.source, Given):
                return self.source.value
            if self._token is None:
                self._token = self._load()
            if self._token is None or not self._token.fresh(time.time()):
                self._token = await self.source.fetch()
                self._store(self._token)
            return self._token.value

    async def refused(self, value: Secret) -> bool:
        """The API did not take this token. True: ask again, there may be a better one; False: none."""
        async with self._lock:
            if isinstance(self.source, Given):
                return False
            if self._token is None or self._token.value == value:
                self._token = None
                with contextlib.suppress(OSError):  # what cannot be removed is replaced or grows old
                    self._file.unlink()
            return True

    @property
    def _file(self) -> Path:
        return (
            self._cache
            / f"{hashlib.sha256(f'{self.source.identity} {SCOPE}'.encode()).hexdigest()[:32]}.json"
        )

    def _load(self) -> Token | None:
        try:
            kept = json.loads(self._file.read_text())
            return Token(Secret(str(kept["token"])), float(kept["expires"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            # A broken cache is no reason to stop: the next token replaces it.
            return None

    def _store(self, token: Token) -> None:
        # Without a place to write, every run asks for a new token: slower, and no reason to stop.
        with contextlib.suppress(OSError):
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            # mkstemp makes the file 0600; renaming keeps a reader from ever seeing half of it.
            handle, name = tempfile.mkstemp(dir=self._cache)
            with os.fdopen(handle, "w") as file:
                json.dump({"token": token.value.reveal(), "expires": token.expires}, file)
            Path(name).replace(self._file)


def cache_directory() -> Path:
    """Where tokens are kept: below XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rehost" / "tokens"


def _exchange(file: KeyFile) -> Token:
    """Asks the token endpoint, by google-auth, for the kinds of credentials that it knows."""
    import warnings  # noqa: PLC0415

    import google.auth  # noqa: PLC0415
    import google.auth.exceptions  # noqa: PLC0415

    from rehost.cloud.transport import HttpxRequest  # noqa: PLC0415

    with HttpxRequest() as request:
        try:
            with warnings.catch_warnings():
                # google-auth warns against files from strangers; this one is the user's own.
                warnings.simplefilter("ignore")
                loaded, _ = google.auth.load_credentials_from_dict(  # type: ignore[no-untyped-call]
                    dict(file.info), scopes=[SCOPE], request=request
                )
                loaded.refresh(request)
        except google.auth.exceptions.TransportError as error:
            raise Unauthenticated(
                f"the token endpoint {file.info.get('token_uri', 'of Google')} did not answer: {error}",
                where=str(file.path),
                cure="Check the network connection, then run the same command again.",
                retryable=True,
            ) from error
        except (google.auth.exceptions.GoogleAuthError, ValueError) as error:
            raise Unauthenticated(
                f"no access token was given for {file.words}: {_first(error)}",
                where=str(file.path),
                cure="The key may be deleted or the login too old: make a new key, or run "
                "`gcloud auth application-default login`.",
            ) from error
    # google-auth's expiry is a UTC time without a zone.
    expires = loaded.expiry.timestamp() if loaded.expiry.tzinfo else _utc(loaded.expiry)
    return Token(Secret(str(loaded.token)), expires)


def _utc(moment: Any) -> float:
    from datetime import UTC  # noqa: PLC0415

    return float(moment.replace(tzinfo=UTC).timestamp())


def _first(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
