"""What a machine must have before an app can be released on it, and the script that puts it there."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rehost.machine import units
from rehost.machine.probe import PACKAGES, MachineState
from rehost.machine.ssh import Machine, MachineError
from rehost.run.plan import Action, Change, Verb

ACTION: Final = "machine/bootstrap"
WHAT: Final = "Docker, Caddy, swap and security upgrades on the machine"
SWAP_FILE: Final = "/var/lib/rehost/swap"
DAEMON_FILE: Final = "/etc/docker/daemon.json"
BUILD_CACHE: Final = 2 * 2**30
_DAEMON_WORDS: Final = "log rotation, live-restore, no userland-proxy"
ENDS_FILE: Final = "/var/lib/rehost/bootstrap/end-containers"
_FORGED: Final = "PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP"
# Ten files of 10 MB a container: a chatty app can't fill the disk. live-restore: containers outlive the daemon; without
# userland-proxy the way to them does, too: the kernel forwards their ports, and no process of Docker's.
DAEMON: Final[dict[str, Any]] = {
    "live-restore": True,
    "userland-proxy": False,
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "10"},
    # BuildKit drops what of its cache goes beyond this, a moment after a build.
    "builder": {"gc": {"enabled": True, "defaultKeepStorage": f"{BUILD_CACHE >> 30}GB"}},
}
TEXTS: Final = {
    "/etc/apt/apt.conf.d/20auto-upgrades": (
        'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";'
    ),
    "/etc/systemd/journald.conf.d/rehost.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=200M",
    # A laptop that vanished lets go of its locks within a minute.
    "/etc/ssh/sshd_config.d/60-rehost.conf": "ClientAliveInterval 15\nClientAliveCountMax 4",
    # At a user's first login systemd starts programs of its own for that user, which takes longer than most of what
    # rehost asks of a machine, and ends them 10 s after the last logout. So who works there is let in at once.
    "/etc/systemd/logind.conf.d/rehost.conf": "[Login]\nUserStopDelaySec=15min",
    # Swap is for the build's peak, not for the serving app. When Caddy is given new routes it closes a listening socket
    # beside which the next one is open already: who waits in the old one's queue goes over, instead of being reset.
    "/etc/sysctl.d/90-rehost.conf": "vm.swappiness = 10\nnet.ipv4.tcp_migrate_req = 1",
    # Debian's unit stays down after a crash, and every app of the machine with it.
    "/etc/systemd/system/caddy-api.service.d/rehost.conf": "[Service]\nRestart=on-failure\nRestartSec=1",
    # To forward from loopback, Docker lets loopback addresses through its bridges (route_localnet), and a container
    # could then write to what listens on the machine's own loopback, Caddy's API for one. Such packets end here.
    "/etc/systemd/system/docker.service.d/rehost.conf": (
        "[Service]\n"
        f"ExecStartPre=/bin/sh -c 'iptables -w -t raw -C {_FORGED} 2>/dev/null || iptables -w -t raw -I {_FORGED}'\n"
        f"ExecStopPost=-/bin/sh {ENDS_FILE}"
    ),
    ENDS_FILE: Path(__file__).with_name("end_containers.sh").read_text().removesuffix("\n"),
}
# A plan shows what is written, but for a script.
_SHOWN: Final = {ENDS_FILE: "containers end within their stop_grace when the machine goes down"}


def daemon_json(present: bytes | None) -> str:
    """Docker's configuration with our keys in it; keys that are there already and are not ours stay.

    A file that says the same already is returned as it is: its formatting is its owner's.
    Raises MachineError when what is there is not JSON: overwriting it might lose somebody's settings.
    """
    found: dict[str, Any] = {}
    if present is not None and present.strip():
        try:
            found = json.loads(present)
        except ValueError as fault:
            raise MachineError(
                f"{DAEMON_FILE} on the machine is not JSON: {fault}",
                cure="Mend or remove the file on the machine, then run this again.",
            ) from fault
        if not isinstance(found, dict):
            raise MachineError(
                f"{DAEMON_FILE} on the machine holds no JSON object",
                cure="Mend or remove the file on the machine, then run this again.",
            )
    options = found.get("log-opts")
    if found.get("log-driver", DAEMON["log-driver"]) != DAEMON["log-driver"] or not isinstance(options, dict):
        options = {}  # another driver's options would keep Docker from starting
    builder = found.get("builder")
    # Whoever bounds the build cache in their own way has bounded it.
    builder = {**DAEMON["builder"], **(builder if isinstance(builder, dict) else {})}
    merged = {**found, **DAEMON, "log-opts": {**options, **DAEMON["log-opts"]}, "builder": builder}
    if present is not None and merged == found:
        return present.decode(errors="replace").removesuffix("\n")
    return json.dumps(merged, indent=2, sort_keys=True)


def _script(daemon: str, *, keep_daemon: bool) -> str:
    body = Path(__file__).with_name("bootstrap.sh").read_text()
    values = {
        "PACKAGES": " ".join(PACKAGES),
        "DAEMON_JSON": daemon,
        "KEEP_DAEMON_JSON": "1" if keep_daemon else "0",
        "UPGRADES": TEXTS["/etc/apt/apt.conf.d/20auto-upgrades"],
        "JOURNALD": TEXTS["/etc/systemd/journald.conf.d/rehost.conf"],
        "SSHD": TEXTS["/etc/ssh/sshd_config.d/60-rehost.conf"],
        "LOGIND": TEXTS["/etc/systemd/logind.conf.d/rehost.conf"],
        "SYSCTL": TEXTS["/etc/sysctl.d/90-rehost.conf"],
        "CADDY": TEXTS["/etc/systemd/system/caddy-api.service.d/rehost.conf"],
        "ENDS": TEXTS[ENDS_FILE],
        "DOCKER": TEXTS["/etc/systemd/system/docker.service.d/rehost.conf"],
    }
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    version = hashlib.sha256((head + body).encode()).hexdigest()[:16]
    return f"#!/bin/sh\nVERSION={version}\n{head}{body}"


def startup_script() -> str:
    """The script as a cloud machine runs it at each boot. Holds no secret: it stands in the machine's metadata."""
    return _script(daemon_json(None), keep_daemon=True)


def drift(state: MachineState) -> list[Change]:
    """What the probe found missing or changed, one Change each. Pure."""
    changes = [
        Change(f"package {name}", None, "installed") for name in PACKAGES if name not in state.packages
    ]
    if state.files.get(DAEMON_FILE) is None:
        changes.append(Change(DAEMON_FILE, None, _DAEMON_WORDS))
    elif state.files[DAEMON_FILE] != (daemon_json(state.files[DAEMON_FILE]) + "\n").encode():
        changes.append(Change(DAEMON_FILE, "changed", _DAEMON_WORDS))
    for name, text in TEXTS.items():
        found = state.files.get(name)
        if found != (text + "\n").encode():
            shown = _SHOWN.get(name, text.replace("\n", "; "))
            changes.append(Change(name, None if found is None else "changed", shown))
    if SWAP_FILE not in state.swap_files:
        changes.append(Change("swap", None, f"{swap_mb(state.memory)} MB in {SWAP_FILE}"))
    for unit in ("docker.service", "caddy-api.service"):
        seen = state.unit(unit)
        if not seen.running:
            changes.append(Change(unit, seen.active, "active"))
        elif seen.enabled != "enabled":
            changes.append(Change(unit, seen.enabled or None, "enabled"))
    if state.unit("caddy.service").running:
        changes.append(Change("caddy.service", "active", "replaced by caddy-api.service"))
    return changes


def swap_mb(memory: int) -> int:
    """Swap for a machine with so many bytes of memory, in MB; the same rule as in bootstrap.sh."""
    return 2048 if memory < 4096 * 2**20 else 1024


def plan(state: MachineState | None, *, needs: tuple[str, ...] = ()) -> list[Action]:
    """One action when something is amiss, none when all is in place. None stands for a machine yet to be made."""
    if state is None:
        return [Action(ACTION, "create", WHAT, needs=needs)]
    changes = drift(state)
    if not changes:
        return []
    verb: Verb = "update" if "docker.io" in state.packages else "create"
    return [Action(ACTION, verb, WHAT, tuple(changes), needs=needs)]


# The startup script may be anywhere: not begun, in the middle, or long done at an earlier boot.
_WAIT = """
file=/var/lib/rehost/bootstrap/state
log=/var/lib/rehost/bootstrap/log
lock=/var/lib/rehost/bootstrap/lock
seen=
tries=0
while [ "$tries" -lt {tries} ]; do
  tries=$((tries + 1))
  result=$(sed -n 's/^result=//p' "$file" 2>/dev/null)
  step=$(sed -n 's/^step=//p' "$file" 2>/dev/null)
  if [ "$step" != "$seen" ]; then seen=$step; echo "step $step"; fi
  active=$(systemctl show -p ActiveState --value google-startup-scripts.service 2>/dev/null)
  case $active:$result in
    activating:*) ;;
    *:done) echo 'done'; exit 0 ;;
    *:failed) echo failed; tail -n 15 "$log" | sed 's/^/log /'; exit 0 ;;
    inactive: | failed:*) [ "$tries" -lt 20 ] || {{ echo "never $active"; exit 0; }} ;;
    active:) echo "never $active"; exit 0 ;;
    # Nobody holds the script's lock: it was cut off in the middle.
    *:running) if [ "$tries" -ge 20 ] && flock -n "$lock" true; then echo cut; exit 0; fi ;;
  esac
  sleep 0.5
done
echo late
"""


async def wait_for_startup(
    machine: Machine, progress: Callable[[str], None], *, deadline: float = 900
) -> str:
    """Waits until the machine's startup script has ended; returns "done", or how it ended otherwise.

    deadline in seconds. "failed" carries on with the script's last lines in a MachineError, because the
    startup service itself says "Finished" either way (facts of Google's script runner).
    """
    outcome = ""
    last_lines: list[str] = []

    def line(text: str) -> None:
        nonlocal outcome
        word, _, rest = text.partition(" ")
        if word == "step":
            progress(rest)
        elif word == "log":
            last_lines.append(rest)
        else:
            outcome = word

    await machine.stream(_WAIT.format(tries=int(deadline * 2)), line, what="waiting for the startup script")
    if outcome in ("failed", "late"):
        raise MachineError(
            "the startup script failed" if outcome == "failed" else "the startup script is not done in time",
            where=machine.label,
            detail="\n".join(last_lines),
            cure="Run `rehost up` again: it does over ssh what is missing. "
            "The whole log is /var/lib/rehost/bootstrap/log on the machine.",
        )
    return outcome


async def hold(machine: Machine, state: MachineState, on_line: Callable[[str], None]) -> None:
    """Puts right what drifted, as a unit that goes on when the connection breaks. Raises MachineError."""
    script = _script(daemon_json(state.files.get(DAEMON_FILE)), keep_daemon=False)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        on_line(text)

    work = units.Work(
        unit="rehost-bootstrap.service",
        directory="/var/lib/rehost/bootstrap/run",
        about="rehost: what the machine must have",
        tag="bootstrap",
        script=script,
    )
    ended = await units.run_unit(machine, work, line)
    if ended.full:
        raise MachineError(
            f"the machine could not be prepared: {units.DISK_FULL}",
            where=machine.label,
            detail="\n".join(lines[-15:]),
            cure=units.MORE_DISK,
        )
    if ended.status != 0:
        raise MachineError(
            "the machine could not be prepared",
            where=machine.label,
            detail="\n".join(lines[-15:]),
            cure="See the last lines above; run `rehost up` again once the cause is gone.",
        )
