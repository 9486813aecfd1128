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
from rehost.release.logs import CURRENT
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


# Keeps releases from beginning, as units.py does, and ends when one was made since the machine was read or is being
# made: what was to be stopped may serve by now, and what was to be started may have to stay down.
_STILL: Final = """
home=/var/lib/rehost/{app}
umask 077
exec 8>>"$home/release/lock" && flock 8 || exit 1
case $(systemctl show -p ActiveState --value rehost-{app}-release.service) in
  inactive | failed) ;;
  *) exit {changed} ;;
esac
{current}
[ "$n" = {number} ] || exit {changed}
"""


async def stop_containers(machine: Machine, app: str, number: int, names: Sequence[str], grace: int) -> None:
    """Stops containers by name. number: the release that serves. grace in seconds.

    Raises Refused when another release was made since, and ScriptFailed with Docker's own words.
    """
    stop = f"docker stop -t {grace} {shlex.join(names)} >&2\n"
    await _still(machine, app, number, stop, "stopping containers")


async def hold(machine: Machine, app: str, number: int, grace: int, say: Callable[[str], None]) -> None:
    """Starts what should work beside a release and does not. grace in seconds.

    Raises Refused when another release was made since, and ScriptFailed with the reason.
    """
    parameters = f"APP={app} GRACE={grace}\n"
    call = f'beside_hold {number} || {{ printf "%s\\n" "$beside_why" >&2; exit 1; }}\n'

    def line(text: str) -> None:
        say(text.partition(" ")[2])

    script = parameters + Path(__file__).with_name("beside.sh").read_text() + call
    await _still(machine, app, number, script, "starting the processes", line)


async def _still(
    machine: Machine,
    app: str,
    number: int,
    script: str,
    what: str,
    line: Callable[[str], None] = lambda _: None,
) -> None:
    """Runs it while release `number` serves and none is made."""
    current = CURRENT.format(app=app, otherwise=f"exit {_CHANGED}")
    head = _STILL.format(app=app, number=number, changed=_CHANGED, current=current)
    try:
        await machine.stream(head + script, line, what=what)
    except ScriptFailed as failed:
        if failed.status != _CHANGED:
            raise
        raise Refused(
            f"another release of {app} was made since the machine was read; nothing was changed by this step.",
            where=machine.label,
            cure="Run the same command again: it looks at the machine anew.",
        ) from None


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
