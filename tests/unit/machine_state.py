"""States of a machine for tests: the recorded probe of a real one, and what differs from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rehost.machine import probe
from rehost.machine.bootstrap import DAEMON_FILE, TEXTS, daemon_json
from rehost.machine.probe import Container, Image, MachineState, ReleaseRecord

DATA = Path(__file__).with_name("data")
# The probe of an e2-micro in the lab on which release 1 of content-api serves; recorded, names changed.
SERVING = (DATA / "probe-serving.txt").read_text()
APP = "content-api"


def serving(**changes: Any) -> MachineState:
    """The machine of the recorded probe, with all the files that it must have, and with fields changed."""
    recorded = probe.parse(SERVING)
    texts = {name: f"{text}\n".encode() for name, text in TEXTS.items()}
    daemon = {DAEMON_FILE: f"{daemon_json(recorded.files[DAEMON_FILE])}\n".encode()}
    return recorded._replace(files={**recorded.files, **texts, **daemon})._replace(**changes)


def fresh(**changes: Any) -> MachineState:
    """The same machine before its first release."""
    nothing: dict[str, Any] = {
        "containers": (),
        "images": (),
        "caddy": {},
        "ports": {},
        "live_slot": "",
        "current": 0,
        "health": None,
        "releases": (),
    }
    return serving(**{**nothing, **changes})


def container(number: int, state: str = "running", app: str = APP) -> Container:
    return Container(f"id-{app}-{number}", f"{app}-{number}", app, number, state, "Up 2 minutes", "", ())


def image(id_: str, context: str = "") -> Image:
    return Image(id_, (), context, 245_000_000, 1)


def releases(states: Iterable[str], **record: Any) -> tuple[ReleaseRecord, ...]:
    """Releases 1, 2, ... in these states; the image of release N is "sha256:N"."""
    return tuple(
        ReleaseRecord(n, state, {"number": n, "image": f"sha256:{n}", **record})
        for n, state in enumerate(states, 1)
    )
