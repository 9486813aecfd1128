"""What the app's release should be, what the machine has, and the steps between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from rehost.edge import caddy
from rehost.machine import bootstrap
from rehost.machine.probe import MachineState, ReleaseRecord
from rehost.release import jobs, services
from rehost.release.container import Settings, environment_changes, fingerprints, settings_changes
from rehost.run.errors import Refused
from rehost.run.plan import Action, Change
from rehost.run.secret import Secret

SHIP: Final = "release/ship"
BUILD: Final = "release/build"
SEND: Final = "release/send"
PULL: Final = "release/pull"
RELEASE: Final = "release/switch"
ROUTES: Final = "edge/routes"
TIDY: Final = "release/tidy"
HOLD: Final = "release/hold"
SETTLE: Final = "move/settle"
# States of a release that served once.
RETURNABLE: Final = ("live", "replaced")


class Desired(NamedTuple):
    """What should serve. context: digest of everything that the build sees. files: secret files, in base64.

    image: a prebuilt one; its digest is the context then, "" while that is not known. build: where it is built else.
    """

    app: str
    context: str
    values: Mapping[str, Secret]
    settings: Settings
    hosts: tuple[str, ...]
    keep: int
    files: Mapping[str, Secret] = MappingProxyType({})
    build: str = "machine"
    image: str = ""
    services: Mapping[str, services.Service] = MappingProxyType({})


def current(state: MachineState) -> ReleaseRecord | None:
    """The release that takes the traffic, or None."""
    return state.release(state.current) if state.current else None


def next_number(state: MachineState | None) -> int:
    return max((release.number for release in state.releases), default=0) + 1 if state else 1


def built_image(state: MachineState, context: str) -> str:
    """The id of an image built from this context, or pulled by this digest, or ""."""
    # A pulled image has no label, and the beginning of its digest as its tag.
    tag = f":{context[7:19]}"
    return next(
        (
            image.id
            for image in state.images
            if context and (image.context == context or any(each.endswith(tag) for each in image.tags))
        ),
        "",
    )


def free_slot(state: MachineState | None) -> caddy.Slot:
    return "b" if state is not None and state.live_slot == "a" else "a"


def serving(state: MachineState, app: str) -> bool:
    """Whether the container of the current release runs."""
    container = state.container(app, state.current) if state.current else None
    return container is not None and container.state == "running"


def draining(state: MachineState, app: str) -> bool:
    """Whether the machine still lets the release before the current one finish its requests."""
    return state.unit(f"rehost-{app}-drain.service").running


def leftovers(state: MachineState, app: str) -> list[str]:
    """Running containers of the app that are not the current release: what a cut-off release left behind."""
    if draining(state, app):
        return []
    return sorted(
        container.name
        for container in state.containers
        if container.app == app
        and container.release != state.current
        and container.state in ("running", "restarting")
        # A job that runs ends by itself, and a service is of no release.
        and (not container.part or container.part.startswith("process:"))
    )


def interruption(settings: Settings) -> tuple[Change, ...]:
    """What the plan says of a switch in which nothing serves for a while; nothing when there is no such time."""
    told = "nothing serves while one release stops and the other starts"
    return (Change("AN INTERRUPTION", None, told),) if settings.exclusive else ()


def missing(desired: Desired, state: MachineState) -> list[Change]:
    """What should work beside the release that serves and does not."""
    changes = []
    for name in desired.settings.processes:
        found = state.part(desired.app, state.current, f"process:{name}")
        # One that is started again and again is the app's own trouble; `status` and the log tell.
        if found is None or found.state not in ("running", "restarting"):
            changes.append(Change(f"process {name}", found.state if found else None, "running"))
    settings = desired.settings
    units = jobs.unit_files(desired.app, settings.jobs, settings.stop_grace)
    for unit in sorted({*units, *state.jobs}):
        if units.get(unit) != state.jobs.get(unit):
            there = "changed" if unit in units else "there"
            now = there if unit in state.jobs else None
            changes.append(Change(unit, now, "as planned" if unit in units else None))
        elif unit.endswith(".timer") and not state.unit(unit).running:
            changes.append(Change(unit, "not waiting", "waiting"))
    return changes


def release_changes(desired: Desired, record: Mapping[str, Any]) -> list[Change]:
    """What differs between the release that serves and the one that should."""
    changes = []
    if record.get("context") != desired.context:
        changes.append(Change("code", str(record.get("context", ""))[7:19], desired.context[7:19]))
    new = fingerprints(desired.values, str(record.get("salt", "")))
    changes += environment_changes(record.get("env", {}), new)
    files = fingerprints(desired.files, str(record.get("salt", "")))
    changes += environment_changes(record.get("files", {}), files, "secret file")
    changes += settings_changes(record.get("settings", {}), desired.settings.as_json())
    return changes


def first_changes(desired: Desired) -> tuple[Change, ...]:
    """What a first release brings along besides code and variables: volumes, secret files, processes, by name."""
    settings = desired.settings
    brought = {
        "volumes": list(settings.volumes),
        "secret files": sorted(desired.files),
        "processes": list(settings.processes),
        "jobs": list(settings.jobs),
    }
    return tuple(Change(name, None, [*found]) for name, found in brought.items() if found)


def settling() -> Action:
    """The step that ends a move of data which was cut off: all in place, or all as before."""
    end = (Change("a move of data", "cut off in the middle", "made, or taken back"),)
    return Action(SETTLE, "update", "what the app works on", end, (bootstrap.ACTION,))


def image_actions(desired: Desired, needs: tuple[str, ...]) -> list[Action]:
    """The steps that bring the image onto the machine; the last of them has it there."""
    if desired.image:
        return [Action(PULL, "run", f"pull {desired.image}", needs=needs, retries=3)]
    if desired.build == "here":
        return [
            Action(BUILD, "run", f"build the image of {desired.app} here", needs=needs),
            Action(SEND, "run", "send the image", needs=(BUILD,)),
        ]
    return [
        Action(SHIP, "run", "send the build context", needs=needs),
        Action(BUILD, "run", f"build the image of {desired.app}", needs=(SHIP,)),
    ]


def plan(desired: Desired, state: MachineState | None) -> list[Action]:
    """The steps to the desired release. `state` None stands for a machine yet to be made."""
    beside = services.plan(desired.app, desired.services, state)
    # What the app may need when it starts is there before it, what it needs no more goes after it.
    first = [action for action in beside if action.verb != "delete"]
    release = _plan(desired, state)
    for place, action in enumerate(release):
        if action.id in (RELEASE, HOLD):
            release[place] = action._replace(needs=(*action.needs, *(one.id for one in first)))
    gone = [one._replace(needs=(*one.needs, RELEASE)) for one in beside if one.verb == "delete"]
    return [*first, *release, *gone]


def _plan(desired: Desired, state: MachineState | None) -> list[Action]:
    app = desired.app
    needs = (bootstrap.ACTION,)
    if state is None:
        steps = image_actions(desired, needs)
        first = Action(
            RELEASE, "create", f"release 1 of {app}", first_changes(desired), needs=(steps[-1].id,)
        )
        return [*steps, first]
    actions: list[Action] = []
    check_names(desired, state)
    now = current(state)
    changes = release_changes(desired, now.record) if now else [*first_changes(desired)]
    if state.moving:
        actions.append(settling())
        needs = (SETTLE,)
    # What a move stopped runs again when that has ended.
    down = now is not None and not serving(state, app) and not state.moving
    if down:
        changes.append(Change("container", "not running", "running"))
    if now is None or changes:
        before: tuple[str, ...] = needs
        if not built_image(state, desired.context):
            actions += image_actions(desired, needs)
            before = (actions[-1].id,)
        number = next_number(state)
        what = f"release {number} of {app}" + (f" (release {now.number} serves)" if now else "")
        if now and not down:
            changes += interruption(desired.settings)
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
        needs = (TIDY,)  # never two workers at once
    if lost := missing(desired, state):
        what = f"what works beside release {state.current}"
        actions.append(Action(HOLD, "update", what, tuple(lost), needs))
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


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two releases that the machine keeps; the environment by name only."""
    changes = []
    if old.get("context") != new.get("context"):
        changes.append(Change("code", str(old.get("context", ""))[7:19], str(new.get("context", ""))[7:19]))
    changes += environment_changes(old.get("env", {}), new.get("env", {}))
    changes += environment_changes(old.get("files", {}), new.get("files", {}), "secret file")
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
