"""docs/lab.md says what the API knows; this holds it to the code."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from rehost.lab import compute  # enters all methods in the table
from rehost.lab.compute_call import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()


def table() -> str:
    families: defaultdict[str, list[str]] = defaultdict(list)
    for method in sorted(METHODS):
        family, name = method.split(".")
        families[family].append(f"`{name}`")
    rows = [f"| `{family}` | {', '.join(names)} |" for family, names in families.items()]
    return "\n".join(["| | methods |", "|---|---|", *rows])


def test_every_method_is_documented_and_no_other() -> None:
    assert compute.FAMILIES
    assert table() in PAGE, f"docs/lab.md, section Methods, should read:\n\n{table()}\n"
