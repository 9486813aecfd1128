"""App names out of other names."""

from __future__ import annotations

import re

from rehost.project.values import LONGEST_APP


def app_name(name: str) -> str:
    """The nearest name that rehost.toml allows for an app: "My API v2" becomes "my-api-v2"."""
    made = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
    if not made:
        return "app"
    if not made[0].isalpha():
        made = f"app-{made}"
    return made[:LONGEST_APP].rstrip("-")
