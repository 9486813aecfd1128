"""Log lines: always one JSON object, never a secret."""

from __future__ import annotations

import json
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from app.logs import JsonLines


@given(st.text(), st.text(min_size=4), st.text())
def test_a_secret_is_masked_whatever_stands_around_it(before: str, secret: str, after: str) -> None:
    line = JsonLines([secret]).format(
        logging.LogRecord("app", logging.INFO, "x.py", 1, "%s", (before + secret + after,), None)
    )
    assert "\n" not in line
    message = json.loads(line)["message"]
    assert message == (before + secret + after).replace(secret, "***")


def test_a_secret_in_a_traceback_is_masked() -> None:
    secret = "Zx9\\sentinel\"'"
    try:
        int(f"cannot use {secret}")
    except ValueError:
        record = logging.LogRecord("app", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    entry = json.loads(JsonLines([secret]).format(record))
    assert entry["level"] == "error"
    assert "ValueError: invalid literal" in entry["error"]
    assert "sentinel" not in entry["error"]
