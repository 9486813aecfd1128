"""Small repairs that need no new release: the proxy's routes, containers that a cut-off release left running, and
what should run beside the release that serves."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rehost.machine.ssh import Machine, ScriptFailed
from rehost.run.errors import Refused

_CHANGED: Final = 75  # EX_TEMPFAIL of sysexits.h


async def load_routes(machine: Machine, config: Mapping[str, Any], read: str) -> None:
    """Gives Caddy its whole configuration, when it still has the one that `config` was made from: the text `read`.

    Raises Refused when somebody else changed it meanwhile (another app of the machine was released, say), and
    ScriptFailed with Caddy's own words.
    """
    text = base64.b64encode(json.dumps(config).encode()).decode()
    before = hashlib.sha256(read.encode()).hexdigest()
    try:
        await machine.run(
            f"""
umask 077
exec 9>>/var/lib/rehost/edge.lock
flock 9
admin=http://localhost:2019
now=$(curl -s -m 10 $admin/config/)
[ "$(printf %s "$now" | sha256sum)" = '{before}  -' ] || exit {_CHANGED}
base64 -d <<'REHOST_CONTENT' |
{text}
REHOST_CONTENT
  curl -sS --fail-with-body -H 'Content-Type: application/json' --data-binary @- $admin/load >&2
""",
            what="giving the proxy its routes",
        )
    except ScriptFailed as failed:
        if failed.status != _CHANGED:
            raise
        raise Refused(
            "the proxy's routes changed while they were being mended; they were left as they are.",
            where=machine.label,
            cure="Another app of the machine may have been released. Run the same command again.",
        ) from None


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


async def remove_app(machine: Machine, app: str, config: Mapping[str, Any] | None, read: str) -> None:
    """Takes an app off a machine that stays: timers, containers, images, releases, context, routes. Never a volume.

    config, read: as for `load_routes`; None when the proxy has no routes. Raises as it does.
    """
    if config is not None:
        await load_routes(machine, config, read)
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
