"""What trees are built from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from rehost.lab import images, trees
from rehost.lab.places import locked
from rehost.lab.trees import HostSettings, apt_options, debian_sources, recipe_key
from rehost.run.errors import Refused, RehostError

HOST = HostSettings("deb http://deb.example/debian bookworm main\n", (), {})

DEB822 = """\
Types: deb deb-src
# a comment inside a stanza
URIs: http://deb.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.example/security
Suites:
 bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://one.example/debian bookworm main
deb-src http://one.example/debian bookworm main
"""
OTHERS = """\
deb [signed-by=/etc/apt/keyrings/docker.asc] https://docker.example/linux/debian bookworm stable
deb https://postgres.example/apt bookworm-pgdg main
deb [signed-by=/etc/apt/keyrings/other.gpg] https://other.example/debian bookworm main
deb http://deb.example/debian trixie main
"""


def test_sources_in_the_newer_form() -> None:
    assert debian_sources([DEB822]).splitlines() == [
        "deb http://deb.example/debian bookworm main",
        "deb http://deb.example/debian bookworm-updates main",
        "deb http://deb.example/security bookworm-security main",
    ]


def test_sources_in_the_one_line_form() -> None:
    assert debian_sources([ONE_LINE]) == "deb http://one.example/debian bookworm main\n"


def test_other_publishers_and_suites_are_left_out() -> None:
    assert debian_sources([OTHERS]) == ""
    assert debian_sources([OTHERS, ONE_LINE]) == "deb http://one.example/debian bookworm main\n"


def test_a_disabled_stanza_is_left_out() -> None:
    assert debian_sources([f"Enabled: no\n{DEB822.split(chr(10) * 2, maxsplit=1)[0]}\n"]) == ""


def test_security_without_the_release_is_no_source() -> None:
    assert debian_sources(["deb http://deb.example/security bookworm-security main\n"]) == ""


def test_only_what_reaches_the_archive_is_taken_over() -> None:
    dump = (
        'APT "";\nAcquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::Retries "3";\nAcquire::Check-Date "false";\n'
    )
    assert apt_options(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
    )


@pytest.mark.parametrize("kind", ["base", "images"])
def test_the_key_follows_everything_that_builds_a_tree(kind: str) -> None:
    keys = {
        recipe_key(kind, HOST),
        recipe_key(kind, dataclasses.replace(HOST, sources="")),
        recipe_key(kind, dataclasses.replace(HOST, certificates={"a.crt": b"one"})),
        recipe_key(kind, dataclasses.replace(HOST, certificates={"a.crt": b"two"})),
        recipe_key(kind, dataclasses.replace(HOST, apt_options=('Acquire::Check-Date "false";',))),
    }
    assert len(keys) == 5
    assert recipe_key(kind, HOST) in keys


def test_a_changed_recipe_is_a_new_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe_key("base", HOST)
    monkeypatch.setattr(trees, "FETCHED_PACKAGES", ("docker.io",))
    assert recipe_key("base", HOST) != before


def quiet(_: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which building a tree writes one file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(trees, "host_settings", lambda: HOST)
    monkeypatch.setattr(trees, "_build_base", lambda half, *_: (half / "disk.ext4").write_text("base"))
    monkeypatch.setattr(trees, "_build_images", lambda half, *_: (half / "storage").mkdir())
    return tmp_path / "rehost/lab"


def test_trees_are_built_once_and_dropped(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.prepare(quiet)
    assert trees.prepared()
    assert trees.cache_size() > 0
    monkeypatch.setattr(trees, "_build_base", None)  # calling it again would fail
    trees.prepare(quiet)
    trees.drop_cache()
    assert not trees.prepared()
    assert not built.exists()
    assert trees.cache_size() == 0


def test_a_failed_build_leaves_nothing_that_passes_for_whole(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_done(half: Path, *_: object) -> None:
        (half / "disk.ext4").write_text("ba")
        raise RehostError("the archive is gone")

    whole = trees._build_base
    monkeypatch.setattr(trees, "_build_base", half_done)
    with pytest.raises(RehostError, match="archive"):
        trees.prepare(quiet)
    assert not trees.base_disk().exists()
    monkeypatch.setattr(trees, "_build_base", whole)
    trees.prepare(quiet)
    assert trees.base_disk().read_text() == "base"
    assert not list(built.glob(".*.half"))


def test_trees_that_nobody_used_for_long_go(built: Path) -> None:
    built.mkdir(parents=True)
    for name, days in (("base-0ld", 30), ("base-recent", 3)):
        (built / name).mkdir()
        then = time.time() - days * 86400
        os.utime(built / name, (then, then))
    trees.prepare(quiet)
    assert not (built / "base-0ld").exists()
    assert (built / "base-recent").exists()


def test_what_killed_builds_left_goes_and_what_is_being_built_stays(built: Path) -> None:
    for name in (".base-killed.half", ".base-going.half"):
        (built / name).mkdir(parents=True)
    with locked(built / ".base-going.lock"):
        trees.prepare(quiet)
        assert [path.name for path in built.glob(".*.half")] == [".base-going.half"]
        with pytest.raises(Refused, match="base-going"):
            trees.drop_cache()
        assert trees.prepared()
    trees.drop_cache()
    assert not built.exists()


def test_the_stand_in_says_what_it_is() -> None:
    config = images.image_config("sha256:00", certificates=True)
    inner = config["config"]
    assert isinstance(inner, dict)
    assert "not python:3.11-slim-bookworm" in json.dumps(inner["Labels"])
    assert any("PIP_CERT" in str(value) for value in inner["Env"])  # type: ignore[union-attr]
    assert "PIP_CERT" not in json.dumps(images.image_config("sha256:00", certificates=False))


def test_a_layers_digest_is_of_the_uncompressed_bytes(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(os.urandom(3 << 20))
    digest = images._compress(layer, tmp_path / "a.gz")
    assert digest == f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}"
    images._compress(layer, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
