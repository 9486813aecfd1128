"""Names of images, and what the user's own Docker knows of a registry: `docker login` is all that it takes."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rehost.run.errors import RehostError, UsageError
from rehost.run.secret import Secret

DOCKER_IO: Final = "docker.io"
# Under this name `docker login` keeps what it knows of Docker's own registry.
_DOCKER_IO_KEY: Final = "https://index.docker.io/v1/"
_HELPER_SECONDS: Final = 30


class Reference(NamedTuple):
    """An image's name. name: with its registry, as it was written. tag: "" where a digest says which."""

    name: str
    tag: str
    digest: str

    @property
    def registry(self) -> str:
        """The registry's name; Docker's own where none is named (distribution/reference, splitDockerDomain)."""
        first, slash, _ = self.name.partition("/")
        return first if slash and ("." in first or ":" in first or first == "localhost") else DOCKER_IO


def parse(text: str) -> Reference:
    """Reads what `values` let pass. Without tag and digest Docker takes "latest"."""
    rest, _, digest = text.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, ""
    return Reference(head, "" if digest else tag or "latest", digest)


class Login(NamedTuple):
    """What the registry is told of who asks. header: for Docker's API. password: to be masked wherever it turns up."""

    header: Secret
    password: Secret


def login(registry: str, environ: Mapping[str, str] = os.environ) -> Login | None:
    """From the user's Docker configuration, its credential helpers included; None where nothing is known.

    Raises UsageError for a configuration that cannot be read or a helper that is not there, RehostError for a helper
    that fails.
    """
    file = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        raise UsageError(
            f"Docker's configuration cannot be read: {fault}",
            where=str(file),
            cure="Mend it, or log in anew with `docker login`.",
        ) from fault
    if not isinstance(config, dict):
        return None
    key = _DOCKER_IO_KEY if registry == DOCKER_IO else registry
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        return _from_helper(str(helper), key, environ)
    auths: Mapping[str, Mapping[str, Any]] = config.get("auths") or {}
    entry = next((each for name, each in auths.items() if _host(name) == _host(key)), {})
    if token := entry.get("identitytoken"):
        return _login({"identitytoken": str(token), "serveraddress": key}, str(token))
    try:
        user, colon, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    return _login({"username": user, "password": password, "serveraddress": key}, password) if colon else None


def _host(key: str) -> str:
    """A key of the configuration may be a URL."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _from_helper(helper: str, key: str, environ: Mapping[str, str]) -> Login | None:
    """Asks as docker(1) does: the registry on standard input, JSON on standard output (docker-credential-helpers)."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            env=dict(environ),
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(
            f"Docker's configuration names a helper that is not there: {program}.",
            where="~/.docker/config.json",
            cure="Install it, or take it out there and log in anew with `docker login`.",
        ) from None
    except subprocess.TimeoutExpired:
        raise RehostError(
            f"{program} did not answer within {_HELPER_SECONDS} s.",
            cure="Does it wait for you to unlock a keyring?",
        ) from None
    if done.returncode != 0:
        if "not found" in done.stdout + done.stderr:
            return None
        # What it wrote is left out: nobody knows whether it holds a secret.
        raise RehostError(
            f"{program} failed with status {done.returncode}.",
            cure=f"Try `docker login {key}` anew.",
        )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
        user, password = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RehostError(
            f"{program} gave no user and secret.", cure=f"Try `docker login {key}` anew."
        ) from None
    if user == "<token>":
        return _login({"identitytoken": password, "serveraddress": key}, password)
    return _login({"username": user, "password": password, "serveraddress": key}, password)


def _login(content: Mapping[str, str], password: str) -> Login:
    """The header X-Registry-Auth of Docker's API: JSON in base64url."""
    header = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    return Login(Secret(header), Secret(password))
