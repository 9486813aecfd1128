"""The ground that machines stand on: what root inside cannot undo, who reaches whom, and what a lab leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from compute_api import ComputeApi, booted, inside
from rehost.lab import bursts, cgroups, clean, control
from rehost.lab.bursts import Bursts
from rehost.lab.hardware import Hardware
from rehost.lab.kernel import SETTINGS
from rehost.lab.places import METADATA_PORT, Places
from suite import Lab, until

MACHINES = ("a", "b", "c")
METADATA = "http://169.254.169.254/computeMetadata/v1/instance/name"
COUNTERS = re.compile(r"\[?[0-9]+:[0-9]+\]?")
PREFIX = re.compile(r"rl[0-9a-f]{6}")


def bring_up(name: str) -> Lab:
    info = control.up(name)
    return Lab(name, info, {**os.environ, **control.environment(name)}, Places.of(name))


@pytest.fixture(scope="module")
def ground() -> Iterator[Lab]:
    name = f"suite-{os.getpid()}-g"
    lab = bring_up(name)
    try:
        with ComputeApi(lab) as api, ThreadPoolExecutor(len(MACHINES)) as pool:
            for job in [pool.submit(_insert, api, machine) for machine in MACHINES]:
                job.result()
        for machine in MACHINES:
            booted(lab.places, machine)
        yield lab
    finally:
        control.down(name)


def _insert(api: ComputeApi, name: str) -> None:
    nic = {"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
    api.insert(name, networkInterfaces=[nic])


def address(lab: Lab, machine: str, kind: str = "internal") -> str:
    found = next(one for one in control.status(lab.name).instances if one["name"] == machine)
    return str(found[kind])


def from_machine(lab: Lab, machine: str, to: str, port: int) -> bool:
    command = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/{port}'"
    return inside(lab.places, machine, command, check=False).startswith("0 ")


def from_host(to: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((to, port), 1):
        return True
    return False


def asked(lab: Lab, machine: str, *options: str) -> str:
    """The status and text of the metadata server's answer; "000" without one."""
    command = f"curl -s -m 1 -w ' %{{http_code}}' {' '.join(options)} {METADATA}"
    return inside(lab.places, machine, command, check=False).split(" ", 1)[1]


def test_docker_runs_on_three_machines_at_once(ground: Lab) -> None:
    def install(machine: str) -> str:
        command = "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends docker.io"
        inside(ground.places, machine, f"{command} >/dev/null 2>&1")
        return inside(ground.places, machine, "docker info --format '{{.ServerVersion}} {{.Driver}}'")

    with ThreadPoolExecutor(3) as pool:
        assert all("overlay2" in said for said in pool.map(install, MACHINES))
    for setting in SETTINGS:
        assert int(setting.file.read_text()) >= setting.least


def test_root_inside_cannot_open_what_the_rules_close(ground: Lab) -> None:
    tools = "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nftables iptables"
    inside(ground.places, "a", f"{tools} >/dev/null 2>&1")
    inside(
        ground.places,
        "a",
        "systemd-run --unit=web python3 -m http.server 8080 --bind 0.0.0.0 >/dev/null 2>&1",
    )
    internal, external = address(ground, "a"), address(ground, "a", "external")
    until(lambda: from_machine(ground, "b", internal, 8080), "default-allow-internal lets b in")

    def reached() -> dict[str, bool]:
        return {
            "host to 22": from_host(external, 22),
            "host to 8080": from_host(external, 8080),
            "host to 8080, internal": from_host(internal, 8080),
            "b to 8080, external": from_machine(ground, "b", external, 8080),
        }

    before = reached()
    assert before == {
        "host to 22": True,
        "host to 8080": False,
        "host to 8080, internal": False,
        "b to 8080, external": False,
    }
    inside(ground.places, "a", "nft flush ruleset; iptables -F; iptables -t nat -F; iptables -P INPUT ACCEPT")
    assert reached() == before


def test_no_machine_can_pass_for_another(ground: Lab) -> None:
    flavor = "-H 'Metadata-Flavor: Google'"
    assert asked(ground, "a", flavor) == "a 200"
    for taken in (
        address(ground, "b"),
        address(ground, "b", "external"),
        ground.places.internal_addresses[-1],
    ):
        inside(ground.places, "a", f"ip address add {taken}/32 dev ens4")
        assert asked(ground, "a", flavor, "--interface", taken) == " 000"
        inside(ground.places, "a", f"ip address delete {taken}/32 dev ens4")
    assert asked(ground, "b", flavor) == "b 200"


def test_the_metadata_server_answers_machines_that_ask_as_google_wants(ground: Lab) -> None:
    assert asked(ground, "a").endswith(" 403")
    assert asked(ground, "a", "-H 'Metadata-Flavor: Google'", "-H 'X-Forwarded-For: 192.0.2.1'").endswith(
        " 403"
    )
    assert not from_machine(ground, "a", ground.places.gateway, METADATA_PORT)
    assert not from_host(ground.places.gateway, METADATA_PORT)


def test_the_api_answers_nothing_without_its_token(ground: Lab) -> None:
    project = f"{ground.info.api}projects/{ground.info.project}"
    for headers in ({}, {"Authorization": "Bearer ya29.guessed"}):
        for url in (project, f"{project}/zones", f"{project}/zones/us-west1-a/instances/a"):
            assert httpx.get(url, headers=headers, trust_env=False).status_code == 401
        door = ground.info.api.replace("/compute/v1/", "/lab/v1/control")
        assert httpx.get(door, headers=headers, trust_env=False).status_code == 403


def test_a_shared_core_has_both_processors_until_its_credit_is_used(
    ground: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quota() -> float:
        v1 = Path("/sys/fs/cgroup/cpu", ground.places.cgroup, "c", "cpu.cfs_quota_us")
        v2 = Path("/sys/fs/cgroup", ground.places.cgroup, "c", "cpu.max")
        return int((v1 if v1.exists() else v2).read_text().split()[0]) / cgroups.PERIOD_US

    used = cgroups.used(ground.places, "c")
    assert used > 0.5, "a boot takes processor time"
    until(lambda: quota() == 2, "two processors")
    monkeypatch.setattr(bursts, "FULL", 0.5)
    empty = Bursts(ground.places, clock=lambda: 0.0)
    empty._accounts["c"] = (bursts.Account(0.5, 0.0, 0.0), 0.25, Hardware(1024, 2, 0.25))
    empty.look()
    assert quota() == 0.25
    until(lambda: quota() == 2, "the lab's own account of it is not empty")


def footprint(lab: Places) -> set[str]:
    """What of this computer's state a lab could have changed, without what other labs do at the same time."""
    found = [f"link {path.name}" for path in Path("/sys/class/net").iterdir()]
    found += [f"namespace {path.name}" for path in Path("/run/netns").glob("*")]
    found += [f"nspawn {path.name}" for path in Path("/run/systemd/nspawn").rglob("*")]
    for program in (["nft", "list", "tables"], ["iptables-save"], ["losetup", "--all", "--noheadings"]):
        with contextlib.suppress(FileNotFoundError):
            said = subprocess.run(
                program, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
            )
            lines = [COUNTERS.sub("", line) for line in said.stdout.splitlines() if not line.startswith("#")]
            found += [f"{program[0]} {line}" for line in lines]
    found += [f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for one in cgroups.hierarchies():
        found += [f"cgroup {path}" for path in one.root.iterdir() if path.is_dir()]
    found += [f"swap {line.split()[0]}" for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    found += [f"setting {setting.file} {setting.file.read_text()}" for setting in SETTINGS]
    found += [f"file {path}" for path in lab.state.parent.glob(f"*{lab.name}*")]
    found += [f"file {path}" for path in lab.state.parent.glob(f".*{lab.name}*")]
    found += [f"process {pid}" for pid in clean.marked(lab.prefix)]
    return {line for line in found if set(PREFIX.findall(line)) <= {lab.prefix} and _ours(line, lab)}


def _ours(line: str, lab: Places) -> bool:
    others = [path for path in re.findall(r"rehost/lab/([a-z0-9-]+)", line) if path != lab.name]
    return not others and not line.startswith("swap")


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_a_lab_leaves_nothing_and_two_labs_do_not_meet(ground: Lab, end: str) -> None:
    name = f"suite-{os.getpid()}-{end[0]}"
    places = Places.of(name)
    before = footprint(places)
    assert before, "the computer has interfaces, mounts and cgroups"
    try:
        other = bring_up(name)
        with ComputeApi(other) as api:
            _insert(api, "x")
        booted(other.places, "x")
        # What holds a disk in use beyond the machine's end: swap on it.
        inside(other.places, "x", "fallocate -l 32M /swap && chmod 600 /swap && mkswap /swap && swapon /swap")
        during = footprint(places)
        for kind in ("link", "namespace", "nft", "losetup", "mount", "cgroup", "file", "process"):
            assert any(line.startswith(f"{kind} ") for line in during - before), kind
        assert from_machine(ground, "a", ground.places.gateway, _port(ground))
        assert from_machine(other, "x", other.places.gateway, _port(other))
        assert not from_machine(ground, "a", other.places.gateway, _port(other))
        for kind in ("internal", "external"):
            assert not from_machine(ground, "a", address(other, "x", kind), 22)
        if end == "killed":
            # In an order that nobody chose: no one gets to clean up after another.
            for pid in clean.marked(places.prefix) | cgroups.processes(places):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    finally:
        control.down(name)
    assert footprint(places) == before
    assert clean.leftovers(places) == []
    assert from_machine(ground, "b", address(ground, "a"), 8080), "the other lab goes on"


def _port(lab: Lab) -> int:
    return int(lab.info.database.rpartition(":")[2])
