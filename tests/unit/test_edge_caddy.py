"""The proxy's configuration: whose routes stand in it, and in which order."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_state import APP, serving
from rehost.edge import caddy

APPS = st.sampled_from(["content-api", "shop", "blog", "a", "nobody"])
HOSTS = st.lists(st.sampled_from(["a.example", "b.example", "203.0.113.7"]), max_size=2)
CHANGES = st.lists(st.tuples(APPS, HOSTS), max_size=6)


def routes(config: Any) -> list[Any]:
    found: list[Any] = config["apps"]["http"]["servers"][caddy.SERVER]["routes"]
    return found


def route(app: str, hosts: list[str]) -> dict[str, Any]:
    return caddy.route(app, (20000, 20001), hosts)


def test_the_recorded_configuration_is_the_one_that_is_wanted() -> None:
    state = serving()
    wanted = caddy.route(APP, state.ports[APP], ("api.example.com", "203.0.113.7"))
    config = caddy.desired(state.caddy, wanted)
    *first, last = routes(config)
    assert first == routes(state.caddy)
    assert last["@id"] == caddy.NOBODY
    assert caddy.desired(config, wanted) == config


def test_slot_b_is_looked_for_first_and_without_a_file_nothing_serves() -> None:
    inner = caddy.route("shop", (20004, 20005), ["b.example", "a.example", "b.example"])
    b, a, none = inner["handle"][0]["routes"]
    assert inner["match"] == [{"host": ["a.example", "b.example"]}]
    for part, slot, port in ((b, "b", 20005), (a, "a", 20004)):
        assert part["match"] == [{"file": {"root": "/var/lib/rehost/shop/live", "try_files": [f"/{slot}"]}}]
        (proxy,) = part["handle"]
        assert proxy["upstreams"] == [{"dial": f"127.0.0.1:{port}"}]
        assert proxy["transport"]["keep_alive"] == {"enabled": False}
        # Only what nobody took is asked again.
        assert proxy["load_balancing"]["retry_match"] == [{"not": [{"path": ["*"]}]}]
    assert none["handle"][0]["status_code"] == 503
    assert "match" not in route("shop", [])


@given(CHANGES)
def test_each_app_has_one_route_and_named_hosts_come_first(changes: list[tuple[str, list[str]]]) -> None:
    config: dict[str, Any] | None = None
    last: dict[str, list[str]] = {}
    for app, hosts in changes:
        before = copy.deepcopy(config)
        changed = caddy.desired(config, route(app, hosts))
        assert config == before  # nothing is changed in place
        # Doing it again changes nothing.
        assert caddy.desired(changed, route(app, hosts)) == changed
        config, last[app] = changed, hosts
    if config is None:
        return
    *found, nobody = routes(config)
    # A name that nobody has is answered by a 404, after all others.
    assert (nobody["@id"], "match" in nobody) == (caddy.NOBODY, False)
    assert nobody["handle"][0]["status_code"] == 404
    assert sorted(one["@id"] for one in found) == sorted(f"rehost-{app}" for app in last)
    for app, hosts in last.items():
        assert route(app, hosts) in found
        # No app sees another's change as its own drift.
        assert caddy.desired(config, route(app, hosts)) == config
    assert [("match" in one) for one in found] == sorted((("match" in one) for one in found), reverse=True)
    json.dumps(config)


FOREIGN = {
    "admin": {"listen": "localhost:2019"},
    "logging": {"logs": {}},
    "apps": {
        "tls": {"automation": {}},
        "http": {
            "http_port": 8080,
            "servers": {
                "mine": {"listen": [":8443"], "routes": [{"handle": []}]},
                caddy.SERVER: {
                    "listen": [":80"],
                    "routes": [
                        {"match": [{"host": ["own.example"]}], "handle": []},
                        {"@id": "rehost-shop", "match": [{"host": ["shop.example"]}], "handle": []},
                    ],
                },
            },
        },
    },
}


def test_what_others_configured_stays() -> None:
    config = caddy.desired(FOREIGN, route(APP, ["a.example"]))
    assert {**config, "apps": 0} == {**FOREIGN, "apps": 0}
    assert config["apps"]["tls"] == FOREIGN["apps"]["tls"]  # type: ignore[index]
    http = config["apps"]["http"]
    assert http["http_port"] == 8080
    assert http["servers"]["mine"] == {"listen": [":8443"], "routes": [{"handle": []}]}
    assert [one.get("@id") for one in routes(config)] == [None, "rehost-shop", f"rehost-{APP}", caddy.NOBODY]
    assert routes(caddy.without(config, APP)) == [*routes(FOREIGN), routes(config)[-1]]


@given(CHANGES, APPS)
def test_taking_an_app_out_leaves_the_others(changes: list[tuple[str, list[str]]], app: str) -> None:
    config: dict[str, Any] = copy.deepcopy(FOREIGN)
    for other, hosts in changes:
        config = caddy.desired(config, route(other, hosts))
    less = caddy.without(config, app)
    assert routes(less) == [one for one in routes(config) if one.get("@id") != f"rehost-{app}"]
    assert caddy.without(less, app) == less


@pytest.mark.parametrize("running", [{}, {"apps": {}}, {"apps": {"http": {"servers": {}}}}, {"admin": {}}])
def test_taking_out_what_is_not_there(running: dict[str, Any]) -> None:
    assert caddy.without(running, APP) == running


@given(st.lists(APPS, max_size=8))
def test_ports_never_meet(order: list[str]) -> None:
    taken: dict[str, tuple[int, int]] = {}
    for app in order:
        ports = caddy.choose_ports(app, taken)
        assert taken.setdefault(app, ports) == ports
    used = [port for pair in taken.values() for port in pair]
    assert len(used) == len(set(used))


def test_the_first_free_pair_is_taken() -> None:
    assert caddy.choose_ports("new", {}) == (20000, 20001)
    assert caddy.choose_ports("new", {"a": (20002, 20003)}) == (20000, 20001)
    assert caddy.choose_ports("new", {"a": (20000, 20001), "b": (20003, 20004)}) == (20006, 20007)
    assert caddy.choose_ports("a", {"a": (9, 10)}) == (9, 10)


def test_a_second_app_for_every_name_is_noticed() -> None:
    first = caddy.desired(None, caddy.route("first", (20000, 20001), ()))
    assert caddy.takes_any(first, "second") == "first"
    assert caddy.takes_any(first, "first") == ""
    assert caddy.takes_any(None, "second") == ""
    named = caddy.desired(None, caddy.route("first", (20000, 20001), ("a.example.com",)))
    assert caddy.takes_any(named, "second") == ""


def test_caddy_is_not_asked_to_flush() -> None:
    """It does so by itself for streams; asked to, Caddy 2.6.2 can end in a panic at a reload (decision 0017)."""
    assert "flush_interval" not in json.dumps(caddy.route("shop", (20000, 20001), []))
