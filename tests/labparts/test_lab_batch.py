"""Many calls in one HTTP request, asked as Google's own library asks, over a real socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httplib2  # type: ignore[import-untyped]
import httpx
import pytest
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest, HttpRequest

from lab_fake import GLOBAL, ISSUER, ZONE, Lab, asynced
from lab_serving import serving
from rehost.lab import batch
from rehost.lab.compute_errors import ApiError


def ask(url: str, calls: list[tuple[str, str, Any]]) -> dict[str, Any]:
    """The answers of a batch by the calls' ids; an error in its place where one was refused."""
    heard: dict[str, Any] = {}

    def hear(id_: str, answer: Any, error: Exception | None) -> None:
        heard[id_] = error or answer

    def decode(_: Any, content: bytes) -> Any:
        return json.loads(content)

    http = httplib2.Http()
    try:
        asked = BatchHttpRequest(callback=hear, batch_uri=f"{url}/batch/compute/v1")
        headers = {"authorization": f"Bearer {ISSUER.token()}", "content-type": "application/json"}
        for number, (verb, path, body) in enumerate(calls):
            text = json.dumps(body) if body else None
            request = HttpRequest(http, decode, f"{url}/compute/v1/{path}", verb, text, headers)
            asked.add(request, request_id=str(number))
        asked._batch_headers = headers
        asked.execute(http=_Signed(http, headers))
    finally:
        http.close()
    return heard


class _Signed:
    """The batch itself needs a token, too, as it does at Google."""

    def __init__(self, http: Any, headers: dict[str, str]) -> None:
        self._http, self._token = http, headers["authorization"]

    def request(self, uri: str, method: str, body: str, headers: dict[str, str]) -> Any:
        return self._http.request(
            uri, method=method, body=body, headers={**headers, "authorization": self._token}
        )


@asynced
async def test_a_batch(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rule = {"name": "web", "allowed": [{"IPProtocol": "tcp"}]}
    calls = [
        ("GET", f"{ZONE}?fields=name", None),
        ("POST", f"{GLOBAL}/firewalls?requestId=f1b2c3d4-0000-4000-8000-000000000001", rule),
        ("GET", f"{ZONE}/instances/none", None),
        ("GET", f"{ZONE}/machineTypes?filter=name%20eq%20e2-small", None),
    ]
    async with serving(lab, tmp_path) as url:
        heard = await asyncio.to_thread(ask, url, calls)
    assert heard["0"]["name"] == "us-west1-a"
    assert heard["1"]["kind"] == "compute#operation"
    assert isinstance(heard["2"], HttpError)
    assert heard["2"].resp.status == 404
    assert [one["name"] for one in heard["3"]["items"]] == ["e2-small"]


@asynced
async def test_a_batch_that_is_none(tmp_path: Path) -> None:
    async with serving(Lab(tmp_path), tmp_path) as url, httpx.AsyncClient() as client:
        whole = f"{url}/batch/compute/v1"
        assert (await client.post(whole, content=b"x")).status_code == 401
        headers = {"Authorization": f"Bearer {ISSUER.token()}"}
        assert (await client.post(whole, content=b"x", headers=headers)).status_code == 400


INNER = (
    "--b\r\nContent-Type: application/http\r\nContent-ID: <1+2>\r\n\r\n"
    "GET /compute/v1/projects/p HTTP/1.1\r\n\r\n\r\n"
)


def test_a_call_without_its_own_token_and_without_a_body() -> None:
    """As gcloud writes: lines end as they like, there may be no headers."""
    (part,) = batch.parse("multipart/mixed; boundary=b", (INNER + "--b--").replace("\r\n", "\n").encode())
    assert part == batch.Part("<1+2>", "GET", "projects/p", {}, b"", None)
    kind, body = batch.answer([(part.id, 404, {"error": {}}), ("<1+3>", 204, {})])
    assert kind.startswith("multipart/mixed; boundary=")
    assert b"Content-ID: <response-1+2>\r\n\r\nHTTP/1.1 404 Not Found\r\n" in body
    assert b"HTTP/1.1 204 No Content" in body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", INNER),
        ("multipart/mixed", INNER),
        ("multipart/mixed; boundary=b", ""),
        ("multipart/mixed; boundary=b", INNER.replace("application/http", "text/plain") + "--b--"),
        ("multipart/mixed; boundary=b", INNER.replace("/compute/v1/", "/storage/v1/") + "--b--"),
        ("multipart/mixed; boundary=b", INNER.replace("GET /compute/v1/projects/p", "GET") + "--b--"),
        ("multipart/mixed; boundary=b", INNER * (batch.LARGEST + 1) + "--b--"),
    ],
)
def test_what_is_no_batch_is_refused(kind: str, body: str) -> None:
    with pytest.raises(ApiError) as refused:
        batch.parse(kind, body.encode())
    assert refused.value.status == 400
