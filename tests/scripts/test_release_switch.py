"""The switch: the real scripts, run over a real connection by a real sh, where Docker and systemd are stand-ins."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import docker_fake
import systemd_fake
from machine_state import APP, image, releases, serving
from machine_state import fresh as fresh_state
from rehost.machine.probe import MachineState
from rehost.machine.told import Told
from rehost.release import decide, switch
from rehost.release.build import build_script
from rehost.release.container import Revision, Settings, fingerprints
from rehost.release.logs import Order
from rehost.release.switch import ReleaseFailed, Switch
from rehost.run.errors import Refused
from rehost.run.secret import Secret
from ssh_here import Moved, asynced, machine
from test_machine_bootstrap import shellcheck
from test_release_container import AWKWARD, SETTINGS

PORTS = (20000, 20001)
QUICK = SETTINGS._replace(health_deadline=4, stop_grace=1)
REVISION = Revision("ada@laptop", "0123456789ab", dirty=True)
VALUES = {name: Secret(value) for name, value in AWKWARD.items()}


def desired(settings: Settings = QUICK, **changes: Any) -> decide.Desired:
    return decide.Desired(APP, "sha256:c", VALUES, settings, ("www.example.com",), keep=3)._replace(**changes)


class Site:
    """A machine on which releases are made. `said` and `log` are of the last release."""

    def __init__(self, opened: Moved, directory: Path) -> None:
        self.machine = opened
        self.app = opened.home / APP
        self.docker = directory / "docker"
        for name in ("containers", "answers", "logs"):
            (self.docker / name).mkdir(parents=True, exist_ok=True)
        (self.docker / "live").write_text(f"{self.app}/live\n")
        (self.docker / "app").write_text(f"{APP}\n")
        self.said: list[str] = []
        self.log: list[str] = []

    def state(self) -> MachineState:
        """As the probe would see it, as far as a release looks at it."""
        base = self.app / "releases"
        numbers = sorted(int(p.name) for p in base.iterdir() if p.name.isdigit()) if base.is_dir() else []
        found = releases(
            [(base / str(n) / "state").read_text().strip() for n in numbers],
        )
        records = [
            one._replace(number=n, record=json.loads((base / str(n) / "release.json").read_text()))
            for one, n in zip(found, numbers, strict=True)
        ]
        slot = next((slot for slot in "ba" if (self.app / "live" / slot).exists()), "")
        current = int((self.app / "live" / slot).read_text()) if slot else 0
        loaded = self.docker / "caddy.json"
        return fresh_state(
            releases=tuple(records),
            live_slot=slot,
            current=current,
            caddy=json.loads(loaded.read_text()) if loaded.exists() else {},
            ports={APP: PORTS} if numbers else {},
        )

    async def release(self, wanted: decide.Desired | None = None, **changes: Any) -> Told:
        """One release, as the command makes it; `changes` are of the order."""
        wanted = wanted or desired()
        state = self.state()
        number = decide.next_number(state)
        prepare = switch.prepare_script(wanted, state, number, f"sha256:{number}", REVISION)
        order = replace(switch.order_for(wanted, state, number, f"sha256:{number}"), **changes)
        return await self.switch(order, prepare)

    async def switch(self, order: Switch, prepare: str = "") -> Told:
        """A release, and what it leaves to do."""
        self.said, self.log = [], []
        (self.docker / "calls").write_text("")
        try:
            return await switch.switch(
                self.machine,
                order,
                prepare=prepare.replace("/var/lib/rehost", str(self.machine.home)),
                serving="release 1",
                say=self.said.append,
                log=self.log.append,
            )
        finally:
            await self.drained()

    async def drained(self) -> None:
        """Waits until the machine has done what the last release left to do."""
        unit = self.docker.parent / "units" / f"rehost-{APP}-drain.service"
        end = time.monotonic() + 20
        while unit.exists() and Path("/proc", unit.read_text().strip()).exists():
            assert time.monotonic() < end, "the unit of what is left to do does not end"
            await asyncio.sleep(0.01)

    def answers(self, number: int, *lines: str) -> None:
        """What the container of that release will do at each request."""
        (self.docker / "answers" / f"{APP}-{number}").write_text("".join(f"{line}\n" for line in lines))

    def logged(self, number: int | str, text: str) -> None:
        (self.docker / "logs" / f"{APP}-{number}").write_text(text)

    @property
    def calls(self) -> list[str]:
        return (self.docker / "calls").read_text().splitlines()

    @property
    def live(self) -> dict[str, str]:
        """The files that the proxy looks at."""
        found = self.app / "live"
        return {p.name: p.read_text().strip() for p in found.glob("[!.]*")} if found.is_dir() else {}

    @property
    def states(self) -> dict[int, str]:
        return {release.number: release.state for release in self.state().releases}

    def running(self) -> list[str]:
        return sorted(
            p.parent.name for p in self.docker.glob("containers/*/running") if p.read_text() == "true\n"
        )

    def restart(self, number: int) -> str:
        return (self.docker / "containers" / f"{APP}-{number}" / "restart").read_text().strip()


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with machine(tmp_path, {**systemd_fake.PROGRAMS, **docker_fake.PROGRAMS}) as (opened, _):
        yield Site(opened, tmp_path)


# -- the way that goes well --------------------------------------------------------------------------------


def whole_on_the_machine(here: Site) -> None:
    """What release 1 left there: whole, exact, and for nobody else to read."""
    folder = here.app / "releases/1"
    assert sorted(p.name for p in folder.iterdir()) == [
        *("container.a.json", "container.b.json", "release.json", "state")
    ]
    for path in (here.app / "releases", *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    # The proxy, which is not root, must see the file that it looks for.
    for path in (here.app, here.app / "live", here.app / "live/a"):
        assert path.stat().st_mode & 0o004, path
    for slot, port in zip("ab", PORTS, strict=True):
        body = json.loads((folder / f"container.{slot}.json").read_text())
        assert dict(pair.split("=", 1) for pair in body["Env"]) == AWKWARD
        assert body["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] == str(port)
    record = json.loads((folder / "release.json").read_text())
    salt = record.pop("salt")
    assert len(salt) == 32
    assert record.pop("created") > 1_700_000_000
    assert record == {
        "app": APP,
        "number": 1,
        "image": "sha256:1",
        "context": "sha256:c",
        "by": "ada@laptop",
        "commit": "0123456789ab",
        "dirty": True,
        "settings": QUICK.as_json(),
        "env": fingerprints(VALUES, salt),
    }
    assert (here.app / "ports").read_text() == "20000 20001\n"
    # What the unit keeps, and what it wrote, hold no value of the environment.
    for path in (here.app / "release").iterdir():
        text = path.read_text()
        assert not any(value in text for value in AWKWARD.values() if len(value) > 8), path


@asynced
async def test_a_first_release_and_its_successors(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.answers(1, "503 starting", '200 {"status":"ok"}')
        seen = await here.release()
        assert (seen.live, seen.answer, seen.reason) == (1, '200 {"status":"ok"}', "")
        assert here.live == {"a": "1"}
        assert here.states == {1: "live"}
        assert here.calls == [f"create {APP}-1 20000", f"start {APP}-1 no"]
        assert here.restart(1) == "unless-stopped"
        assert "waiting for http://127.0.0.1:20000/health to answer 200-299" in here.said
        assert "after 2s: 503 starting" in here.said
        assert any(text.startswith("healthy after ") for text in here.said)
        # The gate asks under the host of the settings, the proxy under the first name of the route.
        assert (here.docker / "asked").read_text().split() == [
            "api.example.com",
            "api.example.com",
            "www.example.com",
        ]
        assert here.log == []
        # Caddy was given the routes once, and is not reloaded for a switch.
        config = json.loads((here.docker / "caddy.json").read_text())
        assert config == decide.proxy_config(desired(), fresh_state())
        (here.docker / "caddy.json").chmod(0o400)
        changed = (here.docker / "caddy.json").stat().st_mtime_ns

        whole_on_the_machine(here)
        salt = here.state().releases[0].record["salt"]
        await here.release()  # from a to b
        assert here.state().releases[1].record["salt"] == salt
        assert here.live == {"a": "1", "b": "2"}  # b wins
        assert here.states == {1: "replaced", 2: "live"}
        assert here.calls == [f"create {APP}-2 20001", f"start {APP}-2 no", f"stop 1 {APP}-1"]
        assert here.running() == [f"{APP}-2"]

        await here.release()  # from b to a
        assert here.live == {"a": "3"}
        assert here.states == {1: "replaced", 2: "replaced", 3: "live"}
        assert here.running() == [f"{APP}-3"]
        assert (here.docker / "caddy.json").stat().st_mtime_ns == changed


@asynced
async def test_requests_in_flight_are_waited_for(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "connections").write_text("ESTAB 1\n" * 7)
        seen = await here.release()
        assert seen.drain == "release 1 is finishing its requests on the machine (1 open), for up to 30s"
        assert (here.docker / "connections").read_text() == ""  # the last look found none
        assert here.calls[-1] == f"stop 1 {APP}-1"
        # Not for ever.
        (here.docker / "connections").write_text("ESTAB 1\n" * 7)
        await here.release(desired(QUICK._replace(drain=4)))
        assert (here.docker / "connections").read_text() != ""
        assert here.calls[-1] == f"stop 1 {APP}-2"
        assert not [*here.app.glob("releases/*/until"), *here.app.glob("releases/*/ending")]


@asynced
async def test_old_releases_and_images_go(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        await here.release()
        await here.release(desired(keep=2), prune_images=("sha256:gone",))
        assert here.states == {2: "replaced", 3: "live"}
        assert not (here.docker / "containers" / f"{APP}-1").exists()
        assert here.calls[-2:] == [f"rm {APP}-1", "rmi sha256:gone"]


# -- what goes wrong ---------------------------------------------------------------------------------------


async def fails(here: Site, **changes: Any) -> ReleaseFailed:
    """The error of a release that must fail and leave the one before it as it was."""
    before, running = here.live, here.running()
    with pytest.raises(ReleaseFailed) as failed:
        await here.release(**changes)
    assert here.live == before
    assert here.running() == running
    assert failed.value.serving == "release 1"
    assert failed.value.where == "vm"
    number = max(here.states)
    assert here.states[number] == "failed"
    assert not (here.docker / "containers" / f"{APP}-{number}").exists()
    assert not (here.app / f"releases/{number}/answer").exists()
    return failed.value


LOG = "".join(f"line {n}\n" for n in range(3))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["404 none"], "not healthy within 4s: /health gave 404 none"),
        (["503 starting", "exit 3"], "the container ended by itself with status 3"),
        (["oom"], "the container ran out of its memory limit (400MB)"),
        (['500 {"why":"a\\nb\\c"}'], 'not healthy within 4s: /health gave 500 {"why":"a\\nb\\c"}'),
    ],
)
@asynced
async def test_a_release_that_does_not_become_healthy(
    tmp_path: Path, answers: list[str], reason: str
) -> None:
    async with site(tmp_path) as here:
        here.answers(1, *answers)
        here.logged(1, LOG + "no line end")
        failed = await fails(here)
        assert failed.what == f"release 1 of {APP} was not made: {reason}"
        assert failed.detail.splitlines() == [*LOG.splitlines(), "no line end"]
        assert here.log == [*LOG.splitlines(), "no line end"]
        assert here.live == {}


@asynced
async def test_what_docker_and_caddy_refuse(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        for file, text, reason in (
            (
                "create",
                '400\n{"message":"bad parameter"}',
                'Docker did not create the container: {"message":"bad parameter"}',
            ),
            (
                "start",
                "port is already\nallocated",
                "Docker did not start the container: port is already allocated",
            ),
            (
                "load",
                '400\n{"error":"no such module"}',
                'Caddy refused its configuration: {"error":"no such module"}',
            ),
            ("load", "000\n", "Caddy refused its configuration: no answer (curl: (7) refused)"),
        ):
            (here.docker / "caddy.json").unlink(missing_ok=True)  # the routes drifted
            (here.docker / file).write_text(text)
            failed = await fails(here)
            assert failed.what.partition("was not made: ")[2].strip() == reason
            assert (here.live, here.restart(1)) == ({"a": "1"}, "unless-stopped")
            (here.docker / file).unlink()


@asynced
async def test_a_port_that_docker_holds_for_nobody_is_had_back(tmp_path: Path) -> None:
    """Docker 20.10, cut off while it starts a container, keeps its port until it starts anew."""
    held = "driver failed programming external connectivity: Bind for 127.0.0.1:20001 failed: port is already allocated"
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "start").write_text(held)
        assert (await here.release()).live == 2
        assert here.calls[:3] == [f"create {APP}-2 20001", "restart docker", f"start {APP}-2 no"]


@asynced
async def test_a_port_that_somebody_else_has_is_left_to_them(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        other = here.docker / "containers" / "other"
        other.mkdir()
        for file, text in {
            "port": "20001",
            "running": "true",
            "restart": "no",
            "exit": "0",
            "oom": "false",
        }.items():
            (other / file).write_text(f"{text}\n")
        (here.docker / "start").write_text("Bind for 127.0.0.1:20001 failed: port is already allocated")
        failed = await fails(here)
        assert "port is already allocated" in failed.what
        assert "restart docker" not in here.calls


@asynced
async def test_a_switch_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    """A full disk: the file of the switch stays empty."""
    async with site(tmp_path) as here:
        await here.release()
        (here.app / "live" / ".next").symlink_to("/dev/full")
        failed = await fails(here)
        assert "is the machine's disk full?" in failed.what
        (here.app / "live" / ".next").unlink()
        assert (await here.release()).live == 3


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("create", "000\n"),
        ("start", 'error during connect: Post "http://docker.sock/start": EOF'),
        ("start", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."),
    ],
)
@asynced
async def test_without_docker_the_app_is_not_blamed(tmp_path: Path, file: str, text: str) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / file).write_text(text)
        assert "starts Docker" in (await fails(here)).cure


@asynced
async def test_docker_may_be_away_while_the_app_starts(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.answers(1, *["503 starting"] * 6, "200 fine")
        (here.docker / "away").write_text("1\n")
        assert (await here.release(desired(QUICK._replace(health_deadline=60)))).live == 1
        assert any("Docker does not answer" in text for text in here.said)


@asynced
async def test_an_app_that_the_proxy_does_not_reach(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for old, number in ((0, 1), (2, 3), (4, 5)):  # from nothing to a, from a to b, from b to a
            (here.docker / "proxy").write_text("502")
            with pytest.raises(ReleaseFailed) as failed:
                await here.release()
            back = f"; the traffic is back on release {old}" if old else ""
            assert failed.value.what.endswith(f"through the proxy, /health gave 502 from the proxy{back}")
            assert here.state().current == old
            assert here.running() == ([f"{APP}-{old}"] if old else [])
            assert here.states[number] == "failed"
            (here.docker / "proxy").unlink()
            if number < 5:
                await here.release()


@asynced
async def test_a_release_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        old = here.state()
        await here.release()
        files = {p: p.read_bytes() for p in (here.app / "releases/1").iterdir()}
        prepare = switch.prepare_script(desired(), old, 1, "sha256:1", REVISION)
        with pytest.raises(Refused) as refused:  # its number was taken
            await here.switch(switch.order_for(desired(), old, 1, "sha256:1"), prepare)
        assert refused.value.what == "release 1 was made by somebody else meanwhile."
        with pytest.raises(Refused) as refused:  # its slot was taken
            await here.release(slot="a")
        assert "another release was made meanwhile" in refused.value.what
        assert "Run the same command again" in refused.value.cure
        assert (here.live, here.calls, here.running()) == ({"a": "1"}, [], [f"{APP}-1"])
        assert {p: p.read_bytes() for p in (here.app / "releases/1").iterdir()} == files


@asynced
async def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        (tmp_path / "bin/base64").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin/base64").chmod(0o755)
        with pytest.raises(Refused) as refused:
            await here.release()
        assert "could not be written to the machine (status 1)" in refused.value.what
        assert here.states == {}
        (tmp_path / "bin/base64").unlink()
        assert (await here.release()).live == 1  # what was half written is not in its way


@asynced
async def test_what_a_cut_off_release_left_is_stopped_first(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        stray = here.docker / "containers" / f"{APP}-7"
        stray.mkdir()
        for name, text in (("port", "20000"), ("running", "true"), ("exit", "0"), ("oom", "false")):
            (stray / name).write_text(f"{text}\n")
        await here.release()
        assert here.calls[0] == f"stop 1 {APP}-7"
        assert here.running() == [f"{APP}-1"]


# -- returning ---------------------------------------------------------------------------------------------


@asynced
async def test_returning_to_a_release(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        await here.release()
        state = here.state()
        target = decide.return_to(state, None, where="vm")
        seen = await here.switch(switch.order_back(APP, state, target.record, ("www.example.com",)))
        assert (seen.live, here.live) == (1, {"a": "1"})
        assert here.states == {1: "live", 2: "replaced"}
        # Its container was made for that slot: it is started as it is, and proves itself before it may restart.
        assert here.calls == [f"start {APP}-1 no", f"stop 1 {APP}-2"]
        assert here.restart(1) == "unless-stopped"
        # One that was made for the other slot is made anew, from the same release.
        (here.docker / "containers" / f"{APP}-2" / "port").write_text("20000\n")
        state = here.state()
        await here.switch(switch.order_back(APP, state, state.releases[1].record, ()))
        assert (here.live, here.calls[:3]) == (
            {"a": "1", "b": "2"},
            [f"rm {APP}-2", f"create {APP}-2 20001", f"start {APP}-2 no"],
        )
        # A return that fails leaves the release good: it served once.
        here.answers(1, "500 database is gone")
        order = switch.order_back(APP, here.state(), state.releases[0].record, ())
        with pytest.raises(ReleaseFailed):
            await here.switch(order)
        assert (here.live, here.state().current) == ({"a": "1", "b": "2"}, 2)
        assert here.states == {1: "replaced", 2: "live"}


# -- the order as data -------------------------------------------------------------------------------------


def test_the_order_of_a_release() -> None:
    state = serving(
        releases=releases(["replaced", "replaced", "failed", "live"]),
        current=4,
        live_slot="b",
        images=(*(image(f"sha256:{n}") for n in (1, 2, 4, 5)), image("sha256:unknown")),
    )
    order = switch.order_for(desired(), state, 5, "sha256:5")
    assert (order.slot, order.ports, order.prune) == ("a", PORTS, [1, 3])
    assert order.prune_images == ["sha256:1", "sha256:unknown"]
    head = dict(line.split("=", 1) for line in order.script.splitlines()[:24] if "=" in line)
    assert (head["PORT"], head["OLD_PORT"], head["SLOT"]) == ("20000", "20001", "a")
    assert (head["PRUNE"], head["PROXY_HOST"]) == ("'1 3'", "www.example.com")
    other = replace(order, slot="b", hosts=())
    head = dict(line.split("=", 1) for line in other.script.splitlines()[:24] if "=" in line)
    assert (head["PORT"], head["OLD_PORT"], head["PROXY_HOST"]) == ("20001", "20000", "api.example.com")


def test_an_order_back_takes_the_settings_of_then() -> None:
    record: Mapping[str, Any] = {"number": 2, "settings": {**QUICK.as_json(), "health": "/old"}}
    order = switch.order_back(APP, serving(), record, ())
    assert (order.number, order.slot, order.settings.health) == (2, "b", "/old")
    assert (list(order.prune), list(order.prune_images)) == ([], [])


def test_awkward_settings_are_quoted() -> None:
    order = switch.order_for(desired(QUICK._replace(health="/h?a='b'&$(id)")), fresh_state(), 1, "sha256:1")
    echo = "\nprintf '%s' \"$HEALTH\""
    head = order.script.partition("# Makes a prepared")[0]
    done = subprocess.run(["sh", "-c", head + echo], capture_output=True, text=True, check=True)
    assert done.stdout == "/h?a='b'&$(id)"


def test_shellcheck_finds_nothing() -> None:
    order = switch.order_for(desired(), fresh_state(), 1, "sha256:1")
    log = Order(APP, follow=True, since="10m", lines=5, number=None)
    prepare = switch.prepare_script(desired(), fresh_state(), 1, "sha256:1", REVISION)
    shellcheck(order.script, prepare, log.script, build_script(APP, "sha256:c", {"A": "it's"}, "f"))
