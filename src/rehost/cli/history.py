"""`rehost history`: the releases, what became of them, what differs between two, and what their images take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.session import Session, common
from rehost.run.events import Json
from rehost.run.plan import Change

if TYPE_CHECKING:
    from rehost.cli.site import Site
    from rehost.machine.probe import MachineState, ReleaseRecord
    from rehost.release.history import Run


@click.command(epilog="Example: rehost history --diff 3 5")
@click.option(
    "--diff", "two", type=int, nargs=2, metavar="A B", help="What differs between releases A and B."
)
@click.option("--images", is_flag=True, help="What the releases' images take, and what each release added.")
@common()
async def command(session: Session, two: tuple[int, int] | None, images: bool) -> None:
    """List the releases and the returns to them: when, who, how long, how it ended, which code, and what changed.

    Code is told by its git commit, the environment by the names of variables. "*" marks the release that serves.
    Releases that are not kept any more are listed as long as the machine's history tells of them.
    """
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import history
    from rehost.run.errors import UsageError

    if two and images:
        raise UsageError("--diff and --images exclude each other.", cure="Type one after the other.")
    project = config.load(session.directory)
    async with site(project) as here:
        session.progress("reading the machine")
        await here.reach_only()
        state = making.state_of(here)
        if two:
            _show_difference(session, here, state, *two)
        elif images:
            await _show_images(session, here, state)
        else:
            _show(session, state, await history.read(await here.connect(), project.app), project.app)


# -- the list ----------------------------------------------------------------------------------------------


def _show(session: Session, state: MachineState, runs: list[Run], app: str) -> None:
    from rehost.release import decide

    releases: list[Json] = []
    lines: list[tuple[float, str]] = []
    made = {run.number: run for run in runs if not run.again}
    busy = state.unit(f"rehost-{app}-release.service").running
    last = runs[-1] if runs and busy else None
    before: ReleaseRecord | None = None
    for release in state.releases:
        run = made.get(release.number)
        # What it was compared with is what served then, which need not be the one before.
        other = (state.release(run.came_from) if run is not None else None) or before
        changes = decide.between(other.record, release.record) if other is not None else list[Change]()
        what = "; ".join(map(_told, changes)) or "nothing changed"
        if other is None:
            what = "the first that is kept"
        before = release
        releases.append(_as_json(release, state, run, changes))
        word = "under way" if run is not None and run is last else release.state
        line = _line(release.number, release.number == state.current, word, run, release.record)
        lines.append((float(release.record["created"]), f"{line}  {what}" + _why(run)))
    kept = {release.number for release in state.releases}
    for run in runs:
        if not run.again and run.number in kept:
            continue
        word = "under way" if run is last else run.outcome
        if run.again:
            direction = "back" if run.number < run.came_from else "forward"
            what = f"{direction} from release {run.came_from}" if run.came_from else "started again"
            word = "return" if run.outcome == "live" else word
        else:
            what = "not kept any more"
        line = _line(run.number, False, word, run, {"created": run.began, "by": run.by})
        lines.append((run.began, f"{line}  {what}" + _why(run)))
    for _, line in sorted(lines, key=lambda one: one[0]):
        session.out(line)
    if not lines:
        session.out("No release yet; `rehost up` makes one.")
    session.result(releases=releases, runs=[_run_as_json(run) for run in runs])


def _why(run: Run | None) -> str:
    return f"; {run.why}" if run is not None and run.why else ""


def _line(number: int, serving: bool, word: str, run: Run | None, record: Mapping[str, Any]) -> str:
    from rehost.run.record import duration

    when = datetime.fromtimestamp(float(record["created"]), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    seconds = run.seconds if run is not None else None
    took = duration(seconds) if seconds is not None else "-"
    parts = [f"{'*' if serving else ' '}{number:>4}", f"{word:<9}", when, f"{took:>8}", str(record["by"])]
    if "commit" in record:
        parts.append(_code(record))
    return "  ".join(parts)


def _code(record: Mapping[str, Any]) -> str:
    commit = record["commit"]
    return f"{commit}{' + changes' * bool(record['dirty'])}" if commit else "no commit"


def _as_json(
    release: ReleaseRecord, state: MachineState, run: Run | None, changes: list[Change]
) -> dict[str, Json]:
    data = release.record
    return {
        "number": release.number,
        "state": release.state,
        "serving": release.number == state.current,
        "created": data["created"],
        "by": data["by"],
        "commit": data["commit"],
        "dirty": data["dirty"],
        "image": data["image"],
        "seconds": run.seconds if run is not None else None,
        "changes": _changes_as_json(changes),
    }


def _told(change: Change, width: int = 0) -> str:
    before, after = ("none" if side is None else side for side in change[1:])
    return f"{change.field:<{width}} {before} → {after}"


def _changes_as_json(changes: list[Change]) -> list[Json]:
    return [{"field": c.field, "before": c.before, "after": c.after} for c in changes]


def _run_as_json(run: Run) -> dict[str, Json]:
    return {**run._asdict(), "seconds": run.seconds}


# -- two releases ------------------------------------------------------------------------------------------


def _show_difference(session: Session, here: Site, state: MachineState, one: int, other: int) -> None:
    from rehost.release import decide
    from rehost.run.errors import RehostError

    found = []
    for number in (one, other):
        release = state.release(number)
        if release is None:
            kept = ", ".join(str(release.number) for release in state.releases) or "none"
            raise RehostError(
                f"release {number} is not on the machine.",
                where=here.label,
                cure=f"Releases that are kept: {kept}.",
            )
        found.append(release.record)
    old, new = found
    changes = decide.between(old, new)
    if _code(old) != _code(new):
        changes.insert(0, Change("commit", _code(old), _code(new)))
    width = max((len(change.field) for change in changes), default=0)
    for change in changes:
        session.out(_told(change, width))
    if not changes:
        session.out(f"Releases {one} and {other} are the same: code, environment and settings.")
    session.result(releases=[one, other], changes=_changes_as_json(changes))


# -- images ------------------------------------------------------------------------------------------------


async def _show_images(session: Session, here: Site, state: MachineState) -> None:
    from rehost.release import images, prune
    from rehost.release.prune import amount

    store = await images.read(await here.connect())
    found = images.taken(state, store)
    drop = prune.to_prune(state, here.project.run.keep, state.current)
    unused = prune.unused_images(state, here.project.app, drop, "")
    needless = images.prunable(unused, state, store)

    def told(size: int | None) -> str:
        return "unknown" if size is None else amount(size)

    if found:
        session.out("release      size  layers  added by it               freed without it  image")
    for one in found:
        mark = "*" if one.number == state.current else " "
        if not one.layers:
            session.out(f"{mark}{one.number:>6}  the image is not on the machine any more")
            continue
        added = f"{told(one.added)} in {one.added_layers} layer{'s' * (one.added_layers != 1)}"
        session.out(
            f"{mark}{one.number:>6}  {told(one.size):>8}  {one.layers:>6}  {added:<24}  {told(one.freed):>16}  "
            f"{one.image[7:19]}"
        )
    ours = {layer for image in state.images for layer in store.images.get(image.id, ())}
    if state.images:
        count = f"{len(state.images)} image{'s' * (len(state.images) != 1)}"
        gone = (
            f"{told(needless)} of it is not needed any more and goes with the next release. "
            if unused
            else ""
        )
        session.out(
            f"{count} of {here.project.app} take {told(store.bytes(ours))}, shared layers counted once. {gone}"
            "Docker's build cache may hold on to layers of images that are gone."
        )
    session.result(images=[dict(one._asdict()) for one in found], bytes=store.bytes(ours), unneeded=needless)
