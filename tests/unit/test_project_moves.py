"""[moves]: what a value means, and where a key may point."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.project.config import parse
from rehost.project.moves import Directory, Variable, origin

TOML = 'app = "a"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n'


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (
            "srv-abc@ssh.oregon.render.com:/var/data",
            Directory("srv-abc", "ssh.oregon.render.com", "/var/data"),
        ),
        ("old:/srv/uploads/", Directory("", "old", "/srv/uploads")),
        ("old:/", Directory("", "old", "/")),
        ("ada@[2001:db8::1]:/srv/my files", Directory("ada", "2001:db8::1", "/srv/my files")),
        ("OLD_DATABASE_URL", Variable("OLD_DATABASE_URL")),
    ],
)
def test_a_value_is_a_directory_or_a_variable(written: str, found: object) -> None:
    assert origin(written) == found


def test_a_move_points_to_volumes_of_the_app_and_of_services_and_to_services() -> None:
    project = parse(
        TOML + '[run]\nvolumes = ["data:/data"]\n[services.db]\nimage = "db:1"\nvolumes = ["files:/x"]\n'
        '[moves]\ndata = "h:/d"\nfiles = "h:/f"\ndb = "OLD"\n',
        Path(),
    )
    assert {name: str(where) for name, where in project.moves.items()} == {
        "data": "h:/d", "files": "h:/f", "db": "OLD"
    }  # fmt: skip


def test_a_service_and_a_volume_of_one_name_are_told_apart_by_the_value() -> None:
    both = TOML + '[services.redis]\nimage = "redis:7"\nvolumes = ["redis:/data"]\n[moves]\nredis = '
    assert parse(both + '"OLD_REDIS_URL"\n', Path()).moves == {"redis": Variable("OLD_REDIS_URL")}
    assert parse(both + '"old:/data"\n', Path()).moves == {"redis": Directory("", "old", "/data")}


@given(st.text())
def test_any_text_is_a_place_or_refused_without_being_shown(text: str) -> None:
    try:
        found = origin(text)
    except ValueError as wrong:
        assert len(text) < 9 or text not in str(wrong)
    else:
        assert isinstance(found, Variable) or found.path.startswith("/")
