"""What of an app may go from its machine, and making room on the machine's disk with it.

Only what is the app's own and provably unused: releases beyond `keep`, images that no release refers to. Docker's
build cache is nobody's data. Volumes never go, nor what carries another's name or label.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from rehost.machine.bootstrap import BUILD_CACHE
from rehost.machine.probe import Image, MachineState
from rehost.machine.ssh import Machine
from rehost.release.build import tag
from rehost.release.decide import RETURNABLE
from rehost.run.errors import Refused

GB: Final = 2**30
# A pip or npm build peaks at about this much beside Docker and the running app (700 MB measured on 1 GB).
BUILD_MEMORY: Final = 700 * 2**20
BUILD_DISK: Final = 2 * GB
# A release without a build writes a few files, and a container's own layer and log.
RELEASE_DISK: Final = GB // 16


def to_prune(state: MachineState, keep: int, next_one: int) -> list[int]:
    """Releases that may go when `next_one` serves: all but the newest `keep`, the next and the one before it.

    Releases that never served go first: they can't be returned to.
    """
    stay = {next_one, state.current}
    good = [r.number for r in state.releases if r.state in RETURNABLE and r.number not in stay]
    room = max(keep - len(stay - {0}), 0)
    stay.update(sorted(good, reverse=True)[:room])
    return [release.number for release in state.releases if release.number not in stay]


def unused_images(state: MachineState, app: str, prune: Collection[int], image: str) -> list[str]:
    """Images of this app that no release refers to any more once `prune` is gone, as `docker rmi` takes them.

    image: the id of one that is about to be used.
    """
    used = {str(r.record.get("image")) for r in state.releases if r.number not in prune} | {image}
    return [name for found in state.images if found.id not in used for name in _names(found, app)]


def _names(image: Image, app: str) -> list[str]:
    """The names that rehost gave an image, or the id of one without any name: another's name keeps it."""
    ours = [name for name in image.tags if name.startswith(tag(app, ""))]
    return ours or ([] if any(name != "<none>:<none>" for name in image.tags) else [image.id])


def check_memory(state: MachineState, serving: str) -> None:
    """Raises Refused when a build might exhaust the machine's memory: it would take the app down with it."""
    room = state.memory_available + state.swap_free
    if state.memory < 2 * GB and room < BUILD_MEMORY:
        raise Refused(
            f"there is not enough memory to build on the machine: {room >> 20} MB of memory and swap are free, "
            f"{BUILD_MEMORY >> 20} MB are needed.",
            serving=serving,
            cure="`rehost up` adds swap where it is missing; a larger `type` in [machine] of rehost.toml helps too.",
        )


def room_script(app: str, releases: Sequence[int], images: Sequence[str], need: int) -> str:
    """Prunes, and prints how many bytes were free before and after. need: in bytes."""
    values: dict[str, object] = {
        "APP": app,
        "PRUNE": " ".join(map(str, releases)),
        "PRUNE_IMAGES": " ".join(images),
        "NEED": need,
        "CACHE": BUILD_CACHE,
    }
    head = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    here = Path(__file__).parent
    return head + (here / "keep.sh").read_text() + (here / "room.sh").read_text()


async def make_room(
    machine: Machine,
    *,
    app: str,
    state: MachineState,
    keep: int,
    need: int,
    image: str = "",
    serving: str,
    note: Callable[[str], None],
) -> None:
    """Sees to it that so many bytes are free on the machine's disk. Where they are, nothing is done and nothing asked.

    Raises Refused when they are not there after pruning either. image: one that the next release uses.
    """
    if state.disk_free >= need:
        return
    releases = to_prune(state, keep, state.current)
    images = unused_images(state, app, releases, image)
    output = await machine.run(room_script(app, releases, images, need), what="making room on the disk")
    before, after = map(int, output.stdout.split())
    freed = max(after - before, 0)
    if freed:
        gone = [_count(len(releases), "release") + " beyond `keep`"] * bool(releases)
        gone += [_count(len(images), "unused image") + f" of {app}"] * bool(images)
        what = ", ".join([*gone, "Docker's build cache"])
        note(f"the disk was nearly full: {amount(freed)} freed ({what})")
    if after < need:
        raise Refused(
            f"there is not enough room on the machine's disk: {amount(after)} are free after {amount(freed)} "
            f"were freed, and {amount(need)} are needed.",
            where=machine.label,
            serving=serving,
            cure="Make `disk` in [machine] of rehost.toml larger, keep fewer releases (`keep` in [run]; "
            "`rehost history --images` shows what each takes), or remove on the machine what is not needed.",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def amount(size: int) -> str:
    """A size as people read it, in the powers of two that rehost.toml counts in."""
    if size < 2**20:
        return f"{size / 2**10:.1f} kB" if size else "nothing"
    return f"{size / 2**20:.0f} MB" if size < 10 * 2**30 else f"{size / 2**30:.1f} GB"
