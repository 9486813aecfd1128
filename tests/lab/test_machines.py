"""Real machines: boot, limits, packets, images, reboots, and what a kill leaves behind. Needs root; 1-2 minutes."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rehost.lab import cgroups, clean, database, disks, lxcfs, mirror, needs, network, trees
from rehost.lab.disks import Disks
from rehost.lab.hardware import Hardware, MachineSpec, PacketRule, PluggedDisk
from rehost.lab.machines import Machines
from rehost.lab.places import METADATA_PORT, Places, locked
from rehost.lab.programs import Program

NAME = "test-machines"
ANY = ("0.0.0.0/0",)
AGENT = "google-guest-agent google-startup-scripts google-shutdown-scripts"
OPEN = [PacketRule("allow", "tcp", ("22", "80"), ANY), PacketRule("allow", "icmp", (), ANY)]


def until(true: Callable[[], bool], what: str, deadline: float = 60) -> None:
    end = time.monotonic() + deadline
    while not true():
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.05)


@dataclass
class Lab:
    places: Places
    loop: asyncio.AbstractEventLoop
    specs: list[MachineSpec] = field(default_factory=list)
    services: list[Program] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    machines: Machines = field(init=False)
    disks: Disks = field(init=False)

    def __post_init__(self) -> None:
        self.disks = Disks(self.places)
        self.machines = Machines(self.places, self.exits.append)

    def inside(self, machine: int, command: str, *, check: bool = True) -> str:
        """Runs a shell command in a machine, as root."""
        leader = self.machines.leader(self.specs[machine].name)
        assert leader is not None
        groups = [one.root / self.places.cgroup / self.specs[machine].name for one in cgroups.hierarchies()]
        join = "; ".join(f"echo 0 > {group}/cgroup.procs" for group in groups)
        with tempfile.TemporaryFile("w+", errors="replace") as out:
            done = subprocess.run(
                ["sh", "-c", f'{join}; exec "$@"', "join",
                 "nsenter", "--target", str(leader), "--all", "sh", "-c", command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False, timeout=300,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            )  # fmt: skip
            out.seek(0)
            text = out.read()
        assert not check or done.returncode == 0, text
        return text if check else f"{done.returncode} {text}"

    def reaches(self, machine: int, address: str, port: int) -> bool:
        command = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
        return self.inside(machine, command, check=False).startswith("0 ")

    def run(self, what: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self.loop).result(180)

    def up(self, machine: int) -> None:
        """Waits until the hardware's unit has run and sshd may start."""
        units = "lab-hardware.service networking.service"
        until(
            lambda: self.inside(machine, f"systemctl is-active {units}", check=False).startswith("0 "),
            "booted",
        )


@contextlib.contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as the lab's server has one: machines are supervised all the time."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lacking = needs.missing()
    if lacking:
        words = "; ".join(str(need) for need in lacking)
        if os.environ.get("CI"):
            pytest.fail(f"the lab can't run here: {words}")
        pytest.skip(f"the lab can't run here: {words}")
    trees.prepare(print)
    root = Places.of(NAME).state.parent
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{NAME}.lock"), running_loop() as loop:
        clean.sweep(Places.of(NAME))
        places = Places.claim(NAME)
        started = Lab(places, loop)
        try:
            _start(started)
            yield started
        finally:
            started.run(started.machines.close())
            for service in started.services:
                service.stop()
            clean.sweep(places)


def _start(lab: Lab) -> None:
    network.up(lab.places)
    lab.services.append(lxcfs.start(lab.places))
    registry = mirror.start(lab.places)
    if registry:
        lab.services.append(registry)
    lab.specs += [
        MachineSpec(f"m{i}", str(100 + i), lab.places.internal_addresses[i], lab.places.external_addresses[i],
                    f"42:01:0a:00:00:{i:02x}", Hardware(1024, 0.5 + i / 2),
                    (PluggedDisk(f"disks/m{i}", "persistent-disk-0"),))
        for i in range(2)
    ]  # fmt: skip

    async def boot() -> None:
        await asyncio.gather(*(lab.disks.make(f"disks/m{i}", 12, "public/debian-12") for i in range(2)))
        await asyncio.gather(*(lab.machines.create(spec) for spec in lab.specs))
        await asyncio.gather(*(lab.machines.boot(spec.name, OPEN) for spec in lab.specs))

    lab.run(boot())
    for i in range(2):
        lab.up(i)
        # There is no metadata server here, and the agent ends only when it has spoken to one.
        lab.inside(i, f"systemctl mask {AGENT}; systemctl kill --signal=KILL {AGENT}; true")
        # sshd on three ports is what packet rules are tried on.
        lab.inside(i, "ssh-keygen -A && mkdir -p /run/sshd && /usr/sbin/sshd -p 22 -p 80 -p 8080 </dev/null")


def test_a_machine_is_what_its_type_says(lab: Lab) -> None:
    assert lab.inside(0, "awk '/^MemTotal/ {print $2}' /proc/meminfo").strip() == str(1 << 20)
    assert lab.inside(0, "hostname; cat /etc/hostname").split() == ["m0", "m0"]
    assert lab.inside(0, "cat /sys/class/net/ens4/address").strip() == lab.specs[0].mac
    size = int(lab.inside(0, "df --output=size -BM / | tail -1").strip().rstrip("M"))
    assert 11_000 < size < 12_500
    ids = {lab.inside(i, "cat /etc/machine-id").strip() for i in range(2)}
    assert len(ids) == 2
    assert all(len(text) == 32 for text in ids)


def test_processor_time_is_limited(lab: Lab) -> None:
    lab.inside(0, "timeout 1 sh -c 'while :; do :; done'", check=False)
    stat = Path("/sys/fs/cgroup/cpu", lab.places.cgroup, "m0/cpu.stat")
    assert int(dict(line.split() for line in stat.read_text().splitlines())["nr_throttled"]) > 0


def test_the_machine_survives_when_a_process_takes_all_memory(lab: Lab) -> None:
    before = lab.machines.leader("m0")
    hungry = "cat /dev/zero | head -c 3G | tail"
    assert lab.inside(0, f"bash -c '{hungry}; exit ${{PIPESTATUS[2]}}'", check=False).startswith("137 ")
    assert lab.machines.leader("m0") == before
    assert lab.inside(0, "systemctl is-active dbus").strip() == "active"


def test_packet_rules_act_on_real_packets(lab: Lab) -> None:
    for address in (lab.specs[0].internal, lab.specs[0].external):
        assert address
        assert lab.reaches(1, address, 80)
        assert not lab.reaches(1, address, 8080)
    assert lab.reaches(0, "127.0.0.1", 8080)
    lab.run(lab.machines.set_rules("m0", [PacketRule("allow", "tcp", ("8000-8100",), ANY)]))
    assert lab.reaches(1, lab.specs[0].internal, 8080)
    assert not lab.reaches(1, lab.specs[0].internal, 80)
    lab.run(lab.machines.set_rules("m0", OPEN))


def test_another_machine_counts_as_outside_on_the_external_address(lab: Lab) -> None:
    inner, outer = lab.specs[0].internal, lab.specs[0].external
    assert outer
    sender = lab.specs[1]
    lab.run(lab.machines.set_rules("m0", [PacketRule("allow", "tcp", ("8080",), (f"{sender.internal}/32",))]))
    assert lab.reaches(1, inner, 8080)
    assert not lab.reaches(1, outer, 8080)
    lab.run(lab.machines.set_rules("m0", [PacketRule("allow", "tcp", ("8080",), (f"{sender.external}/32",))]))
    assert not lab.reaches(1, inner, 8080)
    assert lab.reaches(1, outer, 8080)
    lab.run(lab.machines.set_rules("m0", OPEN))


def test_an_external_address_comes_and_goes(lab: Lab) -> None:
    old, new = lab.specs[0].external, lab.places.external_addresses[50]
    assert old
    lab.run(lab.machines.set_external("m0", new))
    assert lab.reaches(1, new, 80)
    assert not lab.reaches(1, old, 80)
    lab.run(lab.machines.set_external("m0", None))
    assert not lab.reaches(1, new, 80)
    assert lab.reaches(1, lab.specs[0].internal, 80)
    lab.run(lab.machines.set_external("m0", old))
    assert lab.reaches(1, old, 80)


def test_the_metadata_address_leads_to_the_lab_and_tells_who_asks(lab: Lab) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.client_address[0].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer((lab.places.gateway, METADATA_PORT), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            asked = [lab.inside(i, "curl -s -m 5 http://metadata.google.internal/") for i in range(2)]
            assert asked == [spec.internal for spec in lab.specs]
            direct = f"curl -s -m 2 http://{lab.places.gateway}:{METADATA_PORT}/"
            assert not lab.inside(0, direct, check=False).startswith("0 ")
        finally:
            server.shutdown()


def test_a_machine_sees_its_own_swap_alone(lab: Lab) -> None:
    assert lab.inside(0, "cat /proc/swaps").count("\n") == 1
    lab.inside(0, "fallocate -l 64M /swap && chmod 600 /swap && mkswap /swap && swapon /swap")
    until(lambda: "/swap" in lab.inside(0, "cat /proc/swaps"), "the machine sees its swap")
    assert "/swap" not in lab.inside(1, "cat /proc/swaps")
    limit = Path("/sys/fs/cgroup/memory", lab.places.cgroup, "m0/memory.memsw.limit_in_bytes")
    until(lambda: int(limit.read_text()) == (1024 + 64) << 20, "the machine may use its swap, and no more")


def test_a_reboot_inside_boots_again(lab: Lab) -> None:
    before = lab.machines.leader("m0")
    lab.inside(
        0, "echo kept > /root/file; grep -q swap /etc/fstab || echo '/swap none swap sw 0 0' >> /etc/fstab"
    )
    lab.inside(0, "systemctl reboot", check=False)
    until(lambda: lab.machines.leader("m0") not in (before, None), "a new init")
    lab.up(0)
    assert lab.inside(0, "cat /root/file").strip() == "kept"
    assert lab.exits == []
    until(lambda: "/swap" in lab.inside(0, "cat /proc/swaps"), "swap of /etc/fstab is on again")


def test_stop_lets_services_end_in_order(lab: Lab) -> None:
    lab.inside(1, "systemd-run --unit=last --property=ExecStop='touch /root/ended' sleep infinity")
    lab.run(lab.machines.stop("m1"))
    assert not lab.machines.running("m1")
    assert not Path("/run/netns", lab.places.namespace("m1")).exists()
    lab.run(lab.machines.set_hardware("m1", Hardware(2048, 1)))
    lab.run(lab.disks.grow("disks/m1", 30))
    lab.run(lab.machines.boot("m1", OPEN))
    lab.up(1)
    lab.inside(1, "test -e /root/ended")
    assert lab.inside(1, "awk '/^MemTotal/ {print $2}' /proc/meminfo").strip() == str(2 << 20)
    assert int(lab.inside(1, "df --output=size -BG / | tail -1").strip().rstrip("G")) in (29, 30)
    assert lab.exits == []


def test_stop_is_heard_by_an_init_that_has_just_begun(lab: Lab) -> None:
    def ended() -> int:
        return lab.machines.serial("m1").read_text(errors="replace").count("Powering off.")

    before, often = lab.machines.leader("m1"), ended()
    lab.inside(1, "systemctl reboot", check=False)
    until(lambda: lab.machines.leader("m1") not in (before, None), "a new init")
    lab.run(lab.machines.stop("m1"))
    assert ended() == often + 1  # its power was not cut
    lab.run(lab.machines.boot("m1", OPEN))
    lab.up(1)
    assert lab.exits == []


def test_a_reset_is_a_power_cut_and_a_boot(lab: Lab) -> None:
    before = lab.machines.leader("m1")
    lab.inside(1, "touch /root/synced; sync")
    lab.run(lab.machines.reset("m1"))
    assert lab.machines.leader("m1") not in (before, None)
    lab.up(1)
    lab.inside(1, "test -e /root/synced")
    assert lab.exits == []


def test_a_machine_that_powers_itself_off_is_told_of(lab: Lab) -> None:
    lab.inside(1, "systemctl poweroff", check=False)

    until(lambda: lab.exits == ["m1"], "on_exit")
    assert not lab.machines.running("m1")
    assert "Powering off" in lab.machines.serial("m1").read_text(errors="replace")
    lab.run(lab.machines.delete("m1"))
    assert not lab.places.machine("m1").exists()
    assert disks.file(lab.places, "disks/m1").exists()
    assert not [line for line in clean.leftovers(lab.places) if "m1" in line]


def test_docker_is_installed_and_builds_from_the_mirror(lab: Lab) -> None:
    lab.up(0)
    installed = lab.inside(
        0, "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker.io"
    )
    assert "Setting up docker.io" in installed
    assert "Need to get 0 B" in installed, "the packages were fetched beforehand"
    lab.inside(0, "mkdir -p /root/app && printf 'FROM python:3.11-slim-bookworm\\nRUN pip --version\\n' "
                  "> /root/app/Dockerfile")  # fmt: skip
    lab.inside(0, "cd /root/app && DOCKER_BUILDKIT=1 docker build -t app . && docker build -t classic .")
    assert "/usr/local/bin/python" in lab.inside(0, "docker run --rm -m 64m app which python pip")
    assert mirror.kind(lab.places) == ("stand-in image" if mirror.url(lab.places) else "real image")


def test_a_published_port_is_behind_the_rules_too(lab: Lab) -> None:
    lab.inside(0, "pkill -x sshd; docker run -d -p 80:80 -p 8080:80 app python -m http.server 80")
    address = lab.specs[0].external
    assert address

    def answers(port: int) -> bool:
        url = f"http://{address}:{port}/"
        done = subprocess.run(
            ["curl", "-s", "-m", "2", "-o", "/dev/null", url], stdin=subprocess.DEVNULL, check=False
        )
        return done.returncode == 0

    until(lambda: answers(80), "the container answers")
    assert not answers(8080)


def test_the_database_answers_on_the_gateway(lab: Lab) -> None:
    service = database.start(lab.places)
    try:
        assert lab.reaches(0, lab.places.gateway, service.port)
    finally:
        service.stop()
    assert not service.alive()


KILLED = """
import asyncio, sys, time
from rehost.lab import database, lxcfs, mirror, network
from rehost.lab.disks import Disks
from rehost.lab.hardware import *
from rehost.lab.machines import Machines
from rehost.lab.places import Places

async def main():
    places = Places.claim(sys.argv[1])
    network.up(places)
    beside = lxcfs.start(places), mirror.start(places), database.start(places)
    machines = Machines(places)
    internal, external = places.internal_addresses[0], places.external_addresses[0]
    await Disks(places).make("disks/a", 12, "public/debian-12")
    disks = (PluggedDisk("disks/a", "a"),)
    await machines.create(MachineSpec("a", "1", internal, external, "42:01:0a:00:00:07", Hardware(512, 1), disks))
    await machines.boot("a", [])
    print("running", machines.leader("a"), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_what_a_kill_leaves_is_swept_and_other_labs_are_not_touched(lab: Lab, tmp_path: Path) -> None:
    name = f"{NAME}-killed"
    clean.sweep(Places.of(name))
    script, output = tmp_path / "killed.py", tmp_path / "output"
    script.write_text(textwrap.dedent(KILLED))
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, script, name], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    try:
        until(lambda: "running" in output.read_text() or process.poll() is not None, "a lab to kill")
        assert process.poll() is None, output.read_text()
        leader = int(output.read_text().split()[1])

        # Swap belongs to no namespace: it must not hold the disk when the machine is gone.
        def booted() -> bool:
            command = ["nsenter", "-t", str(leader), "-a", "systemctl", "is-active", "lab-hardware"]
            return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False,
                                  stderr=subprocess.DEVNULL).returncode == 0  # fmt: skip

        until(booted, "the machine to kill")
        swap = "fallocate -l 32M /swap && chmod 600 /swap && mkswap /swap && swapon /swap"
        subprocess.run(["nsenter", "-t", str(leader), "-a", "sh", "-c", swap], stdin=subprocess.DEVNULL, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    places = Places.of(name)
    before = clean.leftovers(places)
    for kind in (
        "process",
        "cgroup",
        "network interface",
        "network namespace",
        "nft",
        "mount",
        "loop",
        "directory",
    ):
        assert any(line.startswith(kind) for line in before), kind
    ours = clean.leftovers(lab.places)
    clean.sweep(places)
    assert clean.leftovers(places) == []
    clean.sweep(places)
    assert clean.leftovers(lab.places) == ours
    assert lab.machines.running("m0")
    assert lab.inside(0, "systemctl is-active docker").strip() == "active"


def test_an_ordered_end_leaves_nothing(lab: Lab) -> None:
    lab.run(lab.machines.close())
    for service in lab.services:
        service.stop()
    clean.sweep(lab.places)
    assert clean.leftovers(lab.places) == []
    with contextlib.suppress(FileNotFoundError):
        assert lab.places.prefix not in Path("/proc/swaps").read_text()
