"""Render's API over httpx: every page of every list, within the rate limit, errors with cause and cure.

Only reads. An answer may hold secrets from its first byte: bodies are never logged or quoted, and an error says
what Render's own `message` says and nothing else of the answer.

Lists come in pages of at most 100 (20 without `limit`), each item with a `cursor`; the last one's asks for the
next page: https://api-docs.render.com/reference/pagination. Rate headers:
https://api-docs.render.com/reference/rate-limiting.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

# The module behind this name keeps httpx from importing its own command line, and must be imported before httpx
# wherever it is used; it and `tls` know nothing of any cloud.
from rehost.cloud.lean_httpx import httpx
from rehost.cloud.tls import context_for, trust_env_for
from rehost.run.errors import RehostError, UsageError
from rehost.run.secret import Secret

API = "https://api.render.com/v1/"
HOST_VARIABLE = "RENDER_HOST"  # as Render's own Terraform provider calls it
KEY_VARIABLE = "RENDER_API_KEY"
KEYRING_SERVICE = "rehost"
PAGE = 100  # the most that a list gives at once
AT_ONCE = 8  # requests under way together
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
TIMEOUT = 30.0
_GET_A_KEY = (
    f"Make one in Render's dashboard (Account Settings, API Keys) and type `export {KEY_VARIABLE}=...`."
)

Item = dict[str, Any]
Progress = Callable[[str], None]


class RenderError(RehostError):
    """Render's API did not do what was asked. status: of the answer, None when there was none."""

    status: int | None = None


class NotAtRender(RenderError):
    """There is no such thing, or this key may not see it."""


def key_of(environ: Mapping[str, str], *, ask_keyring: bool) -> Secret | None:
    """The API key: from the environment, or from the system's keyring where the package `keyring` is installed.

    rehost never stores it. The keyring is asked only where the user named Render: it may open a dialog.
    """
    written = environ.get(KEY_VARIABLE, "").strip()
    if written:
        return Secret(written)
    if not ask_keyring:
        return None
    try:
        import keyring  # noqa: PLC0415  # optional, and slow to import
        from keyring.errors import KeyringError, NoKeyringError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        kept = keyring.get_password(KEYRING_SERVICE, KEY_VARIABLE)
    except NoKeyringError:  # the package without a keyring behind it: a server
        return None
    except KeyringError as failed:
        raise UsageError(
            f"the system's keyring did not give it: {type(failed).__name__}.",
            where=KEY_VARIABLE,
            cure=f"Unlock the keyring, or type `export {KEY_VARIABLE}=...`.",
        ) from None
    return Secret(kept.strip()) if kept and kept.strip() else None


def needed_key(environ: Mapping[str, str]) -> Secret:
    """The key, or a UsageError that says where one comes from."""
    found = key_of(environ, ask_keyring=True)
    if found is None:
        raise UsageError("there is no key for Render's API.", where=KEY_VARIABLE, cure=_GET_A_KEY)
    return found


class Render:
    """Render's API for one key. Use as `async with Render(key) as api`.

    progress hears when the rate limit makes it wait. transport, pause and clock (seconds) are for tests.
    """

    def __init__(
        self,
        key: Secret,
        *,
        environ: Mapping[str, str] | None = None,
        progress: Progress = lambda _: None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = _endpoint(os.environ if environ is None else environ)
        self._key = key
        self._progress = progress
        self._pause = pause
        self._clock = clock
        self._closed_until = float("-inf")  # by the clock: no request before that
        self._places = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0
        self._http = httpx.AsyncClient(
            base_url=self.endpoint,
            verify=context_for(self.endpoint),
            trust_env=trust_env_for(self.endpoint),
            transport=transport,
            timeout=TIMEOUT,
            headers={"User-Agent": "rehost", "Accept": "application/json"},
        )

    async def __aenter__(self) -> Render:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, *path: str, **query: str) -> Item:
        """One resource. Raises NotAtRender, or another RenderError."""
        found = await self._request("/".join(quote(part, safe="") for part in path), query)
        if not isinstance(found, dict):
            raise self._strange("/".join(path))
        return found

    async def items(self, noun: str, *path: str, **query: str) -> list[Item]:
        """All items of a list, over all its pages; `noun` is what each is wrapped in ("service").

        Lists that Render documents without a wrapping (environment groups) come bare: both are understood.
        Raises RenderError when a list goes on and does not say where: part of it is never taken for the whole.
        """
        place = "/".join(quote(part, safe="") for part in path)
        found: list[Item] = []
        cursors: set[str] = set()
        while True:
            page = await self._request(place, {**query, "limit": str(PAGE)})
            if not isinstance(page, list) or not all(isinstance(each, dict) for each in page):
                raise self._strange(place)
            found += [each[noun] if isinstance(each.get(noun), dict) else each for each in page]
            if len(page) < PAGE:
                return found
            cursor = str(page[-1].get("cursor") or "")
            if not cursor or cursor in cursors:
                raise RenderError(
                    f"the list goes on after {len(found)} items, and Render does not say where.",
                    where=f"{self.endpoint}{place}",
                    cure="Type the same again; if it stays, copy what is needed from Render's dashboard.",
                )
            cursors.add(cursor)
            query = {**query, "cursor": cursor}

    async def _request(self, path: str, query: Mapping[str, str]) -> Any:
        """One request, repeated while that can help."""
        async with self._places:
            for attempt in range(ATTEMPTS):
                await self._until_open()
                self._under_way += 1
                try:
                    return await self._once(path, query)
                except _AskAgainError as again:
                    if attempt == ATTEMPTS - 1:
                        raise again.problem from None
                    pause = again.after if again.after is not None else FIRST_PAUSE * 2**attempt
                finally:
                    self._under_way -= 1
                await self._pause(min(pause, LONGEST_PAUSE))
        raise AssertionError("unreachable")

    async def _until_open(self) -> None:
        while (rest := self._closed_until - self._clock()) > 0:
            self._progress(f"Render's rate limit is reached: going on in {math.ceil(rest)} s")
            await self._pause(rest)

    async def _once(self, path: str, query: Mapping[str, str]) -> Any:
        where = f"{self.endpoint}{path}"
        try:
            response = await self._http.get(
                path, params=dict(query), headers={"Authorization": f"Bearer {self._key.reveal()}"}
            )
        except httpx.RequestError as failed:
            said = str(failed) or type(failed).__name__
            raise _AskAgainError(
                RenderError(
                    f"no answer from {urlsplit(self.endpoint).netloc}: {said}.",
                    where=where,
                    cure="Check the network connection of this computer, then type the same again.",
                    retryable=True,
                )
            ) from None
        reset = self._heed(response)
        if response.status_code == 200:
            try:
                return response.json()
            except ValueError:
                raise self._strange(path) from None
        problem = _error(response.status_code, _message(response), where)
        if response.status_code == 429 or response.status_code >= 500:
            raise _AskAgainError(problem, after=reset if response.status_code == 429 else None)
        raise problem

    def _heed(self, response: httpx.Response) -> float | None:
        """Take the rate headers to heart; the seconds until the limit is lifted, when the answer says them."""
        reset = _number(response.headers.get("Ratelimit-Reset") or response.headers.get("Retry-After"))
        remaining = _number(response.headers.get("Ratelimit-Remaining"))
        # Those under way are not counted in the answer yet.
        spent = remaining is not None and remaining < self._under_way
        if reset is not None and (spent or response.status_code == 429):
            self._closed_until = max(self._closed_until, self._clock() + max(reset, 1.0))
        return reset

    def _strange(self, path: str) -> RenderError:
        return RenderError(
            "the answer is not what Render's API gives.",
            where=f"{self.endpoint}{path}",
            cure=f"Check {HOST_VARIABLE} and the network: something else answers in Render's place.",
        )


class _AskAgainError(Exception):
    """A fault that may pass. after: seconds that Render asks us to wait."""

    def __init__(self, problem: RenderError, after: float | None = None) -> None:
        super().__init__(problem)
        self.problem, self.after = problem, after


def _endpoint(environ: Mapping[str, str]) -> str:
    url = environ.get(HOST_VARIABLE, "").strip() or API
    parts = urlsplit(url)
    # The key would cross the network in clear.
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if (parts.scheme != "https" and not local) or not parts.netloc:
        raise UsageError(
            "this is not an https address.", where=HOST_VARIABLE, cure=f"Write {API}, or unset it."
        )
    return url if url.endswith("/") else f"{url}/"


def _number(text: str | None) -> float | None:
    written = (text or "").strip()
    return float(written) if written.isascii() and written.isdecimal() else None


def _message(response: httpx.Response) -> str:
    """What Render says of an error, in one short line."""
    try:
        body = response.json()
    except ValueError:
        return ""
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(said.split())[:200] if isinstance(said, str) else ""


_CURES = {
    400: ("Render did not understand the request", "This is a fault of rehost: please report it."),
    401: (f"Render does not know the key in {KEY_VARIABLE}", f"It may be revoked. {_GET_A_KEY}"),
    402: ("Render wants a payment first", "Look at the billing page of Render's dashboard."),
    403: ("this key may not read that", "Use a key of somebody who may, in the service's own workspace."),
    404: ("there is no such thing at Render", "Check the ID, and that the key belongs to its workspace."),
    406: ("Render cannot answer in this form", "This is a fault of rehost: please report it."),
    409: ("something at Render stands in the way", "Type the same again when it is done there."),
    410: ("it is gone from Render", "Name a service that still stands."),
    429: ("Render's rate limit is still reached", "Wait a minute, or stop what else uses the same key."),
}
_PASSING = (
    "Render's API does not work at the moment",
    "Look at status.render.com, then type the same again.",
)


def _error(status: int, said: str, where: str) -> RenderError:
    what, cure = _CURES.get(
        status, _PASSING if status >= 500 else (f"Render answers {status}", "See the message.")
    )
    kind = NotAtRender if status in (404, 410) else RenderError
    text = f"{what} ({status}{f': {said}' if said else ''})."
    error = kind(text, where=where, cure=cure, retryable=status == 429 or status >= 500)
    error.status = status
    return error
