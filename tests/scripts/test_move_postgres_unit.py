"""The unit that copies a PostgreSQL: under a real sh, where Docker is a stand-in. The copy itself is for the lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rehost.source import move_postgres
from test_machine_bootstrap import shellcheck

SOURCE = Path(move_postgres.__file__).parent
UNIT = (SOURCE / "move_postgres_unit.sh").read_text()
SCRIPTS = (
    "move_postgres_look.sh",
    "move_postgres_copy.sh",
    "move_postgres_swap.sh",
    "move_postgres_state.sh",
)
# The service's variables are of this process; `docker run` runs the words behind the image.
DOCKER = """#!/bin/sh
S=${0%/*}
echo "$*" >>"$S/calls"
case $1 in
  container) [ -f "$S/there" ] && echo sha256:image ;;
  exec) [ -f "$S/runs" ] || exit 1; shift 3; exec "$@" ;;
  wait) exec sleep 60 ;;
  run)
    while [ "$1" != sha256:image ]; do shift; done
    shift
    exec sh "$@" ;;
  rm) ;;
esac
"""


class Site:
    """A machine with a service."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unit = root / "unit"
        self.unit.mkdir()
        for name in ("there", "runs", "calls"):
            (root / name).touch()
        (root / "docker").write_text(DOCKER)
        (root / "docker").chmod(0o755)

    def run(self, inner: str, **environ: str) -> subprocess.CompletedProcess[str]:
        (self.unit / "inner").write_text(inner)
        head = f"DIR={self.unit}\nCONTAINER=shop.db\nMOVER=shop.moving.db\n"
        path = {"PATH": f"{self.root}:/usr/bin:/bin"}
        return subprocess.run(
            ["sh", "-c", head + UNIT],
            env={**path, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    @property
    def calls(self) -> str:
        return (self.root / "calls").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck(UNIT, *(move_postgres.inner(None, None, script) for script in SCRIPTS))


def test_what_is_given_runs_with_the_services_own_variables(site: Site) -> None:
    # More than a pipe holds at once, and it goes on to the last line.
    long = f": '{'x' * 100_000}'\n"
    given = 'O=secret-of-origin\nprintf "%s|" "$POSTGRES_USER" "$POSTGRES_PASSWORD" "[$POSTGRES_DB]" "$#"\nexit 3\n'
    ran = site.run(long + given, POSTGRES_USER="it's", POSTGRES_PASSWORD="a\"b'\\$c d")
    assert (ran.returncode, ran.stdout) == (3, "it's|a\"b'\\$c d|[]|0|")
    # Neither password is in an argv, and the file is gone.
    assert "secret-of-origin" not in site.calls
    assert "$c" not in site.calls
    assert list(site.unit.iterdir()) == []
    assert "--network container:shop.db" in site.calls
    assert "rehost-moving.ca" not in site.calls


def test_certificates_are_mounted_where_there_are_any(site: Site) -> None:
    (site.unit / "authority").touch()
    assert site.run("exit 0\n").returncode == 0
    assert f"-v {site.unit}/authority:/tmp/rehost-moving.ca:ro" in site.calls


def test_it_says_why_it_did_not_run(site: Site) -> None:
    ran = site.run("kill -s KILL $$\n")
    assert (ran.returncode, ran.stdout) == (3, "@fail it was cut off (status 137): did the service end?\n")
    assert site.calls.rstrip().endswith("rm -f shop.moving.db")
    (site.root / "runs").unlink()
    assert "@fail the service does not run" in site.run("exit 0\n").stdout
    (site.root / "there").unlink()
    assert "@fail there is no container shop.db" in site.run("exit 0\n").stdout
