"""systemd-run and systemctl as sh programs that keep their state in files: transient units that really run."""

from __future__ import annotations

from collections.abc import Mapping

# $S: the directory of the state. A unit is active for as long as its process lives.
PROGRAMS: Mapping[str, str] = {
    "systemd-run": """S=${0%/*}/../units
mkdir -p "$S"
echo "systemd-run" >>"$S/calls"
[ ! -f "$S/broken" ] || { echo 'Failed to start transient service unit: Access denied' >&2; exit 1; }
out=/dev/null
while :; do
  case $1 in
    --unit=*) unit=${1#--unit=} ;;
    -p) case $2 in StandardOutput=append:*) out=${2#StandardOutput=append:} ;; esac; shift ;;
    --*) ;;
    *) break ;;
  esac
  shift
done
rm -f "$S/$unit"
# Its parent waits for it: a process that nobody waits for would seem to live on.
setsid sh -c 'file=$1; shift; "$@" & echo $! >"$file.new"; mv "$file.new" "$file"; wait' \
  sh "$S/$unit" "$@" >>"$out" 2>&1 </dev/null &
while ! [ -f "$S/$unit" ]; do sleep 0.01; done""",
    "systemctl": """S=${0%/*}/../units
for unit; do :; done
pid=$(cat "$S/$unit" 2>/dev/null || echo 0)
if [ "$pid" != 0 ] && ! kill -0 "$pid" 2>/dev/null; then pid=0; fi
case "$*" in
  stop*) [ "$pid" = 0 ] || kill -- "-$(ps -o pgid= -p "$pid" | tr -d ' ')" ;;
  # Of docker_fake: a Docker that starts anew has forgotten what it held.
  restart*docker.service) rm -f "$S/../docker/start"; echo 'restart docker' >>"$S/../docker/calls" ;;
  *ActiveState*) if [ "$pid" = 0 ]; then echo inactive; else echo active; fi ;;
  *MainPID*) echo "$pid" ;;
esac""",
}
