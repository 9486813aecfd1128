"""The client on a bad line: what is asked again, with which id, how long; and how operations are waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from cloud_fake import PROJECT, ROOT, ZONE, error
from rehost.cloud.client import BILLING_VARIABLE, COMPUTE_VARIABLE, Client
from rehost.cloud.credentials import Credentials, Given, Token
from rehost.cloud.errors import (
    CloudUnavailable,
    InvalidRequest,
    OperationTimeout,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)
from rehost.run.errors import UsageError
from rehost.run.secret import Secret

PATH = f"{ROOT}/zones/{ZONE}/instances/content-api"
DONE = {"name": "operation-1", "status": "DONE", "zone": f"https://x/projects/{PROJECT}/zones/{ZONE}"}


class Line:
    """Answers in turn; the last one for ever. An exception is raised instead of answering."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bearers: list[str] = []
        self.paused: list[float] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bearers.append(request.headers["Authorization"])
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(now, Exception):
            raise now
        return httpx.Response(now.status_code, headers=now.headers, content=now.content)

    def client(self, environ: dict[str, str] | None = None, credentials: Credentials | None = None) -> Client:
        async def pause(seconds: float) -> None:
            self.paused.append(seconds)

        return Client(
            PROJECT,
            credentials or Credentials(Given(Secret("t"))),
            environ=environ or {},
            transport=httpx.MockTransport(self.answer),
            pause=pause,
        )


def run(line: Line, act: Callable[[Client], Any], **options: Any) -> Any:
    async def go() -> Any:
        async with line.client(**options) as client:
            return await act(client)

    return asyncio.run(go())


def ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


TRANSIENT: list[httpx.Response | Exception] = [
    httpx.ConnectError("Connection refused"),
    httpx.ReadTimeout("timed out"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.DecodingError("Error -3 while decompressing data"),
    httpx.Response(200, text='{"name": "conte'),
    httpx.Response(429, json={}),
    httpx.Response(500, text="oops"),
    httpx.Response(502, text="<html>bad gateway</html>"),
    error(503, "backendError", "Backend Error"),
    error(403, "rateLimitExceeded", "Rate Limit Exceeded"),
]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_passing_fault_is_asked_again(fault: httpx.Response | Exception) -> None:
    line = Line(fault, fault, ok(name="content-api"))
    assert run(line, lambda client: client.get(PATH)) == {"name": "content-api"}
    assert len(line.paused) == 2


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_change_is_repeated_with_the_same_request_id(fault: httpx.Response | Exception) -> None:
    line = Line(fault, ok(**DONE))
    run(line, lambda client: client.change("POST", f"{PATH}/start"))
    ids = [request.url.params["requestId"] for request in line.requests]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    run(line, lambda client: client.change("POST", f"{PATH}/start"))
    assert line.requests[-1].url.params["requestId"] != ids[0]


def test_pauses_grow_and_stay_below_their_ceiling() -> None:
    fault = httpx.Response(500)
    line = Line(*[fault] * 8, ok())
    run(line, lambda client: client.get(PATH))
    ceilings = [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert all(top / 2 <= pause <= top for pause, top in zip(line.paused, ceilings, strict=True))


def test_retry_after_is_honoured_in_both_its_forms() -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    line = Line(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503, headers={"Retry-After": date}),
        httpx.Response(503, headers={"Retry-After": "soon"}),
        ok(),
    )
    run(line, lambda client: client.get(PATH))
    assert line.paused[0] == 7
    assert 20 < line.paused[1] <= 30
    assert line.paused[2] <= 2


def test_a_wait_beyond_the_deadline_is_not_waited() -> None:
    line = Line(httpx.Response(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimited):
        run(line, lambda client: client.get(PATH))
    assert line.paused == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error(400, "invalid", "Invalid value for field 'x'"), InvalidRequest),
        (error(403, "forbidden", "Required 'compute.instances.get' permission"), PermissionDenied),
    ],
)
def test_what_cannot_pass_is_not_asked_again(fault: httpx.Response, kind: type[Exception]) -> None:
    line = Line(fault)
    with pytest.raises(kind):
        run(line, lambda client: client.get(PATH))
    assert len(line.requests) == 1


def test_nobody_at_the_overridden_endpoint() -> None:
    line = Line(httpx.ConnectError("All connection attempts failed"))
    with pytest.raises(CloudUnavailable) as caught:
        run(
            line, lambda client: client.get(PATH), environ={COMPUTE_VARIABLE: "http://127.0.0.1:9/compute/v1"}
        )
    assert "127.0.0.1:9" in str(caught.value)
    assert COMPUTE_VARIABLE in caught.value.cure
    assert str(line.requests[0].url).startswith("http://127.0.0.1:9/compute/v1/projects/")
    assert len(line.requests) == 4


def test_nobody_at_googles_endpoint() -> None:
    with pytest.raises(CloudUnavailable, match="network connection of this computer"):
        run(Line(httpx.ConnectError("no route")), lambda client: client.get(PATH))


@pytest.mark.parametrize("variable", [COMPUTE_VARIABLE, BILLING_VARIABLE])
def test_an_endpoint_that_is_no_url(variable: str) -> None:
    with pytest.raises(UsageError) as caught:
        Line(ok()).client({variable: "localhost:8080"})
    assert caught.value.where == variable


def test_an_answer_that_is_not_the_apis() -> None:
    with pytest.raises(CloudUnavailable, match="proxy"):
        run(Line(httpx.Response(200, text="<html>login</html>")), lambda client: client.get(PATH))


def test_pages_are_followed_to_the_end() -> None:
    line = Line(
        ok(items=[{"name": "a"}], nextPageToken="p2"), ok(nextPageToken="p3"), ok(items=[{"name": "b"}])
    )
    assert run(line, lambda client: client.items(f"{ROOT}/zones")) == [{"name": "a"}, {"name": "b"}]
    assert [request.url.params.get("pageToken") for request in line.requests] == [None, "p2", "p3"]


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ({"zone": f"https://x/{ROOT}/zones/{ZONE}"}, f"zones/{ZONE}/operations/op-1/wait"),
        ({"region": f"https://x/{ROOT}/regions/us-west1"}, "regions/us-west1/operations/op-1/wait"),
        ({}, "global/operations/op-1/wait"),
    ],
)
def test_an_operation_is_waited_for_where_it_runs(place: dict[str, str], path: str) -> None:
    running = {
        "name": "op-1",
        **place,
        "operationType": "insert",
        "targetLink": "https://x/instances/content-api",
    }
    line = Line(
        ok(**running, status="PENDING"),
        httpx.Response(502),
        ok(**running, status="RUNNING", progress=40),
        ok(**running, status="DONE"),
    )
    told: list[str] = []
    run(line, lambda client: client.change("POST", PATH, {}, progress=told.append))
    assert [request.url.path for request in line.requests[1:]] == [f"/compute/v1/{ROOT}/{path}"] * 3
    assert told == ["insert content-api: pending", "insert content-api: running, 40 %"]


def test_an_operation_that_does_not_end() -> None:
    line = Line(ok(name="op-1", status="RUNNING"))
    with pytest.raises(OperationTimeout, match="carries on") as late:
        run(line, lambda client: client.change("POST", PATH, {}, deadline=-1))
    assert not late.value.retryable  # who has waited ten minutes is asked, not made to wait twenty more


class Wallet:
    """A source of tokens that counts."""

    words = identity = "a wallet"

    def __init__(self) -> None:
        self.numbers: Iterator[int] = iter(range(100))

    async def fetch(self) -> Token:
        return Token(Secret(f"token-{next(self.numbers)}"), time.time() + 3600)


def test_a_withdrawn_token_is_renewed_once(tmp_path: Any) -> None:
    line = Line(error(401, "authError", "Invalid Credentials"), ok())
    run(line, lambda client: client.get(PATH), credentials=Credentials(Wallet(), cache=tmp_path))
    assert line.bearers == ["Bearer token-0", "Bearer token-1"]
    line = Line(error(401, "authError", "Invalid Credentials"))
    with pytest.raises(Unauthenticated):
        run(line, lambda client: client.get(PATH), credentials=Credentials(Wallet(), cache=tmp_path))
    assert len(line.requests) == 2


def test_a_given_token_that_is_refused_is_not_tried_again() -> None:
    line = Line(error(401, "authError", "Invalid Credentials"))
    with pytest.raises(Unauthenticated):
        run(line, lambda client: client.get(PATH))
    assert len(line.requests) == 1
