"""Faults of machines on order, each seen to come and to go; and the documentation's example, run as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rehost.cloud.client import Client
from rehost.cloud.credentials import Credentials, find
from rehost.lab import control
from rehost.lab.testing import RunningLab
from rehost.run.errors import RehostError, UsageError
from suite import REPOSITORY, Lab, Laptop, until
from tiny import GCE, plant

APP = "faulty"
ZONE = ("zones", "us-west1-a")


@pytest.fixture(scope="module")
def running(lab: Lab) -> RunningLab:
    return RunningLab(lab.name, lab.info, lab.environ)


@pytest.fixture(scope="module")
def faulty(lab: Lab, laptops: Callable[[str], Laptop]) -> Iterator[Laptop]:
    """The tiny app, moved while everything at a first boot is late."""
    laptop = laptops(APP)
    plant(laptop.directory, GCE, app=APP, VALUE="late")
    for fault, seconds in (("boot-slow", 2), ("agent-late", 2), ("startup-slow", 2), ("ssh-late", 4)):
        control.order_fault(lab.name, machine=APP, fault=fault, seconds=seconds)
    laptop.run("up", "--yes")
    control.clear_faults(lab.name)
    yield laptop
    laptop.run("down", "--yes")


def asked(
    lab: Lab, verb: str, *parts: str, body: dict[str, Any] | None = None, **query: str
) -> dict[str, Any]:
    """One call of the API by rehost's own client; a change is waited for."""

    async def call() -> dict[str, Any]:
        async with Client(lab.info.project, Credentials(find(lab.environ)), environ=lab.environ) as client:
            if verb == "GET":
                return await client.get(client.path(*parts), **query)
            await client.change(verb, client.path(*parts), body, **query)  # type: ignore[arg-type]
            return {}

    return asyncio.run(call())


def answers(lab: Lab, laptop: Laptop) -> bool:
    address = laptop.run("status", "--json", code=None).result.get("address", "")
    done = subprocess.run(
        ["curl", "-s", "-m", "2", f"http://{address}/health"], check=False, stdout=subprocess.DEVNULL
    )
    return done.returncode == 0


@contextmanager
def sees(
    laptop: Laptop, command: str, *, harmed: str, whole: str, running: RunningLab, fault: str
) -> Iterator[None]:
    """Under the fault the command's output matches `harmed`, after it `whole`."""
    with running.fault("machine", APP, fault):
        said = laptop.inside(command)
        assert re.search(harmed, said), said
        yield
    said = laptop.inside(command)
    assert re.search(whole, said), said


def test_a_machine_of_which_all_is_late_is_moved_to(faulty: Laptop, lab: Lab) -> None:
    assert answers(lab, faulty)
    log = (lab.places.machine(APP) / "serial").read_text(errors="replace")
    assert "the lab was asked to hold this script up" in log


@pytest.mark.parametrize(
    ("fault", "command", "harmed", "whole"),
    [
        (
            "disk-full",
            "head -c 99999 /dev/zero 2>&1 >/root/x && echo written; rm -f /root/x",
            "No space left",
            "written",
        ),
        (
            "memory-eaten",
            'awk \'/^MemAvailable:/ { print ($2 < 131072 ? "little" : "much") }\' /proc/meminfo',
            "little",
            "much",
        ),
        ("docker-stopped", "docker version >/dev/null 2>&1 && echo docker || echo gone", "gone", "docker"),
        (
            "apt-locked",
            "apt-get -y -o DPkg::Lock::Timeout=0 install nosuch 2>&1 | grep -o 'not get lock\\|Unable to locate'",
            "not get lock",
            "Unable to locate",
        ),
        (
            "archive-unreachable",
            "ls /var/cache/apt/archives | grep -c deb$; curl -s -m 5 -o /dev/null http://203.0.113.7/; echo curl $?",
            "^0\n.*curl 7",
            "^[1-9]",
        ),
    ],
)
def test_faults_inside(
    faulty: Laptop, running: RunningLab, fault: str, command: str, harmed: str, whole: str
) -> None:
    with sees(faulty, command, harmed=harmed, whole=whole, running=running, fault=fault):
        assert [one["fault"] for one in running.faults()] == [fault]
    assert running.faults() == ()


def test_faults_of_the_network(faulty: Laptop, lab: Lab, running: RunningLab) -> None:
    with running.fault("machine", APP, "net-cut", seconds=30):
        assert not answers(lab, faulty)
    until(lambda: answers(lab, faulty), "the cut is mended")
    control.order_fault(lab.name, machine=APP, fault="net-cut", seconds=1)
    until(lambda: not running.faults() and answers(lab, faulty), "the cut ends by itself")
    with running.fault("machine", APP, "net-slow"):
        began = time.monotonic()
        assert len(faulty.run("ssh", "--", "head", "-c", "150000", "/dev/zero").out) == 150000
        # Physics, not luck: 1.2 Mbit at 256 kbit/s, of which 16 kB are the bucket's.
        assert time.monotonic() - began > 3
    with running.fault("machine", APP, "net-lossy"):
        rules = subprocess.run(
            ["nft", "list", "ruleset", "netdev"], capture_output=True, text=True, check=True
        )
        assert "numgen random mod 100" in rules.stdout
        assert faulty.inside("echo through").strip() == "through"
    tables = subprocess.run(["nft", "list", "tables", "netdev"], capture_output=True, text=True, check=True)
    assert lab.places.table not in tables.stdout


def test_a_power_cut_and_a_boot_that_fails(faulty: Laptop, lab: Lab, running: RunningLab) -> None:
    control.order_fault(lab.name, machine=APP, fault="boot-fails")
    control.order_fault(lab.name, machine=APP, fault="power-cut")
    until(lambda: asked(lab, "GET", *ZONE, "instances", APP)["status"] == "TERMINATED", "it is off")
    asked(lab, "POST", *ZONE, "instances", APP, "start")
    until(
        lambda: "Kernel panic" in asked(lab, "GET", *ZONE, "instances", APP, "serialPort")["contents"],
        "the panic",
    )
    assert not answers(lab, faulty)
    assert running.faults() == ()
    asked(lab, "POST", *ZONE, "instances", APP, "reset")
    faulty.run("up", "--yes")
    until(lambda: answers(lab, faulty), "the app answers again")


def test_what_cannot_be_ordered(lab: Lab, faulty: Laptop) -> None:
    for order, said in (
        ({"machine": "fualty", "fault": "disk-full"}, APP),
        ({"machine": "nobody", "fault": "power-cut"}, APP),
        ({"machine": APP, "fault": "disk-fill"}, "disk-full"),
        ({"machine": APP, "fault": "disk-full", "with": APP}, "net-cut"),
    ):
        with pytest.raises(UsageError) as refused:
            control.order_fault(lab.name, **order)
        assert said in refused.value.cure
    faulty.inside("mv /usr/bin/fallocate /usr/bin/fallocate.away")
    try:
        with pytest.raises(RehostError):
            control.order_fault(lab.name, machine=APP, fault="disk-full")
    finally:
        faulty.inside("mv /usr/bin/fallocate.away /usr/bin/fallocate")
    assert control.status(lab.name).faults == ()


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "lab.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "running_lab" in code]
    # A name that the suite sweeps if it is killed.
    (tmp_path / "test_example.py").write_text(code.replace('"my-tests"', f'"suite-example-{os.getpid()}"'))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "XDG_CONFIG_HOME": str(tmp_path / "config")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
