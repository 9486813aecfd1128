"""What releases leave behind: the history's lines, what is pruned, and making room, by a real sh with stand-ins."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from machine_state import APP
from rehost.machine.bootstrap import BUILD_CACHE
from rehost.release import history, prune
from test_machine_bootstrap import shellcheck

KEEP = Path(prune.__file__).with_name("keep.sh").read_text()

# Containers are files `containers/ID` with the lines "app" and "release"; images in use are refused. `free` holds what
# df shows; each prune of the build cache makes it what the next line of `caches` says.
FAKES: Mapping[str, str] = {
    "docker": """S=${0%/*}/..
echo "$*" >>"$S/calls"
case "$1 $2" in
  'ps -aq') for c in "$S"/containers/*; do
      { read -r app; read -r release; } <"$c"
      case "$*" in *"rehost.app=$app --filter label=rehost.release=$release") echo "${c##*/}" ;; esac
    done ;;
  'rm -f') rm "$S/containers/$3" ;;
  rmi*) [ ! -f "$S/used" ] || { echo 'conflict: container is using its referenced image' >&2; exit 1; } ;;
  'builder prune') { read -r now; sed 1d "$S/caches" >"$S/next"; } <"$S/caches"; mv "$S/next" "$S/caches"
    [ -z "$now" ] || echo "$now" >"$S/free" ;;
esac""",
    "df": 'echo "  Avail"; cat "${0%/*}/../free"',
    "systemctl": 'cat "${0%/*}/../unit" 2>/dev/null || echo inactive',
}


class Here:
    """A machine's directory of one app, with programs beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / APP
        (self.home / "live").mkdir(parents=True)
        (directory / "containers").mkdir()
        (directory / "bin").mkdir()
        for name, text in FAKES.items():
            program = directory / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
        (directory / "free").write_text("5\n")
        (directory / "caches").write_text("\n\n")
        for number in (1, 2, 3):
            (self.home / "releases" / str(number)).mkdir(parents=True)
            self.container(f"id{number}", APP, number)
        (self.home / "live/a").write_text("3\n")

    def container(self, name: str, app: str, number: int) -> None:
        (self.directory / "containers" / name).write_text(f"{app}\n{number}\n")

    def sh(self, script: str) -> str:
        done = subprocess.run(
            ["sh", "-c", script.replace("/var/lib/rehost", str(self.directory))],
            env={"PATH": f"{self.directory}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    @property
    def calls(self) -> list[str]:
        """What Docker was asked to do, and not what it was asked to tell."""
        calls = self.directory / "calls"
        told = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in told if not line.startswith("ps ")]

    @property
    def left(self) -> tuple[list[str], list[str]]:
        """Containers and releases."""
        return (
            sorted(path.name for path in (self.directory / "containers").iterdir()),
            sorted(path.name for path in (self.home / "releases").iterdir()),
        )


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def keep(here: Here, calls: str, **values: object) -> str:
    head = {"APP": APP, "N": 4, "BY": "ada@laptop", "PRUNE": "", "PRUNE_IMAGES": "", "old": 3, **values}
    return here.sh(
        "set -u\n" + "".join(f"{k}='{v}'\n" for k, v in head.items()) + f"home={here.home}\n{KEEP}\n{calls}"
    )


# -- pruning -----------------------------------------------------------------------------------------------


def test_only_what_carries_the_apps_own_labels_goes(here: Here) -> None:
    here.container("worker1", APP, 1)  # a process beside the web container
    here.container(f"{APP}-1", "", 0)  # somebody else's, with a name like ours
    here.container("other1", f"{APP}-two", 1)  # another app's
    keep(here, "prune", PRUNE="1", PRUNE_IMAGES="sha256:1 rehost/a:b")
    assert here.left == ([f"{APP}-1", "id2", "id3", "other1"], ["2", "3"])
    assert here.calls == ["rm -f id1", "rm -f worker1", "rmi sha256:1", "rmi rehost/a:b"]
    assert not any("volume" in call or call.startswith("rm -v") for call in here.calls)
    keep(here, "prune", PRUNE="1", PRUNE_IMAGES="sha256:1")  # again: what is gone is gone


def test_what_serves_stays_whatever_was_asked(here: Here) -> None:
    """Somebody may have returned to it since the order was made."""
    keep(here, "prune", PRUNE="2 3 4")
    assert here.left == (["id1", "id3"], ["1", "3"])


def test_an_image_that_a_container_uses_is_not_forced(here: Here) -> None:
    (here.directory / "used").touch()
    keep(here, "prune", PRUNE_IMAGES="sha256:1")
    assert here.calls == ["rmi sha256:1"]


# -- room --------------------------------------------------------------------------------------------------


def room(here: Here, need: int) -> list[int]:
    return [int(word) for word in here.sh(prune.room_script(APP, [1], ["sha256:1"], need)).split()]


def test_the_cache_goes_down_to_its_bound_and_further_only_in_need(here: Here) -> None:
    (here.directory / "caches").write_text("70\n90\n")
    assert room(here, 60) == [5, 70]
    bound = f"builder prune -af --keep-storage {BUILD_CACHE}"
    assert here.calls == ["rm -f id1", "rmi sha256:1", bound]
    assert here.left == (["id2", "id3"], ["2", "3"])
    (here.directory / "caches").write_text("70\n90\n")
    assert room(here, 80) == [70, 90]
    assert here.calls[-2:] == [bound, "builder prune -af"]


def test_while_a_release_runs_its_things_are_left_to_it(here: Here) -> None:
    (here.directory / "unit").write_text("active\n")
    room(here, 1)
    assert here.left == (["id1", "id2", "id3"], ["1", "2", "3"])
    assert [call.partition(" ")[0] for call in here.calls] == ["builder"]


# -- the history -------------------------------------------------------------------------------------------


def test_events_are_read_back(here: Here) -> None:
    keep(here, "event began 3; event live ''; event failed 'two\nlines\tand a tab'")
    (run,) = history.runs((here.home / "history").read_text())
    assert (run.number, run.by, run.came_from, run.outcome) == (4, "ada@laptop", 3, "live")
    assert run.why == "two lines and a tab"
    assert run.live is not None
    assert run.began <= run.live


def test_the_history_is_bounded(here: Here) -> None:
    line = "1.0\tlive\t1\tada\t\n"
    (here.home / "history").write_text(line * 500)
    keep(here, "event began 3")
    assert len((here.home / "history").read_text().splitlines()) == 501
    keep(here, "event live ''")
    assert len((here.home / "history").read_text().splitlines()) == 502
    keep(here, "event began 3")
    assert len((here.home / "history").read_text().splitlines()) == 401


def test_a_history_that_cannot_be_written_does_not_stop_a_release(here: Here) -> None:
    (here.home / "history").mkdir()
    assert keep(here, "event began 3; echo on") == "on\n"


def test_shellcheck_finds_nothing() -> None:
    shellcheck(prune.room_script(APP, [1, 2], ["sha256:1"], 10))
