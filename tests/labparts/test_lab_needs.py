"""What a computer lacks to run a lab."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rehost.lab.needs import MODULES, PROGRAMS, Computer, look, needs

FIT = Computer(
    system="linux",
    root=True,
    programs=frozenset(PROGRAMS),
    keyring=True,
    modules=frozenset(MODULES),
    database=True,
    controllers=frozenset({"cpu", "memory", "pids"}),
    loop_devices=True,
    fuse=True,
    resolver=True,
    python="/usr/bin/python3",
)


def test_a_fit_computer_lacks_nothing() -> None:
    assert needs(FIT) == []


def test_all_packages_come_with_one_command() -> None:
    found = needs(replace(FIT, programs=frozenset(PROGRAMS) - {"nft", "lxcfs", "mke2fs", "e2fsck"}))
    assert [need.command for need in found] == ["sudo apt-get install --yes e2fsprogs lxcfs nftables"]


def test_all_python_packages_come_with_one_command() -> None:
    found = needs(replace(FIT, modules=frozenset({"uvicorn"}), database=False))
    assert len(found) == 1
    assert found[0].missing == "Python packages: starlette, nx-27017"
    assert found[0].command == "/usr/bin/python3 -m pip install '.[lab]'"


@pytest.mark.parametrize(
    ("computer", "word"),
    [
        (replace(FIT, root=False), "root"),
        (replace(FIT, keyring=False), "debian-archive-keyring"),
        (replace(FIT, controllers=frozenset({"cpu"})), "memory"),
        (replace(FIT, loop_devices=False), "loop"),
        (replace(FIT, fuse=False), "fuse"),
        (replace(FIT, resolver=False), "loopback"),
        (replace(FIT, system="darwin"), "Linux"),
    ],
)
def test_each_thing_missing_is_named_with_a_command(computer: Computer, word: str) -> None:
    found = needs(computer)
    assert len(found) == 1
    assert word in found[0].missing
    assert found[0].command


def test_everything_missing_is_named_at_once() -> None:
    bare = Computer(
        "linux", False, frozenset(), False, frozenset(), False, frozenset(), False, False, False, "python3"
    )
    assert len(needs(bare)) == 7


def test_this_computer_can_be_looked_at() -> None:
    assert look().system
