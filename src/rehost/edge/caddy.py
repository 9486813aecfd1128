"""Caddy's configuration for the apps of one machine, as pure functions of what it runs now.

Traffic is switched without touching this configuration, because a reload of Caddy loses requests: each app has
two fixed local ports ("slots"), and the existence of one file says which of them takes the traffic. Caddy looks
at the file for each request, so the switch is the creation or removal of that file: one act of the kernel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

Slot = Literal["a", "b"]
SERVER: Final = "rehost"
NOBODY: Final = "rehost--nobody"  # no name of an app begins with "-"
FIRST_PORT: Final = 20000


def choose_ports(app: str, taken: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The app's two local ports: those it has, else the first pair that no other app of the machine has."""
    if app in taken:
        return taken[app]
    used = {port for pair in taken.values() for port in pair}
    port = FIRST_PORT
    while port in used or port + 1 in used:
        port += 2
    return port, port + 1


def route(app: str, ports: tuple[int, int], hosts: Sequence[str]) -> dict[str, Any]:
    """The route of one app. hosts: names and addresses it answers for; empty means any."""
    live = f"/var/lib/rehost/{app}/live"

    def to(slot: Slot, port: int) -> dict[str, Any]:
        return {
            "match": [{"file": {"root": live, "try_files": [f"/{slot}"]}}],
            "handle": [
                {
                    "handler": "reverse_proxy",
                    "upstreams": [{"dial": f"127.0.0.1:{port}"}],
                    # One connection a request: those that are open are those in flight, so that draining can
                    # count them, and none is reused in the instant in which the app closes it.
                    "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
                    # Where nobody takes the connection, the request has not gone out and may wait: Docker holds the
                    # local ports, and lets them go for a second when it starts anew. What has gone out is not sent
                    # again. Shorter than the patience of release.sh, which asks through here, too.
                    # No "flush_interval": what has no length, and server-sent events, pass as they come without it,
                    # and with -1 Caddy 2.6.2 ends in a panic when it is reloaded while it connects to the app.
                    "load_balancing": {
                        "try_duration": "4s",
                        "try_interval": "100ms",
                        "retry_match": [{"not": [{"path": ["*"]}]}],
                    },
                }
            ],
            "terminal": True,
        }

    answer: dict[str, Any] = {
        "@id": f"rehost-{app}",
        "handle": [
            {
                "handler": "subroute",
                # Slot b wins when both files are there: see release.sh for the order in which they come and go.
                "routes": [
                    to("b", ports[1]),
                    to("a", ports[0]),
                    {
                        "handle": [
                            {
                                "handler": "static_response",
                                "status_code": 503,
                                "body": f"{app}: no release serves yet\n",
                            }
                        ]
                    },
                ],
            }
        ],
        "terminal": True,
    }
    if hosts:
        answer["match"] = [{"host": sorted(set(hosts))}]
    return answer


def desired(running: Mapping[str, Any] | None, app_route: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration: what runs now, with this app's route in it. Other apps' routes stay as they are.

    Routes for named hosts come before the one that answers for any host. Otherwise each keeps its place: two apps
    of one machine would else see each other's order as drift, and reload the proxy in turns.
    """
    config: dict[str, Any] = copy.deepcopy(dict(running or {}))
    servers = config.setdefault("apps", {}).setdefault("http", {}).setdefault("servers", {})
    server = servers.setdefault(SERVER, {})
    server["listen"] = [":80"]
    server["automatic_https"] = {"disable": True}
    routes = list(server.get("routes", []))
    places = [place for place, found in enumerate(routes) if found.get("@id") == app_route["@id"]]
    if places:
        routes[places[0]] = dict(app_route)
    else:
        routes.append(dict(app_route))
    apps = [found for found in routes if found.get("@id") != NOBODY]
    # Left to itself, Caddy answers a name that nobody has with 200 and nothing.
    server["routes"] = [*sorted(apps, key=lambda found: "match" not in found), _nobody()]
    return config


def _nobody() -> dict[str, Any]:
    answer = {
        "handler": "static_response",
        "status_code": 404,
        "body": "no app of this machine has that name\n",
    }
    return {"@id": NOBODY, "handle": [answer]}


def takes_any(running: Mapping[str, Any] | None, app: str) -> str:
    """Another app whose route answers for any name, or ""."""
    servers = (running or {}).get("apps", {}).get("http", {}).get("servers", {})
    for found in servers.get(SERVER, {}).get("routes", []):
        name = str(found.get("@id", ""))
        if "match" not in found and name not in (NOBODY, f"rehost-{app}"):
            return name.removeprefix("rehost-")
    return ""


def without(running: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The configuration with this app's route taken out."""
    config: dict[str, Any] = copy.deepcopy(dict(running))
    server = config.get("apps", {}).get("http", {}).get("servers", {}).get(SERVER, {})
    if "routes" in server:
        server["routes"] = [found for found in server["routes"] if found.get("@id") != f"rehost-{app}"]
    return config
