"""The versions that Render's native runtimes take where an app says none: by the day on which its service was made.

From Render's documentation ("Setting Your Python Version", "... Ruby Version", "... Elixir and Erlang Versions",
"... Node.js Version", "Supported Languages"), read in November 2026. It tells no history for Go and Rust; that of Node
was not found whole: the present default counts there, and a service that is older may have had another.
"""

from __future__ import annotations

# The first day of each default, the newest first.
_SINCE: dict[str, tuple[tuple[str, str], ...]] = {
    "Python": (("2026-02-11", "3.14"), ("2025-06-12", "3.13"), ("2023-12-04", "3.11"), ("", "3.7")),
    "Node": (("2026-01-14", "22"),),
    "Ruby": (("2025-06-12", "3.4"), ("2024-03-18", "3.3"), ("2023-11-01", "3.2"), ("", "2.6")),
    "Elixir": (("2025-06-12", "1.18"), ("2024-03-05", "1.16"), ("2023-11-01", "1.15"), ("", "1.9")),
    "Go": (("", "1.25"),),
    "Rust": (("", "1"),),  # the latest stable one
}
NEWEST = {language: defaults[0][1] for language, defaults in _SINCE.items()}


def default(language: str, created: str) -> tuple[str, str]:
    """The version, and where it comes from; "" where only the app itself can tell.

    created: the day on which the service was made at Render (ISO 8601), "" where that is not known.
    """
    defaults = _SINCE[language]
    day = created[:10]
    version = next((version for since, version in defaults if day and since <= day), "")
    if not version or len(defaults) == 1:
        return version or NEWEST[language], ""
    return version, f"Render's default for services made on {day}, as this one"
