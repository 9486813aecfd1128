"""The swap of moved content: the real script under a real sh, where Docker and systemd are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from machine_state import APP
from rehost.machine.ssh import MachineError
from rehost.machine.told import Told
from rehost.release import switch
from rehost.run.errors import Refused, RehostError
from rehost.source import move_swap
from rehost.source.move_swap import Copy, Order
from rehost.source.moving import Content, Copied
from ssh_here import asynced
from test_machine_bootstrap import shellcheck
from test_release_switch import QUICK, Site, site

FUNCTIONS = "".join(
    (Path(switch.__file__).parent / name).read_text() for name in ("containers.sh", "beside.sh")
)


class Folder(NamedTuple):
    """A mover of one directory. fault: shell that runs in the middle of its swap; stuck: at the begin of its undo."""

    name: str
    place: Path
    fault: str = ":"
    stuck: str = ":"

    @property
    def notes(self) -> list[str]:
        return []

    async def look(self) -> tuple[Content, Content]:
        return Content("1 file", empty=False), Content("1 file", empty=False)

    async def copy(self, say: Callable[[str], None]) -> Copied:  # noqa: ARG002
        return Copied("1 file", "3 bytes")

    def swap(self) -> str:
        return (
            f'[ "$app" = {APP} ] && cp "$secret" {self.place}.secret || exit 1\n'
            f'[ ! -d "$moving/copy" ] || [ -d "$moving/before" ] || mv {self.place} "$moving/before" || exit 1\n'
            f'{self.fault}\n[ ! -d "$moving/copy" ] || mv "$moving/copy" {self.place}\n'
        )

    def undo(self) -> str:
        return (
            f'{self.stuck}\n[ -d "$moving/before" ] || exit 0\n'
            f'[ ! -d {self.place} ] || mv {self.place} "$moving/copy" || exit 1\nmv "$moving/before" {self.place}\n'
        )

    def before(self) -> str:
        return ""

    def secret(self) -> str:
        return f"the secret of {self.name}"

    async def close(self) -> None: ...


class Moves:
    """The moves of one test, on a machine on which release 1 serves."""

    def __init__(self, here: Site, *folders: Folder) -> None:
        self.here = here
        self.folders = folders
        self.said: list[str] = []
        for folder in folders:
            folder.place.mkdir()
            (folder.place / "content").write_text("old")
            copy = here.app / "moving" / folder.name / "copy"
            copy.mkdir(parents=True)
            (copy / "content").write_text("new")

    async def swap(self, number: int = 1) -> Told:
        order = Order(
            APP, number, QUICK.health_host, QUICK.health, 200, 299, QUICK.health_deadline, 1, 1, FUNCTIONS, (), "ada"
        )  # fmt: skip
        copies = [Copy(folder, "old:/srv", "1 file", "3 bytes") for folder in self.folders]
        self.here.docker.joinpath("calls").write_text("")
        return await move_swap.swap(self.here.machine, order, copies, self.said.append, self.said.append)

    async def settle(self) -> Told:
        return await move_swap.settle(self.here.machine, APP, self.said.append, self.said.append)

    @property
    def contents(self) -> list[str]:
        return [(folder.place / "content").read_text() for folder in self.folders]

    def left(self) -> list[str]:
        """Files that a swap under way needs, and nobody else."""
        names = {"swap", "step", "since", "secret", "moved.json.new"}
        return sorted(p.name for p in (self.here.app / "moving").rglob("*") if p.name in names)


def test_the_script_is_clean_posix_sh(tmp_path: Path) -> None:
    order = Order(APP, 1, "h", "/", 200, 299, 4, 1, 1, FUNCTIONS, ("db",), "ada")
    copies = [Copy(Folder(name, tmp_path / name), "", "", "") for name in ("data", "db")]
    shellcheck(move_swap.script(order, copies))


@asynced
async def test_copies_take_their_places_while_the_app_stands_still(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data"), Folder("db", tmp_path / "db"))
        here.answers(1, "503 starting", "200 well")
        seen = await moves.swap()
        assert (seen.live, seen.answer, seen.back, seen.left) == (1, "200 well", 0, "")
        assert seen.down > 0
        assert moves.contents == ["new", "new"]
        assert here.calls == [f"stop 1 {APP}-1", f"start {APP}-1 no"]
        assert here.restart(1) == "unless-stopped"
        assert (tmp_path / "db.secret").read_text() == "the secret of db"
        record = json.loads((here.app / "moving/db/moved.json").read_text())
        assert record.pop("time") > 1_700_000_000
        assert record == {
            "name": "db",
            "from": "old:/srv",
            "counted": "1 file",
            "sent": "3 bytes",
            "by": "ada",
        }
        assert moves.left() == []
        assert (here.app / "moving").stat().st_mode & 0o077 == 0
        assert "the secret" not in (here.app / "release/script").read_text()


@pytest.mark.parametrize("answer", ["500 broken", "exit 7"])
@asynced
async def test_an_app_that_does_not_get_healthy_has_what_it_had(tmp_path: Path, answer: str) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data"))
        lines = [answer] * 3 if answer.startswith("5") else [answer]
        here.answers(1, *lines, "200 well")
        here.logged(1, "boom\n")
        with pytest.raises(RehostError, match=answer.replace("exit", "status")) as failed:
            await moves.swap()
        assert "release 1 serves again" in failed.value.serving
        assert "nothing served" in failed.value.serving
        assert "boom" in failed.value.detail
        assert moves.contents == ["old"]
        assert here.running() == [f"{APP}-1"]
        assert here.restart(1) == "unless-stopped"
        assert moves.left() == []
        assert not (here.app / "moving/data/moved.json").exists()
        # What was copied stays: the next run is quick.
        assert (here.app / "moving/data/copy/content").read_text() == "new"


@asynced
async def test_one_swap_that_fails_undoes_the_others(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(
            here, Folder("data", tmp_path / "data"), Folder("db", tmp_path / "db", "echo no; exit 1")
        )
        with pytest.raises(RehostError, match="db could not be put in place: no"):
            await moves.swap()
        assert moves.contents == ["old", "old"]
        assert here.running() == [f"{APP}-1"]


@asynced
async def test_what_cannot_be_put_back_keeps_the_app_stopped_until_it_can(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        stuck = f"[ -f {tmp_path}/mended ] || {{ echo stuck >&2; exit 1; }}"
        moves = Moves(here, Folder("data", tmp_path / "data"), Folder("db", tmp_path / "db", "exit 1", stuck))
        with pytest.raises(RehostError, match="could not be put back") as failed:
            await moves.swap()
        assert failed.value.serving == "nothing"
        assert "stuck" in failed.value.detail
        assert here.running() == []
        with pytest.raises(RehostError):
            await moves.settle()
        with pytest.raises(switch.ReleaseFailed):
            await here.release()  # nothing starts on half of it
        assert here.running() == []
        (tmp_path / "mended").touch()
        assert (await moves.settle()).back == 1
        assert moves.contents == ["old", "old"]
        assert here.running() == [f"{APP}-1"]
        assert moves.left() == []


KILL = "kill -9 $$; exit 1"  # in a subshell: of the script itself


@pytest.mark.parametrize("cut", [0, 1])
@asynced
async def test_a_swap_that_was_killed_is_taken_back(tmp_path: Path, cut: int) -> None:
    async with site(tmp_path) as here:
        await here.release()
        folders = [
            Folder(name, tmp_path / name, KILL if number == cut else ":")
            for number, name in enumerate(("a", "b"))
        ]
        moves = Moves(here, *folders)
        with pytest.raises((MachineError, RehostError)):
            await moves.swap()
        assert here.running() == []
        assert "swap" in moves.left()
        seen = await moves.settle()
        assert (seen.live, seen.back) == (0, 1)
        assert moves.contents == ["old", "old"]
        assert here.running() == [f"{APP}-1"]
        assert moves.left() == []
        assert (await moves.settle()) == Told()  # nothing more to do


@asynced
async def test_one_that_was_killed_when_all_was_in_place_is_finished(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data"), Folder("last", tmp_path / "last", KILL))
        with pytest.raises(RehostError):
            await moves.swap()
        (here.app / "moving/last/copy").rename(tmp_path / "last")
        (here.app / "moving/step").write_text("starting\n")
        assert (await moves.settle()).live == 1
        assert moves.contents == ["new", "new"]
        assert (here.app / "moving/last/moved.json").exists()
        assert moves.left() == []


@asynced
async def test_one_that_was_killed_before_it_stopped_anything_leaves_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data"))
        for name in ("step", "since", "data/secret", "data/moved.json.new"):
            (here.app / "moving" / name).write_text("swapping\n")
        assert await moves.settle() == Told()
        assert moves.left() == []
        assert here.running() == [f"{APP}-1"]


@asynced
async def test_a_release_ends_a_swap_that_was_cut_off(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data", KILL))
        with pytest.raises(RehostError):
            await moves.swap()
        await here.release()
        assert moves.contents == ["old"]
        assert here.running() == [f"{APP}-2"]
        assert moves.left() == []


@asynced
async def test_another_release_meanwhile_changes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        await here.release()
        moves = Moves(here, Folder("data", tmp_path / "data"))
        with pytest.raises(Refused, match="another release"):
            await moves.swap(1)
        assert moves.contents == ["old"]
        assert here.running() == [f"{APP}-2"]
        assert moves.left() == []


@asynced
async def test_a_docker_that_is_away_is_not_taken_for_one_that_runs_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release()
        moves = Moves(
            here, Folder("data", tmp_path / "data", f"cat {here.docker}/containers/{APP}-1/running >&2")
        )
        (here.docker / "asleep").write_text("3\n")
        await moves.swap()
        assert moves.contents == ["new"]
        assert f"stop 1 {APP}-1" in here.calls


@asynced
async def test_two_do_not_move_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as here, move_swap.alone(here.machine, APP, "ada@laptop"):
        with pytest.raises(Refused, match="ada@laptop is moving data"):
            async with move_swap.alone(here.machine, APP, "bob@laptop"):
                pass


def test_a_sequence_of_moves_keeps_its_order() -> None:
    folders: Sequence[Folder] = [Folder(name, Path("/srv") / name) for name in ("b", "a")]
    order = Order(APP, 1, "h", "/", 200, 299, 4, 1, 1, "", (), "ada")
    text = move_swap.script(order, [Copy(folder, "", "", "") for folder in folders])
    assert "NAMES='b a'" in text
    assert text.index("/srv/b") < text.index("/srv/a")
