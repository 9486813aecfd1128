"""What may go from an app's machine, and when there is room for a build."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_state import APP, fresh, image, releases, serving
from rehost.machine.probe import Image
from rehost.release import decide, prune
from rehost.run.errors import Refused

MIB = 2**20

STATES = st.lists(st.sampled_from(["live", "replaced", "failed", "prepared"]), max_size=12)


@given(STATES, st.integers(0, 12), st.integers(1, 6))
def test_what_is_pruned(states: list[str], current: int, keep: int) -> None:
    state = fresh(releases=releases(states), current=min(current, len(states)))
    next_one = decide.next_number(state)
    gone = prune.to_prune(state, keep, next_one)
    left = {release.number for release in state.releases} - set(gone)
    # Never the one that serves, nor the next.
    assert {state.current, next_one}.isdisjoint(gone)
    # What is left beside these two served once, and is newer than all that served and went.
    others = left - {state.current}
    assert all(states[n - 1] in ("live", "replaced") for n in others)
    served = [n for n in gone if states[n - 1] in ("live", "replaced")]
    assert all(old < new for old in served for new in others)
    # No more than `keep` with the next one, unless the one that serves makes it two; and no fewer than there are.
    assert len(left) + 1 <= max(keep, 2)
    if served:
        assert len(left) + 1 >= keep
    assert prune.to_prune(state._replace(releases=state.releases), keep, next_one) == gone


def test_releases_that_never_served_go_first() -> None:
    state = fresh(releases=releases(["replaced", "replaced", "failed", "prepared", "live"]), current=5)
    assert prune.to_prune(state, 4, 6) == [3, 4]
    assert prune.to_prune(state, 1, 6) == [1, 2, 3, 4]


# -- images ------------------------------------------------------------------------------------------------


def test_images_in_use_stay() -> None:
    state = serving(
        releases=releases(["replaced", "live"]), images=tuple(image(f"sha256:{n}") for n in (1, 2, 3))
    )
    assert prune.unused_images(state, APP, [], "sha256:3") == []
    assert prune.unused_images(state, APP, [1], "sha256:3") == ["sha256:1"]
    assert prune.unused_images(state, APP, [1], "sha256:1") == ["sha256:3"]


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ((), ["sha256:1"]),
        (("<none>:<none>",), ["sha256:1"]),
        ((f"rehost/{APP}:0123456789ab",), [f"rehost/{APP}:0123456789ab"]),
        # Somebody gave it a name of their own: that one stays, and with it the image.
        ((f"rehost/{APP}:a", "backup/mine:1", f"rehost/{APP}:b"), [f"rehost/{APP}:a", f"rehost/{APP}:b"]),
        (("backup/mine:1",), []),
        # Another app's, though its name begins alike.
        ((f"rehost/{APP}-two:a",), []),
    ],
)
def test_an_image_goes_by_the_names_that_rehost_gave_it(tags: tuple[str, ...], named: list[str]) -> None:
    state = serving(images=(Image("sha256:1", tags, "", 1, 1),), releases=())
    assert prune.unused_images(state, APP, [], "") == named


# -- room --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "available", "swap_free", "enough"),
    [
        (1024 * MIB, 300 * MIB, 2048 * MIB, True),
        (1024 * MIB, 300 * MIB, 400 * MIB, True),
        (1024 * MIB, 300 * MIB, 399 * MIB, False),
        (2048 * MIB, 100 * MIB, 0, True),  # 2 GB and more are not asked
    ],
)
def test_memory_for_a_build(memory: int, available: int, swap_free: int, enough: bool) -> None:
    state = fresh(memory=memory, memory_available=available, swap_free=swap_free)
    if enough:
        prune.check_memory(state, "release 1")
        return
    with pytest.raises(Refused, match="not enough memory to build") as refused:
        prune.check_memory(state, "release 1")
    assert refused.value.serving == "release 1"
    assert "rehost.toml" in refused.value.cure


def room(free: int, need: int, answer: str = "") -> tuple[list[str], list[str]]:
    """What was run on the machine, and what was said, when so many bytes are free and so many are needed."""
    ran: list[str] = []
    said: list[str] = []

    async def run(script: str, **_: Any) -> SimpleNamespace:
        ran.append(script)
        return SimpleNamespace(stdout=answer)

    state = serving(
        disk_free=free,
        releases=releases(["replaced", "failed", "replaced", "live"]),
        current=4,
        images=(image("sha256:1"), image("sha256:4"), image("sha256:next")),
    )
    machine: Any = SimpleNamespace(run=run, label="vm")
    work = prune.make_room(
        machine,
        app=APP,
        state=state,
        keep=2,
        need=need,
        image="sha256:next",
        serving="release 4",
        note=said.append,
    )
    asyncio.run(work)
    return ran, said


def test_with_room_nothing_is_asked_of_the_machine() -> None:
    assert room(100, 100) == ([], [])


def test_room_is_made_from_what_nobody_needs() -> None:
    (script,), said = room(5 * MIB, 50 * MIB, f"{5 * MIB}\n  {65 * MIB}\n")
    head = dict(line.split("=", 1) for line in script.splitlines()[:5])
    assert (head["PRUNE"], head["PRUNE_IMAGES"]) == ("'1 2'", "sha256:1")
    assert head["NEED"] == str(50 * MIB)
    assert said == [
        "the disk was nearly full: 60 MB freed (2 releases beyond `keep`, 1 unused image of content-api, "
        "Docker's build cache)"
    ]


def test_without_room_after_all_it_is_refused() -> None:
    with pytest.raises(Refused, match="7 MB are free after 2 MB were freed, and 50 MB are needed") as refused:
        room(5 * MIB, 50 * MIB, f"{5 * MIB} {7 * MIB}")
    assert (refused.value.where, refused.value.serving) == ("vm", "release 4")
    assert "`disk` in [machine]" in refused.value.cure
