"""What a machine keeps: a full disk, what is pruned and what is not, the environment to the byte, hooks, and locks."""

from __future__ import annotations

import base64
import getpass
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rehost.lab.testing import RunningLab
from rehost.project import dotenv
from rehost.release.prune import BUILD_DISK
from rehost.run.secret import Secret
from suite import Lab, Laptop, until
from tiny import set_code, set_env

MIB = 2**20


def value(laptop: Laptop, lab: Lab) -> str:
    there = laptop.run("status", "--json").result["address"]
    return str(lab.get(f"http://{there}/").json()["value"])


def free(laptop: Laptop) -> int:
    return int(laptop.inside("df -B1 --output=avail /var/lib | tail -n 1"))


@contextmanager
def ballast(laptop: Laptop, leave: int) -> Iterator[None]:
    """A file that leaves so many bytes of the machine's disk."""
    laptop.inside(f"fallocate -l {free(laptop) - leave} /var/ballast")
    try:
        yield
    finally:
        laptop.inside("rm -f /var/ballast")


def test_other_peoples_things_survive_and_room_is_made_of_our_own(tiny: Laptop, lab: Lab) -> None:
    """An image of another app, a stopped container of somebody else, one with a name like ours, and a volume; and one
    that somebody runs by hand from the app's own image."""
    serving = "$(docker inspect -f '{{.Image}}' $(docker ps -q --filter label=rehost.app=tiny | head -n 1))"
    built = (
        "printf 'FROM python:3.11-slim-bookworm\\nRUN echo %s >/it\\n' | "
        "DOCKER_BUILDKIT=1 docker build -q --label rehost.app=%s -t %s - >/dev/null"
    )
    theirs = [
        built % ("theirs", "other", "rehost/other:0123456789ab"),
        f"docker create --name stopped-database -v theirs:/data {serving} true >/dev/null",
        f"docker create --name tiny-1000 {serving} true >/dev/null",
        f"docker run -d --name console --stop-timeout 1 {serving} sleep 3600 >/dev/null",
        # Ours, and needed by nobody: 60 MB that were built and never released.
        built % ("x && head -c 60000000 /dev/urandom >/big #", "tiny", "rehost/tiny:aaaaaaaaaaaa"),
    ]
    tiny.inside("; ".join(theirs))
    set_code(tiny.directory, "made room for")
    with ballast(tiny, BUILD_DISK - 30 * MIB):
        made = tiny.run("deploy")
        assert "the disk was nearly full" in made.said
        assert "1 unused image of tiny, Docker's build cache" in made.said
    images = tiny.inside("docker images --format '{{.Repository}}:{{.Tag}}'").split()
    assert "rehost/other:0123456789ab" in images
    assert "rehost/tiny:aaaaaaaaaaaa" not in images
    names = tiny.inside("docker ps -a --format '{{.Names}}'").split()
    assert {"stopped-database", "tiny-1000"} <= {*names}
    assert "theirs" in tiny.inside("docker volume ls -q").split()
    tiny.inside("while systemctl is-active -q rehost-tiny-drain; do sleep 0.1; done")
    assert "console" in tiny.inside("docker ps --format '{{.Names}}'").split()
    assert tiny.run("plan", "--json").result["actions"] == []
    tiny.inside(
        "docker rm -f stopped-database console tiny-1000; docker rmi rehost/other:0123456789ab; docker volume rm theirs"
    )


def test_on_a_full_disk_the_app_serves_and_the_next_release_works_with_room(tiny: Laptop, lab: Lab) -> None:
    set_env(tiny.directory, VALUE="before the disk was full")
    tiny.run("deploy")
    set_env(tiny.directory, VALUE="when there was room again")
    set_code(tiny.directory, "not built on a full disk")
    with RunningLab(lab.name, lab.info, dict(lab.environ)).fault("machine", "tiny", "disk-full"):
        refused = tiny.run("deploy", code=3)
        assert "not enough room on the machine's disk" in refused.said
        assert "still serving" in refused.said.lower()
        assert value(tiny, lab) == "before the disk was full"
    tiny.run("deploy")
    assert value(tiny, lab) == "when there was room again"


def test_the_build_cache_is_bounded_by_docker_itself(tiny: Laptop) -> None:
    daemon = json.loads(tiny.inside("cat /etc/docker/daemon.json"))
    assert daemon["builder"]["gc"] == {"enabled": True, "defaultKeepStorage": "2GB"}


# Any text that an environment can hold, under any name that rehost.toml takes; LC_ALL and the like mean something to
# the app's own Python, so names begin with something of ours.
NAMES = st.from_regex(r"K[A-Za-z0-9_]{0,30}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def test_any_value_arrives_byte_for_byte(tiny: Laptop) -> None:
    wanted: dict[str, str] = {
        "VALUE": "of hundreds",
        "KEMPTY": "",
        "KLINES": "a\r\nb\n\n'\"\\$KEMPTY`id`\t#x\n",
    }

    @settings(max_examples=200, phases=[Phase.generate], database=None, suppress_health_check=[*HealthCheck])
    @given(NAMES, VALUES)
    def collect(name: str, text: str) -> None:
        wanted[name] = text

    collect()
    assert len(wanted) > 150
    file = tiny.directory / ".env.prod"
    before = file.read_bytes()
    dotenv.write(file, {name: Secret(text) for name, text in wanted.items()})
    tiny.run("deploy")
    number = tiny.run("status", "--json").result["release"]
    # What its own process was given: the process with number 1 in the container.
    told = tiny.inside(f"docker exec tiny-{number} cat /proc/1/environ | base64 -w0")
    there = dict(pair.split(b"=", 1) for pair in base64.b64decode(told).split(b"\0") if pair)
    wrong = [name for name, text in wanted.items() if there.get(name.encode()) != text.encode()]
    assert wrong == []
    assert tiny.run("env", "diff").code == 0
    file.write_bytes(before)
    assert "KEMPTY" in tiny.run("env", "diff", code=1).out


def hook(laptop: Laptop, name: str, text: str) -> None:
    path = laptop.directory / ".rehost/hooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_hooks_history_and_returning(tiny: Laptop, lab: Lab) -> None:
    there = tiny.run("status", "--json").result
    for name in ("before-build", "before-release", "after-release", "on-failure"):
        hook(
            tiny,
            name,
            f'echo "$REHOST_RELEASE $REHOST_ADDRESS $REHOST_ERROR" >>{name}.told; echo "{name} says so"',
        )
    set_code(tiny.directory, "hooked")
    set_env(tiny.directory, VALUE="hooked")
    made = tiny.run("deploy")
    number = tiny.run("status", "--json").result["release"]
    for name in ("before-build", "before-release", "after-release"):
        assert f"{name}: {name} says so" in made.err
        assert (tiny.directory / f"{name}.told").read_text().split() == [str(number), there["address"]]
    hook(tiny, "before-release", "echo the tests fail; exit 5")
    stopped = tiny.run("rollback", code=1)
    assert "before-release ended with status 5" in stopped.said
    assert "the tests fail" in stopped.said
    assert "before-release ended" in (tiny.directory / "on-failure.told").read_text()
    assert value(tiny, lab) == "hooked"
    for path in [*(tiny.directory / ".rehost/hooks").iterdir(), *tiny.directory.glob("*.told")]:
        path.unlink()
    # Back, and forward again: each has its line.
    tiny.run("rollback", str(there["release"]))
    tiny.run("rollback", str(number))
    assert value(tiny, lab) == "hooked"
    ending = tiny.run("history", "--json").result
    assert [
        (run["number"], run["came_from"], run["outcome"], run["again"]) for run in ending["runs"][-3:]
    ] == [
        (number, there["release"], "live", False),
        (there["release"], number, "live", True),
        (number, there["release"], "live", True),
    ]
    assert all(0 < run["seconds"] < 60 for run in ending["runs"][-3:])
    people = tiny.run("history").out
    assert f"back from release {number}" in people
    assert f"forward from release {there['release']}" in people
    difference = tiny.run(
        "history",
        "--diff",
        str(
            there["release"],
        ),
        str(number),
    ).out
    assert "env VALUE" in difference
    assert "hooked" not in difference
    images = tiny.run("history", "--images", "--json").result["images"]
    newest = next(one for one in images if one["number"] == number)
    assert newest["size"] > 100 * MIB
    assert newest["added_layers"] == 1  # COPY: the base is as it was
    assert 0 < newest["added"] < MIB


def test_a_release_that_was_interrupted_leaves_no_lock(tiny: Laptop, lab: Lab) -> None:
    """Ctrl-C while the unit runs: whoever comes next is told who holds it, waits for it, and then goes on."""
    config = tiny.directory / "rehost.toml"
    good = config.read_text()
    config.write_text(good.replace('health_deadline = "20s"', 'health_deadline = "10m"'))
    set_env(tiny.directory, VALUE="never healthy", MODE="missing")
    first = deploying(tiny)
    until(lambda: "waiting for http" in said(tiny), "the release's unit asks for its health", 90)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    config.write_text(good)
    set_env(tiny.directory, VALUE="after it")
    second = deploying(tiny)
    holder = f"the release is {getpass.getuser()}@{socket.gethostname()}'s, since "
    until(lambda: holder in said(tiny), "the next one is told whose release it waits for", 90)
    assert "a release runs on the machine already; following it" in said(tiny)
    tiny.inside("docker kill $(docker ps -lq)")  # the one that would never be healthy
    assert second.wait(120) == 0, said(tiny)
    (tiny.directory / LOG).unlink()
    assert value(tiny, lab) == "after it"


LOG = ".deploy.log"


def deploying(laptop: Laptop) -> subprocess.Popen[bytes]:
    """A deploy under way, whose output `said` reads."""
    with (laptop.directory / LOG).open("wb") as log:
        return subprocess.Popen(
            laptop.line("deploy", "--verbose"), cwd=laptop.directory, env=dict(laptop.environ),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def said(laptop: Laptop) -> str:
    return (laptop.directory / LOG).read_text()
