"""A service on the machine: services.sh under a real sh, where Docker is a stand-in."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from rehost.release import services
from rehost.release.services import Service
from rehost.run.secret import Secret
from test_machine_bootstrap import shellcheck
from test_release_beside import APP, SOURCE, Site

NAME = f"{APP}.redis"
REDIS = Service("redis:7", "", 2**26, ("data:/data",), "true", {"PASSWORD": Secret("hunter2hunter2")})


class Services(Site):
    """A machine of an app with a service."""

    def set_up(self, service: Service = REDIS) -> subprocess.CompletedProcess[str]:
        (self.state / "calls").write_text("")
        prepared = subprocess.run(
            ["sh", "-c", "umask 077\n" + self.here(services.prepare(APP, "redis", service))],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (prepared.returncode, prepared.stderr) == (0, "")
        head = "".join(
            f"{key}={shlex.quote(value)}\n"
            for key, value in {
                "APP": APP,
                "NAME": "redis",
                "NETWORK": "rehost-shop",
                "IMAGE": service.image,
                "HEALTH": service.health,
                "DEADLINE": "20",
                "GRACE": "30",
            }.items()
        )
        return self._sh(["-c", head + self.here((SOURCE / "services.sh").read_text())])

    @property
    def record(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.home / "services/redis/service.json").read_text())
        return found

    @property
    def containers(self) -> list[str]:
        return sorted(path.name for path in (self.state / "containers").iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Services:
    return Services(tmp_path)


def test_a_service_is_made_and_replaced(site: Services) -> None:
    first = site.set_up()
    assert (first.returncode, first.stderr) == (0, "")
    assert site.calls == [
        "pull redis:7",
        f"create {NAME}",
        f"start {NAME}",
        f"update --restart unless-stopped {NAME}",
        f"rm {NAME}.old",
    ]
    assert (site.state / "network").exists()
    assert site.record["image"] == "redis:7"
    for path in (site.home / "services").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    second = site.set_up(REDIS._replace(memory=2**27))
    assert second.returncode == 0
    # It is not pulled again, and the one before is stopped with its grace.
    assert site.calls[:2] == [f"stop -t 30 {NAME}", f"create {NAME}"]
    assert site.containers == [NAME]
    assert (site.running, site.record["memory"]) == ([NAME], 2**27)


def test_one_service_at_a_time_looks_for_the_network(site: Services) -> None:
    """Docker makes two networks of one name when two services ask for it at once."""
    docker = site.state.parent / "bin" / "docker"
    lock = site.home / "services/network.lock"
    said = f'case $1 in network) flock -n "{lock}" echo unlocked >>"{site.state}/free" ;; esac\n'
    docker.write_text(docker.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{said}", 1))
    assert site.set_up().returncode == 0
    assert lock.exists()
    assert (site.state / "free").read_text() == ""


@pytest.mark.parametrize(
    ("how", "health", "reason"),
    [
        ("exit 9", "true", "it ended by itself with status 9"),
        ("oom", "", "it ran out of its memory limit"),
        (
            "",
            "sh -c 'echo not yet; exit 1'",
            "not healthy within 20s: sh -c 'echo not yet; exit 1' says not yet",
        ),
    ],
)
def test_one_that_fails_is_taken_away_and_the_one_before_runs_again(
    site: Services, how: str, health: str, reason: str
) -> None:
    site.set_up()
    site.behave(NAME, how)
    # The stand-in knows containers by their names: the old one behaves when it comes back.
    starts = site.state / "behave" / NAME
    failed = site.set_up(REDIS._replace(memory=2**27, health=health))
    assert failed.returncode == 3
    assert f"@fail {reason}" in failed.stdout
    assert f"@log last words of {NAME}" in failed.stdout
    assert site.containers == [NAME]
    assert site.calls[-2:] == [f"rm -f {NAME}", f"start {NAME}"]
    assert site.record["memory"] == REDIS.memory
    starts.unlink()
    assert site.set_up(REDIS._replace(memory=2**27)).returncode == 0


def test_an_image_that_cannot_be_pulled_stops_nothing(site: Services) -> None:
    site.set_up()
    (site.state / "pulled").unlink()
    (site.state / "pull").write_text("manifest for redis:8 not found")
    failed = site.set_up(REDIS._replace(image="redis:8"))
    assert "redis:8 could not be pulled: manifest for redis:8 not found" in failed.stdout
    assert site.calls == ["pull redis:8"]
    assert site.running == [NAME]


def test_a_replacement_that_was_cut_off_is_done_anew(site: Services) -> None:
    """The power went between the new container's start and its proof."""
    site.set_up()
    (site.state / "containers" / NAME).rename(site.state / "containers" / f"{NAME}.old")
    half = site.state / "containers" / NAME
    half.mkdir()
    assert site.set_up().returncode == 0
    assert site.calls[0] == f"rm -f {NAME}"
    assert site.containers == [NAME]
    # The same, and this time the new one fails: what was whole before comes back.
    (site.state / "containers" / NAME).rename(site.state / "containers" / f"{NAME}.old")
    (site.state / "create").write_text('{"message":"bad parameter"}')
    failed = site.set_up()
    assert "bad parameter" in failed.stdout
    assert (site.containers, site.running) == ([NAME], [NAME])


def test_the_script_is_clean() -> None:
    shellcheck((SOURCE / "services.sh").read_text())
