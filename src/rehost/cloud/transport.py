"""google-auth's transport over httpx: the library brings one for `requests`, which we don't need otherwise.

Interface: https://googleapis.dev/python/google-auth/latest/reference/google.auth.transport.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import google.auth.transport

from rehost.cloud.lean_httpx import httpx
from rehost.cloud.tls import context_for, trust_env_for

TIMEOUT = 30.0


class _Answer(google.auth.transport.Response):
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class HttpxRequest(google.auth.transport.Request):
    """Makes google-auth's requests. One connection pool a URL scheme and host; used for one exchange."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport
        self._clients: dict[str, httpx.Client] = {}

    def __enter__(self) -> HttpxRequest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Answer:
        try:
            response = self._client(url).request(
                method, url, content=body, headers=dict(headers or {}), timeout=timeout or TIMEOUT
            )
        except httpx.HTTPError as error:
            raise google.auth.exceptions.TransportError(f"{url}: {error}") from error  # type: ignore[no-untyped-call]
        return _Answer(response)

    def _client(self, url: str) -> httpx.Client:
        place = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        if place not in self._clients:
            self._clients[place] = httpx.Client(
                verify=context_for(url), trust_env=trust_env_for(url), transport=self._transport
            )
        return self._clients[place]
