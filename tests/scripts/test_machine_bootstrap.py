"""What a machine must have: drift as data, and the script itself, run by a real sh among stand-in programs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_state import serving
from rehost.machine import bootstrap, units
from rehost.machine.bootstrap import (
    ACTION,
    DAEMON,
    DAEMON_FILE,
    TEXTS,
    daemon_json,
    drift,
    plan,
    startup_script,
)
from rehost.machine.probe import PACKAGES, MachineState, Unit
from rehost.machine.ssh import Machine, MachineError, Output
from rehost.run.plan import Change

# -- drift -------------------------------------------------------------------------------------------------


def with_unit(name: str, unit: Unit) -> MachineState:
    return serving(units={**serving().units, name: unit})


def with_file(name: str, content: bytes | None) -> MachineState:
    return serving(files={**serving().files, name: content})


def test_a_machine_that_is_as_it_must_be() -> None:
    assert drift(serving()) == []
    assert plan(serving()) == []


UPGRADES = "/etc/apt/apt.conf.d/20auto-upgrades"


@pytest.mark.parametrize(
    ("state", "change"),
    [
        (
            serving(packages={n: "1" for n in PACKAGES if n != "caddy"}),
            Change("package caddy", None, "installed"),
        ),
        (
            with_file(DAEMON_FILE, None),
            Change(DAEMON_FILE, None, "log rotation, live-restore, no userland-proxy"),
        ),
        (
            with_file(DAEMON_FILE, b""),
            Change(DAEMON_FILE, "changed", "log rotation, live-restore, no userland-proxy"),
        ),
        (
            with_file(DAEMON_FILE, b'{"log-driver": "journald", "data-root": "/srv"}'),
            Change(DAEMON_FILE, "changed", "log rotation, live-restore, no userland-proxy"),
        ),
        (with_file(UPGRADES, None), Change(UPGRADES, None, TEXTS[UPGRADES].replace("\n", "; "))),
        (with_file(UPGRADES, b"x\n"), Change(UPGRADES, "changed", TEXTS[UPGRADES].replace("\n", "; "))),
        (serving(swap_files=()), Change("swap", None, "2048 MB in /var/lib/rehost/swap")),
        (
            serving(swap_files=("/dev/sda2",), memory=2**33),
            Change("swap", None, "1024 MB in /var/lib/rehost/swap"),
        ),
        (
            with_unit("docker.service", Unit("active", "running", "disabled")),
            Change("docker.service", "disabled", "enabled"),
        ),
        (
            with_unit("docker.service", Unit("failed", "failed", "enabled")),
            Change("docker.service", "failed", "active"),
        ),
        (with_unit("caddy-api.service", Unit()), Change("caddy-api.service", "inactive", "active")),
        (
            with_unit("caddy.service", Unit("active", "running", "enabled")),
            Change("caddy.service", "active", "replaced by caddy-api.service"),
        ),
    ],
    ids=lambda value: value.field if isinstance(value, Change) else "",
)
def test_each_kind_of_drift_shows_alone(state: MachineState, change: Change) -> None:
    assert drift(state) == [change]
    (action,) = plan(state, needs=("before",))
    assert (action.id, action.verb, action.changes, action.needs) == (
        ACTION,
        "update",
        (change,),
        ("before",),
    )


def test_a_machine_yet_to_be_made() -> None:
    (action,) = plan(None)
    assert (action.id, action.verb) == (ACTION, "create")


def test_an_empty_machine_lacks_everything() -> None:
    state = serving(packages={}, files={}, units={}, swap_files=())
    fields = [change.field for change in drift(state)]
    assert fields == [
        *(f"package {name}" for name in PACKAGES),
        DAEMON_FILE,
        *TEXTS,
        "swap",
        "docker.service",
        "caddy-api.service",
    ]


# -- daemon.json -------------------------------------------------------------------------------------------

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(sorted(DAEMON)), JSON, max_size=5))
def test_foreign_keys_stay_and_ours_are_set(found: dict[str, Any]) -> None:
    merged = json.loads(daemon_json(json.dumps(found).encode()))
    shared = ("log-opts", "builder")
    assert {key: merged[key] for key in DAEMON if key not in shared} == {
        key: value for key, value in DAEMON.items() if key not in shared
    }
    assert merged["log-opts"].items() >= DAEMON["log-opts"].items()
    # Their own bound of the build cache is as good as ours.
    theirs = found.get("builder")
    assert merged["builder"] == {**DAEMON["builder"], **(theirs if isinstance(theirs, dict) else {})}
    assert {k: v for k, v in merged.items() if k not in DAEMON} == {
        k: v for k, v in found.items() if k not in DAEMON
    }
    # What it writes is what it wants: the next look finds no drift.
    again = daemon_json(json.dumps(found).encode())
    assert daemon_json(again.encode()) == again
    assert drift(with_file(DAEMON_FILE, (again + "\n").encode())) == []


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ({"log-opts": {"tag": "{{.Name}}", "max-size": "1g"}}, {"tag": "{{.Name}}", **DAEMON["log-opts"]}),
        ({"log-driver": "json-file", "log-opts": {"tag": "x"}}, {"tag": "x", **DAEMON["log-opts"]}),
        ({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://1.2.3.4"}}, DAEMON["log-opts"]),
        ({"log-opts": "wrong"}, DAEMON["log-opts"]),
    ],
)
def test_options_of_the_log_stay_where_the_driver_is_ours(found: dict[str, Any], options: object) -> None:
    assert json.loads(daemon_json(json.dumps(found).encode()))["log-opts"] == options


def test_formatting_is_no_drift() -> None:
    file = json.dumps({"bip": "10.9.0.1/24", **DAEMON}, indent=8).encode()
    assert daemon_json(file).encode() == file
    assert drift(with_file(DAEMON_FILE, file + b"\n")) == []


@pytest.mark.parametrize("found", [None, b"", b" \n"])
def test_no_file_is_an_empty_one(found: bytes | None) -> None:
    assert json.loads(daemon_json(found)) == DAEMON


@pytest.mark.parametrize("found", [b"{", b"[1]", b'"text"', b"\xff", b"{'live-restore': true}"])
def test_what_is_not_json_is_not_overwritten(found: bytes) -> None:
    with pytest.raises(MachineError) as refused:
        daemon_json(found)
    assert DAEMON_FILE in refused.value.what
    assert "Mend or remove the file" in refused.value.cure
    with pytest.raises(MachineError):
        plan(with_file(DAEMON_FILE, found))


# -- the scripts as text -----------------------------------------------------------------------------------


def test_the_startup_script_is_the_same_each_time() -> None:
    first = startup_script()
    assert first == startup_script()
    assert first.startswith("#!/bin/sh\nVERSION=")
    assert len(first.encode()) < 256 * 1024  # what metadata takes


def shell_scripts() -> dict[str, str]:
    work = units.Work(
        "u.service", "/d", "it's about", "t", "echo hi", prepare="exit 3", properties=("Nice=10",)
    )
    return {
        "startup": startup_script(),
        "hold": bootstrap._script(daemon_json(b'{"note": "it\'s $HOME"}'), keep_daemon=False),
        "wait": bootstrap._WAIT.format(tries=3),
        "unit": units.start_script(work),
    }


def test_sh_and_shellcheck_read_every_script() -> None:
    for script in shell_scripts().values():
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    shellcheck(*shell_scripts().values())


def shellcheck(*scripts: str) -> None:
    """Fails when shellcheck has something to say, and in CI when it is not there."""
    if shutil.which("shellcheck") is None:
        if os.environ.get("CI"):
            pytest.fail("shellcheck is missing, and CI must not pass without it")
        pytest.skip("shellcheck is missing: apt-get install shellcheck")
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / f"{number}.sh" for number in range(len(scripts))]
        for file, script in zip(files, scripts, strict=True):
            file.write_text(script)
        # SC2034, SC2154: parameters that one part sets and another reads.
        command = [
            "shellcheck",
            "--shell=sh",
            "--severity=warning",
            "--exclude=SC2034,SC2154",
            *map(str, files),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""


# -- the script, run ---------------------------------------------------------------------------------------

# Programs that change a machine, standing in for the real ones: each notes its call and keeps state in files.
PROGRAMS: Mapping[str, str] = {
    "dpkg-query": 'for p; do :; done; cat "$S/installed/$p" 2>/dev/null',
    "dpkg": ":",
    "apt-get": """echo "apt-get $*" >>"$S/calls"
[ ! -f "$S/apt-broken" ] || { echo 'E: Unable to fetch some archives'; exit 100; }
case " $* " in *" install "*)
  for p; do case $p in docker.io | caddy | ca-certificates | curl | unattended-upgrades | apparmor)
    printf 'ii ' >"$S/installed/$p" ;; esac; done
  case "$*" in *docker.io*) touch "$S/active/docker.service" "$S/enabled/docker.service" ;; esac ;;
esac""",
    "systemctl": """for unit; do :; done
case $1 in
  is-active) [ -f "$S/active/$unit" ]; exit ;;
  is-enabled) [ -f "$S/enabled/$unit" ]; exit ;;
esac
echo "systemctl $*" >>"$S/calls"
case $1 in
  enable) touch "$S/enabled/$unit" ;;
  start) touch "$S/active/$unit" ;;
  disable) rm -f "$S/active/$unit" "$S/enabled/$unit" ;;
esac""",
    "df": 'echo Avail; cat "$S/free"',
    "fallocate": 'truncate -s "$2" "$3"',
    "mkswap": 'echo "mkswap $1" >>"$S/calls"',
    "swapon": 'echo "$1 file 1 0 -3" >>"$S/proc/swaps"',
    "sysctl": ":",
    "sleep": ":",
    "curl": ":",
}


class Root:
    """A directory that stands for the machine's root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("bin", "installed", "active", "enabled", "proc", "etc/docker", "rehost", "lists"):
            (directory / name).mkdir(parents=True)
        for name, body in PROGRAMS.items():
            program = directory / "bin" / name
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        (directory / "proc/swaps").write_text("Filename Type Size Used Priority\n")
        (directory / "proc/meminfo").write_text("MemTotal:        1006600 kB\n")
        (directory / "free").write_text("9000M\n")
        (directory / "etc/debian_version").write_text("12.12\n")
        (directory / "etc/fstab").touch()

    def moved(self, text: str) -> str:
        for there, here in {
            "/var/lib/rehost": "rehost",
            "/etc/": "etc/",
            "/proc/": "proc/",
            "/var/lib/apt/lists": "lists",
        }.items():
            text = text.replace(there, f"{self.directory}/{here}")
        return text

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs the script with the root's paths in place of the system's."""
        script = self.moved(script).replace("PATH=/usr", f"PATH={self.directory}/bin:/usr")
        (self.directory / "calls").write_text("")
        return subprocess.run(
            ["sh", "-c", script],
            env={
                **os.environ,
                "S": str(self.directory),
                "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    @property
    def result(self) -> str:
        text = (self.directory / "rehost/bootstrap/state").read_text()
        return dict(line.split("=", 1) for line in text.splitlines())["result"]

    def files(self) -> dict[str, tuple[int, int]]:
        """Inode and time of change of every file that is to stay as it is."""
        found = [p for p in self.directory.rglob("*") if p.is_file()]
        ours = [p for p in found if p.name not in ("calls", "log", "state", "lock")]
        return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in ours}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def hold_script() -> str:
    return bootstrap._script(daemon_json(None), keep_daemon=False)


def test_it_puts_everything_in_place_and_then_changes_nothing(root: Root) -> None:
    done = root.run(startup_script())
    assert (done.returncode, root.result) == (0, "done"), done.stdout
    assert done.stdout.splitlines()[-1] == "rehost: ready"
    for name, text in {**TEXTS, DAEMON_FILE: daemon_json(None)}.items():
        assert Path(root.moved(name)).read_text() == root.moved(text) + "\n"
    swap = root.directory / "rehost/swap"
    assert (swap.stat().st_size, swap.stat().st_mode & 0o777) == (2048 * 2**20, 0o600)
    assert f"{swap} none swap sw 0 0\n" in (root.directory / "etc/fstab").read_text()
    assert {p.name for p in (root.directory / "installed").iterdir()} == set(PACKAGES)
    for unit in ("docker.service", "caddy-api.service"):
        assert (root.directory / "active" / unit).exists()
        assert (root.directory / "enabled" / unit).exists()
    # caddy.service is masked before the package could start it.
    assert root.calls.index("systemctl mask caddy.service") < next(
        at for at, call in enumerate(root.calls) if "install" in call
    )
    (root.directory / "installed/docker.io").write_text("hi ")  # apt-mark hold: it is there all the same
    before = root.files()
    for again in (startup_script(), hold_script()):
        done = root.run(again)
        assert (done.returncode, root.result, root.calls) == (0, "done", [])
        assert root.files() == before


def test_at_a_boot_somebody_s_own_daemon_json_stays(root: Root) -> None:
    file = root.directory / "etc/docker/daemon.json"
    file.write_text('{"debug": true}')
    assert root.run(startup_script()).returncode == 0
    assert file.read_text() == '{"debug": true}'
    # `up` merges it, and Docker, which was there before, reads it anew.
    merged = bootstrap._script(daemon_json(file.read_bytes()), keep_daemon=False)
    assert root.run(merged).returncode == 0
    assert json.loads(file.read_text()) == {"debug": True, **DAEMON}
    assert root.calls == ["systemctl restart docker.service"]


def test_a_docker_that_was_there_reads_its_new_configuration_though_packages_came(root: Root) -> None:
    assert root.run(startup_script()).returncode == 0
    (root.directory / "installed/curl").unlink()
    (root.directory / "etc/docker/daemon.json").unlink()
    assert root.run(hold_script()).returncode == 0
    assert "systemctl restart docker.service" in root.calls


def test_a_unit_is_put_right(root: Root) -> None:
    assert root.run(startup_script()).returncode == 0
    for broken, call in (
        ("active/docker.service", "systemctl start docker.service"),
        ("enabled/docker.service", "systemctl enable -q docker.service"),
        ("active/caddy-api.service", "systemctl start caddy-api.service"),
    ):
        (root.directory / broken).unlink()
        assert root.run(startup_script()).returncode == 0
        assert root.calls == [call]
        assert (root.directory / broken).exists()
    # The welcome page of Caddy's other service goes.
    (root.directory / "active/caddy.service").touch()
    assert root.run(startup_script()).returncode == 0
    assert root.calls == ["systemctl disable -q --now caddy.service"]


def test_swap_that_was_switched_off_comes_back(root: Root) -> None:
    assert root.run(startup_script()).returncode == 0
    swap = root.directory / "rehost/swap"
    (root.directory / "proc/swaps").write_text("Filename\n")
    inode = swap.stat().st_ino
    assert root.run(startup_script()).returncode == 0
    assert root.calls == []  # the file was still good
    assert swap.stat().st_ino == inode
    assert str(swap) in (root.directory / "proc/swaps").read_text()
    # One of another size, of a machine that was smaller or of a run that was cut off, is made anew.
    (root.directory / "proc/swaps").write_text("Filename\n")
    os.truncate(swap, 4096)
    assert root.run(startup_script()).returncode == 0
    assert swap.stat().st_size == 2048 * 2**20
    assert (root.directory / "etc/fstab").read_text().count("swap sw") == 1


def test_a_full_disk_is_named(root: Root) -> None:
    (root.directory / "free").write_text("3000M\n")
    done = root.run(startup_script())
    assert (done.returncode, root.result) == (1, "failed")
    assert "rehost: failed at: adding 2048 MB of swap (status 1)" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "The disk has 3000 MB free; 2048 MB of swap and 1024 MB of room are needed."
    )
    assert not (root.directory / "rehost/swap").exists()


def test_packages_that_do_not_come(root: Root) -> None:
    (root.directory / "apt-broken").touch()
    done = root.run(startup_script())
    assert (done.returncode, root.result) == (1, "failed")
    assert sum(" install " in call for call in root.calls) == 5
    assert "(attempt 5) (status 1)" in done.stdout
    assert done.stdout.splitlines()[-1] == "E: Unable to fetch some archives"
    (root.directory / "apt-broken").unlink()
    assert root.run(startup_script()).returncode == 0
    assert root.result == "done"


def test_another_system_is_left_alone(root: Root) -> None:
    (root.directory / "etc/debian_version").unlink()
    before = root.files()
    done = root.run(startup_script())
    assert (done.returncode, root.result) == (1, "failed")
    assert "neither Debian nor Ubuntu" in done.stdout
    assert root.files() == before


@pytest.mark.parametrize(
    ("kib", "mb"), [(1006600, 2048), (4 * 2**20 - 1, 2048), (4 * 2**20, 1024), (2**24, 1024)]
)
def test_both_places_say_the_same_of_swap(root: Root, kib: int, mb: int) -> None:
    (root.directory / "proc/meminfo").write_text(f"MemTotal: {kib} kB\n")
    root.run(startup_script())
    assert (root.directory / "rehost/swap").stat().st_size == mb * 2**20
    assert bootstrap.swap_mb(kib * 1024) == mb


# -- waiting for the startup script ------------------------------------------------------------------------


class Local(Machine):
    """Runs what is meant for the machine in the root's stead."""

    def __init__(self, root: Root, prepare: Callable[[str], str] = lambda script: script) -> None:
        self.root, self.label, self._prepare = root, "vm", prepare

    async def stream(  # what a Machine offers
        self,
        script: str,
        on_line: Callable[[str], None],
        *,
        what: str,  # noqa: ARG002
        check: bool = True,  # noqa: ARG002
        public: bool = False,  # noqa: ARG002
    ) -> Output:
        done = self.root.run(self._prepare(script))
        for line in done.stdout.splitlines():
            on_line(line)
        return Output("", done.stderr, done.returncode)


SHOW = 'case $* in *google-startup-scripts.service*) cat "$S/startup" ;; esac'


def waited(
    root: Root, startup: str, state: str, log: str = "", *, held: bool = False
) -> tuple[str, list[str]]:
    """How it ended and what progress was told, for a startup service and a state file as given."""
    (root.directory / "bin/systemctl").write_text(f"#!/bin/sh\n{SHOW}\n")
    (root.directory / "startup").write_text(startup + "\n")
    home = root.directory / "rehost/bootstrap"
    home.mkdir(parents=True, exist_ok=True)
    if state:
        (home / "state").write_text(state)
    (home / "log").write_text(log)
    told: list[str] = []
    machine = Local(root, lambda script: f'exec 5>"{home}/lock"; flock 5\n{script}' if held else script)
    return asyncio.run(bootstrap.wait_for_startup(machine, told.append, deadline=11)), told


RUNNING = "version=1\nresult=running\nstep=installing docker.io (attempt 1)\n"


@pytest.mark.parametrize(
    ("startup", "state", "outcome"),
    [
        ("active", "version=1\nresult=done\nstep=ready\n", "done"),
        ("failed", "version=1\nresult=done\nstep=ready\n", "done"),
        ("inactive", "", "never"),
        ("failed", "", "never"),
        ("active", "", "never"),
        ("active", RUNNING, "cut"),  # nobody holds its lock
    ],
)
def test_how_the_startup_script_may_have_ended(root: Root, startup: str, state: str, outcome: str) -> None:
    ended, told = waited(root, startup, state)
    assert ended == outcome
    assert told == [line[5:] for line in state.splitlines() if line.startswith("step=")]


def test_a_startup_script_that_failed(root: Root) -> None:
    log = "".join(f"line {n}\n" for n in range(30))
    with pytest.raises(MachineError) as failed:
        waited(root, "active", "version=1\nresult=failed\nstep=installing caddy (attempt 5)\n", log)
    assert failed.value.what == "the startup script failed"
    assert failed.value.detail.splitlines() == [f"line {n}" for n in range(15, 30)]
    assert "`rehost up` again" in failed.value.cure


def test_a_startup_script_that_does_not_end(root: Root) -> None:
    for startup, held in (("activating", False), ("active", True)):
        with pytest.raises(MachineError) as late:
            waited(root, startup, RUNNING, held=held)
        assert "not done in time" in late.value.what
