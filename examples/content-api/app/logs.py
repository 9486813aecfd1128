"""Logs: one JSON object a line on standard output, with every known secret masked."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime

MASK = "***"

# The request that is being answered; what is logged meanwhile bears its id.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonLines(logging.Formatter):
    """Formats a record as {"time", "level", "logger", "message"[, "request_id"][, ...][, "error"]}.

    Secrets become ***. A record made with `extra={"fields": {...}}` has those fields as well.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__()
        # A message often shows a text as Python writes it, with quotes and backslashes escaped.
        written = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
        self._masked_forms = sorted(written, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._masked(record.getMessage()),
        }
        if (current := request_id.get()) is not None:
            entry["request_id"] = self._masked(current)
        for name, value in getattr(record, "fields", {}).items():
            entry[name] = self._masked(value) if isinstance(value, str) else value
        if record.exc_info:
            entry["error"] = self._masked(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)

    def _masked(self, text: str) -> str:
        # Before JSON escapes quotes and backslashes: afterwards a secret that holds one would not be found.
        for form in self._masked_forms:
            text = text.replace(form, MASK)
        return text


def set_up(level: str, secrets: Sequence[str]) -> None:
    """Send all loggers, uvicorn's too, through one masking handler."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)  # the driver warns about options of the connection string
    # At debug level the driver logs whole commands, and with them what users wrote.
    logging.getLogger("pymongo").setLevel(logging.INFO)
