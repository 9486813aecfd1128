"""The ssh connection against a real server on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehost.machine.ssh import Channel, Machine, MachineError, ScriptFailed, Unreachable, connect
from ssh_here import USER, Server, asynced, key, key_file, machine, public, serving, until


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any ssh configuration, and no agent."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


async def attempt(
    server: Server, tmp_path: Path, *, user_key: str = "user", host: str | None = "host"
) -> Machine:
    return await connect(
        "127.0.0.1",
        user=USER,
        host_keys=[public("another"), public(host)] if host else (),
        key_file=key_file(tmp_path, user_key),
        port=server.port,
        label="vm",
    )


@asynced
async def test_a_machine_with_one_of_the_known_host_keys_is_let_in(tmp_path: Path) -> None:
    async with serving(Server()) as server:
        opened = await attempt(server, tmp_path)
        output = await opened.run("echo out; echo err >&2", what="it")
        assert (output.stdout, output.stderr, output.status) == ("out", "err\n", 0)
        assert opened.execs == 1
        await opened.close()


def test_who_surely_has_the_right_key_asks_nothing_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question is a round trip. When this fails with a new asyncssh: machine/lean_asyncssh.py."""
    asked: list[tuple[bytes, bool]] = []
    send = asyncssh.SSHClientConnection.send_userauth_request

    async def seen(conn: asyncssh.SSHClientConnection, method: bytes, *args: Any, **options: Any) -> None:
        asked.append((method, "key" in options and options["key"] is not None))
        await send(conn, method, *args, **options)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_userauth_request", seen)

    @asynced
    async def both() -> None:
        async with serving(Server()) as server:
            await (await attempt(server, tmp_path)).close()
            assert asked == [(b"publickey", True)]
            asked.clear()
            with pytest.raises(Unreachable, match="does not accept the ssh key"):
                await attempt(server, tmp_path, user_key="another")
            assert asked == [(b"publickey", True)]
            # Where others than our own key may be offered, as on a machine that stands, all goes as ever.
            asked.clear()
            (tmp_path / "home/.ssh").mkdir()
            key_file(tmp_path / "home/.ssh", "user").rename(tmp_path / "home/.ssh/id_ed25519")
            opened = await connect(
                "127.0.0.1", user=USER, host_keys=[public("host")], port=server.port, label="vm"
            )
            await opened.close()
            assert asked == [(b"none", False), (b"publickey", False), (b"publickey", True)]

    both()


@asynced
async def test_a_wrong_host_key_is_refused(tmp_path: Path) -> None:
    async with serving(Server()) as server:
        with pytest.raises(Unreachable) as refused:
            await attempt(server, tmp_path, host="another")
    assert not refused.value.retryable
    assert refused.value.where == "vm"
    assert "none of those that it published" in refused.value.what
    assert "do not connect" in refused.value.cure
    assert server.offered == []  # nothing of ours was shown to it


@asynced
async def test_without_published_keys_known_hosts_decides(tmp_path: Path, home: Path) -> None:
    async with serving(Server()) as server:
        for text in (None, f"[127.0.0.1]:{server.port} {public('another')}\n"):
            if text is not None:
                (home / ".ssh").mkdir()
                (home / ".ssh/known_hosts").write_text(text)
            with pytest.raises(Unreachable) as refused:
                await attempt(server, tmp_path, host=None)
            assert not refused.value.retryable
            assert "known_hosts" in refused.value.what
            assert "ssh-keygen -R 127.0.0.1" in refused.value.cure
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {public('host')}\n")
        opened = await attempt(server, tmp_path, host=None)
        assert (await opened.run("echo in")).stdout == "in"
        await opened.close()


@asynced
async def test_a_wrong_user_key(tmp_path: Path) -> None:
    async with serving(Server()) as server:
        with pytest.raises(Unreachable) as refused:
            await attempt(server, tmp_path, user_key="another")
    assert refused.value.retryable  # a machine that boots learns its users late
    assert f"does not accept the ssh key of user {USER}" in refused.value.what
    assert "`rehost up` puts your key in place" in refused.value.cure


@asynced
async def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    async with serving(Server()) as server:
        pass
    with pytest.raises(Unreachable) as refused:
        await attempt(server, tmp_path)
    assert refused.value.retryable
    assert refused.value.what == "nothing answers on the ssh port"


@asynced
async def test_something_that_is_no_ssh_server(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    fake = Server()
    fake.port = listener.sockets[0].getsockname()[1]
    async with listener:
        with pytest.raises(Unreachable) as refused:
            await attempt(fake, tmp_path)
    assert refused.value.retryable  # sshd that is just starting or going down does that


@asynced
async def test_host_keys_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as refused:
        await connect("127.0.0.1", user=USER, host_keys=["ssh-ed25519 garbage"], port=1)
    assert not refused.value.retryable


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """An agent with more keys than sshd grants tries."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        for number in range(7):
            file = key_file(tmp_path, f"agent{number}")
            for _ in range(100):
                if (
                    subprocess.run(
                        ["ssh-add", "-q", file], env=environ, capture_output=True, check=False
                    ).returncode
                    == 0
                ):
                    break
            else:
                pytest.fail("the agent does not take keys")
        yield socket
        process.send_signal(signal.SIGTERM)


@asynced
async def offers(tmp_path: Path, server: Server) -> None:
    async with serving(server):
        opened = await attempt(server, tmp_path)
        await opened.close()


def test_a_full_agent_does_not_use_up_the_tries(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    server = Server()
    offers(tmp_path, server)
    assert server.offered == [public("user")]


# -- scripts -----------------------------------------------------------------------------------------------


@asynced
async def test_a_script_stands_nowhere_in_argv(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        output = await opened.run(
            'read line <<X\nhunter2 it\'s "$HOME"\nX\necho ${#line}; cat /proc/$$/cmdline'
        )
        assert "hunter2" not in output.stdout
        assert not any("hunter2" in command for command in server.commands)


@asynced
async def test_a_script_that_is_public_spares_a_round_trip(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        script = 'echo "$0 it\'s 100% $1"\nexit 3'
        opened.ahead()  # for one that is not
        done = await opened.run(script, public=True, check=False)
        assert (done.stdout, done.status) == ("sh it's 100% ", 3)
        assert len(server.commands) == 2
        assert (await opened.run("echo waited")).stdout == "waited"
        assert len(server.commands) == 2


@asynced
async def test_a_user_who_is_not_root_takes_sudo(tmp_path: Path) -> None:
    sudo = f'echo "$*" >>{tmp_path}/sudo; [ "$1 $2" = "-n --" ] || exit 9; shift 2; exec "$@"'
    async with machine(tmp_path, {"id": "echo 1000", "sudo": sudo}) as (opened, _):
        assert (await opened.run("echo yes")).stdout == "yes"
        channel = await opened.open("cat")
        await channel.write(b"through")
        await channel.eof()
        assert await channel.read(100) == b"through"
        assert await channel.finish() == (0, b"")
    assert (tmp_path / "sudo").read_text() == "-n -- sh -s\n-n -- sh -c cat\n"


@asynced
async def test_sessions_that_are_opened_ahead(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        opened.ahead(2)
        assert (await opened.run("read -r line; echo first\nmore")).stdout == "first"
        assert (await opened.run("exit 3", check=False)).status == 3
        assert (opened.execs, len(server.commands)) == (2, 2)
        opened.ahead()
        server.cut()
        with pytest.raises(MachineError, match="the ssh connection broke"):
            await opened.run("echo lost")
        # Nobody takes this one.
        opened.ahead()


@asynced
async def test_sudo_that_wants_a_password(tmp_path: Path) -> None:
    programs = {"id": "echo 1000", "sudo": "echo 'sudo: a password is required' >&2; exit 1"}
    async with machine(tmp_path, programs) as (opened, _):
        with pytest.raises(MachineError) as refused:
            await opened.run("true")
    assert "may not become root without a password" in refused.value.what
    assert "NOPASSWD" in refused.value.cure


@asynced
async def test_a_status_other_than_0(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, _):
        script = "seq 1 30 >&2; exit 73"
        with pytest.raises(ScriptFailed) as failed:
            await opened.run(script, what="the thing")
        assert failed.value.status == 73
        assert failed.value.what == "the thing failed on the machine (status 73)"
        assert failed.value.detail.splitlines() == [str(n) for n in range(16, 31)]
        assert not failed.value.retryable
        assert (await opened.run(script, check=False)).status == 73
        assert (await opened.stream("exit 4", print, what="it", check=False)).status == 4
        killed = await opened.run("kill -9 $$", check=False)
        assert killed.status == -1


LINES = {
    "": [],
    "a\\n": ["a"],
    "a": ["a"],
    "a\\nb": ["a", "b"],
    "a\\n\\nb\\n\\n": ["a", "", "b", ""],
    "\\n": [""],
    "\\377\\303\\244\\n": ["\ufffdä"],
    "a\\rb\\ff\\n": ["a\rb\ff"],
}


@asynced
async def test_lines_come_as_they_were_written(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, _):
        for printf, lines in LINES.items():
            seen: list[str] = []
            output = await opened.stream(f"printf '{printf}'", seen.append, what="it")
            assert (printf, seen) == (printf, lines)
            assert output.stdout == ""
            assert (await opened.run(f"printf '{printf}'")).stdout == "\n".join(lines)


@asynced
async def test_large_outputs_on_both_pipes(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, _):
        # A line longer than the window of the connection, and an error output that nobody may stop reading.
        output = await opened.run(
            "head -c 2500000 /dev/zero | tr '\\0' y >&2; head -c 2500000 /dev/zero | tr '\\0' x; echo; seq 1 50000"
        )
        first, *rest = output.stdout.split("\n")
        assert len(first) == 2_500_000
        assert rest == [str(n) for n in range(1, 50_001)]
        assert output.stderr == "y" * 2_500_000


@asynced
async def test_a_channel_carries_bytes_both_ways(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        channel = await opened.open("head -c 3000000 /dev/zero >&2; cat; exit 5")
        data = bytes(range(256)) * 8192

        async def send() -> None:
            await channel.write(data)
            await channel.eof()

        sending = asyncio.create_task(send())
        received = b""
        while part := await channel.read(1 << 16):
            received += part
        await sending
        assert received == data
        assert await channel.finish() == (5, bytes(3_000_000))
        assert opened.execs == len(server.commands) == 1


@asynced
async def test_a_channel_is_hung_up(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, _):
        channel = await opened.open("cat")
        await channel.write(b"x")
        await channel.close()
        assert (await opened.run("echo after")).stdout == "after"


TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\n"), max_size=60)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=3, max_size=8))
def test_any_text_goes_there_and_back(tmp_path: Path, texts: list[str]) -> None:
    @asynced
    async def there_and_back() -> None:
        async with machine(tmp_path) as (opened, _):
            for text in texts:
                # dash loses a byte of a line that begins as the delimiter does and goes on past ASCII: "E\u0080".
                assert (await opened.run(f"cat <<'END'\n|{text}\nEND")).stdout == f"|{text}"

    there_and_back()


# -- a line that breaks ------------------------------------------------------------------------------------


@asynced
async def test_a_connection_that_is_cut_in_the_middle(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        began = asyncio.Event()
        seen: list[str] = []

        def line(text: str) -> None:
            seen.append(text)
            began.set()

        running = asyncio.create_task(opened.stream("echo begun; sleep 60", line, what="it"))
        await began.wait()
        server.cut()
        with pytest.raises(MachineError) as cut:
            await running
        assert cut.value.retryable
        assert "the ssh connection broke" in cut.value.what
        assert "run the same command again to attach" in cut.value.cure
        assert seen == ["begun"]
        for next_one in (opened.run("echo more"), opened.open("cat")):
            with pytest.raises(MachineError) as broken:
                await next_one
            assert broken.value.retryable


@asynced
async def test_a_script_is_begun_before_it_is_opened(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    async with machine(tmp_path) as (opened, _):

        def talk(word: str) -> str:
            return f"echo {word} >>{ran}; cat; echo end"

        opened.begin(talk("first"))
        opened.begin(talk("nobody comes for it"))
        await until(lambda: ran.exists() and len(ran.read_text().splitlines()) == 2, "both run")
        channel = await opened.open(talk("first"))
        await channel.write(b"said\n")
        await channel.eof()
        assert b"".join([part async for part in parts(channel)]) == b"said\nend\n"
        assert await channel.finish() == (0, b"")
        assert opened.execs == 1
        # One that has ended before anybody spoke with it is run again.
        failing = f"echo again >>{ran}; exit 3"
        opened.begin(failing)
        await until(lambda: ran.read_text().count("again") == 1, "it runs")
        task = opened._begun[failing]
        await until(lambda: task.done() and task.result().exit_status is not None, "it has ended")
        assert (await (await opened.open(failing)).finish())[0] == 3
        assert ran.read_text().count("again") == 2


async def parts(channel: Channel) -> AsyncIterator[bytes]:
    while part := await channel.read(100):
        yield part


@asynced
async def test_a_channel_that_is_cut_in_the_middle(tmp_path: Path) -> None:
    async with machine(tmp_path) as (opened, server):
        channel = await opened.open("echo begun; cat; sleep 60")
        assert await channel.read(6) == b"begun\n"
        server.cut()
        with pytest.raises(ConnectionError):
            await channel.read(6)
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                await channel.write(bytes(1 << 16))
        status, _ = await channel.finish()
        assert status == -1


@asynced
async def test_who_shows_the_lines_may_give_up(tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def line(text: str) -> None:
        raise EnoughError

    async with machine(tmp_path) as (opened, _):
        with pytest.raises(EnoughError):
            await opened.stream("while echo x; do :; done", line, what="it")
        assert (await opened.run("echo after")).stdout == "after"


def test_keys_of_the_tests_differ() -> None:
    assert len({public(name) for name in ("host", "user", "another")}) == 3
    assert key("host") is key("host")
