"""What a release does besides gate and switch: before_release, exclusive apps, watch, drain, and being cut off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from machine_state import APP
from rehost.edge import caddy
from rehost.release import decide, history, switch
from rehost.release.switch import ReleaseFailed
from rehost.run.errors import Refused
from ssh_here import asynced, until
from test_release_switch import PORTS, QUICK, REVISION, Site, desired, fails, site

WATCHED = QUICK._replace(watch_for=9)

# -- the watch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (["200 fine", "200 fine", "exit 9"], "the container ended by itself with status 9"),
        (["200 fine", "200 fine", "oom"], "the container ran out of its memory limit (400MB)"),
        (
            ["200 fine", "200 fine", "again 7"],
            "the container ended by itself with status 7 and was started again",
        ),
        (["200 fine", "200 fine", "500 no"], "/health gave 500 no, three times"),
    ],
)
@asynced
async def test_a_release_that_gets_unwell_gives_the_traffic_back(
    tmp_path: Path, answers: list[str], why: str
) -> None:
    watched = desired(QUICK._replace(watch_for=60))
    async with site(tmp_path) as here:
        await here.release()
        here.answers(2, *answers)
        here.logged(2, "boom\n")
        failed = await fails(here, wanted=watched)
        assert why in failed.what and failed.what.endswith(
            "after the switch; the traffic is back on release 1"
        )
        assert failed.detail == "boom"
        assert here.states == {1: "live", 2: "failed"}
        assert "watching release 2 for 60s; release 1 stands by" in here.said
        # And from slot b, over to a and back.
        await here.release()
        here.answers(4, *answers)
        with pytest.raises(ReleaseFailed, match="the traffic is back on release 3"):
            await here.release(watched)
        assert (here.state().current, here.states[3], here.running()) == (3, "live", [f"{APP}-3"])
        here.answers(5, "200 fine", "200 fine", "500 once", "500 twice", "200 fine")
        assert (await here.release(watched)).live == 5


@asynced
async def test_a_first_release_that_gets_unwell_stays_and_is_called_so(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.answers(1, "200 fine", "200 fine", "500 no")
        with pytest.raises(ReleaseFailed) as failed:
            await here.release(desired(QUICK._replace(watch_for=60)))
        assert "release 1 of content-api serves, but is not well: /health gave 500 no" in failed.value.what
        assert failed.value.serving == "release 1, which is not well"
        (told,) = history.runs((here.app / "history").read_text())
        assert (told.outcome, told.why.split(",")[0]) == ("live", "/health gave 500 no")
        assert (here.live, here.running(), here.states) == ({"a": "1"}, [f"{APP}-1"], {1: "live"})


@asynced
async def test_the_old_release_stands_by_until_the_watch_is_over(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        seen = await here.release(desired(WATCHED))
        assert (seen.live, here.running(), here.states) == (2, [f"{APP}-2"], {1: "replaced", 2: "live"})
        assert here.calls[-1] == f"stop 1 {APP}-1"


# -- before_release ----------------------------------------------------------------------------------------

MIGRATED = QUICK._replace(before_release=("python", "-m", "app.migrate"), before_release_limit=9)
BEFORE = ".before_release"


@asynced
async def test_before_release_runs_once_before_the_new_release(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.logged(f"1{BEFORE}", "migrated\n")
        await here.release(desired(MIGRATED))
        assert here.calls == [
            f"create {APP}-1 20000", f"create {APP}-1{BEFORE}", f"start {APP}-1{BEFORE} no", f"rm {APP}-1{BEFORE}",
            f"start {APP}-1 no",
        ]  # fmt: skip
        assert here.log == ["migrated"]
        folder = here.app / "releases/1"
        body, web = (json.loads((folder / name).read_text()) for name in ("before.json", "container.a.json"))
        assert body["Cmd"] == ["python", "-m", "app.migrate"]
        assert (body["Env"], body["Image"]) == (web["Env"], web["Image"])
        assert body["HostConfig"]["Memory"] == web["HostConfig"]["Memory"]
        assert body["HostConfig"]["Mounts"] == web["HostConfig"]["Mounts"]
        assert "PortBindings" not in body["HostConfig"]
        assert (folder / "before.json").stat().st_mode & 0o077 == 0
        # A return does not migrate.
        await here.release(desired(MIGRATED))
        back = decide.return_to(here.state(), None, where="vm")
        await here.switch(switch.order_back(APP, here.state(), back.record, ()))
        assert here.calls == [f"start {APP}-1 no", f"stop 1 {APP}-2"]


@pytest.mark.parametrize(
    ("result", "why"),
    [("4", "before_release ended with status 4"), ("hang", "it took longer than 9s")],
)
@asynced
async def test_a_before_release_that_fails_stops_the_release(tmp_path: Path, result: str, why: str) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "before").write_text(f"{result}\n")
        here.logged(f"2{BEFORE}", "no such table\n")
        failed = await fails(here, wanted=desired(MIGRATED))
        assert why in failed.what
        assert "no such table" in failed.detail
        assert f"start {APP}-2 no" not in here.calls
        assert not [*(here.docker / "containers").glob(f"*{BEFORE}")]


# -- exclusive ---------------------------------------------------------------------------------------------

ALONE = desired(QUICK._replace(exclusive=True))


@asynced
async def test_an_exclusive_app_is_stopped_first(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release(ALONE)
        seen = await here.release(ALONE)
        assert here.calls == [f"create {APP}-2 20001", f"stop 1 {APP}-1", f"start {APP}-2 no"]
        assert (seen.live, here.running(), here.restart(1)) == (2, [f"{APP}-2"], "no")
        assert seen.down > 0
        # What fails is stopped before the old one is started again.
        here.answers(3, "exit 3")
        failed = await fails(here, wanted=ALONE)
        assert "nothing served for" in failed.what
        assert here.calls[-2:] == [f"rm {APP}-3", f"start {APP}-2 always"]
        assert here.restart(2) == "unless-stopped"
        here.answers(4, "200 fine", "200 fine", "exit 3")
        with pytest.raises(ReleaseFailed, match="the traffic is back on release 2"):
            await here.release(ALONE._replace(settings=ALONE.settings._replace(watch_for=60)))
        assert (here.state().current, here.running()) == (2, [f"{APP}-2"])
        assert here.calls[-2:] == [f"start {APP}-2 no", f"rm {APP}-4"]
        assert here.restart(2) == "unless-stopped"


# -- draining ----------------------------------------------------------------------------------------------


@asynced
async def test_a_stop_that_fails_is_tried_again_and_then_told(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "unstoppable").write_text("5\n")
        await here.release()
        assert here.running() == [f"{APP}-2"]
        (here.docker / "unstoppable").write_text("30\n")
        await here.release()
        assert here.calls[-1] == f"kill {APP}-2"
        assert here.running() == [f"{APP}-3"]
        (here.docker / "unstoppable").write_text("30\n")
        (here.docker / "unkillable").touch()
        await here.release()
        assert (
            f"@left {APP}-3 could not be stopped and runs on: no space left"
            in (here.app / "release/after.log").read_text()
        )
        assert here.running() == [f"{APP}-3", f"{APP}-4"]
        # The next one sees to it, and its slot is free then.
        (here.docker / "unstoppable").unlink()
        await here.release()
        assert here.running() == [f"{APP}-5"]


@asynced
async def test_a_docker_that_goes_away_while_the_old_one_drains_is_waited_for(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "held").touch()
        going_on = asyncio.create_task(here.release(desired(QUICK._replace(drain=10**6))))
        log = here.app / "release/after.log"
        await until(
            lambda: log.exists() and "finishing its requests" in log.read_text(), "the old one drains"
        )
        # Away for all tries of a stop, and for a while after.
        for name, often in {"unstoppable": 30, "unkillable": 1, "asleep": 3, "away": 1}.items():
            (here.docker / name).write_text(f"{often}\n")
        (here.docker / "held").unlink()
        await going_on
        assert f"@left {APP}-1 could not be stopped" in log.read_text()
        assert f"@left {APP}-1 runs on: Docker does not answer" in log.read_text()
        assert here.calls[-1] == f"stop 1 {APP}-1"
        assert here.running() == [f"{APP}-2"]
        assert not (here.app / "release/after").exists()


@asynced
async def test_docker_goes_away_before_a_release(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "asleep").write_text("1\n")
        with pytest.raises(ReleaseFailed, match="Docker does not answer"):
            await here.release()
        assert (here.live, here.running()) == ({"a": "1"}, [f"{APP}-1"])
        await here.release()
        assert here.running() == [f"{APP}-3"]


@asynced
async def test_a_return_to_a_release_that_is_being_drained(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        (here.docker / "held").touch()
        going_on = asyncio.create_task(here.release(desired(QUICK._replace(drain=10**6))))
        log = here.app / "release/after.log"
        await until(
            lambda: log.exists() and "finishing its requests" in log.read_text(), "the old one drains"
        )
        back = decide.return_to(here.state(), 1, where="vm")
        await here.switch(switch.order_back(APP, here.state(), back.record, ()))
        await going_on
        # Its container never stopped.
        assert here.calls == [f"stop 1 {APP}-2"]
        assert (here.live, here.running()) == ({"a": "1"}, [f"{APP}-1"])


@asynced
async def test_one_that_was_told_to_end_is_not_returned_to_as_it_is(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        await here.release()
        # As when the machine's unit was cut off between SIGTERM and the container's end.
        (here.docker / f"containers/{APP}-1/running").write_text("true\n")
        (here.app / "releases/1/ending").touch()
        back = decide.return_to(here.state(), 1, where="vm")
        await here.switch(switch.order_back(APP, here.state(), back.record, ()))
        assert here.calls == [f"stop 1 {APP}-1", f"start {APP}-1 no", f"stop 1 {APP}-2"]


# -- two apps at once --------------------------------------------------------------------------------------


@asynced
async def test_two_apps_that_chose_the_same_ports(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        other = here.app.parent / "other"
        other.mkdir(parents=True)
        (other / "ports").write_text(f"{PORTS[0]} {PORTS[1]}\n")
        with pytest.raises(switch.PortsTaken) as refused:
            await here.release()
        assert isinstance(refused.value, Refused)
        assert "Run the same command again" in refused.value.cure
        assert not (here.app / "ports").exists()
        (other / "ports").write_text("20002 20003\n")
        assert (await here.release()).live == 1


@asynced
async def test_an_app_that_came_meanwhile_keeps_its_route(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        # Read when there was no app on the machine; at the switch there is one.
        for hosts, place in ((("www.example.com",), 0), ((), 1)):
            wanted = desired()._replace(hosts=hosts)
            state = here.state()._replace(caddy={})
            (here.docker / "caddy.json").write_text(
                json.dumps(caddy.desired({}, caddy.route("other", (20002, 20003), ["other.example.com"])))
            )
            before = (here.docker / "caddy.json").read_text()
            number = decide.next_number(state)
            prepare = switch.prepare_script(wanted, state, number, "sha256:1", REVISION)
            await here.switch(switch.order_for(wanted, state, number, "sha256:1"), prepare)
            assert f"PUT /config/apps/http/servers/rehost/routes/{place}" in here.calls
            assert json.loads((here.docker / "route.json").read_text()) == caddy.route(APP, PORTS, hosts)
            assert (here.docker / "caddy.json").read_text() == before
        # One that is there already is replaced.
        config = caddy.desired({}, caddy.route(APP, PORTS, ["old.example.com"]))
        (here.docker / "caddy.json").write_text(json.dumps(config))
        await here.release()
        assert f"PATCH /id/rehost-{APP}" in here.calls


# -- cut off -----------------------------------------------------------------------------------------------


def lines(script: Path, here: Site, tmp_path: Path, after: int) -> list[str]:
    """Runs the script and kills all of it once it has said so many lines; returns what it said."""
    environ = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["sh", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, start_new_session=True
    )
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.decode())
        if len(said) == after:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    return said


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
@asynced
async def test_a_release_cut_off_after_any_line_is_made_whole_by_the_next(tmp_path: Path, kind: str) -> None:
    wanted = desired(MIGRATED._replace(watch_for=5, exclusive=kind == "exclusive"))
    async with site(tmp_path) as here:
        await here.release(wanted)
        steps: list[str] = []
        for after in range(1, 100):
            state = here.state()
            number = decide.next_number(state)
            prepare = switch.prepare_script(wanted, state, number, f"sha256:{number}", REVISION)
            script = tmp_path / "cut.sh"
            home = str(here.machine.home)
            order = replace(switch.order_for(wanted, state, number, "sha256:1"), prune=())
            script.write_text(f"({prepare}\n) || exit\n{order.script}".replace("/var/lib/rehost", home))
            said = lines(script, here, tmp_path, after)
            await here.drained()
            # What takes the traffic is a release, and either runs or is what the next run starts anew.
            current = here.state().current
            assert current in (state.current, number), said
            if kind == "shared":
                assert f"{APP}-{current}" in here.running(), said
            steps.append(said[-1])
            seen = await here.release(wanted)
            assert here.running() == [f"{APP}-{seen.live}"], said
            assert here.state().current == seen.live
            assert here.states[current] == "replaced", said
            if len(said) < after:
                break
        assert any("running before_release" in step for step in steps)
        assert any("watching release" in step for step in steps)
        assert any(step.startswith("@live") for step in steps)
