"""Which build this is, as the file `.content-api.json` beside the package says."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)

BUILD_FILE = Path(__file__).parent.parent / ".content-api.json"


class Build(BaseModel):
    """The version, and the commit that a release pipeline writes in."""

    version: str
    commit: str


def read_build(path: Path = BUILD_FILE) -> Build | None:
    """Read the file; None, with a warning, when it did not travel or cannot be read."""
    try:
        return Build.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        log.warning("%s is missing: /status cannot tell which build this is", path.name)
    except ValidationError:
        log.warning("%s is not as expected: /status cannot tell which build this is", path.name)
    return None
