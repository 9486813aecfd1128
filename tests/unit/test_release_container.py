"""What Docker is asked for, and what of the environment is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.release.container import (
    Settings,
    container_body,
    environment,
    environment_changes,
    fingerprints,
    settings_changes,
)
from rehost.run.plan import Change
from rehost.run.secret import Secret

SETTINGS = Settings(
    port=8080,
    health="/health",
    health_low=200,
    health_high=299,
    health_host="api.example.com",
    health_deadline=120,
    memory=400 * 2**20,
    stop_grace=30,
)

# Each of these broke a shell script or a command line once.
AWKWARD = {
    "LIST": "mongodb://a:27017,b:27017/?replicaSet=rs&w=majority",
    "QUOTES": 'it\'s "so" `id`',
    "DOLLAR": "$HOME ${PATH} $$ $(id)",
    "HASH": "#not a comment # either",
    "LINES": "-----BEGIN KEY-----\nabc\n-----END KEY-----\n",
    "SPACES": "  both ends  ",
    "EQUALS": "a=b=c",
    "UMLAUT": "ünïcödé 漢字 🙂",
    "BACKSLASH": "\\n \\",
    "EMPTY": "",
    "CARRIAGE": "a\r\nb",
}


def body(values: dict[str, str]) -> dict[str, Any]:
    return container_body(
        app="content-api",
        number=3,
        image="sha256:1",
        context="sha256:2",
        values={name: Secret(value) for name, value in values.items()},
        settings=SETTINGS,
        host_port=20001,
    )


def test_the_whole_body() -> None:
    assert body({"B": "2", "A": "1"}) == {
        "Image": "sha256:1",
        "Env": ["A=1", "B=2"],
        "Labels": {"rehost.app": "content-api", "rehost.release": "3", "rehost.context": "sha256:2"},
        "ExposedPorts": {"8080/tcp": {}},
        "StopTimeout": 30,
        "HostConfig": {
            "Memory": 419430400,
            "MemorySwap": 838860800,
            "CpuShares": 8192,
            "RestartPolicy": {"Name": "no"},
            "SecurityOpt": ["no-new-privileges:true"],
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20001"}]},
            "Mounts": [],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "10"}},
        },
    }


def test_volumes_are_named_after_the_app() -> None:
    body = container_body(
        app="content-api",
        number=3,
        image="sha256:1",
        context="sha256:2",
        values={},
        settings=SETTINGS._replace(volumes=("data:/data", "own:/srv/own")),
        host_port=20001,
    )
    assert body["HostConfig"]["Mounts"] == [
        {
            "Type": "volume",
            "Source": f"content-api.{name}",
            "Target": path,
            "VolumeOptions": {"Labels": {"rehost.app": "content-api"}},
        }
        for name, path in (("data", "/data"), ("own", "/srv/own"))
    ]


def test_awkward_values_arrive_as_they_are() -> None:
    sent = json.loads(json.dumps(body(AWKWARD)))
    assert dict(pair.split("=", 1) for pair in sent["Env"]) == AWKWARD


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
ENVIRONMENTS = st.dictionaries(NAMES, VALUES, max_size=5)


@given(ENVIRONMENTS)
def test_any_environment_arrives_as_it_is(values: dict[str, str]) -> None:
    sent = json.loads(json.dumps(body(values)))
    assert dict(pair.split("=", 1) for pair in sent["Env"]) == values
    assert len(sent["Env"]) == len(values)


def test_port_is_told_unless_the_user_says_otherwise() -> None:
    assert environment({}, 8080) == {"PORT": Secret("8080")}
    assert environment({"PORT": Secret("9000")}, 8080) == {"PORT": Secret("9000")}


# -- fingerprints ------------------------------------------------------------------------------------------


def secrets(values: dict[str, str]) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in values.items()}


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_fingerprints_differ_where_values_do(old: dict[str, str], new: dict[str, str]) -> None:
    before, after = fingerprints(secrets(old), "salt"), fingerprints(secrets(new), "salt")
    assert list(before) == sorted(old)
    assert {name for name in {*old, *new} if before.get(name) != after.get(name)} == {
        name for name in {*old, *new} if old.get(name) != new.get(name)
    }
    assert {c.field for c in environment_changes(before, after)} == {
        f"env {name}" for name in {*old, *new} if old.get(name) != new.get(name)
    }


@given(st.text(min_size=4, alphabet="ghijklmnopqrstuvwxyz"))  # no hexadecimal digits: never there by chance
def test_fingerprints_hold_no_value(value: str) -> None:
    told = json.dumps(fingerprints({"A": Secret(value)}, "salt"))
    assert value not in told
    assert told != json.dumps(fingerprints({"A": Secret(value)}, "other salt"))


def test_the_same_value_under_two_names_cannot_be_told() -> None:
    marks = fingerprints(secrets({"A": "x", "B": "x"}), "salt")
    assert marks["A"] != marks["B"]


def test_changes_of_the_environment_are_told_by_name() -> None:
    old = fingerprints(secrets({"GONE": "hunter2", "SAME": "x", "OTHER": "hunter3"}), "salt")
    new = fingerprints(secrets({"NEW": "hunter4", "SAME": "x", "OTHER": "hunter5"}), "salt")
    assert environment_changes(old, new) == [
        Change("env GONE", "set", None),
        Change("env NEW", None, "set"),
        Change("env OTHER", "set", "changed"),
    ]
    assert environment_changes(old, old) == []


# -- settings ----------------------------------------------------------------------------------------------


def test_settings_go_there_and_back() -> None:
    assert Settings.from_json(json.loads(json.dumps(SETTINGS.as_json()))) == SETTINGS


def test_volumes_go_there_and_back_and_older_records_have_none() -> None:
    old = SETTINGS.as_json()
    assert "volumes" not in old
    assert Settings.from_json(old).volumes == ()
    new = SETTINGS._replace(volumes=("data:/data",))
    assert Settings.from_json(json.loads(json.dumps(new.as_json()))) == new
    assert settings_changes(old, new.as_json()) == [Change("volumes", None, ["data:/data"])]
    assert settings_changes(json.loads(json.dumps(new.as_json())), new.as_json()) == []


@pytest.mark.parametrize("name", sorted({*SETTINGS._fields} - {*SETTINGS._field_defaults}))
def test_each_setting_counts(name: str) -> None:
    old = SETTINGS.as_json()
    new = {**old, name: "different"}
    assert settings_changes(old, new) == [Change(name, old[name], "different")]
    with pytest.raises(KeyError):
        Settings.from_json({key: value for key, value in old.items() if key != name})
