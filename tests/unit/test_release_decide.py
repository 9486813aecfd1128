"""Which steps lead to the desired release: tables of states and what must follow from each."""

from __future__ import annotations

from typing import Any

import pytest

from machine_state import APP, container, fresh, image, releases, serving
from rehost.machine.bootstrap import ACTION as BOOTSTRAP
from rehost.machine.probe import MachineState, ReleaseRecord
from rehost.release import decide
from rehost.release.container import fingerprints
from rehost.release.decide import BUILD, RELEASE, ROUTES, SHIP, TIDY, Desired
from rehost.run.errors import Refused
from rehost.run.plan import Change, Plan
from rehost.run.secret import Secret
from test_release_container import SETTINGS

CONTEXT = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
VALUES = {"SECRET_KEY": Secret("hunter2hunter2"), "PORT": Secret("8080")}


def desired(**changes: Any) -> Desired:
    base = Desired(APP, CONTEXT, VALUES, SETTINGS, ("api.example.com",), keep=5)
    return base._replace(**changes)


def record(wanted: Desired, number: int = 1, state: str = "live") -> ReleaseRecord:
    """The release that was made from what was wanted."""
    return ReleaseRecord(
        number,
        state,
        {
            "number": number,
            "image": "sha256:image",
            "context": wanted.context,
            "salt": "salt",
            "env": fingerprints(wanted.values, "salt"),
            "settings": wanted.settings.as_json(),
        },
    )


def settled(**changes: Any) -> MachineState:
    """A machine on which exactly the desired release serves."""
    base: dict[str, Any] = {
        "releases": (record(desired()),),
        "containers": (container(1),),
        "images": (image("sha256:image", CONTEXT),),
        "ports": {APP: (20000, 20001)},
        "live_slot": "a",
        "current": 1,
    }
    state = serving(**{**base, **changes})
    return state if "caddy" in changes else state._replace(caddy=decide.proxy_config(desired(), state))


def steps(wanted: Desired, state: MachineState | None) -> list[str]:
    actions = decide.plan(wanted, state)
    Plan.of(actions)  # their needs fit together
    return [action.id for action in actions]


def test_nothing_changed() -> None:
    assert decide.plan(desired(), settled()) == []


def test_a_first_release_tells_its_volumes() -> None:
    wanted = desired(settings=SETTINGS._replace(volumes=("data:/data",)))
    told = (Change("volumes", None, ["data:/data"]),)
    assert decide.plan(wanted, None)[-1].changes == told
    assert decide.plan(wanted, fresh())[-1].changes == told
    (release,) = decide.plan(wanted, settled())
    assert release.changes == told


def test_a_machine_yet_to_be_made() -> None:
    actions = decide.plan(desired(), None)
    assert [(a.id, a.verb, a.needs) for a in actions] == [
        (SHIP, "run", (BOOTSTRAP,)),
        (BUILD, "run", (SHIP,)),
        (RELEASE, "create", (BUILD,)),
    ]


def test_a_machine_without_a_release() -> None:
    actions = decide.plan(desired(), fresh())
    assert [a.id for a in actions] == [SHIP, BUILD, RELEASE]
    assert (actions[-1].verb, actions[-1].what, actions[-1].changes) == ("create", f"release 1 of {APP}", ())


NEW_VALUES = {"SECRET_KEY": Secret("another"), "EXTRA": Secret("1")}


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        (
            desired(values=NEW_VALUES),
            (
                Change("env EXTRA", None, "set"),
                Change("env PORT", "set", None),
                Change("env SECRET_KEY", "set", "changed"),
            ),
        ),
        (
            desired(settings=SETTINGS._replace(memory=2**29, health="/")),
            (Change("health", "/health", "/"), Change("memory", SETTINGS.memory, 2**29)),
        ),
    ],
)
def test_environment_and_settings_need_no_build(wanted: Desired, changes: tuple[Change, ...]) -> None:
    (action,) = decide.plan(wanted, settled())
    assert (action.id, action.verb, action.changes) == (RELEASE, "create", changes)
    assert action.what == f"release 2 of {APP} (release 1 serves)"
    assert action.needs == (BOOTSTRAP,)


def test_code_is_sent_and_built() -> None:
    actions = decide.plan(desired(context=OTHER), settled())
    assert [a.id for a in actions] == [SHIP, BUILD, RELEASE]
    assert actions[-1].changes == (Change("code", "a" * 12, "b" * 12),)


def test_code_that_was_built_before_is_not_built_again() -> None:
    state = settled(images=(image("sha256:image", CONTEXT), image("sha256:old", OTHER)))
    assert steps(desired(context=OTHER), state) == [RELEASE]
    assert decide.built_image(state, OTHER) == "sha256:old"
    assert decide.built_image(state, "sha256:" + "c" * 64) == ""


@pytest.mark.parametrize("containers", [(), (container(1, "exited"),), (container(1, app="shop"),)])
def test_a_container_that_does_not_run_is_replaced(containers: tuple[Any, ...]) -> None:
    state = settled(containers=containers)
    (action,) = decide.plan(desired(), state)
    assert (action.id, action.changes) == (RELEASE, (Change("container", "not running", "running"),))
    assert not decide.serving(state, APP)


@pytest.mark.parametrize("caddy", [None, {}, {"apps": {"http": {"servers": {"rehost": {"routes": []}}}}}])
def test_routes_that_drifted_are_given_anew(caddy: Any) -> None:
    (action,) = decide.plan(desired(), settled(caddy=caddy))
    assert (action.id, action.verb) == (ROUTES, "update")


def test_another_host_is_a_matter_of_the_routes() -> None:
    assert steps(desired(hosts=("www.example.com",)), settled()) == [ROUTES]


def test_another_app_s_routes_are_no_drift() -> None:
    state = settled()
    shop = desired()._replace(app="shop", hosts=("shop.example.com",))
    both = state._replace(ports={**state.ports, "shop": (20002, 20003)})
    both = both._replace(caddy=decide.proxy_config(shop, both))
    # Whoever was last to change the configuration: neither sees drift.
    for _ in range(2):
        assert not decide.routes_differ(desired(), both)
        assert not decide.routes_differ(shop, both)
        both = both._replace(caddy=decide.proxy_config(desired(), both))


def test_what_a_cut_off_release_left_is_stopped() -> None:
    left = (container(1), container(2), container(3, "exited"), container(9, app="shop"))
    state = settled(containers=left)
    (action,) = decide.plan(desired(), state)
    assert (action.id, action.changes) == (TIDY, (Change(f"{APP}-2", "running", "stopped"),))
    # A release brings the routes along and stops what was left: no steps of their own.
    assert steps(desired(values={}), state._replace(caddy=None)) == [RELEASE]


def test_no_value_is_in_a_plan() -> None:
    actions = decide.plan(desired(values=NEW_VALUES), settled())
    told = repr([action.as_json() for action in actions])
    assert "hunter2" not in told
    assert "another" not in told


@pytest.mark.parametrize(
    ("states", "number"), [([], 1), (["live"], 2), (["replaced", "live", "failed", "prepared"], 5)]
)
def test_numbers_are_never_given_twice(states: list[str], number: int) -> None:
    assert decide.next_number(fresh(releases=releases(states))) == number
    assert decide.next_number(None) == 1


@pytest.mark.parametrize(("slot", "free"), [("", "a"), ("a", "b"), ("b", "a")])
def test_the_free_slot(slot: str, free: str) -> None:
    assert decide.free_slot(fresh(live_slot=slot)) == free
    assert decide.free_slot(None) == "a"


# -- returning ---------------------------------------------------------------------------------------------

KEPT = fresh(releases=releases(["replaced", "failed", "replaced", "live", "prepared"]), current=4)


@pytest.mark.parametrize(("number", "target"), [(None, 3), (1, 1), (3, 3)])
def test_the_release_to_return_to(number: int | None, target: int) -> None:
    assert decide.return_to(KEPT, number, where="vm").number == target


@pytest.mark.parametrize(
    ("state", "number", "what"),
    [
        (KEPT, 4, "release 4 serves already."),
        (KEPT, 2, "release 2 never served (it is failed)."),
        (KEPT, 5, "release 5 never served (it is prepared)."),
        (KEPT, 9, "there is no release 9."),
        (KEPT, 0, "there is no release 0."),
        (fresh(), None, "there is no earlier release to return to."),
        (fresh(releases=releases(["live"]), current=1), None, "there is no earlier release to return to."),
        (
            fresh(releases=releases(["failed", "live"]), current=2),
            None,
            "there is no earlier release to return to.",
        ),
    ],
)
def test_releases_that_cannot_be_returned_to(state: MachineState, number: int | None, what: str) -> None:
    with pytest.raises(Refused) as refused:
        decide.return_to(state, number, where="vm")
    assert (refused.value.what, refused.value.where) == (what, "vm")
    assert "`rehost history`" in refused.value.cure


def test_after_a_return_the_one_before_is_next() -> None:
    # Release 3 was returned to; 4 is newer and good, but "earlier" means before the one that serves.
    state = KEPT._replace(current=3)
    assert decide.return_to(state, None, where="vm").number == 1
    assert decide.return_to(state, 4, where="vm").number == 4


def test_what_differs_between_two_kept_releases() -> None:
    old, new = record(desired()).record, record(desired(context=OTHER, values={})).record
    assert [c.field for c in decide.between(old, new)] == ["code", "env PORT", "env SECRET_KEY"]
    assert decide.between(old, old) == []
    assert decide.between({}, {}) == []
