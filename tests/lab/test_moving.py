"""`rehost move` as a person types it: what another machine's directory holds comes into the app's volume."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from suite import Lab, Laptop, Ran, until
from tiny import APP, SERVING

USER = "srv-abc"
PLACE = "/var/old-data"
# An app whose health is what its data says.
READS = APP.replace(
    'MODE, VALUE = os.environ.get("MODE", "healthy")',
    'MODE, VALUE = (open("/data/mode").read().strip() if os.path.exists("/data/mode") else "healthy")',
)


class Moves:
    """The tiny app with a volume, and an old platform that its person reaches by ssh, not as root."""

    def __init__(self, laptop: Laptop, home: Path) -> None:
        self.laptop = laptop
        self.home = str(home)

    def run(self, *words: str, code: int | None = 0) -> Ran:
        return self.laptop.run(*words, code=code, HOME=self.home)

    def old(self, **files: str) -> None:
        """What the old platform holds, and nothing else."""
        lines = [f"printf %s '{text}' >{PLACE}/{name}" for name, text in files.items()]
        self.laptop.inside(f"rm -rf {PLACE}/*; {'; '.join(lines)}; chown -R {USER} {PLACE}")

    def here(self, name: str) -> str:
        """A file of the app's volume, as the machine has it; "" when it is not there."""
        return self.laptop.inside(f"cat /var/lib/docker/volumes/tiny.data/_data/{name} 2>/dev/null || true")

    def healthy(self) -> bool:
        return self.laptop.run("health", code=None).code == 0

    @property
    def under_way(self) -> str:
        """Files that only a swap under way has."""
        return self.laptop.inside(
            "cd /var/lib/rehost/tiny/moving && ls -d swap step since */begun 2>/dev/null || true"
        )


@pytest.fixture(scope="module")
def moves(tiny: Laptop, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moves]:
    home = tmp_path_factory.mktemp("person")
    (home / ".ssh").mkdir(mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(home / ".ssh/id_ed25519")
    (home / ".ssh/id_ed25519").chmod(0o600)
    address = tiny.run("status", "--json").result["address"]
    public = key.export_public_key().decode().strip()
    host_key = tiny.inside("cat /etc/ssh/ssh_host_ed25519_key.pub").split()
    (home / ".ssh/known_hosts").write_text(f"{address} {' '.join(host_key[:2])}\n")
    tiny.inside(
        f"id {USER} >/dev/null 2>&1 || useradd -m -s /bin/sh {USER}; mkdir -p {PLACE} /home/{USER}/.ssh; "
        f"echo '{public}' >/home/{USER}/.ssh/authorized_keys; chown -R {USER} /home/{USER}/.ssh {PLACE}"
    )
    (tiny.directory / "app.py").write_text(READS.replace("CODE", '"one"'))
    config = tiny.directory / "rehost.toml"
    text = config.read_text().replace("[env]\n", 'volumes = ["data:/data"]\nexclusive = true\n[env]\n')
    config.write_text(f'{text}[moves]\ndata = "{USER}@{address}:{PLACE}"\n')
    tiny.run("up", "--yes")
    yield Moves(tiny, home)
    tiny.inside(f"userdel -r {USER} 2>/dev/null; rm -rf {PLACE}")


def test_a_rehearsal_touches_nothing_and_a_move_brings_all(moves: Moves) -> None:
    moves.old(words="the first", mode="healthy")
    assert "data: not moved yet" in moves.run("status").out
    tried = moves.run("move", "--rehearse", "--json").result
    assert (tried["rehearsal"], tried["downtime"]) == (True, None)
    assert moves.here("words") == ""
    moved = moves.run("move", "--json").result  # nothing to replace: nobody has to agree
    assert moved["downtime"] > 0
    assert [one["name"] for one in moved["moves"]] == ["data"]
    assert moves.here("words") == "the first"
    assert "moved     data: " in moves.run("status").out
    assert moves.run("up", "--json").result["changed"] is False
    moves.old(words="the second")
    assert "--yes" in moves.run("move", code=3).said
    assert moves.here("words") == "the first"
    assert "in which nothing served" in moves.run("move", "--yes").out
    assert (moves.here("words"), moves.here("mode")) == ("the second", "")
    assert moves.under_way == ""


def test_an_app_that_is_not_well_on_what_came_has_what_it_had(moves: Moves) -> None:
    before = moves.here("words")
    moves.old(words="bad", mode="crash")
    failed = moves.run("move", "--yes", code=1)
    assert "status 7" in failed.said
    assert "boom: the app gives up" in failed.said
    assert "serves again on what it had before" in failed.said
    assert moves.here("words") == before
    assert moves.healthy()
    assert moves.under_way == ""


@contextmanager
def cut_off(moves: Moves, step: str) -> Iterator[None]:
    """Kills the swap's unit, with all that it started, as soon as it has come that far."""
    script = (
        f"n=0; until grep -qs {step} /var/lib/rehost/tiny/moving/step || [ $n = 3000 ]; "
        "do sleep 0.01; n=$((n + 1)); done; "
        "systemctl kill -s KILL rehost-tiny-release.service"
    )
    line = moves.laptop.line("ssh", "--", "sudo", "sh", "-c", script)
    there = subprocess.Popen(line, cwd=moves.laptop.directory, env=dict(moves.laptop.environ))
    try:
        yield
    finally:
        there.wait(60)


@pytest.mark.parametrize(("step", "second"), [("swapping", "up"), ("starting", "move")])
def test_a_swap_that_is_killed_is_whole_after_the_next_command(moves: Moves, step: str, second: str) -> None:
    before = moves.here("words")
    moves.old(words=f"{step} then {second}")
    with cut_off(moves, step):
        moves.run("move", "--yes", code=1)
    assert moves.under_way != ""
    moves.run(second, "--yes")
    assert moves.here("words") == (before if second == "up" else f"{step} then {second}")
    assert moves.healthy()
    assert moves.under_way == ""
    assert moves.laptop.run("up", "--json").result["changed"] is False


def test_a_computer_that_goes_away_leaves_it_to_the_machine(moves: Moves) -> None:
    moves.old(words="alone")
    person = Laptop(moves.laptop.directory, {**moves.laptop.environ, "HOME": moves.home})
    person.killed("move", "--yes", after=1.5 + 2 * random.random())  # noqa: S311
    until(lambda: moves.under_way == "", "the swap ends by itself")
    assert moves.healthy()
    moves.run("move", "--yes")
    assert moves.here("words") == "alone"
    assert moves.laptop.inside(f"docker exec {SERVING} cat /data/words") == "alone"
