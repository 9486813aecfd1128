"""Releases on one machine: what goes wrong leaves the old one serving, and every return is whole."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from suite import Lab, Laptop, until, write
from tiny import SERVING, plant, set_code, set_env


def answer(laptop: Laptop, lab: Lab) -> dict[str, str]:
    there = laptop.run("status", "--json").result["address"]
    found: dict[str, str] = lab.get(f"http://{there}/").json()
    return found


def one_container_is_left(laptop: Laptop) -> None:
    """The old one ends when a command has ended already."""
    until(lambda: laptop.inside("docker ps -q | wc -l").strip() == "1", "one container runs")


@contextmanager
def asked(address: str, *paths: str) -> Iterator[tuple[list[int], list[str]]]:
    """Clients that ask for these paths all the while, with a connection for each request: statuses, and what failed."""
    ended = threading.Event()
    answers: list[int] = []
    faults: list[str] = []

    def ask(path: str) -> None:
        while not ended.is_set():
            line = http.client.HTTPConnection(address, timeout=15)
            try:
                line.request("GET", path, headers={"Connection": "close"})
                answer = line.getresponse()
                answer.read()
                answers.append(answer.status)
            except (OSError, http.client.HTTPException) as fault:
                faults.append(repr(fault))
            finally:
                line.close()

    clients = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for client in clients:
        client.start()
    try:
        yield answers, faults
    finally:
        ended.set()
        for client in clients:
            client.join()


def test_a_move_that_was_killed_five_times_converges(tiny: Laptop, lab: Lab) -> None:
    assert answer(tiny, lab)["value"] == "first value of all"
    assert tiny.run("up", "--json").result["changed"] is False
    one_container_is_left(tiny)


@pytest.mark.parametrize(("mode", "status"), [("broken", "500"), ("missing", "404")])
def test_any_answer_is_not_health(tiny: Laptop, lab: Lab, mode: str, status: str) -> None:
    before = answer(tiny, lab)
    set_env(tiny.directory, VALUE="second", MODE=mode)
    failed = tiny.run("up", code=1)
    assert status in failed.said
    assert f"starting as {mode}" in failed.said
    assert "release" in failed.said and "still serving" in failed.said.lower()
    assert answer(tiny, lab) == before
    assert tiny.run("health").code == 0
    assert "failed" in tiny.run("history").out


def test_a_container_that_dies_says_why_and_changes_nothing(tiny: Laptop, lab: Lab) -> None:
    before = answer(tiny, lab)
    set_env(tiny.directory, VALUE="second", MODE="crash")
    failed = tiny.run("up", code=1)
    assert "status 7" in failed.said
    assert "boom: the app gives up" in failed.said
    assert answer(tiny, lab) == before


def test_a_failed_build_names_its_step_and_changes_nothing(tiny: Laptop, lab: Lab) -> None:
    before = answer(tiny, lab)
    file = tiny.directory / "Dockerfile"
    good = file.read_text()
    file.write_text(good + "RUN echo nearly there && false\n")
    failed = tiny.run("up", code=1)
    assert "RUN echo nearly there && false" in failed.said
    assert answer(tiny, lab) == before
    file.write_text(good)


def test_a_missing_required_variable_stops_before_anything(tiny: Laptop) -> None:
    file = tiny.directory / "rehost.toml"
    good = file.read_text()
    file.write_text(good.replace("[env]\n", '[env]\nrequired = ["ALLOWED_ORIGINS"]\n'))
    refused = tiny.run("up", code=2)
    assert "ALLOWED_ORIGINS" in refused.said
    file.write_text(good)


def test_a_rollback_brings_image_environment_and_settings_back(tiny: Laptop, lab: Lab) -> None:
    set_env(tiny.directory, VALUE="with, commas 'and quotes'".replace("'", ""))
    tiny.run("up")
    assert answer(tiny, lab)["value"] == "with, commas and quotes"
    first = tiny.run("status", "--json").result["release"]
    set_code(tiny.directory, "two")
    set_env(tiny.directory, VALUE="third")
    config = tiny.directory / "rehost.toml"
    good = config.read_text()
    config.write_text(good.replace('memory = "64MB"', 'memory = "80MB"'))
    tiny.run("up")
    assert answer(tiny, lab) == {"value": "third", "mode": "healthy", "code": "two"}
    limit = f'docker inspect -f "{{{{.HostConfig.Memory}}}}" {SERVING}'
    assert int(tiny.inside(limit)) == 80 * 2**20
    tiny.run("rollback")
    assert answer(tiny, lab) == {"value": "with, commas and quotes", "mode": "healthy", "code": "one"}
    assert int(tiny.inside(limit)) == 64 * 2**20
    assert tiny.run("status", "--json").result["release"] == first
    tiny.run("rollback", str(first + 1))
    assert answer(tiny, lab)["code"] == "two"
    # Also when the container of the release is gone: its record is enough.
    tiny.inside(f"docker rm -f tiny-{first}")
    tiny.run("rollback", str(first))
    assert answer(tiny, lab)["value"] == "with, commas and quotes"
    assert "there is no release 999" in tiny.run("rollback", "999", code=3).said
    config.write_text(good)


def test_releases_switch_without_losing_a_request(tiny: Laptop, lab: Lab) -> None:
    """New connections all the while, and a slow request in flight over each switch."""
    there = tiny.run("status", "--json").result["address"]
    with asked(there, "/", "/", "/slow") as (answers, faults):
        for number in range(3):
            set_env(tiny.directory, VALUE=f"switch number {number}")
            tiny.run("deploy")
    assert len(answers) > 100
    assert faults == []
    assert set(answers) == {200}


def test_a_release_killed_at_any_moment_converges(tiny: Laptop, lab: Lab) -> None:
    for number in range(5):
        value = f"killed {number} at a random moment"
        set_env(tiny.directory, VALUE=value)
        tiny.killed("up", after=0.4 + 4 * random.random())  # noqa: S311
        tiny.run("up")
        assert answer(tiny, lab)["value"] == value
        assert tiny.run("up", "--json").result["changed"] is False
        one_container_is_left(tiny)


def test_a_build_goes_on_without_the_laptop_and_the_next_up_follows_it(tiny: Laptop, lab: Lab) -> None:
    file = tiny.directory / "Dockerfile"
    good = file.read_text()
    file.write_text(good + "RUN sleep 12 && date +%s >/built\n")
    process = subprocess.Popen(
        tiny.line("up"), cwd=tiny.directory, env=dict(tiny.environ), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = "systemctl is-active -q rehost-tiny-build.service && pgrep -f '[s]leep 12' || true"
    until(lambda: tiny.inside(state).strip(), "the build runs", 90)
    process.kill()
    process.wait()
    again = tiny.run("up")
    assert "runs on the machine already" in again.said
    assert (
        tiny.inside("journalctl -o cat --no-pager -u rehost-tiny-build | grep -c Started").strip().isdigit()
    )
    layers = tiny.inside(
        'docker history --no-trunc --format "{{.CreatedBy}}" $(docker ps -q --format "{{.Image}}")'
    )
    assert layers.count("sleep 12") == 1
    file.write_text(good)
    tiny.run("up")


def test_a_second_release_at_the_same_time_is_kept_out_or_follows(tiny: Laptop, lab: Lab) -> None:
    set_env(tiny.directory, VALUE="two at once")
    ends: list[int] = []

    def up() -> None:
        ends.append(tiny.run("up", code=None).code)

    both = [threading.Thread(target=up) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert 0 in ends
    assert set(ends) <= {0, 3}
    assert answer(tiny, lab)["value"] == "two at once"
    assert tiny.run("up", "--json").result["changed"] is False


def test_logs_are_read_followed_by_and_filtered(tiny: Laptop) -> None:
    assert "starting as healthy" in tiny.run("logs", "-n", "50").out
    assert tiny.run("logs", "--grep", "^nothing like it$").out == ""
    assert "not a time" in tiny.run("logs", "--since", "yesterday", code=2).said


def test_a_host_that_stands_takes_a_second_app_beside_the_first(
    tiny: Laptop, lab: Lab, laptops: Callable[[str], Laptop]
) -> None:
    """The provider "host", over the user's own ssh configuration, on the machine of the first app."""
    status = tiny.run("status", "--json").result
    known = tiny.directory / ".rehost" / "cache" / "reach.json"
    reach = json.loads(known.read_text())
    second = laptops("second")
    home = second.directory.parent / f"{second.directory.name}-home"
    key = next((tiny.directory.parent).glob("home*/config/rehost/ssh/id_ed25519"))
    write(
        home,
        {
            ".ssh/config": f"Host mine\n  HostName {status['address']}\n  User {reach['user']}\n  IdentityFile {key}\n"
            f"  UserKnownHostsFile {home}/.ssh/known\n",
            ".ssh/known": "".join(f"{status['address']},mine {line}\n" for line in reach["host_keys"]),
        },
    )
    second.environ = {**second.environ, "HOME": str(home)}
    plant(
        second.directory, '[machine]\nprovider = "host"\naddress = "mine"\n', app="second", host="second.example.com",
        VALUE="the second app",
    )  # fmt: skip
    # The proxy gets new routes for it, and the first app loses no request by that.
    with asked(status["address"], "/", "/", "/") as (answers, faults):
        second.run("up")
    assert (len(answers) > 100, set(answers), faults) == (True, {200}, [])
    there = f"http://{status['address']}/"
    assert lab.get(there, host="second.example.com").json()["value"] == "the second app"
    first = answer(tiny, lab)
    assert first["value"] != "the second app"
    assert second.run("up", "--json").result["changed"] is False
    assert tiny.run("up", "--json").result["changed"] is False
    with asked(status["address"], "/", "/", "/") as (answers, faults):
        second.run("down", "--yes")
    assert (set(answers), faults) == ({200}, [])
    assert lab.get(there, host="second.example.com").json() == first
    assert tiny.run("health").code == 0
