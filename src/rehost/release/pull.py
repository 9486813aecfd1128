"""Pulling a prebuilt image with the machine's Docker.

Who asks is told to Docker's API in a header, which goes by standard input and stays nowhere. A tag is turned into
its digest first, so that a release is of one image for good.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rehost.machine.ssh import Machine
from rehost.release.build import tag
from rehost.release.registry import Login, Reference
from rehost.run.errors import RehostError

_STATUS: Final = "@status "
_MB: Final = 2**20
# What Docker and registries say. Asked in this order: a registry that hides what it has says "denied" to both.
_DENIED: Final = ("unauthorized", "authentication required", "denied", "no basic auth", "forbidden")
_PLATFORM: Final = ("no matching manifest", "does not match the specified platform")
_UNKNOWN: Final = ("manifest unknown", "not found", "name unknown", "unknown:")
_AWAY: Final = (
    *("dial tcp", "no such host", "timeout", "timed out", "connection re", "tls:", "x509", "eof"),
    *("server gave http response", "client.timeout", "toomanyrequests", "too many requests", "server error"),
)


class RegistryAway(RehostError):
    """The registry does not answer; what was pulled before is not touched."""


def _auth(login: Login | None) -> str:
    """A shell function that prints a configuration for curl(1)."""
    header = f'header = "X-Registry-Auth: {login.header.reveal()}"' if login else ""
    return f"auth() {{\ncat <<'REHOST_AUTH'\n{header}\nREHOST_AUTH\n}}\n"


async def ask(machine: Machine, reference: Reference, login: Login | None, platform: str) -> str:
    """The digest that a tag has now, in one exec. Raises RehostError, RegistryAway when nobody answers.

    platform: the machine's; an image of several kinds that lacks it is an error here already.
    """
    url = f"http://docker/distribution/{reference.name}:{reference.tag}/json"
    script = (
        f"{_auth(login)}auth | curl -sS -K - -m 60 --unix-socket /run/docker.sock "
        f"-w '\\n{_STATUS}%{{http_code}}\\n' {shlex.quote(url)}"
    )
    output = await machine.run(script, what="asking the registry")
    text, _, status = output.stdout.partition(_STATUS)
    found = _object(text)
    if status.strip() != "200":
        raise problem(reference, str(found.get("message", text)), login, platform, machine.label)
    digest = (found.get("Descriptor") or {}).get("digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise problem(reference, f"no digest: {text}", login, platform, machine.label)
    kinds = {f"{each.get('os')}/{each.get('architecture')}" for each in found.get("Platforms") or ()}
    if kinds and platform not in kinds:
        raise of_other_kind(reference, ", ".join(sorted(kinds)), platform, machine.label)
    return digest


async def pull(
    machine: Machine,
    reference: Reference,
    digest: str,
    login: Login | None,
    *,
    app: str,
    platform: str,
    progress: Callable[[str], None],
) -> str:
    """Makes the machine's Docker have this image under the app's own name; returns the image's id."""
    repository, _, name = tag(app, digest).partition(":")
    arguments = shlex.join(("set", "--", reference.name, digest, repository, name, platform))
    script = Path(__file__).with_name("pull.sh").read_text("utf-8")
    said = Said(progress)
    await machine.stream(f"{arguments}\n{_auth(login)}{script}", said.line, what=f"pulling {reference.name}")
    if said.other:
        raise of_other_kind(reference, said.other, platform, machine.label)
    if not said.image:
        raise problem(reference, said.fault, login, platform, machine.label)
    return said.image


class Said:
    """What `pull.sh` writes, read line by line."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.image = self.other = self.fault = ""
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}

    def line(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "@image":
            self.image = rest
        elif word == "@platform":
            self.other = rest
        elif found := _object(text):
            self._object(found)

    def _object(self, found: dict[str, Any]) -> None:
        if fault := found.get("error") or found.get("message"):
            self.fault = str(fault)
        detail = found.get("progressDetail")
        if found.get("status") == "Downloading" and isinstance(detail, dict) and detail.get("total"):
            self._layers[str(found.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
            done, total = (sum(each[index] for each in self._layers.values()) for index in (0, 1))
            self._progress(f"{done / _MB:.1f} of {total / _MB:.1f} MB")
        elif status := found.get("status"):
            name = found.get("id")
            if name in self._layers and status in ("Download complete", "Pull complete"):
                self._layers[name] = (self._layers[name][1],) * 2
            self._progress(f"{name}: {status}" if name else str(status))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def problem(
    reference: Reference, message: str, login: Login | None, platform: str, where: str
) -> RehostError:
    """What Docker said, told apart."""
    name = f"{reference.name}:{reference.tag}" if reference.tag else f"{reference.name}@{reference.digest}"
    said = message.strip().lower()

    def has(words: tuple[str, ...]) -> bool:
        return any(word in said for word in words)

    detail = message.strip()[-2000:]
    if has(_PLATFORM):
        return of_other_kind(reference, "other kinds of machines", platform, where)
    if has(_DENIED):
        who = (
            "who is logged in there from here may not read it"
            if login
            else "nobody is logged in there from here"
        )
        return RehostError(
            f"{reference.registry} does not give {name} away: {who}.",
            where=where,
            detail=detail,
            cure=f"Type `docker login {reference.registry}` on this computer, then the same command again; "
            "registries say the same of an image that is not there.",
        )
    if has(_UNKNOWN):
        return RehostError(
            f"there is no image {name} at {reference.registry}.",
            where=where,
            detail=detail,
            cure="Correct `image` under [build] in rehost.toml, or push the image.",
        )
    if has(_AWAY):
        return RegistryAway(
            f"{reference.registry} does not answer the machine.",
            where=where,
            detail=detail,
            cure="Run the same command again later; is the registry's name right, and may the machine reach it?",
            retryable=True,
        )
    return RehostError(
        f"{name} could not be pulled.", where=where, detail=detail, cure="Docker's own words say why."
    )


def of_other_kind(reference: Reference, kinds: str, platform: str, where: str) -> RehostError:
    """The error for an image that the machine cannot run."""
    return RehostError(
        f"{reference.name} is there for {kinds}, and not for the machine, {platform}.",
        where=where,
        cure=f"Build and push it for {platform} too (`docker buildx build --platform {platform} --push`).",
    )
