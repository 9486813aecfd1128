"""Other ways to bring a changed app onto a machine with Docker, each doing the nearest same thing.

All of them build on the machine like rehost, but for `docker load`, which is given an image that stands ready here; all
replace the container and wait until it is healthy. None of them has a proxy: the app is away while it is replaced. That
saves them a switch, a drain and a record. Each is tuned as its users are told to: rsync with compression, Ansible with
pipelining, one shared connection and without facts, its files by rsync. rsync and both tools act only on what changed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

Act: TypeAlias = Callable[[], object]

PACKAGES: Final = ("pyinfra==3.10.0", "ansible-core==2.19.14")
PORT: Final = 30001
USER: Final = "rehost"

_WAIT: Final = (
    f"tries=0; until curl -sf -o /dev/null http://127.0.0.1:{PORT}/health; do tries=$((tries + 1)); "
    "[ $tries -lt 200 ] || exit 1; sleep 0.05; done"
)

_PYINFRA: Final = """
from pyinfra.operations import files, server

code = files.sync(src={app!r}, dest="{home}/app", delete=True)
env = files.put(src={env!r}, dest="{home}/env")
server.shell(commands=[{build!r}], _sudo=True, _if=code.did_change)
server.shell(commands=[{replace!r}], _sudo=True, _if=lambda: code.did_change() or env.did_change())
"""

_PLAYBOOK: Final = """
- hosts: all
  gather_facts: false
  tasks:
    - command: {rsync}
      delegate_to: localhost
      register: code
      changed_when: code.stdout != ""
    - copy: {{ src: "{env}", dest: "{home}/env" }}
      register: env
    - shell: {build}
      become: true
      when: code.changed
    - shell: {replace}
      become: true
      when: code.changed or env.changed
"""


def _build(tool: str) -> str:
    return (
        f"docker tag bench-{tool} bench-{tool}:before 2>/dev/null; "
        f"DOCKER_BUILDKIT=1 docker build -q -t bench-{tool} /home/{USER}/{tool}/app"
    )


def _replace(tool: str, tag: str = "latest") -> str:
    return (
        "docker rm -f bench-rival >/dev/null 2>&1; "
        f"docker run -d --name bench-rival --env-file /home/{USER}/{tool}/env -p 127.0.0.1:{PORT}:8080 "
        f"bench-{tool}:{tag} >/dev/null && {_WAIT}"
    )


class Rivals:
    """app: the directory of the build context; env: the env file. The benchmark changes both as it goes."""

    def __init__(self, home: Path, app: Path, env: Path, machine: str, key: Path, known: Path) -> None:
        self._home, self._app, self._env, self._machine, self._key, self._known = (
            home, app, env, machine, key, known,
        )  # fmt: skip
        self._options = [
            "-F", "/dev/null", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
            "-o", "LogLevel=ERROR",
        ]  # fmt: skip
        self.ssh: Final = ["ssh", *self._options, f"{USER}@{machine}"]
        self._tools = home / "venv" / "bin"
        self._image = home / "image.tar"
        shared = shlex.join([*self._options, "-o", "ControlMaster=auto", "-o", "ControlPersist=60s"])
        self._environ = {
            **os.environ, "HOME": str(home), "ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_ARGS": shared,
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }  # fmt: skip

    def prepare(self) -> None:
        """A throw-away environment with the tools, their files, and the directories on the machine."""
        venv.create(self._tools.parent, with_pip=True)
        quiet = ("--quiet", "--disable-pip-version-check", "--only-binary=:all:")
        self._run(str(self._tools / "pip"), "install", *quiet, *PACKAGES)
        self.on_machine("mkdir -p scp rsync load pyinfra ansible")
        for tool, name, text in (
            ("pyinfra", "deploy.py", _PYINFRA),
            ("ansible", "playbook.yml", _PLAYBOOK),
        ):
            home = f"/home/{USER}/{tool}"
            words = {"home": home, "app": str(self._app), "env": str(self._env), "build": _build(tool)}
            line = shlex.join(self._rsync(self._app, "ansible"))
            (self._home / name).write_text(text.format(**words, replace=_replace(tool), rsync=line))

    def deploys(self) -> Mapping[str, Act]:
        """What brings the app and its environment to the machine, and what it does when both are there already."""
        return {
            "rsync, ssh docker build": self.rsync,
            "scp -r, ssh docker build": self.scp,
            "ssh docker load <image.tar": self.load,
            "pyinfra": self.pyinfra,
            "Ansible": self.ansible,
        }

    def on_machine(self, command: str) -> str:
        return self._run(*self.ssh, command)

    def root(self, command: str) -> str:
        return self.on_machine(f"sudo sh -c {shlex.quote(command)}")

    # -- deploys -------------------------------------------------------------------------------------------

    def rsync(self) -> None:
        code = self._run(*self._rsync(self._app, "rsync"))
        env = self._run(*self._rsync(self._env, "rsync/env"))
        steps = [_build("rsync")] * bool(code) + [_replace("rsync")] * bool(code or env)
        if steps:
            self.root("; ".join(steps))

    def scp(self) -> None:
        there = f"{USER}@{self._machine}:scp"
        self._run("scp", "-q", "-r", *self._options, str(self._app), f"{there}/")
        self._run("scp", "-q", *self._options, str(self._env), f"{there}/env")
        self.root(f"{_build('scp')}; {_replace('scp')}")

    def load(self) -> None:
        with self._image.open("rb") as image:
            subprocess.run(
                [*self.ssh, "sudo docker load -q"], stdin=image, check=True, stdout=subprocess.DEVNULL
            )
        self._run("scp", "-q", *self._options, str(self._env), f"{USER}@{self._machine}:load/env")
        self.root(_replace("load"))

    def ready_image(self) -> None:
        """What `docker load` is given: the image as a local build would have left it. Not timed."""
        self._run(*self._rsync(self._app, "load"))
        self.root(_build("load"))
        with self._image.open("wb") as image:
            subprocess.run([*self.ssh, "sudo docker save bench-load"], stdout=image, check=True)
        self.root("docker rmi bench-load >/dev/null")

    def pyinfra(self) -> None:
        self._pyinfra(str(self._home / "deploy.py"))

    def ansible(self) -> None:
        self._ansible("ansible-playbook", str(self._home / "playbook.yml"))

    # -- the smaller jobs ----------------------------------------------------------------------------------

    def ssh_true(self) -> None:
        self.on_machine("true")

    def back(self) -> Mapping[str, Act]:
        """The image before, again: no record of its environment, no gate in front of traffic."""
        command = _replace("rsync", "before")
        return {
            "ssh docker run": lambda: self.root(command),
            "pyinfra": lambda: self._pyinfra("exec", "--", f"sudo sh -c {shlex.quote(command)}"),
            "Ansible": lambda: self._ansible("ansible", "all", "-b", "-m", "shell", "-a", command),
        }

    def logs(self) -> Mapping[str, Act]:
        command = "docker logs --tail 200 bench-rival"
        return {
            "ssh docker logs": lambda: self.root(command),
            "pyinfra": lambda: self._pyinfra("exec", "--", f"sudo {command}"),
            "Ansible": lambda: self._ansible("ansible", "all", "-b", "-m", "shell", "-a", command),
        }

    def starts(self) -> Mapping[str, Act]:
        return {
            "pyinfra --version": lambda: self._run(str(self._tools / "pyinfra"), "--version"),
            "ansible --version": lambda: self._run(str(self._tools / "ansible"), "--version"),
        }

    # -- how ---------------------------------------------------------------------------------------------------

    def _rsync(self, source: Path, to: str) -> list[str]:
        """The line; it prints what it changed."""
        ssh = shlex.join(["ssh", *self._options])
        return ["rsync", "-azi", "--delete", "-e", ssh, str(source), f"{USER}@{self._machine}:{to}"]

    def _pyinfra(self, *words: str) -> None:
        data = (f"ssh_known_hosts_file={self._known}", "ssh_strict_host_key_checking=yes")
        given = [word for one in data for word in ("--data", one)]
        login = ("--ssh-user", USER, "--ssh-key", str(self._key))
        self._run(str(self._tools / "pyinfra"), "-y", self._machine, *login, *given, *words)

    def _ansible(self, program: str, *words: str) -> None:
        login = ("-i", f"{self._machine},", "-u", USER)
        self._run(str(self._tools / program), *login, *words)

    def _run(self, *line: str) -> str:
        done = subprocess.run(
            line, env=self._environ, cwd=self._home, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{shlex.join(line)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout
