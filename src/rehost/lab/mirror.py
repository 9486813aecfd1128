"""The image mirror beside the machines: a registry that serves the stand-in, where no image can be pulled."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Literal

from rehost.lab import images, trees
from rehost.lab.places import Places
from rehost.lab.programs import Service, free_port, start_service

REGISTRY = ("registry-1.docker.io", 443)  # Docker's own registry, that image names without a host mean
PORT = 5000
Kind = Literal["stand-in image", "real image"]


def registry_reachable(deadline: float = 3) -> bool:
    """Whether a TLS connection to Docker's registry comes about within `deadline` seconds (for each of its steps)."""
    try:
        with (
            socket.create_connection(REGISTRY, deadline) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=REGISTRY[0]),
        ):
            return True
    except OSError:
        return False


def start(places: Places) -> Service | None:
    """Starts the mirror on the gateway; None where real images can be pulled and no stand-in is wanted.

    Call before machines boot: they are told of it when they do. Raises RehostError with its last lines.
    """
    record = places.state / "mirror"
    record.unlink(missing_ok=True)
    if registry_reachable():
        return None
    store = trees.image_store()
    port = free_port(places.gateway, PORT)
    settings = places.state / "mirror.json"
    settings.write_text(images.registry_config(store / "storage", places.gateway, port, writable=False))
    service = start_service(
        places,
        "mirror",
        [store / "docker-registry", "serve", settings],
        address=places.gateway,
        port=port,
        extra={"OTEL_TRACES_EXPORTER": "none"},
    )
    record.write_text(f"http://{places.gateway}:{port}")
    return service


def url(places: Places) -> str | None:
    """Where the machines' Docker looks first; None when it pulls from Docker's registry itself."""
    with contextlib.suppress(FileNotFoundError):
        return (places.state / "mirror").read_text()
    return None


def kind(places: Places) -> Kind:
    """What a build from python:3.11-slim-bookworm gets; for the output."""
    return "stand-in image" if url(places) else "real image"
