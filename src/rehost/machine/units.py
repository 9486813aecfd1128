"""Work that outlives the connection: a script in a transient systemd unit, and following its log."""

from __future__ import annotations

import base64
import shlex
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from rehost.machine.ssh import Machine, MachineError

RESULT: Final = "@@rehost-result "
ATTACHED: Final = "@@rehost-attached "
PREPARED: Final = "@@rehost-prepared "
FULL: Final = "@@rehost-disk-full"
DISK_FULL: Final = "the machine's disk is full."
MORE_DISK: Final = (
    "Raise `disk` under [machine] in rehost.toml, or remove on the machine what is not needed (`docker system df` "
    "shows what Docker keeps); then run the same command again."
)
_END: Final = "REHOST_SCRIPT"

# The unit is the lock: systemd allows one of a name, and it is gone when its process is. Half a script is not run.
_START: Final = """
umask 077
full() {{ [ "$(df -k --output=avail "$dir" | tail -n 1)" -lt 1024 ]; }}
# The proxy looks into directories beside it: what is above must let it pass.
[ -d "$dir" ] || {{ (umask 022 && mkdir -p "${{dir%/*}}") && mkdir -p "$dir"; }} || exit 74
exec 8>"$dir/lock"
flock 8
# Work that has its result is over; systemd may still be tidying up.
tries=0
while
  state=$(systemctl show -p ActiveState --value "$unit")
  case $state in active | activating | deactivating | reloading) busy=yes ;; *) busy='' ;; esac
  [ -n "$busy" ] && [ -f "$dir/result" ] && [ "$tries" -lt 500 ]
do
  tries=$((tries + 1))
  sleep 0.02
done
if [ -n "$busy" ]; then
  echo "{attached}$(cat "$dir/tag" 2>/dev/null)"
else
  # Whoever still reads how the work before this ended may finish; one that hangs is not waited for.
  exec 7>>"$dir/readers"
  flock -w 5 7 || :
{prepare}
  base64 -d <<'{end}' | gzip -d >"$dir/script" || exit 74
{script}
{end}
  rm -f "$dir/result"
  : >"$dir/log"
  printf '%s\\n' "$tag" | cat >"$dir/tag" || exit 74
  systemd-run --quiet --collect --unit="$unit" --description="$about" \\
    -p StandardOutput="append:$dir/log" -p StandardError="append:$dir/log" -p UMask=0077 {properties} \\
    /bin/sh -c 'sh "$0/script"; echo $? >"$0/result.new"; mv "$0/result.new" "$0/result"' "$dir" 7>&- 8>&- || exit 70
fi
"""

# A subshell: its `exit` ends the preparation alone.
_PREPARE: Final = """  (
{prepare}
  )
  prepared=$?
  if [ "$prepared" != 0 ]; then
    if full; then echo '{full}'; fi
    echo "{mark}$prepared"
    exit 0
  fi
"""

_FOLLOW: Final = """
exec 7>>"$dir/readers"
flock -s 7
exec 8>&-
pid=$(systemctl show -p MainPID --value "$unit")
if [ "${{pid:-0}}" = 0 ]; then cat "$dir/log"; else tail -n +1 -s 0.005 -f --pid="$pid" "$dir/log"; fi
# The log may end in the middle of a line; the mark begins one.
if [ -s "$dir/log" ] && [ "$(tail -c 1 "$dir/log" | wc -l)" = 0 ]; then echo; fi
result=
if [ -f "$dir/result" ]; then read -r result <"$dir/result"; fi
if [ "$result" != 0 ] && [ "$(df -k --output=avail "$dir" | tail -n 1)" -lt 1024 ]; then echo '{full}'; fi
echo "{result}${{result:-lost}}"
"""


class Work(NamedTuple):
    """What is to run. `tag` says what it works on, so that another run can tell whether it may attach.

    prepare: a script that runs first, as part of the same exec and only when nothing runs yet; when it ends with
    a status other than 0 the unit is not started. It may hold secrets: it goes by standard input and is not kept.
    """

    unit: str
    directory: str
    about: str
    tag: str
    script: str
    prepare: str = ""
    properties: tuple[str, ...] = ()


class Ended(NamedTuple):
    """How it ended.

    attached_tag: the tag of the work that was running already, or None when ours was started.
    prepared: the status of the preparation when it failed, else None; `status` is then -1.
    full: it failed, and the disk has no room (status -1 when that left no trace of the end either).
    """

    status: int
    attached_tag: str | None
    prepared: int | None = None
    full: bool = False


def start_script(work: Work) -> str:
    """Starts the unit unless it runs, then follows its log to the end."""
    head = {"unit": work.unit, "dir": work.directory, "about": work.about, "tag": work.tag}
    start = _START.format(
        attached=ATTACHED,
        end=_END,
        # It is sent at each release, and four fifths of it are saved.
        script=base64.b64encode(zlib.compress(f"{work.script}\n".encode(), wbits=31)).decode(),
        prepare=_PREPARE.format(prepare=work.prepare, mark=PREPARED, full=FULL) if work.prepare else "",
        properties=" ".join(f"-p {shlex.quote(item)}" for item in work.properties),
    )
    return (
        "\n".join(f"{k}={shlex.quote(v)}" for k, v in head.items())
        + start
        + _FOLLOW.format(result=RESULT, full=FULL)
    )


async def run_unit(
    machine: Machine,
    work: Work,
    on_line: Callable[[str], None],
    on_attached: Callable[[str], None] = lambda _tag: None,
) -> Ended:
    """Runs or attaches, hands over each line of the log, returns how it ended.

    Raises MachineError when the unit vanished without a result (a reboot, an out-of-memory kill).
    """
    result = ""
    attached: str | None = None
    prepared: int | None = None
    full = False

    def line(text: str) -> None:
        nonlocal result, attached, prepared, full
        if text == FULL:
            full = True
        elif text.startswith(RESULT):
            result = text[len(RESULT) :]
        elif text.startswith(ATTACHED):
            attached = text[len(ATTACHED) :]
            on_attached(attached)
        elif text.startswith(PREPARED):
            prepared = int(text[len(PREPARED) :])
        else:
            on_line(text)

    await machine.stream(start_script(work), line, what=f"starting {work.unit}")
    if prepared is not None:
        return Ended(-1, attached, prepared, full)
    if not result.lstrip("-").isdigit():
        if full:
            return Ended(-1, attached, full=True)
        raise MachineError(
            f"{work.unit} was cut off on the machine before it could finish",
            where=machine.label,
            cure=f"`journalctl -u {work.unit}` on the machine tells why (out of memory? a full disk? a reboot?); "
            "run the same command again to go on.",
            retryable=True,
        )
    return Ended(int(result), attached, full=full)


async def follow(machine: Machine, unit: str, directory: str, on_line: Callable[[str], None]) -> None:
    """Hands over the log of work that runs already, to its end, however it ends."""
    head = f"unit={shlex.quote(unit)}\ndir={shlex.quote(directory)}\n"

    def line(text: str) -> None:
        if text != FULL and not text.startswith(RESULT):
            on_line(text)

    await machine.stream(head + _FOLLOW.format(result=RESULT, full=FULL), line, what=f"following {unit}")
