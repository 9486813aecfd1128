"""What the app's release should be, what the machine has, and the steps between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rehost.edge import caddy
from rehost.machine import bootstrap
from rehost.machine.probe import MachineState, ReleaseRecord
from rehost.release.container import Settings, environment_changes, fingerprints, settings_changes
from rehost.run.errors import Refused
from rehost.run.plan import Action, Change
from rehost.run.secret import Secret

SHIP: Final = "release/ship"
BUILD: Final = "release/build"
RELEASE: Final = "release/switch"
ROUTES: Final = "edge/routes"
TIDY: Final = "release/tidy"
GB: Final = 2**30
# A pip or npm build peaks at about this much beside Docker and the running app (700 MB measured on 1 GB).
BUILD_MEMORY: Final = 700 * 2**20
BUILD_DISK: Final = 2 * GB
# States of a release that served once.
RETURNABLE: Final = ("live", "replaced")


class Desired(NamedTuple):
    """What should serve. context: digest of everything that the build sees."""

    app: str
    context: str
    values: Mapping[str, Secret]
    settings: Settings
    hosts: tuple[str, ...]
    keep: int


def current(state: MachineState) -> ReleaseRecord | None:
    """The release that takes the traffic, or None."""
    return state.release(state.current) if state.current else None


def next_number(state: MachineState | None) -> int:
    return max((release.number for release in state.releases), default=0) + 1 if state else 1


def built_image(state: MachineState, context: str) -> str:
    """The id of an image built from this context, or ""."""
    return next((image.id for image in state.images if image.context == context), "")


def free_slot(state: MachineState | None) -> caddy.Slot:
    return "b" if state is not None and state.live_slot == "a" else "a"


def serving(state: MachineState, app: str) -> bool:
    """Whether the container of the current release runs."""
    container = state.container(app, state.current) if state.current else None
    return container is not None and container.state == "running"


def leftovers(state: MachineState, app: str) -> list[str]:
    """Running containers of the app that are not the current release: what a cut-off release left behind."""
    return sorted(
        container.name
        for container in state.containers
        if container.app == app and container.release != state.current and container.state == "running"
    )


def release_changes(desired: Desired, record: Mapping[str, Any]) -> list[Change]:
    """What differs between the release that serves and the one that should."""
    changes = []
    if record.get("context") != desired.context:
        changes.append(Change("code", str(record.get("context", ""))[7:19], desired.context[7:19]))
    new = fingerprints(desired.values, str(record.get("salt", "")))
    changes += environment_changes(record.get("env", {}), new)
    changes += settings_changes(record.get("settings", {}), desired.settings.as_json())
    return changes


def first_changes(desired: Desired) -> tuple[Change, ...]:
    """What a first release leaves on the machine for good: its volumes."""
    volumes = desired.settings.volumes
    return (Change("volumes", None, list(volumes)),) if volumes else ()


def plan(desired: Desired, state: MachineState | None) -> list[Action]:
    """The steps to the desired release. `state` None stands for a machine yet to be made."""
    app = desired.app
    needs = (bootstrap.ACTION,)
    if state is None:
        return [
            Action(SHIP, "run", "send the build context", needs=needs),
            Action(BUILD, "run", f"build the image of {app}", needs=(SHIP,)),
            Action(RELEASE, "create", f"release 1 of {app}", first_changes(desired), needs=(BUILD,)),
        ]
    actions: list[Action] = []
    check_names(desired, state)
    now = current(state)
    changes = release_changes(desired, now.record) if now else [*first_changes(desired)]
    down = now is not None and not serving(state, app)
    if down:
        changes.append(Change("container", "not running", "running"))
    if now is None or changes:
        before: tuple[str, ...] = needs
        if not built_image(state, desired.context):
            actions.append(Action(SHIP, "run", "send the build context", needs=needs))
            actions.append(Action(BUILD, "run", f"build the image of {app}", needs=(SHIP,)))
            before = (BUILD,)
        number = next_number(state)
        what = f"release {number} of {app}" + (f" (release {now.number} serves)" if now else "")
        actions.append(Action(RELEASE, "create", what, tuple(changes), needs=before))
        # The release brings the routes along and stops what was left running.
        return actions
    if routes_differ(desired, state):
        actions.append(
            Action(
                ROUTES, "update", "the proxy's routes", (Change("routes", "changed", "as planned"),), needs
            )
        )
    if left := leftovers(state, app):
        stop = tuple(Change(name, "running", "stopped") for name in left)
        actions.append(Action(TIDY, "update", "containers that a cut-off release left running", stop, needs))
    return actions


def check_names(desired: Desired, state: MachineState) -> None:
    """Raises Refused when another app of the machine answers for any name, as this one would: one would get nothing."""
    other = caddy.takes_any(state.caddy, desired.app)
    if other and not desired.hosts:
        raise Refused(
            f"{other} on the same machine answers for every name, so {desired.app} would get no request.",
            cure="Name each app's domain: `name` under [domain] in rehost.toml.",
        )


def proxy_config(desired: Desired, state: MachineState | None) -> dict[str, Any]:
    """Caddy's whole configuration as it should be."""
    ports = caddy.choose_ports(desired.app, state.ports if state else {})
    return caddy.desired(state.caddy if state else None, caddy.route(desired.app, ports, desired.hosts))


def routes_differ(desired: Desired, state: MachineState) -> bool:
    return state.caddy is None or dict(state.caddy) != proxy_config(desired, state)


def to_prune(state: MachineState, keep: int, next_one: int) -> list[int]:
    """Releases that may go when `next_one` serves: all but the newest `keep`, the next and the one before it.

    Releases that never served go first: they can't be returned to.
    """
    stay = {next_one, state.current}
    good = [r.number for r in state.releases if r.state in RETURNABLE and r.number not in stay]
    room = max(keep - len(stay - {0}), 0)
    stay.update(sorted(good, reverse=True)[:room])
    return [release.number for release in state.releases if release.number not in stay]


def check_room(state: MachineState, serving_now: str) -> None:
    """Raises Refused when a build might exhaust the machine's memory or disk: it would take the app down with it."""
    room = state.memory_available + state.swap_free
    if state.memory < 2 * GB and room < BUILD_MEMORY:
        raise Refused(
            f"there is not enough memory to build on the machine: {room >> 20} MB of memory and swap are free, "
            f"{BUILD_MEMORY >> 20} MB are needed.",
            serving=serving_now,
            cure="`rehost up` adds swap where it is missing; a larger `type` in [machine] of rehost.toml helps too.",
        )
    if state.disk_free < BUILD_DISK:
        raise Refused(
            f"there is not enough room to build on the machine: {state.disk_free >> 20} MB are free, "
            f"{BUILD_DISK >> 20} MB are needed.",
            serving=serving_now,
            cure="Make `disk` in [machine] of rehost.toml larger, or keep fewer releases (`keep` in [run]).",
        )


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two releases that the machine keeps; the environment by name only."""
    changes = []
    if old.get("context") != new.get("context"):
        changes.append(Change("code", str(old.get("context", ""))[7:19], str(new.get("context", ""))[7:19]))
    changes += environment_changes(old.get("env", {}), new.get("env", {}))
    changes += settings_changes(old.get("settings", {}), new.get("settings", {}))
    return changes


def return_to(state: MachineState, number: int | None, *, where: str) -> ReleaseRecord:
    """The release to return to: the one named, else the newest good one before the current. Raises Refused."""
    good = [r for r in state.releases if r.state in RETURNABLE and r.number != state.current]
    known = ", ".join(str(release.number) for release in good) or "none"
    if number is None:
        earlier = [release for release in good if release.number < state.current]
        if earlier:
            return earlier[-1]
        raise Refused(
            "there is no earlier release to return to.",
            where=where,
            cure=f"Releases that can be returned to: {known}. `rehost history` lists all.",
        )
    if number == state.current:
        raise Refused(
            f"release {number} serves already.", where=where, cure="`rehost history` lists the others."
        )
    found = next((release for release in good if release.number == number), None)
    if found is None:
        bad = state.release(number)
        raise Refused(
            f"release {number} never served (it is {bad.state})."
            if bad
            else f"there is no release {number}.",
            where=where,
            cure=f"Releases that can be returned to: {known}. `rehost history` lists all.",
        )
    return found
