"""The main job: a blueprint, an env file and a Dockerfile go in; a machine that answers comes out."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehost.cli import rehearsal_data
from suite import Lab, Laptop, copy_example, until, write

SECRET_KEY = "k3y, with 'single' and \"double\" quotes, $dollars $(and more) #hash = ünïcödé 0123456789"
MONGODB = "mongodb://{host}:27017,{host}:27017/?appName=move,test"
PASSWORD = "pa$$w0rd-nobody-may-see, #1"
MULTILINE = "first line of a secret\nsecond line of a secret\n"


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("$", "\\$")
    return f'"{escaped}"'


class Spy(threading.Thread):
    """Reads every command line on this computer over and over: the lab's machines share its kernel."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self.seen.add((process / "cmdline").read_bytes())
                except OSError:
                    continue  # it ended between the listing and the reading
            self.rounds += 1
            self._ended.wait(0.1)

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture(scope="module")
def moved(lab: Lab, laptops: Callable[[str], Laptop]) -> Iterator[tuple[Laptop, Spy]]:
    """The reference backend, moved; and what was seen of it on the way."""
    laptop = laptops("content-api")
    copy_example(laptop.directory)
    gateway = lab.info.gateway
    write(
        laptop.directory,
        {
            ".env.prod": f"MONGODB_URL={MONGODB.format(host=gateway)}\n"
            f"SECRET_KEY={quoted(SECRET_KEY)}\n"
            "ALLOWED_ORIGINS=https://app.example.com,https://www.example.com\n"
            f"ENVIRONMENT=production\nHOST=0.0.0.0\nREDIS_URL=\n"
            f"PASSWORD={quoted(PASSWORD)}\nCERTIFICATE={quoted(MULTILINE)}\n"
        },
    )
    laptop.run("init")
    spy = Spy()
    spy.start()
    try:
        laptop.run("check", "--verbose")
        laptop.run("plan", "--verbose")
        laptop.run("up", "--verbose")
    finally:
        spy.stop()
    yield laptop, spy
    laptop.run("down", "--yes")


def address(laptop: Laptop) -> str:
    return str(laptop.run("status", "--json").result["address"])


def test_the_backend_answers_through_the_proxy_on_the_machines_own_address(
    moved: tuple[Laptop, Spy], lab: Lab
) -> None:
    laptop, _ = moved
    answer = lab.get(f"http://{address(laptop)}/")
    assert answer.status_code == 200
    assert answer.json() == {"message": "Content Management API", "status": "running"}
    assert answer.headers["server"] == "Caddy"
    health = lab.get(f"http://{address(laptop)}/health")
    assert (health.status_code, health.json()["database"]["status"]) == (200, "ok")


def test_a_second_up_has_nothing_to_do_and_asks_the_machine_once(moved: tuple[Laptop, Spy]) -> None:
    laptop, _ = moved
    again = laptop.run("up", "--json").result
    assert (again["changed"], again["execs"], again["healthy"]) == (False, 1, True)
    assert "Nothing to change." in laptop.run("plan").out


def test_hidden_files_travel_and_ignored_ones_do_not(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    status = lab.get(f"http://{address(laptop)}/status").json()
    there = json.loads((laptop.directory / ".content-api.json").read_text())
    assert status["build"] == there
    names = laptop.run("exec", "--", "sh", "-c", "ls -a").out.split()
    assert ".content-api.json" in names
    assert not {".env.prod", ".git", ".rehost", "rehost.toml"} & set(names)


def test_the_environment_arrives_exactly(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    given = json.loads(laptop.run("exec", "--", "python", "-c", script).out)
    assert given["SECRET_KEY"] == SECRET_KEY
    assert given["MONGODB_URL"] == MONGODB.format(host=lab.info.gateway)
    assert given["PASSWORD"] == PASSWORD
    assert given["CERTIFICATE"] == MULTILINE
    assert given["ALLOWED_ORIGINS"] == "https://app.example.com,https://www.example.com"


def test_only_the_proxy_is_reached_from_another_machine(
    moved: tuple[Laptop, Spy], lab: Lab, laptops: Callable[[str], Laptop]
) -> None:
    laptop, _ = moved
    there = address(laptop)
    # A machine of another app: its image cannot be built, so it stays bare; it is wanted for its network alone.
    other = laptops("other")
    write(
        other.directory,
        {
            "Dockerfile": "FROM scratch\nCOPY nothing /\n",
            "rehost.toml": 'app = "other"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n[env]\nfiles = []\n',
        },
    )
    assert other.run("up", code=1).said.count("COPY nothing /")
    try:
        dial = "timeout 3 bash -c '</dev/tcp/{}/{}' 2>/dev/null && echo open || echo closed"
        script = "; ".join(dial.format(there, port) for port in (80, 8080, 20000, 20001, 2019))
        assert other.inside(script).split() == ["open", "closed", "closed", "closed", "closed"]
    finally:
        other.run("down", "--yes")
    with pytest.raises(OSError), socket.create_connection((there, 8080), timeout=2):
        pass
    listening = laptop.inside("ss -Hltn | awk '{print $4}'").split()
    assert any(name.endswith(":80") for name in listening)
    assert all(
        name.startswith("127.0.0.1:") for name in listening if name.endswith((":20000", ":20001", ":2019"))
    )


def test_no_secret_is_found_anywhere(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, spy = moved
    record = laptop.run("record").out
    needles = [SECRET_KEY, PASSWORD, MONGODB.format(host=lab.info.gateway), *MULTILINE.splitlines()]
    needles += [quoted(SECRET_KEY)[1:-1], "nobody-may-see"]
    places = {
        "what any command printed": "\n".join(laptop.transcript),
        "the record": record,
        "the journal": "".join(
            path.read_text(errors="replace")
            for path in (laptop.directory / ".rehost").rglob("*")
            if path.is_file()
        ),
        "the lab's own files": "".join(
            path.read_text(errors="replace")
            for path in [
                *lab.places.state.glob("*"),
                *(lab.places.state / "log").rglob("*"),
                *(lab.places.state / "machines").glob("*/serial"),
            ]
            # store.xfs holds the machines' disks: there, and only there, the secrets must be.
            if path.is_file() and path.name != "store.xfs"
        ),
        "the machine's metadata": laptop.inside(
            "curl -s -H 'Metadata-Flavor: Google' 'http://169.254.169.254/computeMetadata/v1/?recursive=true'"
        ),
        "the machine's journal": laptop.inside("journalctl --no-pager -o cat"),
        "command lines": b"\n".join(spy.seen).replace(b"\0", b" ").decode(errors="replace"),
    }
    # Each place was really looked at: it holds what it must hold.
    assert spy.rounds > 20
    assert "docker" in places["command lines"]
    assert "content-api" in places["the journal"]
    assert "startup-script" in places["the machine's metadata"]
    for place, text in places.items():
        assert text, place
        for needle in needles:
            assert needle not in text, f"a secret stands in {place}"
    modes = laptop.inside(
        "find /var/lib/rehost/content-api/releases -name 'container*' -printf '%m %u\\n'"
    ).split("\n")
    assert set(filter(None, modes)) == {"600 root"}


def test_new_code_reaches_a_machine_that_stands(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    hidden = laptop.directory / ".content-api.json"
    before = hidden.read_text()
    edited = {**json.loads(before), "version": "9.9.9"}
    hidden.write_text(json.dumps(edited))
    changed = laptop.run("up")
    assert re.search(r" 1 of \d+ files sent", changed.said)
    assert lab.get(f"http://{address(laptop)}/status").json()["build"]["version"] == "9.9.9"
    back = laptop.run("rollback")
    assert "back from" in back.said
    assert lab.get(f"http://{address(laptop)}/status").json()["build"] == json.loads(before)
    hidden.write_text(before)
    assert laptop.run("up", "--json").result["changed"] is False


def test_what_was_written_before_a_release_is_read_after_it(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    base = f"http://{address(laptop)}"
    written = rehearsal_data.write(base)
    assert laptop.inside("docker volume ls -q --filter label=rehost.app=content-api").split() == [
        "content-api.uploads"
    ]
    laptop.run("env", "set", "FRONTEND_URL", given="https://front.example.com")
    assert laptop.run("env", "diff", code=1).out.splitlines()[0] in ("+ FRONTEND_URL", "~ FRONTEND_URL")
    laptop.run("deploy")
    changed = {**written.post, "url": f"https://front.example.com/posts/{written.post['slug']}"}
    rehearsal_data.read(base, written._replace(post=changed))
    assert laptop.run("env", "diff").code == 0


def test_drift_is_shown_and_put_right(moved: tuple[Laptop, Spy]) -> None:
    laptop, _ = moved
    laptop.inside("swapoff /var/lib/rehost/swap && sed -i /swap/d /etc/fstab; systemctl stop caddy-api")
    laptop.inside('echo \'{"debug": false, "live-restore": false}\' > /etc/docker/daemon.json')
    shown = laptop.run("plan").out
    for thing in ("swap", "/etc/docker/daemon.json", "caddy-api.service"):
        assert thing in shown
    laptop.run("up")
    assert "Nothing to change." in laptop.run("plan").out
    kept = json.loads(laptop.inside("cat /etc/docker/daemon.json"))
    assert (kept["debug"], kept["live-restore"], kept["log-driver"]) == (False, True, "json-file")
    assert laptop.run("health").code == 0


def test_a_firewall_changed_by_hand_is_put_right(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    import asyncio

    from rehost.cloud.client import Client
    from rehost.cloud.credentials import Credentials, find

    async def open_wide() -> None:
        async with Client(lab.info.project, Credentials(find(lab.environ)), environ=lab.environ) as client:
            path = client.path("global", "firewalls", "content-api-web")
            ports = {"IPProtocol": "tcp", "ports": ["80", "443", "8080"]}
            everything = {"name": "content-api-web", "allowed": [ports]}
            await client.change("PATCH", path, everything)

    asyncio.run(open_wide())
    assert "8080" in laptop.run("plan").out
    laptop.run("up")
    assert "Nothing to change." in laptop.run("plan").out


def boot(laptop: Laptop) -> str:
    """Which boot of the machine it is; "" while nobody can ask."""
    asked = laptop.run("ssh", "--", "cat", "/proc/sys/kernel/random/boot_id", code=None)
    return asked.out.strip() if asked.code == 0 else ""


def test_after_a_reboot_the_same_release_serves(moved: tuple[Laptop, Spy], lab: Lab) -> None:
    laptop, _ = moved
    there = address(laptop)
    before = laptop.run("status", "--json").result["release"]
    booted = boot(laptop)
    laptop.run("ssh", "--", "sudo", "systemctl", "reboot", code=None)
    # It may serve on for seconds before it goes down (logind lets programs finish).
    until(lambda: boot(laptop) not in ("", booted), "it has booted anew", 120)

    def serves() -> bool:
        try:
            return lab.get(f"http://{there}/health").status_code == 200
        except OSError:
            return False
        except Exception as fault:
            if type(fault).__module__.startswith("httpx"):
                return False
            raise

    until(serves, "the app answers again", 120)
    assert laptop.run("status", "--json").result["release"] == before
    again = laptop.run("up", "--json").result
    assert again["changed"] is False


def test_the_record_tells_the_move(moved: tuple[Laptop, Spy]) -> None:
    laptop, _ = moved
    text = laptop.run("record").out
    for part in (
        "# The move of content-api",
        "## Timeline",
        "the machine content-api in us-west1-a",
        "## Open points",
    ):
        assert part in text
