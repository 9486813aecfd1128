"""An app's machine as a command sees it: a cloud in memory, a real ssh connection, and the recorded probe."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cloud_fake import ROOT, ZONE, FakeCloud
from machine_state import APP, SERVING, container, fresh, serving
from project_here import STANDING, TOML, last, make, typed
from rehost.cli import site as site_module
from rehost.cli import visit
from rehost.cli.site import Site, cloud_desired
from rehost.cli.visit import CACHE
from rehost.cloud import bodies
from rehost.cloud.model import Reach
from rehost.machine import keys
from rehost.machine.ssh import Machine, Unreachable
from rehost.machine.ssh import connect as real_connect
from rehost.project import config
from ssh_here import USER, Server, asynced, key_file, public
from ssh_here import serving as listening

INSTANCE = f"{ROOT}/zones/{ZONE}/instances/{APP}"


class Scripted(Server):
    """Answers the probe as recorded, and any other script with `other`."""

    def __init__(self, probe: str = SERVING) -> None:
        super().__init__()
        self.probe = probe
        self.other: tuple[str, int] = ("", 0)
        self.scripts: list[str] = []

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.connections.append(process.get_extra_info("connection"))
        script = f"{process.command}\n{(await process.stdin.read()).decode()}"
        self.scripts.append(script)
        text, status = (self.probe, 0) if "\nsay texts\n" in script else self.other
        process.stdout.write(text.encode())
        process.exit(status)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = make(tmp_path, monkeypatch)
    monkeypatch.setattr(keys, "login_name", lambda: USER)
    # The key of the tests is the user's own.
    own = keys.config_home() / "ssh"
    own.mkdir(parents=True)
    shutil.copy(key_file(tmp_path, "user"), own / "id_ed25519")
    return found


def meet(monkeypatch: pytest.MonkeyPatch, server: Server, dead: frozenset[str] = frozenset()) -> list[str]:
    """Leads every address to the server, but for the dead ones; returns those that were tried."""
    tried: list[str] = []

    async def connect(address: str, **more: Any) -> Machine:
        tried.append(address)
        if address in dead:
            await asyncio.Event().wait()  # as packets that nobody answers
        return await real_connect("127.0.0.1", **{**more, "port": server.port})

    monkeypatch.setattr(site_module, "connect", connect)
    monkeypatch.setattr(visit, "connect", connect)
    monkeypatch.setattr(visit, "connect", connect)
    return tried


def standing(
    project: Path, *, status: str = "RUNNING", host: str = "host", published: bool = True
) -> FakeCloud:
    """The cloud where the project's machine is as it must be, but for its address and rules."""
    cloud = FakeCloud()
    wanted = cloud_desired(config.load(project))
    assert wanted is not None
    body = bodies.instance_body(wanted, external="203.0.113.7", existing_disk=False)
    cloud.put(INSTANCE, **body, zone=f"{ROOT}/zones/{ZONE}", status=status)
    cloud.put(f"{INSTANCE}/serialPort", contents="booting\n", next="8")
    if published:
        kind, key = public(host).split()
        items = [{"namespace": "hostkeys", "key": kind, "value": key}]
        cloud.put(f"{INSTANCE}/getGuestAttributes", queryValue={"items": items})
    return cloud


def made(project: Path, cloud: FakeCloud, arriving: asyncio.Task[visit.Visit | None] | None = None) -> Site:
    loaded = config.load(project)
    return Site(loaded, cloud.client(), cloud_desired(loaded), arriving)


def remember(project: Path, cloud: FakeCloud, **changes: Any) -> None:
    parts = {
        "app": APP,
        "health": "/health",
        "host": "api.example.com",
        "address": "203.0.113.7",
        "user": USER,
        "host_keys": [public("host")],
        "instance_id": cloud.resources[INSTANCE]["id"] if INSTANCE in cloud.resources else "9",
    }
    (project / ".rehost/cache").mkdir(parents=True, exist_ok=True)
    (project / ".rehost" / CACHE).write_text(json.dumps({**parts, **changes}))


async def looked(here: Site) -> Site:
    assert here.client is not None
    async with here.client:
        await here.look()
        return here


# -- looking ---------------------------------------------------------------------------------------------------


@asynced
async def test_a_machine_is_met_and_remembered(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with listening(server):
        tried = meet(monkeypatch, server)
        cloud = standing(project)
        here = await looked(made(project, cloud))
        assert here.state is not None
        assert (here.state.current, here.address) == (1, "203.0.113.7")
        assert here.label == f"{APP} (203.0.113.7)"
        assert here.serving == "release 1"
        assert tried == ["203.0.113.7"]
        assert server.offered == [public("user")]
        await here.leave()
        kept = project / ".rehost" / CACHE
        assert json.loads(kept.read_text())["host_keys"] == [public("host")]
        # The second time the cloud is not asked for the way.
        cloud.seen.clear()
        here = await looked(made(project, cloud))
        assert here.state is not None
        assert not any("getGuestAttributes" in path for _, path, _, _ in cloud.seen)
        assert len(server.scripts) == 2
        await here.leave()
        assert cloud.changes() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "203.0.113.99"},  # it got another address
        {"instance_id": "1"},  # it was made anew
        {"host_keys": [public("another")]},
        {"host_keys": ["garbage"]},
        {"host_keys": None},
        {"unknown": 1},
        {"app": "shop"},  # rehost.toml had another name
    ],
    ids=lambda changes: next(iter(changes)),
)
@asynced
async def test_what_was_remembered_wrongly(
    project: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    async with listening(Scripted()) as server:
        # The old address keeps silent, and is not waited for.
        meet(monkeypatch, server, frozenset({"203.0.113.99"}))
        cloud = standing(project)
        remember(project, cloud, **changes)
        here = await looked(made(project, cloud))
        assert here.state is not None
        assert here.address == "203.0.113.7"
        await here.leave()
        assert json.loads((project / ".rehost" / CACHE).read_text())["address"] == "203.0.113.7"


@asynced
async def test_a_machine_that_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server, frozenset({"203.0.113.99"}))
        cloud = FakeCloud()
        for _ in range(2):
            here = await looked(made(project, cloud))
            assert (here.state, here.machine, here.address, here.serving) == (None, None, "", "nothing yet")
            assert here.label == APP
            remember(project, cloud, address="203.0.113.99")  # `down` was typed since


@pytest.mark.parametrize("status", ["TERMINATED", "STAGING"])
@asynced
async def test_a_machine_that_does_not_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    async with listening(Scripted()) as server:
        tried = meet(monkeypatch, server)
        here = await looked(made(project, standing(project, status=status)))
        assert (here.state, tried) == (None, [])
        assert here.observed is not None
        assert here.observed.instance is not None


@asynced
async def test_a_machine_that_does_not_let_us_in_yet(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Scripted()) as server:
        pass
    meet(monkeypatch, server)
    for cloud in (standing(project), standing(project, published=False)):
        here = await looked(made(project, cloud))
        assert (here.state, here.machine) == (None, None)


@asynced
async def test_a_machine_that_is_somebody_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server)
        with pytest.raises(Unreachable) as refused:
            await looked(made(project, standing(project, host="another")))
        assert "none of those that it published" in refused.value.what
        assert not (project / ".rehost" / CACHE).exists()


@asynced
async def test_a_line_that_breaks_in_the_probe_is_not_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(Scripted):
        async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
            process.get_extra_info("connection").abort()

    async with listening(Breaking()) as server:
        meet(monkeypatch, server)
        here = await looked(made(project, standing(project)))
        assert (here.state, here.machine) == (None, None)


@asynced
async def test_the_machine_alone_is_read_over_the_remembered_address(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server)
        cloud = standing(project)
        remember(project, cloud)
        here = made(project, cloud)
        assert here.client is not None
        async with here.client:
            await here.reach_only()
        assert here.state is not None
        assert cloud.seen == []
        await here.leave()
        assert len(server.scripts) == 1
        # Another health path was written since: the machine is asked about that, and it is noted.
        remember(project, cloud, health="/old")
        here = made(project, cloud)
        assert here.client is not None
        async with here.client:
            await here.reach_only()
        await here.leave()
        assert "HEALTH=/health" in server.scripts[-1]
        assert json.loads((project / ".rehost" / CACHE).read_text())["health"] == "/health"


@asynced
async def test_a_command_that_needs_no_state_asks_neither_cloud_nor_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server)
        cloud = standing(project)
        for key, asked in (("host", False), ("another", True)):
            remember(project, cloud, host_keys=[public(key)])
            here = made(project, cloud, await visit.start(project, look=False))
            assert here.client is not None
            async with here.client:
                await here.connect()
            assert here.reach is not None
            assert here.reach.address == "203.0.113.7"
            assert (cloud.seen != [], server.scripts) == (asked, [])
            await here.leave()


@asynced
async def test_another_app_s_machine_is_not_taken_for_this_one_s(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(Scripted()) as server:
        tried = meet(monkeypatch, server)
        cloud = standing(project)
        for way in ("reach_only", "find_out"):
            # `app` in rehost.toml was changed: what was remembered is the machine of the app of that name.
            remember(project, cloud, app="shop", address="203.0.113.99", instance_id="1")
            here = made(project, cloud)
            assert here.client is not None
            async with here.client:
                await getattr(here, way)()
            assert here.reach is not None
            assert here.reach.address == "203.0.113.7"
            await here.leave()
        assert tried == ["203.0.113.99", "203.0.113.7"]


@asynced
async def test_a_visit_that_nobody_waits_for_is_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server, frozenset({"203.0.113.99"}))
        cloud = standing(project)
        for address in ("203.0.113.99", "203.0.113.7"):
            remember(project, cloud, address=address)
            arriving = await visit.start(project)
            if address == "203.0.113.7":
                await asyncio.wait([arriving])
            here = Site(config.load(project), None, None, arriving)
            await here.leave()
            assert arriving.done()


@asynced
async def test_a_machine_that_boots_is_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with listening(server):
        meet(monkeypatch, server)
        cloud = standing(project, published=False)
        here = made(project, cloud)
        told: list[str] = []

        def progress(text: str) -> None:
            told.append(text)
            kind, key = public("host").split()
            items = [{"namespace": "hostkeys", "key": kind, "value": key}]
            cloud.put(f"{INSTANCE}/getGuestAttributes", queryValue={"items": items})

        assert here.client is not None
        async with here.client:
            await here.connect(progress)
        assert told == [f"{APP} is RUNNING; waiting for its host keys"]
        await here.leave()


# -- what is said of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "hosts"),
    [
        (TOML, ("api.example.com", "203.0.113.7")),
        (TOML.replace('name = "api.example.com"', ""), ()),
        (
            TOML.replace("[run]", '[run]\nhealth_host = "probe.example.com:8080"'),
            ("api.example.com", "probe.example.com", "203.0.113.7"),
        ),
    ],
)
def test_the_names_that_the_proxy_answers_for(tmp_path: Path, toml: str, hosts: tuple[str, ...]) -> None:
    here = Site(config.parse(toml, tmp_path), None, None)
    here.reach = Reach("203.0.113.7", USER)
    assert here.hosts == hosts


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "nothing yet"),
        (fresh(), "nothing yet"),
        (serving(), "release 1"),
        (serving(containers=(container(1, "exited"),)), "nothing: release 1 does not run"),
    ],
)
def test_what_still_serves(tmp_path: Path, state: Any, words: str) -> None:
    here = Site(config.parse(TOML, tmp_path), None, None)
    here.state = state
    assert here.serving == words


def test_what_the_cloud_is_asked_for(project: Path) -> None:
    wanted = cloud_desired(config.load(project))
    assert wanted is not None
    assert (wanted.app, wanted.project, wanted.zone, wanted.ssh_user) == (APP, "my-project", ZONE, USER)
    assert wanted.ssh_public_key == public("user")
    assert "hunter2" not in repr(wanted)  # nothing of the env file goes to the cloud
    assert cloud_desired(config.parse(STANDING, project)) is None


# -- commands on a machine that stands ---------------------------------------------------------------------------


@contextmanager
def threaded(server: Server) -> Iterator[Server]:
    """The server in a loop of its own, so that a command can run in this thread."""
    loop = asyncio.new_event_loop()
    up, down = threading.Event(), asyncio.Event()

    async def run() -> None:
        async with listening(server):
            up.set()
            await down.wait()

    def main() -> None:
        loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    try:
        assert up.wait(30)
        yield server
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(30)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """A machine that stands, reached with the user's own key and known_hosts."""
    directory = make(tmp_path, monkeypatch, STANDING)
    ssh = tmp_path / "home/.ssh"
    ssh.mkdir()
    shutil.copy(key_file(tmp_path, "user"), ssh / "id_ed25519")
    server = Scripted()
    with threaded(server):
        (directory / "rehost.toml").write_text(STANDING.replace("port = 1\n", f"port = {server.port}\n"))
        (ssh / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {public('host')}\n")
        yield server


def test_status(machine: Scripted) -> None:
    people = typed("status")
    assert people.exit_code == 0
    assert "release   1: by ada@laptop; container content-api-1: Up 2 minutes" in people.stdout
    assert "health    /health answers 200 in 10 ms" in people.stdout
    assert people.stdout.splitlines()[-1] == "healthy"
    ending = last(typed("status", "--json"))
    assert (ending["release"], ending["healthy"], ending["address"]) == (1, True, "127.0.0.1")
    assert ending["machine"] == "standing"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\n200 0.009713", "\n500 0.009713", "answers 500"),
        ("\n200 0.009713", "\n000 5.000000", "answers nothing"),
        ('"State":"running","Status":"Up 2 minutes"', '"State":"exited","Status":"Exited (1)"', "Exited (1)"),
        ("docker.io ii ", "docker.io un ", "package docker.io is not as it must be"),
    ],
)
def test_a_status_that_is_not_well(machine: Scripted, old: str, new: str, words: str) -> None:
    assert old in SERVING
    machine.probe = SERVING.replace(old, new)
    result = typed("status")
    assert words in result.output
    assert result.exit_code == (0 if "docker.io" in words else 1)  # drift alone does not stop the app


def test_history(machine: Scripted) -> None:
    people = typed("history")
    assert people.exit_code == 0
    assert people.stdout.startswith("*   1  live ")
    assert "ada@laptop" in people.stdout
    (release,) = last(typed("history", "--json"))["releases"]
    assert (release["number"], release["state"], release["serving"]) == (1, "live", True)


def test_env_diff(machine: Scripted) -> None:
    result = typed("env", "diff")
    assert result.exit_code == 1
    assert "~ SECRET_KEY" in result.stdout.splitlines()
    assert "+ OTHER" in result.stdout.splitlines()
    assert "- MONGODB_URL" in result.stdout.splitlines()
    assert "hunter2" not in result.output
    names = {
        one["name"]: (one["before"], one["after"]) for one in last(typed("env", "diff", "--json"))["changes"]
    }
    assert names["SECRET_KEY"] == ("set", "changed")
    assert "PORT" not in names  # 8080 there and here


@pytest.mark.parametrize("release", ["1", "7"])
def test_a_rollback_that_is_refused(machine: Scripted, release: str) -> None:
    ending = last(typed("rollback", release, "--json"))
    assert (ending["exit"], ending["result"]) == (3, "refused")
    assert "`rehost history`" in ending["error"]["cure"]
    assert all("\nsay texts\n" in script for script in machine.scripts)  # it was only looked at


def test_health(machine: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    from rehost.edge import answer

    asked: list[tuple[str, ...]] = []
    outside = [0, 500, 200]

    async def ask(*parts: str) -> answer.Answer:
        asked.append(parts)
        return answer.Answer(outside.pop(), "fine", "http://127.0.0.1/health")

    monkeypatch.setattr(answer, "ask", ask)
    for code in (0, 1, 1):
        ending = last(typed("health", "--json"))
        assert (ending["exit"], ending["healthy"]) == (code, code == 0)
        assert ending["machine"]["status"] == 200
    assert asked[0] == ("127.0.0.1", "/health", "api.example.com")


def test_logs(machine: Scripted) -> None:
    machine.other = ("one\nhas hunter2 hunter2 in it\ntwo\n", 0)
    assert typed("logs").stdout == "one\nhas *** in it\ntwo\n"
    assert typed("logs", "--grep", "^t").stdout == "two\n"
    machine.other = ("", 73)
    result = typed("logs")
    assert result.exit_code == 1
    assert "no release serves yet" in result.stderr


def test_down_asks_first_and_takes_only_what_is_there(machine: Scripted) -> None:
    refused = typed("down")
    assert refused.exit_code == 3
    assert all("docker rm" not in script for script in machine.scripts)
    assert typed("down", "--yes").exit_code == 0
    assert any("docker rm" in script for script in machine.scripts)
    assert any("/load" in script for script in machine.scripts)
    nothing = "".join(line for line in SERVING.splitlines(keepends=True) if f"/{APP}/releases/" not in line)
    before, rest = nothing.split("@@rehost-probe containers\n")
    machine.probe = before + "@@rehost-probe containers\n[]\n" + rest[rest.index("@@rehost-probe images") :]
    result = typed("down", "--yes")
    assert (result.exit_code, result.stdout) == (0, f"Nothing of {APP} is there.\n")


def test_a_machine_that_stands_gives_its_terminal_to_ssh(machine: Scripted, tmp_path: Path) -> None:
    program = tmp_path / "programs/ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\nexit 42\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert typed("ssh", "--", "df", "-h").exit_code == 42
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["-p", str(machine.port), "ada@127.0.0.1", "--", "df -h"]
    assert typed("exec", "--", "python", "-c", "print('a b')").exit_code == 42
    line = (tmp_path / "words").read_text()
    assert "docker exec -i" in line
    assert 'else echo "no release serves yet; rehost up makes one" >&2; exit 1; fi' in line
    assert """python -c 'print('"'"'a b'"'"')'""" in line
    program.unlink()
    missing = typed("ssh")
    assert missing.exit_code == 2
    assert "openssh-client" in missing.stderr
