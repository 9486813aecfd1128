"""What the world gets: one request to the machine's public address."""

from __future__ import annotations

from dataclasses import dataclass

from rehost.cloud.lean_httpx import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """status 0: no answer; text is then the reason. Otherwise the first 300 characters of the body."""

    status: int
    text: str
    url: str


async def ask(address: str, path: str, host: str = "", *, seconds: float = 10.0) -> Answer:
    """GETs http://ADDRESS/PATH under the Host header `host`, from this computer, past any proxy setting of its."""
    shown = f"[{address}]" if address.count(":") > 1 else address  # version 6; with one, a port follows
    url = f"http://{shown}{path}"
    headers = {"Host": host} if host else {}
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
            response = await client.get(url, headers=headers)
    except httpx.HTTPError as fault:
        return Answer(0, str(fault) or type(fault).__name__, url)
    return Answer(response.status_code, response.text[:300], url)
