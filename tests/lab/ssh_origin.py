"""Where a disk is today: a container as platforms have them, with busybox, sshd and a user who is not root.

The programs are Debian's, in a directory of their own that is the root of all that runs there.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import CACHE, found, free_port, open_, unpacked
from suite import until, write

USER, UID = "app", 1000
CONFIG = """ListenAddress {address}
Port {port}
HostKey /etc/ssh/key
PidFile none
UsePAM no
PasswordAuthentication no
"""
CLIENT = """Host origin
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {home}/.ssh/id
  UserKnownHostsFile {home}/.ssh/known_hosts
"""


class Origin:
    """root: its /. home: of a person here whose ssh configuration calls it "origin"."""

    def __init__(self, directory: Path, address: str) -> None:
        self.root = directory / "root"
        self.home = directory / "home"
        self.data = self.root / "data"
        self.address, self.port = address, free_port(address)
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("bin", "dev", "data", "etc/ssh", "run/sshd", "home/app/.ssh", "tmp"):
            (self.root / name).mkdir(parents=True)
        self._programs()
        self._people()

    def _programs(self) -> None:
        busybox = shutil.which("busybox") or str(unpacked("busybox-static") / "bin/busybox")
        self._copy(busybox, "bin/busybox", dict(os.environ))
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in {*names} - {"busybox"}:
            (self.root / "bin" / name).symlink_to("busybox")
        sshd, environ = found("sshd", "openssh-server")
        self._copy(sshd, "usr/sbin/sshd", environ)
        # From OpenSSH 9.8 on, a connection is a program of its own.
        for part in Path(sshd).parents[1].glob("lib/openssh/sshd-*"):
            self._copy(str(part), f"usr/lib/openssh/{part.name}", environ)
        for name, minor in {"null": 3, "zero": 5, "urandom": 9}.items():
            os.mknod(self.root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            (self.root / "dev" / name).chmod(0o666)

    def _copy(self, program: str, name: str, environ: dict[str, str]) -> None:
        """A program, and the libraries that it has here, where its loader looks for them."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, self.root / name)
        said = subprocess.run(
            ["ldd", program], env=environ, capture_output=True, text=True, check=False
        ).stdout
        for word in said.split():
            if word.startswith("/") and Path(word).is_file():
                there = self.root / re.sub(rf"^{CACHE}/[^/]+", "", word).lstrip("/")
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, there)

    def _people(self) -> None:
        write(
            self.root,
            {
                "etc/passwd": f"root:x:0:0::/:/bin/sh\nsshd:x:100:100::/run/sshd:/bin/false\n"
                f"{USER}:x:{UID}:{UID}::/home/app:/bin/sh\n",
                "etc/group": f"root:x:0:\n{USER}:x:{UID}:\n",
                "etc/ssh/config": CONFIG.format(address=self.address, port=self.port),
            },
        )
        ssh = self.home / ".ssh"
        ssh.mkdir(parents=True)
        for file in (self.root / "etc/ssh/key", ssh / "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        shutil.copy(ssh / "id.pub", self.root / "home/app/.ssh/authorized_keys")
        key = (self.root / "etc/ssh/key.pub").read_text()
        write(
            ssh,
            {
                "config": CLIENT.format(address=self.address, port=self.port, user=USER, home=self.home),
                "known_hosts": f"[{self.address}]:{self.port} {key}",
            },
        )
        for path in (self.data, self.root / "home/app", *(self.root / "home/app").rglob("*")):
            os.chown(path, UID, UID)

    @contextmanager
    def running(self) -> Iterator[Origin]:
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["chroot", self.root, "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/config"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until(lambda: open_(self.address, self.port), "sshd listens")
            yield self
        finally:
            self.cut()
            self._process.terminate()
            self._process.wait(20)

    def sessions(self) -> dict[int, int]:
        """The processes of open connections, and the bytes that each has written so far."""
        assert self._process is not None
        found = {}
        todo = [self._process.pid]
        while todo:
            # One that ends at this moment has no children.
            with suppress(OSError):
                children = Path(f"/proc/{(pid := todo.pop())}/task/{pid}/children").read_text().split()
                for child in map(int, children):
                    lines = dict(
                        line.split(": ") for line in Path(f"/proc/{child}/io").read_text().splitlines()
                    )
                    found[child] = int(lines["wchar"])
                    todo.append(child)
        return found

    def cut(self) -> None:
        """Breaks all open connections."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
