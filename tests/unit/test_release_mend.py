"""Small repairs, by a real sh where Docker and Caddy are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine_state import APP
from rehost.machine.ssh import ScriptFailed
from rehost.release.mend import hold, load_routes, remove_app, stop_containers
from rehost.run.errors import Refused
from ssh_here import Moved, asynced, machine

RUNNING = '{"apps":{"by":"hand"}}'
CURL = (
    f"""case "$*" in */config/) printf '%s\\n' '{RUNNING}'; exit ;; esac
"""
    """cat >"${0%/*}/../sent"
echo "$*" >>"${0%/*}/../calls"
[ ! -f "${0%/*}/../error" ] || { cat "${0%/*}/../error"; exit 22; }"""
)
DOCKER = """echo "docker $*" >>"${0%/*}/../calls"
case "$*" in
  "ps -aq"*) cat "${0%/*}/../containers" 2>/dev/null ;;
  "images -q"*) cat "${0%/*}/../images" 2>/dev/null ;;
  rm* | rmi* | stop*) [ ! -f "${0%/*}/../error" ] || { cat "${0%/*}/../error" >&2; exit 1; } ;;
esac
true"""
SYSTEMCTL = """for unit; do :; done
cat "${0%/*}/../$unit" 2>/dev/null || echo inactive"""
PROGRAMS = {"curl": CURL, "docker": DOCKER, "systemctl": SYSTEMCTL}


def serves(opened: Moved, number: int, slot: str = "a") -> None:
    """The machine as it is while that release serves."""
    for directory in ("live", "release"):
        (opened.home / APP / directory).mkdir(parents=True, exist_ok=True)
    (opened.home / APP / "live" / slot).write_text(f"{number}\n")


@asynced
async def test_routes_arrive_whole(tmp_path: Path) -> None:
    config = {"apps": {"note": 'it\'s $HOME `id` "ü"\n' * 500}}
    async with machine(tmp_path, PROGRAMS) as (opened, server):
        await load_routes(opened, config, RUNNING)
        assert json.loads((tmp_path / "sent").read_text()) == config
        assert "http://localhost:2019/load" in (tmp_path / "calls").read_text()
        assert not any("note" in command for command in server.commands)


@asynced
async def test_caddy_s_own_words_are_told(tmp_path: Path) -> None:
    (tmp_path / "error").write_text('{"error":"unknown module"}')
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        with pytest.raises(ScriptFailed) as failed:
            await load_routes(opened, {}, RUNNING)
        assert failed.value.what == "giving the proxy its routes failed on the machine (status 22)"
        assert failed.value.detail == '{"error":"unknown module"}'


@asynced
async def test_routes_that_changed_meanwhile_are_left(tmp_path: Path) -> None:
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        with pytest.raises(Refused, match=r"changed while .*left as they are"):
            await load_routes(opened, {}, '{"apps":{}}')
        with pytest.raises(Refused):
            await remove_app(opened, APP, {}, "")
    assert not (tmp_path / "sent").exists()


@asynced
async def test_containers_are_stopped(tmp_path: Path) -> None:
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        serves(opened, 2)
        serves(opened, 3, "b")  # which the proxy takes when it is there
        await stop_containers(opened, APP, 3, ["a-1", "a-2"], 30)
        assert (tmp_path / "calls").read_text() == "docker stop -t 30 a-1 a-2\n"
        (tmp_path / "error").write_text("no such container")
        with pytest.raises(ScriptFailed) as failed:
            await stop_containers(opened, APP, 3, ["a-3"], 30)
        assert failed.value.detail == "no such container"


@asynced
async def test_nothing_is_stopped_or_started_once_another_release_was_made(tmp_path: Path) -> None:
    """A plan may have waited for its yes while somebody else returned to what was to be stopped."""
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        serves(opened, 3)

        async def both(number: int) -> None:
            with pytest.raises(Refused, match=r"another release of .* nothing was changed"):
                await stop_containers(opened, APP, number, ["a-1"], 30)
            with pytest.raises(Refused):
                await hold(opened, APP, number, 5, lambda _: None)

        await both(2)
        told = tmp_path / f"rehost-{APP}-release.service"
        for state in ("activating", "active", "deactivating"):
            told.write_text(f"{state}\n")
            await both(3)
        told.unlink()
        assert not (tmp_path / "calls").exists()
        await hold(opened, APP, 3, 5, lambda _: None)


@asynced
async def test_an_app_goes_and_its_neighbour_stays(tmp_path: Path) -> None:
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        for app in (APP, "shop"):
            (opened.home / app / "releases/1").mkdir(parents=True)
        (tmp_path / "containers").write_text("c1\nc2\n")
        (tmp_path / "images").write_text("i2\ni1\ni2\n")
        await remove_app(opened, APP, {"apps": {}}, RUNNING)
        assert [p.name for p in opened.home.iterdir() if p.is_dir()] == ["shop"]
        assert json.loads((tmp_path / "sent").read_text()) == {"apps": {}}
        calls = (tmp_path / "calls").read_text()
        assert "docker rm -f c1 c2\n" in calls
        assert "docker rmi -f i1 i2\n" in calls
        assert f"label=rehost.app={APP}\n" in calls


@asynced
async def test_an_app_of_which_nothing_runs(tmp_path: Path) -> None:
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        await remove_app(opened, APP, None, "")
        assert [line for line in (tmp_path / "calls").read_text().splitlines() if "rm" in line] == []
        assert not (tmp_path / "sent").exists()


@asynced
async def test_what_docker_does_not_remove_is_told_and_kept(tmp_path: Path) -> None:
    async with machine(tmp_path, PROGRAMS) as (opened, _):
        (opened.home / APP).mkdir()
        (tmp_path / "containers").write_text("c1\n")
        (tmp_path / "error").write_text("device busy")
        with pytest.raises(ScriptFailed) as failed:
            await remove_app(opened, APP, None, "")
        assert failed.value.detail == "device busy"
        assert (opened.home / APP).exists()  # the next `rehost down` finds it
