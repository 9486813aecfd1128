"""What this computer lacks to run a lab. Looks only; changes nothing."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rehost.lab import cgroups, database, network
from rehost.lab.programs import found

# program -> Debian package
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "lxcfs": "lxcfs",
    "mke2fs": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "losetup": "mount",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "apt-config": "apt",
    "dpkg-deb": "dpkg",
}
MODULES = ("starlette", "uvicorn")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is missing, and the exact command (or act) that gets it."""

    missing: str
    command: str

    def __str__(self) -> str:
        return f"{self.missing}: {self.command}"


@dataclass(frozen=True, slots=True)
class Computer:
    """What is looked at, as data."""

    system: str
    root: bool
    programs: frozenset[str]
    keyring: bool
    modules: frozenset[str]
    database: bool
    controllers: frozenset[str]
    loop_devices: bool
    fuse: bool
    resolver: bool
    python: str


def needs(computer: Computer) -> list[Need]:
    """What such a computer lacks (pure)."""
    if computer.system != "linux":
        return [Need("Linux: machines are Linux containers", "run the lab on a Debian 12 machine")]
    out = []
    if not computer.root:
        out.append(Need("root: machines need networks, mounts and limits of their own", "sudo rehost lab up"))
    packages = {package for program, package in PROGRAMS.items() if program not in computer.programs}
    if not computer.keyring:
        packages.add("debian-archive-keyring")
    if packages:
        names = " ".join(sorted(packages))
        out.append(Need(f"packages: {names}", f"sudo apt-get install --yes {names}"))
    absent = sorted({*MODULES} - computer.modules) + ([] if computer.database else ["nx-27017"])
    if absent:
        out.append(
            Need(f"Python packages: {', '.join(absent)}", f"{computer.python} -m pip install '.[lab]'")
        )
    checks: list[tuple[bool, str, str]] = [
        (
            {"memory", "cpu"} <= computer.controllers,
            "the cgroup controllers memory and cpu: a machine's limits",
            "run the lab where they are mounted: in a virtual machine, not in a container",
        ),
        (computer.loop_devices, "loop devices (/dev/loop-control): machines' disks", "sudo modprobe loop"),
        (computer.fuse, "/dev/fuse: lxcfs", "sudo modprobe fuse"),
        (
            computer.resolver,
            "a name server that machines can reach: those of /etc/resolv.conf answer on loopback only",
            "put the address of a name server of your network into /etc/resolv.conf "
            "(with systemd-resolved: sudo ln -sf /run/systemd/resolve/resolv.conf /etc/resolv.conf)",
        ),
    ]
    out += [Need(what, command) for there, what, command in checks if not there]
    return out


def missing() -> list[Need]:
    """What this computer lacks; empty when a lab can run."""
    return needs(look())


def look() -> Computer:
    linux = sys.platform == "linux"
    return Computer(
        system=sys.platform,
        root=os.geteuid() == 0,
        programs=frozenset(program for program in PROGRAMS if found(program)),
        keyring=KEYRING.exists(),
        modules=frozenset(module for module in MODULES if importlib.util.find_spec(module)),
        database=database.program() is not None,
        controllers=_controllers() if linux else frozenset(),
        loop_devices=Path("/dev/loop-control").exists(),
        fuse=Path("/dev/fuse").exists(),
        resolver=network.nameserver(_text(Path("/etc/resolv.conf"))) is not None,
        python=sys.executable,
    )


def _controllers() -> frozenset[str]:
    present = cgroups.hierarchies()
    names: set[str] = set()
    for one in present:
        names |= one.controllers
        if one.v2 and cgroups.unified(present):
            names |= set(_text(one.root / "cgroup.controllers").split())
    return frozenset(names)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
