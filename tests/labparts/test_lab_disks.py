"""Contents of disks as files, and what a machine is told of its devices."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.lab import disks, loops
from rehost.lab.base_files import DISKS_SCRIPT, HARDWARE_SCRIPT
from rehost.lab.devices import Device, free_node, listing
from rehost.lab.disks import Disks, points
from rehost.lab.launcher import LAUNCHER, POWER_ON
from rehost.lab.places import Places
from rehost.run.errors import RehostError
from test_machine_bootstrap import shellcheck

GIB = 1 << 30


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places("test", tmp_path / "state", tmp_path / "cache", IPv4Network("10.70.1.0/24"))


def test_contents_are_made_copied_grown_and_deleted(places: Places) -> None:
    kept = Disks(places)
    blank = disks.file(places, "disks/us-west1-a/data")

    async def main() -> None:
        await kept.make("disks/us-west1-a/data", 2)
        assert (blank.stat().st_size, blank.stat().st_blocks) == (2 * GIB, 0)
        with blank.open("r+b") as handle:
            handle.seek(GIB)
            handle.write(b"x" * 8192)
        stored = await kept.copy("disks/us-west1-a/data", "snapshots/monday")
        assert 8192 <= stored < 1 << 20, "holes take nothing"
        with blank.open("r+b") as handle:
            handle.seek(GIB)
            handle.write(b"y" * 8192)
        await kept.make("disks/us-west1-a/copy", 3, "snapshots/monday")
        with disks.file(places, "disks/us-west1-a/copy").open("rb") as handle:
            handle.seek(GIB)
            assert handle.read(8192) == b"x" * 8192
            handle.seek(0, 2)
            assert handle.tell() == 3 * GIB
        await kept.grow("disks/us-west1-a/copy", 1)
        assert disks.file(places, "disks/us-west1-a/copy").stat().st_size == 3 * GIB, "never shrunk"
        await kept.make("disks/us-west1-a/data", 1)  # what a killed insert left is replaced
        assert (blank.stat().st_size, blank.stat().st_blocks) == (GIB, 0)
        await kept.delete("snapshots/monday")
        await kept.delete("snapshots/monday")

    asyncio.run(main())
    assert sorted(file.name for file in places.store.rglob("*") if file.is_file()) == ["copy", "data"]


def test_a_copy_that_fails_leaves_nothing(places: Places) -> None:
    with pytest.raises(RehostError):
        asyncio.run(Disks(places).copy("disks/us-west1-a/none", "snapshots/s"))
    assert [file for file in places.store.rglob("*") if file.is_file()] == []


def test_where_a_device_is_mounted() -> None:
    table = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "31 27 7:3 / /mnt/my\\040data rw,relatime shared:1 - ext4 /dev/sdb rw\n"
        "32 27 7:3 /sub /srv rw - ext4 /dev/sdb rw\n"
        "33 27 7:33 / /other rw - ext4 /dev/sdc rw\n"
    )
    assert points(table, "7:3") == ["/mnt/my data", "/srv"]
    assert points(table, "7:4") == []


def test_the_list_that_a_machine_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "numbers", lambda device: (7, int(device.removeprefix("/dev/loop"))))
    devices = [Device("sda", "persistent-disk-0"), Device("sdb", "data", "/dev/loop12")]
    assert listing(devices) == "sda / persistent-disk-0\nsdb 7:12 data\n"


@given(st.sets(st.integers(0, 40)))
@settings(max_examples=20)
def test_nodes_are_lettered_as_the_kernel_does(holes: set[int]) -> None:
    taken: list[str] = []
    for _ in range(40):
        taken.append(free_node(taken))
    assert taken[:3] == ["sda", "sdb", "sdc"]
    assert taken[25:28] == ["sdz", "sdaa", "sdab"]
    left = [node for i, node in enumerate(taken) if i not in holes]
    assert free_node(left) == next((node for node in taken if node not in left), "sdao")


def test_shellcheck_reads_the_scripts_around_a_machine() -> None:
    shellcheck(LAUNCHER, POWER_ON, HARDWARE_SCRIPT, DISKS_SCRIPT)


GROW = """
disk=$1 device="" root="" files="" groups=""
{functions}
grow
"""


@pytest.mark.skipif(shutil.which("mke2fs") is None, reason="mke2fs is missing: apt-get install e2fsprogs")
def test_a_file_system_grows_to_its_disk_and_is_left_alone_when_it_fills_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    functions = LAUNCHER[LAUNCHER.index("grow() {") : LAUNCHER.index("# A mount of the former boot")]
    script = GROW.format(functions=functions)

    def held() -> int:
        """Bytes that the file system has. Its superblock: block count at byte 4, block size as a power at 24."""
        block = disk.read_bytes()[1024:2048]
        blocks, power = (int.from_bytes(block[at : at + 4], "little") for at in (4, 24))
        return blocks * (1024 << power)

    def grow() -> str:
        done = subprocess.run(["sh", "-euc", script, "sh", disk], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    disk.touch()
    os.truncate(disk, 8 << 20)
    grow()  # nothing on it: the mount will say so
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True)
    assert held() == 8 << 20
    before = disk.read_bytes()
    grow()
    assert disk.read_bytes() == before
    os.truncate(disk, 16 << 20)
    grow()
    assert held() == 16 << 20
    # As a power cut leaves it: resize2fs wants it checked first.
    os.truncate(disk, 24 << 20)
    subprocess.run(["debugfs", "-w", "-R", "set_super_value state 0", disk], check=True, capture_output=True)
    assert subprocess.run(["resize2fs", disk], capture_output=True, check=False).returncode != 0
    grow()
    assert held() == 24 << 20
    assert subprocess.run(["e2fsck", "-fn", disk], capture_output=True, check=False).returncode == 0
