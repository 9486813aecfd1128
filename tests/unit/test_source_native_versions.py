"""Which version a drafted Dockerfile takes: pins where Render looks for them, and its defaults by a service's age."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rehost.source import native, native_web
from rehost.source.native import Service


def put(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("allowed", "highest"),
    [
        (">=18 <21", 20),
        ("<21.5", 21),
        ("<=18", 18),
        ("^20.1.0", 20),
        ("~18.2", 18),
        ("20.x", 20),
        ("16 - 18", 18),
        ("^18 || ^20", 20),
        (">=14", 22),
        (">=24", 24),
        ("v20.10.0", 20),
        ("*", None),
        ("lts", None),
        ("", None),
    ],
)
def test_the_highest_major_version_of_a_range(allowed: str, highest: int | None) -> None:
    assert native_web.highest(allowed) == highest


@pytest.mark.parametrize(
    ("files", "variables", "wanted"),
    [
        (
            {"Gemfile.lock": "GEM\n\nRUBY VERSION\n   ruby 3.3.1p55\n", ".ruby-version": "3.2.0"},
            {},
            "ruby:3.3.1-",
        ),
        ({".tool-versions": "ruby 3.1.4\n", "Gemfile": 'ruby "3.2.0"\n'}, {}, "ruby:3.1.4-"),
        ({"Gemfile": 'ruby file: ".ruby-version"\n', ".ruby-version": "ruby-3.2.2\n"}, {}, "ruby:3.2.2-"),
    ],
)
def test_rubys_version_stands_where_render_looks(
    tmp_path: Path, files: dict[str, str], variables: dict[str, str], wanted: str
) -> None:
    made = native.dockerfile(Service("ruby", "", "puma", variables=variables), put(tmp_path, files))
    assert f"FROM {wanted}slim-bookworm AS base" in made.dockerfile


@pytest.mark.parametrize(
    ("created", "version"),
    [
        ("2026-03-01T10:00:00Z", "3.14"),
        ("2025-07-01T10:00:00Z", "3.13"),
        ("2024-05-02T10:00:00Z", "3.11"),
        ("2021-05-02T10:00:00Z", "3.7"),
        ("", "3.14"),
    ],
)
def test_a_service_without_a_pin_has_the_default_of_the_day_on_which_it_was_made(
    tmp_path: Path, created: str, version: str
) -> None:
    made = native.dockerfile(Service("python", "", "gunicorn a", created=created), tmp_path)
    first = made.dockerfile.splitlines()[0]
    if created:
        assert first.startswith(
            f"# Python {version}: from Render's default for services made on {created[:10]}"
        )
    else:
        assert first.startswith(f"# Python {version}: nothing pins a version")


def test_a_file_that_render_does_not_look_at_is_named_as_such(tmp_path: Path) -> None:
    put(tmp_path, {"runtime.txt": "python-3.10.4\n"})
    made = native.dockerfile(Service("python", "", "gunicorn a"), tmp_path)
    assert "# Python 3.10: from runtime.txt, which Render does not look at: compare" in made.dockerfile
    put(tmp_path, {".python-version": "3.12\n"})
    made = native.dockerfile(Service("python", "", "gunicorn a"), tmp_path)
    assert "# Python 3.12: from .python-version.\n" in made.dockerfile


def test_bun_is_in_the_image_of_an_app_that_is_started_by_it(tmp_path: Path) -> None:
    put(tmp_path, {"package.json": '{"scripts": {"build": "x"}}', "bun.lock": ""})
    service = Service(
        "node", "bun install && bun run build", "bun src/index.ts", variables={"BUN_VERSION": "1.2.3"}
    )
    lines = native.dockerfile(service, tmp_path).dockerfile.splitlines()
    assert lines.count("RUN npm install --global bun@1.2.3") == 2
    assert "RUN bun install --frozen-lockfile" in lines and "RUN bun run build" in lines
    assert 'CMD ["bun", "src/index.ts"]' in lines
