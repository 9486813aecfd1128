"""The ssh command line, read back by the system's own ssh; and our own key."""

from __future__ import annotations

import stat
import subprocess
import threading
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.cloud.model import Reach
from rehost.machine import keys
from rehost.machine.terminal import command, known_hosts
from ssh_here import key, public

GCE = Reach("203.0.113.7", "ada", (public("host"), public("another")), "123")


def understood(words: list[str]) -> dict[str, list[str]]:
    """What ssh makes of the options, by name; the user's configuration is left out."""
    done = subprocess.run(
        [words[0], "-F", "none", "-G", *words[1:]], capture_output=True, text=True, check=True
    )
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


@pytest.mark.parametrize(
    "directory", ["plain", "with a space", 'a "quote"', "100%", "back\\slash", "it's", "#1"]
)
def test_only_the_published_keys_let_in(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir()
    hosts, key = tmp_path / directory / "known_hosts", tmp_path / "key"
    key.touch()
    options = understood(command(GCE, key_file=key, hosts_file=hosts, terminal=False))
    assert options["userknownhostsfile"] == [str(hosts)]
    assert options["globalknownhostsfile"] == ["/dev/null"]
    assert options["stricthostkeychecking"] in (["true"], ["yes"])
    assert options["identityfile"] == [str(key)]
    assert options["identitiesonly"] == ["yes"]
    assert (options["user"], options["hostname"], options["port"]) == (["ada"], ["203.0.113.7"], ["22"])
    assert options["requesttty"] == ["auto"]


def test_a_machine_that_stands_follows_the_user_s_own_configuration() -> None:
    reach = Reach("box", "", port=2222)
    assert command(reach, key_file=None, hosts_file=None, terminal=True) == ["ssh", "-p", "2222", "-t", "box"]
    assert command(Reach("box", "me"), key_file=None, hosts_file=None, terminal=False) == ["ssh", "me@box"]


WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


@given(st.lists(WORDS, min_size=2, max_size=4))
def test_words_arrive_as_they_were_typed(remote: list[str]) -> None:
    *_, dashes, line = command(GCE, key_file=None, hosts_file=None, terminal=False, remote=remote)
    assert dashes == "--"
    # The machine's shell takes the line apart again.
    done = subprocess.run(
        ["sh", "-c", f"set -- {line}; printf '%s\\0' \"$@\""], capture_output=True, check=True
    )
    assert done.stdout.decode().split("\0")[:-1] == remote


def test_one_word_is_a_line_for_the_machine_s_shell() -> None:
    line = command(GCE, key_file=None, hosts_file=None, terminal=False, remote=["df -h | tail -1"])
    assert line[-2:] == ["--", "df -h | tail -1"]


def test_known_hosts() -> None:
    text = known_hosts(GCE)
    assert text == f"203.0.113.7 {public('host')}\n203.0.113.7 {public('another')}\n"
    hosts = asyncssh.import_known_hosts(text)
    found = hosts.match("203.0.113.7", "203.0.113.7", 22)[0]
    assert {one.public_data for one in found} == {key(name).public_data for name in ("host", "another")}
    assert not hosts.match("203.0.113.8", "203.0.113.8", 22)[0]
    other = known_hosts(Reach("203.0.113.7", "ada", (public("host"),), port=2222))
    assert other == f"[203.0.113.7]:2222 {public('host')}\n"


# -- our own key -------------------------------------------------------------------------------------------


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first = keys.own_key(tmp_path / "ssh")
    assert first.public.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(first.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.file.parent.stat().st_mode) == 0o700
    assert keys.own_key(tmp_path / "ssh") == first
    made = asyncssh.read_private_key(first.file).export_public_key().decode()
    assert first.public == " ".join(made.split()[:2])
    # The public half can be made again from the private one.
    first.file.with_suffix(".pub").unlink()
    assert keys.own_key(tmp_path / "ssh") == first
    assert sorted(p.name for p in (tmp_path / "ssh").iterdir()) == ["id_ed25519", "id_ed25519.pub"]


def test_two_commands_at_once_end_with_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    numbers = iter((1, 2))
    monkeypatch.setattr("os.getpid", lambda: next(numbers))  # as two processes would
    generate = asyncssh.generate_private_key

    def slowly(*args: str, **more: str) -> asyncssh.SSHKey:
        made = generate(*args, **more)
        both.wait(20)
        return made

    monkeypatch.setattr("asyncssh.generate_private_key", slowly)
    found: list[keys.Key] = []
    threads = [threading.Thread(target=lambda: found.append(keys.own_key(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(list(tmp_path.iterdir())) == 2


def test_where_the_key_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keys.own_key().file == tmp_path / "rehost/ssh/id_ed25519"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert keys.config_home() == tmp_path / "home/.config/rehost"


@pytest.mark.parametrize(
    ("user", "login"),
    [
        ("ada", "ada"),
        ("root", "rehost"),
        ("Ada.Lovelace", "ada-lovelace"),
        ("1st", "rehost"),
        ("_svc", "_svc"),
        ("ümläut", "ml-ut"),
        ("王", "rehost"),
        ("a" * 40, "a" * 31),
        ("-x-", "x"),
        ("", "rehost"),
    ],
)
def test_login_names(monkeypatch: pytest.MonkeyPatch, user: str, login: str) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: user)
    assert keys.login_name() == login
