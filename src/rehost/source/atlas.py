"""MongoDB Atlas's access list of a project: who may connect to its clusters (Atlas Administration API v2).

Keys are those of Atlas's own command line: a service account (MONGODB_ATLAS_CLIENT_ID, _CLIENT_SECRET) or an API key
(MONGODB_ATLAS_PUBLIC_API_KEY, _PRIVATE_API_KEY, by HTTP Digest). rehost keeps them nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from rehost.cloud.lean_httpx import httpx
from rehost.cloud.tls import context_for, trust_env_for
from rehost.run.errors import RehostError, UsageError
from rehost.run.secret import Secret

BASE: Final = "https://cloud.mongodb.com"
BASE_VARIABLE: Final = "MONGODB_ATLAS_BASE_URL"  # as Terraform's provider calls it
PROJECT_VARIABLE: Final = "MONGODB_ATLAS_PROJECT_ID"
_ACCOUNT: Final = ("MONGODB_ATLAS_CLIENT_ID", "MONGODB_ATLAS_CLIENT_SECRET")
_KEY: Final = ("MONGODB_ATLAS_PUBLIC_API_KEY", "MONGODB_ATLAS_PRIVATE_API_KEY")
_VERSION: Final = "application/vnd.atlas.2023-01-01+json"
_PAGE: Final = 500  # the most that a list gives at once
_SECONDS: Final = 30.0


class Access(NamedTuple):
    """What lets us in: project, and either a service account or an API key (name and secret)."""

    project: str
    name: str
    secret: Secret
    by_account: bool
    base: str


class Entry(NamedTuple):
    """One line of the access list. value: an address or a range as Atlas calls it."""

    value: str
    comment: str


def access(environ: Mapping[str, str]) -> Access:
    """Raises UsageError, naming the variables that are missing."""
    given = {
        name: environ.get(name, "").strip() for name in (PROJECT_VARIABLE, *_ACCOUNT, *_KEY, BASE_VARIABLE)
    }
    pair = next((pair for pair in (_ACCOUNT, _KEY) if all(given[name] for name in pair)), None)
    if pair is None or not given[PROJECT_VARIABLE]:
        raise UsageError(
            "Atlas's keys are not in the environment.",
            cure=f"Make a service account or API key with the role Project Owner in Atlas, and export "
            f"{PROJECT_VARIABLE} with {' and '.join(_ACCOUNT)}, or with {' and '.join(_KEY)}.",
        )
    base = given[BASE_VARIABLE].rstrip("/") or BASE
    parts = urlsplit(base)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise UsageError(
            "Atlas's keys go over https alone.",
            cure=f"Correct {BASE_VARIABLE}, or unset it.",
            where=BASE_VARIABLE,
        )
    return Access(given[PROJECT_VARIABLE], given[pair[0]], Secret(given[pair[1]]), pair is _ACCOUNT, base)


class Atlas:
    """The access list of one project. Use as an asynchronous context manager."""

    def __init__(self, given: Access) -> None:
        self._given = given
        url = f"{given.base}/api/atlas/v2/groups/{quote(given.project, safe='')}/accessList"
        self._client = httpx.AsyncClient(
            timeout=_SECONDS, verify=context_for(given.base), trust_env=trust_env_for(given.base),
            headers={"Accept": _VERSION},
        )  # fmt: skip
        self._url = url
        self._digest = None if given.by_account else httpx.DigestAuth(given.name, given.secret.reveal())
        self._token = ""

    async def __aenter__(self) -> Atlas:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def entries(self) -> list[Entry]:
        """Every page of the list."""
        found: list[Entry] = []
        page = 1
        while True:
            answer = await self._ask("GET", self._url, params={"itemsPerPage": _PAGE, "pageNum": page})
            listed = answer.get("results") or []
            found += [
                Entry(str(each.get("ipAddress") or each.get("cidrBlock") or each.get("awsSecurityGroup") or ""),
                      str(each.get("comment") or ""))
                for each in listed
            ]  # fmt: skip
            if not listed or len(found) >= int(answer.get("totalCount") or 0):
                return found
            page += 1

    async def add(self, address: str, comment: str) -> None:
        await self._ask("POST", self._url, json=[{"ipAddress": address, "comment": comment}])

    async def remove(self, value: str) -> None:
        await self._ask("DELETE", f"{self._url}/{quote(value, safe='')}")

    async def _ask(self, method: str, url: str, **more: Any) -> Mapping[str, Any]:
        """Raises RehostError with Atlas's own `detail`, and nothing else of its answer."""
        try:
            if self._given.by_account and not self._token:
                await self._log_in()
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            auth = self._digest if self._digest is not None else httpx.USE_CLIENT_DEFAULT
            answer = await self._client.request(method, url, headers=headers, auth=auth, **more)
            return self._read(answer)
        except httpx.HTTPError as failed:
            raise self._error(
                f"Atlas does not answer: {type(failed).__name__}.", "Is the network up?"
            ) from failed

    async def _log_in(self) -> None:
        answer = await self._client.post(
            f"{self._given.base}/api/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=httpx.BasicAuth(self._given.name, self._given.secret.reveal()),
            headers={"Accept": "application/json"},
        )
        self._token = str(self._read(answer).get("access_token") or "")

    def _read(self, answer: httpx.Response) -> Mapping[str, Any]:
        if answer.status_code == 204 or not answer.content:
            found: Any = {}
        else:
            try:
                found = answer.json()
            except ValueError:
                found = {}
        body: dict[str, Any] = found if isinstance(found, dict) else {}
        if answer.is_success:
            return body
        cure = {
            401: "Correct the keys; an API key may also be restricted to addresses of its own access list.",
            403: "The key needs the role Project Owner; it may also be restricted to addresses of its own access list.",
            404: f"Correct {PROJECT_VARIABLE}, or the entry.",
        }.get(answer.status_code, "Try again later.")
        detail = str(body.get("detail") or body.get("error_description") or answer.reason_phrase)
        raise self._error(f"Atlas answers {answer.status_code}: {detail}", cure)

    def _error(self, what: str, cure: str) -> RehostError:
        return RehostError(what, cure=cure, where=f"Atlas project {self._given.project}")
