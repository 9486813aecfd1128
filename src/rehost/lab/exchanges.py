"""A record of every exchange with the Compute API, for tests that hold all traffic to Google's schema.

Kept only when the variable REHOST_LAB_EXCHANGES names a file: `rehost lab up` hands it to the lab's server, and
several labs may write to the same file. One JSON object a line:

    agent    the client's User-Agent
    verb     GET, POST, ...
    path     what comes after /compute/v1/
    query    parameters; those that hold credentials are left out
    request  the body: JSON, or text where it is none; null without one
    status   of the answer
    answer   its body
    wire     how the connection was made to fail (faults.ON_WIRE), or null

Bodies hold what the caller sent: startup scripts, public keys. Headers are not kept, but for the User-Agent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "REHOST_LAB_EXCHANGES"
# Query parameters by which every Google API also takes credentials.
_CREDENTIALS = frozenset(("access_token", "oauth_token", "key"))


class Exchanges:
    """Appends to a file that its owner alone can read."""

    def __init__(self, file: Path) -> None:
        self._file = os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb", 0)

    @classmethod
    def asked_for(cls) -> Exchanges | None:
        """As the environment says; None when no record is wanted."""
        return cls(Path(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else None

    def write(
        self,
        *,
        agent: str,
        verb: str,
        path: str,
        query: dict[str, str],
        request: bytes,
        status: int,
        answer: dict[str, Any],
        wire: str | None,
    ) -> None:
        kept = {name: value for name, value in query.items() if name not in _CREDENTIALS}
        line = {
            "agent": agent, "verb": verb, "path": path, "query": kept, "request": _body(request),
            "status": status, "answer": answer, "wire": wire,
        }  # fmt: skip
        # One write to a file that is appended to: lines of two labs don't mix.
        self._file.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def _body(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")
