"""What a lab takes of the computer, read from files that look as the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehost.lab import cgroups, usage
from rehost.lab.cgroups import Hierarchy
from rehost.lab.places import Places


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Places.claim("mine")


@pytest.mark.parametrize(
    ("v2", "usage_file", "cache"),
    [(False, "memory.usage_in_bytes", "total_inactive_file"), (True, "memory.current", "inactive_file")],
)
def test_a_machine_s_memory_is_without_file_cache(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, v2: bool, usage_file: str, cache: str
) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [Hierarchy(tmp_path, v2, frozenset())])
    assert usage.machine_memory(places, "vm") == 0
    group = tmp_path / places.cgroup / "vm"
    group.mkdir(parents=True)
    (group / usage_file).write_text("5000\n")
    (group / "memory.stat").write_text(f"rss 3\nactive_file 7\n{cache} 2000\n")
    assert usage.machine_memory(places, "vm") == 3000


def test_disk_counts_what_sparse_files_take(places: Places) -> None:
    before = usage.disk(places)
    (places.state / "store").mkdir()
    with (places.state / "store" / "disk").open("wb") as file:
        file.write(b"x" * 100_000)
        file.truncate(10**9)
    assert 100_000 <= usage.disk(places) - before < 1_000_000
