"""Images that the machine does not build: built by the laptop's own Docker and sent, or pulled from a registry.

The laptop's Docker runs in the same machine of the lab, beside the machine's own and apart from it, as Docker Desktop
keeps it in a machine: on this computer nothing of it runs. docker(1) here is the machine's own program.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from image_registry import PASSWORD, Registry, serve
from rehost.lab import mirror
from rehost.release.registry import login as login_of
from suite import Lab, Laptop, until
from tiny import GCE, plant, set_code, set_env

SOCKET = "/run/laptop/docker.sock"
# Its own everything, and a bridge without rules: what is built here asks nothing of the world.
START = """set -e
ip link add laptop0 type bridge
ip address add 172.31.77.1/24 dev laptop0
ip link set laptop0 up
mkdir -p /run/laptop
echo '{{}}' >/run/laptop/config.json
systemd-run --quiet --collect --unit=laptop-docker dockerd --config-file=/run/laptop/config.json \\
  --data-root=/var/lib/laptop --exec-root=/run/laptop/exec --pidfile=/run/laptop/pid -H unix://{socket} \\
  --containerd-namespace=laptop --containerd-plugins-namespace=laptop-plugins \\
  --bridge=laptop0 --iptables=false --ip-masq=false {mirror}
"""
STOP = "systemctl stop laptop-docker; ip link delete laptop0; rm -rf /var/lib/laptop /run/laptop"
UP = "docker -H unix://{socket} version >/dev/null 2>&1 && chmod 666 {socket} && echo up || true"
NOWHERE = "unix:///nowhere/docker.sock"
LARGE = random.Random(11).randbytes(24 << 20)  # noqa: S311
# In place of head(1) on the machine: once a layer holds more than that, something else happens first.
HEAD = "/usr/local/bin/head"
TAKING = """#!/bin/sh
/usr/bin/head "$@" || exit
if [ -f /run/cut/at ] && [ "$(stat -c %s {part} 2>/dev/null || echo 0)" -gt "$(cat /run/cut/at)" ]; then
  rm /run/cut/at
  sh /run/cut/then
fi
"""
# What goes into the layer beside the code. It does not shrink.
CHANGED = random.Random(12).randbytes(300_000)  # noqa: S311


@contextmanager
def forwarded(laptop: Laptop, option: str, what: str, directory: Path) -> Iterator[None]:
    """Another ssh connection to the same machine, which forwards `what` (ssh(1), -L and -R)."""
    reach = laptop.run("status", "--json").result["address"]
    key = Path(laptop.environ["XDG_CONFIG_HOME"]) / "rehost" / "ssh" / "id_ed25519"
    known = laptop.directory / ".rehost" / "cache" / "known_hosts"
    user = laptop.run("ssh", "--", "whoami").out.strip()
    log = directory / "ssh.log"
    command: list[str | Path] = [
        *("ssh", "-v", "-N", "-i", key, "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes"),
        *("-o", "ExitOnForwardFailure=yes", option, what, f"{user}@{reach}"),
    ]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        until(lambda: "Entering interactive session" in log.read_text() or process.poll(), "ssh forwards", 20)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def docker(tiny: Laptop, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which docker(1) is found and reaches the laptop's Docker."""
    directory = tmp_path_factory.mktemp("docker")
    with (directory / "docker").open("wb") as program:
        line = tiny.line("ssh", "--", "cat", "/usr/bin/docker")
        subprocess.run(
            line, cwd=tiny.directory, env=dict(tiny.environ), stdout=program, check=True, timeout=60
        )
    (directory / "docker").chmod(0o755)
    there = mirror.url(lab.places)
    options = f"--registry-mirror={there} --insecure-registry={there}" if there else ""
    tiny.inside(START.format(socket=SOCKET, mirror=options))
    try:
        until(lambda: "up" in tiny.inside(UP.format(socket=SOCKET)), "the laptop's Docker answers")
        with forwarded(tiny, "-L", f"{directory}/socket:{SOCKET}", directory):
            yield {"DOCKER_HOST": f"unix://{directory}/socket", "PATH": f"{directory}:{os.environ['PATH']}"}
    finally:
        tiny.inside(STOP)


def given(laptop: Laptop, environ: Mapping[str, str]) -> Laptop:
    """The same laptop with more in its environment."""
    return replace(laptop, environ={**laptop.environ, **environ})


@dataclass
class Files:
    """What a test may change of the project."""

    directory: Path
    toml: str
    dockerfile: str

    def build(self, text: str) -> None:
        (self.directory / "rehost.toml").write_text(f"{self.toml}[build]\n{text}\n")

    def restore(self) -> None:
        (self.directory / "rehost.toml").write_text(self.toml)
        (self.directory / "Dockerfile").write_text(self.dockerfile)
        for name in ("large", "changed"):
            (self.directory / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def project(tiny: Laptop) -> Files:
    """The project as it was."""
    there = tiny.directory
    return Files(there, (there / "rehost.toml").read_text(), (there / "Dockerfile").read_text())


@pytest.fixture
def files(project: Files) -> Iterator[Files]:
    yield project
    project.restore()


def code(laptop: Laptop, lab: Lab) -> str:
    there = laptop.run("status", "--json").result["address"]
    return str(lab.get(f"http://{there}/").json()["code"])


def sent(said: str) -> tuple[int, int, int]:
    """Layers and bytes that were sent, and bytes that were there from before."""
    found = re.search(r"(\d+) of \d+ layers sent, (\d+) bytes on the wire(?:, (\d+) were there)?", said)
    assert found, said
    return int(found[1]), int(found[2]), int(found[3] or 0)


def test_an_image_built_here(tiny: Laptop, lab: Lab, docker: dict[str, str], files: Files) -> None:
    files.build('on = "here"')
    set_code(tiny.directory, "built here")
    (tiny.directory / "changed").write_bytes(CHANGED)
    # Where no Docker runs it is told before anything is done.
    failed = tiny.run("up", code=1, DOCKER_HOST=NOWHERE)
    assert "build the image of tiny here" in failed.said
    assert "send the image" in failed.said
    assert "Docker does not run" in failed.said
    assert 'on = "machine"' in failed.said
    done = given(tiny, docker).run("deploy")
    assert code(tiny, lab) == "built here"
    # The machine has the base image: it built from it before.
    layers, wire, _ = sent(done.said)
    assert layers <= 2
    assert wire <= 1.1 * len(CHANGED)
    # As after a build there: the label and the name. Nothing changed, and the laptop's Docker is not even asked.
    found = tiny.inside(
        'docker image inspect -f "{{.RepoTags}} {{.Config.Labels}}" $(docker ps -q --format "{{.Image}}")'
    )
    assert "rehost/tiny:" in found
    assert "rehost.context:sha256:" in found
    again = tiny.run("up", "--json", DOCKER_HOST=NOWHERE).result
    assert (again["changed"], again["execs"]) == (False, 1)
    # Only the environment changed: no build.
    set_env(tiny.directory, VALUE="of an image that was built here")
    assert "build" not in tiny.run("deploy", DOCKER_HOST=NOWHERE).said


def test_a_build_here_that_fails_changes_nothing(
    tiny: Laptop, lab: Lab, docker: dict[str, str], files: Files
) -> None:
    before = code(tiny, lab)
    files.build('on = "here"')
    with (tiny.directory / "Dockerfile").open("a") as file:
        file.write("RUN echo nearly there && false\n")
    failed = given(tiny, docker).run("up", code=1)
    assert "the failing step is [4/4] RUN echo nearly there && false" in failed.said
    assert "still serving" in failed.said.lower()
    assert code(tiny, lab) == before


def test_a_send_goes_on_where_it_was_cut_off(
    tiny: Laptop, lab: Lab, docker: dict[str, str], files: Files
) -> None:
    """rehost is killed in the middle of a large layer; then the line drops; what arrived is not sent again."""
    files.build('on = "here"')
    (tiny.directory / "large").write_bytes(LARGE)
    set_code(tiny.directory, "with a large layer")
    part = "/var/lib/rehost/tiny/image/*.part"

    def when(size: int, then: str) -> None:
        tiny.inside(f"printf %s {shlex.quote(then)} >/run/cut/then; echo {size} >/run/cut/at")

    # What takes the pieces in, head(1), stops there itself: whoever watched from beside it might come too late.
    taking = TAKING.format(part=part)
    tiny.inside(f"mkdir /run/cut; printf %s {shlex.quote(taking)} >{HEAD}; chmod 755 {HEAD}")
    try:
        when(4 << 20, "touch /run/cut/held; until [ -f /run/cut/go ]; do sleep 0.02; done")
        process = subprocess.Popen(
            tiny.line("deploy"), cwd=tiny.directory, env={**tiny.environ, **docker}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            until(lambda: tiny.inside("ls /run/cut/held 2>/dev/null || :"), "4 MB of the layer arrive", 120)
            assert process.poll() is None
        finally:
            process.kill()
            process.communicate()
            tiny.inside("touch /run/cut/go")
        until(
            lambda: "free" in tiny.inside("flock -n /var/lib/rehost/tiny/image.lock echo free || :"),
            "its lock is free",
        )
        first = int(tiny.inside(f"stat -c %s {part}"))
        assert 4 << 20 <= first < len(LARGE)

        when(first + (1 << 20), "pkill -f 'sshd: .*@notty'")
        said = given(tiny, docker).run("deploy").said
    finally:
        tiny.inside(f"rm -rf {HEAD} /run/cut")
    assert "Going on" in said
    _, wire, resumed = sent(said)
    assert resumed > first
    assert wire + resumed < 1.1 * len(LARGE)
    assert code(tiny, lab) == "with a large layer"
    assert tiny.inside("ls /var/lib/rehost/tiny/image 2>/dev/null || echo none").strip() == "none"


def test_two_machines_at_once(
    tiny: Laptop, lab: Lab, docker: dict[str, str], files: Files, laptops: Callable[[str], Laptop]
) -> None:
    """Two projects, one Docker here: each machine gets what is its own, and neither send waits for the other."""
    other = laptops("other")
    plant(other.directory, GCE, app="other", VALUE="of the other")
    both = (files, Files(other.directory, (other.directory / "rehost.toml").read_text(), ""))
    try:
        for laptop, project in zip((tiny, other), both, strict=True):
            project.build('on = "here"')
            set_code(laptop.directory, f"for {laptop.directory.name}")
            (laptop.directory / "large").write_bytes(LARGE)
        with ThreadPoolExecutor() as pool:
            done = [*pool.map(lambda each: given(each, docker).run("up", "--yes"), (tiny, other))]
        for laptop, ran in zip((tiny, other), done, strict=True):
            assert sent(ran.said)[1] > len(LARGE)
            assert code(laptop, lab) == f"for {laptop.directory.name}"
            assert given(laptop, docker).run("up", "--json").result["changed"] is False
    finally:
        other.run("down", "--yes")


SERVE = ["python3", "-c", "import http.server as h\n"
         "class A(h.BaseHTTPRequestHandler):\n"
         " def do_GET(s):\n  s.send_response(200); s.end_headers(); s.wfile.write(b'{\"code\": \"%s\"}')\n"
         "h.HTTPServer(('', 8080), A).serve_forever()\n"]  # fmt: skip


def app(code: str) -> list[str]:
    return [*SERVE[:2], SERVE[2].replace("%s", code)]


@pytest.fixture
def registry(tiny: Laptop, lab: Lab, tmp_path: Path) -> Iterator[Registry]:
    """One with a password, which the machine sees at its own loopback: there Docker asks for no certificate."""
    there = mirror.url(lab.places)
    if there is None:
        pytest.skip("images of this test are made of the lab's stand-in")
    with (
        serve(tmp_path, there, "127.0.0.1:5099") as running,
        forwarded(tiny, "-R", f"127.0.0.1:5099:127.0.0.1:{running.port}", tmp_path),
    ):
        yield running


def test_a_prebuilt_image(tiny: Laptop, lab: Lab, registry: Registry, files: Files, tmp_path: Path) -> None:
    name = f"{registry.name}/me/app:1.0"
    before = code(tiny, lab)
    login = {"DOCKER_CONFIG": str(registry.login(tmp_path / "login"))}
    wrong = {"DOCKER_CONFIG": str(registry.login(tmp_path / "wrong", "guessed"))}
    nobody = {"DOCKER_CONFIG": str(tmp_path / "none")}
    # What can be wrong is told apart, and nothing is touched.
    registry.push("me/arm", "1.0", app("arm"), "arm64")
    for image, environ, word in (
        ("me/app:1.0", login, "there is no image"),
        ("me/app:1.0", nobody, "nobody is logged in"),
        ("me/app:1.0", wrong, "may not read it"),
        ("me/arm:1.0", login, "not for the machine, linux/amd64"),
    ):
        files.build(f'image = "{registry.name}/{image}"')
        assert word in given(tiny, environ).run("deploy", code=1).said
    assert code(tiny, lab) == before
    files.build(f'image = "{name}"')
    registry.push("me/app", "1.0", app("one"))
    given(tiny, login).run("deploy")
    assert code(tiny, lab) == "one"
    assert given(tiny, login).run("deploy", "--json").result["changed"] is False
    # The tag moves: that is a change.
    digest = registry.push("me/app", "1.0", app("two"))
    assert digest[7:19] in given(tiny, login).run("plan").out
    given(tiny, login).run("deploy")
    assert code(tiny, lab) == "two"
    # A digest is what it is: nobody is asked.
    files.build(f'image = "{name}@{digest}"')
    again = given(tiny, nobody).run("up", "--json").result
    assert (again["changed"], again["execs"]) == (False, 1)
    tiny.run("rollback")
    assert code(tiny, lab) == "one"
    # Neither the password nor what stands for it is anywhere on the machine, or in what was said.
    told = login_of(registry.name, login)
    assert told is not None
    needles = (PASSWORD, told.header.reveal())
    assert not any(needle in "".join(tiny.transcript) for needle in needles)
    places = "/etc /home /root /run /tmp /var/lib/rehost /var/log /proc/[0-9]*/cmdline"
    # By standard input: sudo writes command lines into the journal.
    look = "".join(f"printf '%s\\n' '{needle}' | grep -rlsF -f - {places}\n" for needle in needles)
    assert tiny.run("ssh", "--", "sudo", "sh", "-s", given=f"{look}true\n").out == ""
