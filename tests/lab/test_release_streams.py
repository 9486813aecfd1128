"""What goes on for long, WebSockets and server-sent events, over a switch: drained, told to go, and not cut."""

from __future__ import annotations

import httpx
import pytest

import streams
from suite import Laptop
from tiny import set_env


@pytest.fixture(scope="module")
def streaming(tiny: Laptop) -> Laptop:
    """The machine of the tiny app, with the streaming app on it."""
    (tiny.directory / "app.py").write_text(streams.APP)
    set_run(tiny, drain="60s")
    set_env(tiny.directory, VALUE="one")
    tiny.run("deploy")
    return tiny


def set_run(laptop: Laptop, **keys: str) -> None:
    """Sets keys of [run]."""
    file = laptop.directory / "rehost.toml"
    lines = [line for line in file.read_text().splitlines() if line.partition(" = ")[0] not in keys]
    lines[lines.index("[run]") + 1 : 0] = [f'{name} = "{value}"' for name, value in keys.items()]
    file.write_text("\n".join(lines) + "\n")


def test_streams_over_a_switch_and_a_return(streaming: Laptop) -> None:
    there = streaming.run("status", "--json").result["address"]
    with streams.events(there) as events:
        assert next(events) == "data: first"  # it is here before the app has said the second
        httpx.get(f"http://{there}/more", timeout=10, trust_env=False)
        assert next(events) == "data: second"

    old = streams.Socket(there)
    assert old.said("hello") == "one: hello"
    set_env(streaming.directory, VALUE="two")
    deployed = streaming.run("deploy")  # does not wait for the socket
    assert "is finishing its requests on the machine (1 open)" in deployed.said
    new = streams.Socket(there)
    assert (old.said("still there"), new.said("hello")) == ("one: still there", "two: hello")
    assert streaming.run("deploy", "--json").result["changed"] is False  # nor does this
    assert "finishing its requests" in streaming.run("status").out

    # Who returns finds the old release running: it takes the traffic again, and nobody was cut.
    streaming.run("rollback")
    assert (old.said("and still"), new.said("me too")) == ("one: and still", "two: me too")
    back = streams.Socket(there)
    assert back.said("hello") == "one: hello"

    # What is not finished in time is told to go, in its own protocol.
    set_run(streaming, drain="2s")
    streaming.run("deploy")
    assert new.close() == 1012  # its release made room for the next one
    assert (old.close(), back.close()) == (1012, 1012)
