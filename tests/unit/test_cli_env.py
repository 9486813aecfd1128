"""`rehost env diff`: files, the release that serves, and Render, by name and never by value."""

from __future__ import annotations

from pathlib import Path

import pytest

import render_fake
from project_here import last, typed
from test_cli_site import Scripted, machine

__all__ = ["machine"]


def at_render(project: Path, service: str) -> None:
    file = project / "rehost.toml"
    file.write_text(file.read_text().replace("[env]\n", f'[source]\nrender = "{service}"\n\n[env]\n'))


def test_render_is_compared_too(machine: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = render_fake.web()
    values = {"SECRET_KEY": "hunter2 hunter2", "OTHER": "of Render, 1234567", "ONLY_THERE": "x"}
    fake = render_fake.FakeRender(
        services=[service], variables={service["id"]: render_fake.variables(**values)}
    )
    at_render(tmp_path / "project", service["id"])
    without_key = last(typed("env", "diff", "--json"))
    assert without_key["at_render"] is None
    monkeypatch.setenv("RENDER_API_KEY", render_fake.KEY)
    with render_fake.served(fake) as address:
        monkeypatch.setenv("RENDER_HOST", address)
        people = typed("env", "diff")
        assert [line for line in people.stdout.splitlines() if line.startswith("at Render")] == [
            "at Render: - ONLY_THERE",
            "at Render: ~ OTHER",
        ]
        assert "1234567" not in people.output
        assert last(typed("env", "diff", "--json"))["at_render"] == [
            {"name": "ONLY_THERE", "before": "set", "after": None},
            {"name": "OTHER", "before": "set", "after": "changed"},
        ]
        # The exit code is about the release alone.
        assert people.exit_code == 1
        fake.variables[service["id"]] = render_fake.variables(SECRET_KEY="hunter2 hunter2", OTHER="1")
        assert "Render has the same." in typed("env", "diff").stdout


def test_set_says_what_makes_it_take_effect(machine: Scripted) -> None:
    result = typed("env", "set", "NEW", stdin=b"x")
    assert "`rehost deploy`" in result.stdout
    assert "`rehost deploy`" in typed("env", "unset", "NEW").stdout
