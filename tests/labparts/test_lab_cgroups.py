"""Limits as the kernel's files, and which hierarchies there are."""

from __future__ import annotations

from pathlib import Path

from rehost.lab.cgroups import Hierarchy, limits, parse_mounts, unified
from rehost.lab.hardware import Hardware

HYBRID = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
35 30 0:28 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
"""
UNIFIED = "31 22 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
SMALL = Hardware(memory_mib=1024, cpus=0.5)


def test_a_hybrid_host_limits_by_version_1() -> None:
    found = parse_mounts(HYBRID)
    assert [one.root.name for one in found] == ["systemd", "cpu,cpuacct", "memory", "unified"]
    assert not unified(found)


def test_a_unified_host_limits_by_version_2() -> None:
    found = parse_mounts(UNIFIED)
    assert found == [Hierarchy(Path("/sys/fs/cgroup"), True, frozenset())]
    assert unified(found)
    assert limits(SMALL, found[0]) == {
        "memory.max": str(1 << 30),
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
    }


def test_each_controller_of_version_1_has_its_own_files() -> None:
    systemd, cpu, memory, _ = parse_mounts(HYBRID)
    assert limits(SMALL, systemd) == {}
    assert limits(SMALL, cpu) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
    # The order counts: memory and swap together may not be under memory alone.
    assert list(limits(SMALL, memory).items()) == [
        ("memory.limit_in_bytes", str(1 << 30)),
        ("memory.memsw.limit_in_bytes", str(1 << 30)),
    ]
