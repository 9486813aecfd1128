"""Faults inside a machine: what is done there by its root, and undone."""

from __future__ import annotations

from typing import NamedTuple

from rehost.lab.programs import run

# The file takes the blocks that ext4 reserves for root, too, and costs no room on this computer: nothing is written.
_FILL = """
file=/var/lib/lab-disk-full
command -v fallocate >/dev/null || exit 1
size=0
for step in 67108864 1048576 65536 4096; do
    while fallocate -o "$size" -l "$step" "$file" 2>/dev/null; do size=$((size + step)); done
done
"""
# One process has it, locked (mlockall(2)), so that the others are swapped out and not it. Should memory and swap run
# out, it is the one that the kernel ends.
_EAT = """
eat='
import ctypes, time
MCL_CURRENT, MCL_FUTURE = 1, 2
if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE):
    raise OSError(ctypes.get_errno(), "mlockall")
def left():
    return next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable:")) >> 10
eaten = []
while left() > 64:
    eaten.append(bytes(min(left() - 48, 32) << 20))
open("/run/lab-memory-eaten", "w").close()
time.sleep(9**9)
'
rm -f /run/lab-memory-eaten
systemctl is-active -q lab-memory || systemd-run --quiet --collect --unit=lab-memory python3 -c "$eat"
while systemctl is-active -q lab-memory && ! [ -e /run/lab-memory-eaten ]; do sleep 0.1; done
[ -e /run/lab-memory-eaten ] || { journalctl -n 5 -u lab-memory; exit 1; }
"""
# dpkg's lock is one of fcntl(2), which belongs to a process.
_LOCK = """
hold='import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(9**9)'
systemctl is-active -q lab-apt-lock || systemd-run --quiet --collect --unit=lab-apt-lock python3 -c "$hold"
"""
_HIDE = """
cd /var/cache/apt
if ! [ -e archives.hidden ]; then mv archives archives.hidden; fi
mkdir -p archives/partial
"""
_SHOW = """
cd /var/cache/apt
if [ -e archives.hidden ]; then
    mv -n archives/*.deb archives.hidden/ 2>/dev/null || :
    rm -rf archives
    mv archives.hidden archives
fi
"""


class Pair(NamedTuple):
    """Scripts of POSIX sh that may be run again."""

    harm: str
    mend: str


SCRIPTS = {
    "disk-full": Pair(_FILL, "rm -f /var/lib/lab-disk-full"),
    "memory-eaten": Pair(_EAT, "systemctl stop lab-memory 2>/dev/null || :"),
    "docker-stopped": Pair(
        "systemctl mask --quiet --runtime --now docker.socket docker.service",
        "systemctl unmask --quiet --runtime docker.socket docker.service\n"
        "if [ -e /lib/systemd/system/docker.service ]; then systemctl start docker.service; fi",
    ),
    "apt-locked": Pair(_LOCK, "systemctl stop lab-apt-lock 2>/dev/null || :"),
    "archive-unreachable": Pair(_HIDE, _SHOW),
}


def inside(machine_init: int, script: str) -> None:
    """Runs a script as the machine's root. Raises RehostError with what the script said."""
    words = ["nsenter", f"--target={machine_init}", "--mount", "--pid", "--net", "--ipc", "--uts"]
    words += ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "sh", "-s"]
    run(*words, given=f"set -u\n{script}\n", timeout=120)


def harm(machine_init: int, fault: str) -> None:
    inside(machine_init, SCRIPTS[fault].harm)


def mend(machine_init: int, fault: str) -> None:
    inside(machine_init, SCRIPTS[fault].mend)
