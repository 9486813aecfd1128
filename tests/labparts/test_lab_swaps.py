"""Each machine sees its own swap alone."""

from __future__ import annotations

from pathlib import Path

from rehost.lab.swaps import HEADER, in_use, view

TABLE = f"""{HEADER}
/var/lib/swap                           file\t\t2097148\t\t0\t\t-2
/var/lib/swap                           file\t\t1048572\t\t512\t\t-3
/dev/vdb                                partition\t4194300\t\t0\t\t-4
/other                                  file\t\t1020\t\t0\t\t-5
"""


def test_the_line_with_the_files_own_size_is_its_own() -> None:
    text, total = view(TABLE, lambda file: 1 << 30 if file == "/var/lib/swap" else None)
    lines = text.splitlines()
    assert lines[0] == HEADER
    assert [line.split()[:4] for line in lines[1:]] == [["/var/lib/swap", "file", "1048572", "512"]]
    assert total == 1 << 30


def test_a_machine_without_swap_sees_none() -> None:
    assert view(TABLE, lambda _: None) == (f"{HEADER}\n", 0)


def test_the_hosts_partitions_are_nobodys() -> None:
    text, total = view(TABLE, dict.fromkeys(("/var/lib/swap", "/other", "/dev/vdb"), 1 << 20).get)
    assert "/dev/vdb" not in text
    assert total == 2 << 20


def test_an_ordinary_file_is_not_swap(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    assert in_use(tmp_path, "/file") is None
    assert in_use(tmp_path, "/absent") is None
    assert (tmp_path / "file").read_text() == "words"
