"""Findings: what `rehost check` and the remarks under a plan are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rehost.run.events import Json

Severity = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was looked at.

    severity: "error" stops `rehost up`, or the app that it starts; "warning" does not. what: one sentence.
    cure: what to do, "" when nothing is to be done. where: the file, key or resource.
    """

    severity: Severity
    what: str
    cure: str = ""
    where: str = ""

    def as_json(self) -> dict[str, Json]:
        out: dict[str, Json] = {"severity": self.severity, "what": self.what}
        if self.cure:
            out["cure"] = self.cure
        if self.where:
            out["where"] = self.where
        return out
