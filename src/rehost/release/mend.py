"""Small repairs that need no new release: the proxy's routes, containers that a cut-off release left running, and
what should run beside the release that serves."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rehost.machine.ssh import Machine


async def load_routes(machine: Machine, config: Mapping[str, Any]) -> None:
    """Gives Caddy its whole configuration. Raises ScriptFailed with Caddy's own words."""
    text = base64.b64encode(json.dumps(config).encode()).decode()
    await machine.run(
        f"base64 -d <<'REHOST_CONTENT' | curl -sS --fail-with-body -H 'Content-Type: application/json' "
        f"--data-binary @- http://localhost:2019/load >&2\n{text}\nREHOST_CONTENT\n",
        what="giving the proxy its routes",
    )


async def stop_containers(machine: Machine, names: Sequence[str], grace: int) -> None:
    """Stops containers by name; grace in seconds."""
    await machine.run(f"docker stop -t {grace} {shlex.join(names)} >&2", what="stopping containers")


async def hold(machine: Machine, app: str, number: int, grace: int, say: Callable[[str], None]) -> None:
    """Starts what should work beside a release and does not. grace in seconds. Raises ScriptFailed with the reason."""
    here = Path(__file__).parent
    head = f"APP={app} GRACE={grace}\nhome=/var/lib/rehost/{app}\numask 077\n"
    call = f'beside_hold {number} || {{ printf "%s\\n" "$beside_why" >&2; exit 1; }}\n'

    def line(text: str) -> None:
        say(text.partition(" ")[2])

    await machine.stream(head + (here / "beside.sh").read_text() + call, line, what="starting the processes")


async def remove_app(machine: Machine, app: str, config: Mapping[str, Any] | None) -> None:
    """Takes an app off a machine that stays: timers, containers, images, releases, context, routes. Never a volume."""
    if config is not None:
        await load_routes(machine, config)
    await machine.run(
        f"""
set -e
for unit in /etc/systemd/system/rehost-{app}.job.*; do
  if [ -f "$unit" ]; then systemctl disable --now "${{unit##*/}}" >&2; rm -f "$unit"; gone=1; fi
done
if [ -n "${{gone:-}}" ]; then systemctl daemon-reload; fi
ids=$(docker ps -aq --filter label=rehost.app={app})
if [ -n "$ids" ]; then docker rm -f $ids >&2; fi
ids=$(docker images -q --filter label=rehost.app={app} | sort -u)
if [ -n "$ids" ]; then docker rmi -f $ids >&2; fi
ids=$(docker network ls -q --filter label=rehost.app={app})
if [ -n "$ids" ]; then docker network rm $ids >&2; fi
rm -rf /var/lib/rehost/{app} /var/lib/rehost/{app}.lock
""",
        what="removing the app",
    )
