"""The Compute Engine API over httpx: requests that may be repeated are repeated, operations are waited for.

Every mutating call carries a requestId, by which Google recognises a repetition and answers with the
same operation:
https://cloud.google.com/compute/docs/api/how-tos/api-requests-responses#handling_api_responses
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from rehost.cloud.credentials import Credentials
from rehost.cloud.errors import CloudError, CloudUnavailable, NotFound, OperationTimeout
from rehost.cloud.failures import Context, error_of, read_operation, read_response, transient
from rehost.cloud.lean_httpx import httpx
from rehost.cloud.names import last
from rehost.cloud.tls import context_for, trust_env_for
from rehost.run.errors import UsageError
from rehost.run.secret import Secret

COMPUTE = "https://compute.googleapis.com/compute/v1/"
BILLING = "https://cloudbilling.googleapis.com/"
COMPUTE_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"
BILLING_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"

Body = Mapping[str, Any]
Answer = dict[str, Any]
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
Progress = Callable[[str], None]

PATIENCE_SECONDS = 90.0  # how long one request is repeated
OPERATION_SECONDS = 600.0  # how long an operation is waited for
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
# operations/wait answers within two minutes.
WAIT_READ_TIMEOUT = 130.0
READ_TIMEOUT, CONNECT_TIMEOUT = 30.0, 15.0
# So often an answer may be missing or not the API's before we believe that this is not the API at all.
WRONG_PLACES = 4


class _AskAgainError(Exception):
    """A fault that may pass. after: seconds that the API asks us to wait. wrong_place: perhaps not the API."""

    def __init__(
        self, problem: CloudError | UsageError, *, after: float | None = None, wrong_place: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem, self.after, self.wrong_place = problem, after, wrong_place


class Client:
    """One project's API. Use as `async with Client(project, credentials) as client`.

    transport and pause are for tests: an httpx transport that answers, and what waits between attempts.
    """

    def __init__(
        self,
        project: str,
        credentials: Credentials,
        *,
        environ: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        env = os.environ if environ is None else environ
        self.project = project
        self.credentials = credentials
        self.endpoint = _endpoint(env, COMPUTE_VARIABLE, COMPUTE)
        self.billing_endpoint = _endpoint(env, BILLING_VARIABLE, BILLING)
        self._transport = transport
        self.pause = pause
        self._patience = patience
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def path(self, *parts: str) -> str:
        """A path in this project: path("zones", "us-west1-a", "instances")."""
        return "/".join(quote(part, safe=":") for part in ("projects", self.project, *parts))

    async def get(self, path: str, **query: str) -> Answer:
        """One resource. Raises NotFound when it is absent, and the other `CloudError`s."""
        return await self._request("GET", self.endpoint, path, query=query)

    async def maybe(self, path: str, **query: str) -> Answer | None:
        """One resource, or None when it is absent."""
        try:
            return await self.get(path, **query)
        except NotFound:
            return None

    async def items(self, path: str, **query: str) -> list[Answer]:
        """All items of a list, over all its pages."""
        pages = await self._pages(path, query)
        return [item for page in pages for item in page.get("items", ())]

    async def aggregated(self, kind: str, **query: str) -> list[Answer]:
        """All items of a kind ("instances") in all zones or regions."""
        pages = await self._pages(self.path("aggregated", kind), query)
        return [
            item
            for page in pages
            for scope in (page.get("items") or {}).values()
            for item in scope.get(kind, ())
        ]

    async def change(
        self,
        method: Method,
        path: str,
        body: Body | None = None,
        *,
        progress: Progress | None = None,
        deadline: float = OPERATION_SECONDS,
        **query: str,
    ) -> None:
        """Asks for a change and waits until it is made. Raises the operation's error as a `CloudError`."""
        query["requestId"] = str(uuid.uuid4())
        operation = await self._request(method, self.endpoint, path, body=body, query=query)
        await self.wait(operation, Context(method, path), progress=progress, deadline=deadline)

    async def wait(
        self, operation: Answer, context: Context, *, progress: Progress | None = None, deadline: float
    ) -> None:
        """Waits for an operation that an answer named. Raises its error, or OperationTimeout."""
        end = time.monotonic() + deadline
        while operation.get("status") != "DONE":
            if time.monotonic() > end:
                raise OperationTimeout(
                    f"{context.where} was not done after {deadline:.0f} s.",
                    where=f"operation {operation.get('name')}",
                    cure="It goes on at Google: run the same command again in a minute, it carries on.",
                )
            if progress is not None:
                progress(_progress(operation))
            before = time.monotonic()
            operation = await self._request(
                "POST", self.endpoint, self._wait_path(operation), timeout=WAIT_READ_TIMEOUT
            )
            if operation.get("status") != "DONE" and time.monotonic() - before < FIRST_PAUSE:
                # wait may return at once; then it is on us not to spin.
                await self.pause(FIRST_PAUSE)
        failure = read_operation(operation)
        if failure is not None:
            raise error_of(failure, context)

    async def billing(self) -> Answer:
        """The project's billing information, from the Cloud Billing API."""
        return await self._request("GET", self.billing_endpoint, f"v1/projects/{self.project}/billingInfo")

    def _wait_path(self, operation: Answer) -> str:
        name = str(operation["name"])
        if operation.get("zone"):
            return self.path("zones", last(str(operation["zone"])), "operations", name, "wait")
        if operation.get("region"):
            return self.path("regions", last(str(operation["region"])), "operations", name, "wait")
        return self.path("global", "operations", name, "wait")

    async def _pages(self, path: str, query: Mapping[str, str]) -> list[Answer]:
        pages = [await self.get(path, **query)]
        while pages[-1].get("nextPageToken"):
            pages.append(await self.get(path, **query, pageToken=str(pages[-1]["nextPageToken"])))
        return pages

    async def _request(
        self,
        method: Method,
        endpoint: str,
        path: str,
        *,
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Answer:
        """One request, repeated while that can help.

        All of ours may be repeated: GET and wait change nothing, the others carry a requestId.
        """
        request = self._http(endpoint).build_request(
            method,
            f"{endpoint}{path}",
            params=dict(query or {}),
            json=body,
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
        )
        end = time.monotonic() + self._patience
        attempt = wrong_places = 0
        while True:
            try:
                return await self._once(endpoint, request, Context(method, path))
            except _AskAgainError as again:
                wrong_places += again.wrong_place
                pause = _pause_before(attempt) if again.after is None else again.after
                if wrong_places >= WRONG_PLACES or time.monotonic() + pause > end:
                    raise again.problem from again.__cause__
            await self.pause(pause)
            attempt += 1

    async def _once(self, endpoint: str, request: httpx.Request, context: Context) -> Answer:
        """One try; with a second one when a kept token is not taken, because it may have been withdrawn."""
        token = await self.credentials.token()
        response = await self._send(endpoint, request, token)
        if response.status_code == 401 and await self.credentials.refused(token):
            response = await self._send(endpoint, request, await self.credentials.token())
        if response.is_success:
            return _json(response, context)
        failure = read_response(response.status_code, _parsed(response))
        problem = error_of(failure, context)
        if transient(failure):
            raise _AskAgainError(problem, after=_retry_after(response))
        raise problem

    async def _send(self, endpoint: str, request: httpx.Request, token: Secret) -> httpx.Response:
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        try:
            return await self._http(endpoint).send(request)
        except httpx.RequestError as error:
            nobody = isinstance(error, httpx.ConnectError)
            raise _AskAgainError(self._unreachable(endpoint, error), wrong_place=nobody) from error

    def _http(self, endpoint: str) -> httpx.AsyncClient:
        if endpoint not in self._clients:
            self._clients[endpoint] = httpx.AsyncClient(
                verify=context_for(endpoint),
                trust_env=trust_env_for(endpoint),
                transport=self._transport,
                headers={"User-Agent": "rehost"},
            )
        return self._clients[endpoint]

    def _unreachable(self, endpoint: str, error: httpx.RequestError) -> CloudUnavailable:
        variable = COMPUTE_VARIABLE if endpoint == self.endpoint else BILLING_VARIABLE
        overridden = endpoint not in (COMPUTE, BILLING)
        cure = (
            f"{variable} points to {endpoint}: check that something answers there (for the lab: "
            "`rehost lab status`), or unset it to reach Google."
            if overridden
            else "Check the network connection of this computer, then run the same command again."
        )
        said = str(error) or type(error).__name__
        return CloudUnavailable(
            f"no answer from {urlsplit(endpoint).netloc}: {said}.", where=endpoint, cure=cure, retryable=True
        )


def _endpoint(environ: Mapping[str, str], variable: str, default: str) -> str:
    url = environ.get(variable, "").strip() or default
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"{url!r} is not a URL.",
            where=variable,
            cure=f"Give the full URL, such as {default}, or unset the variable.",
        )
    return url if url.endswith("/") else f"{url}/"


def _pause_before(attempt: int) -> float:
    """Doubling from half a second to twenty, with jitter so that many clients do not come back together."""
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * float(2**attempt))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)


def _retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds: a number or an HTTP date (RFC 9110, 10.2.3). None when absent or unreadable."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
    except ValueError:
        return None


def _parsed(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None


def _json(response: httpx.Response, context: Context) -> Answer:
    """The answer's body. One that broke off, or that a proxy made up, is asked for again."""
    body = _parsed(response)
    if isinstance(body, dict):
        return body
    problem = CloudUnavailable(
        f"the answer from {response.url.host} is not the API's.",
        where=context.where,
        cure=f"A proxy may stand between, or {COMPUTE_VARIABLE} names something else than the API.",
    )
    raise _AskAgainError(problem, wrong_place=True)


def _progress(operation: Answer) -> str:
    kind, target = str(operation.get("operationType", "")), last(str(operation.get("targetLink", "")))
    percent = operation.get("progress")
    done = f", {percent} %" if percent else ""
    return f"{kind} {target}: {str(operation.get('status', '')).lower()}{done}".strip()
