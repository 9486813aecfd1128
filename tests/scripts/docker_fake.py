"""docker, curl and their like as sh programs that keep their state in files, for release.sh.

$S holds: containers/NAME/{port,running,restart,exit,oom}, answers/NAME (what a container does at each request: a
line "200 text", or "exit STATUS", or "oom"; the last line is repeated), logs/NAME, calls, caddy.json.
Order faults with the files create, load, start, proxy: what is answered there instead; away: how often in vain.
"""

from __future__ import annotations

from collections.abc import Mapping

# No program but sh itself where it can be helped: a release calls these dozens of times.
_HEAD = 'S=${0%/*}/../docker\ntake() { taken=; [ ! -f "$1" ] || read -r taken <"$1" || :; }\n'

PROGRAMS: Mapping[str, str] = {
    "docker": _HEAD
    + """for name; do :; done
C=$S/containers/$name
case $1 in
  inspect)
    take "$S/away"  # for so many looks at a container that runs
    if [ "${taken:-0}" -gt 0 ]; then
      case "$*" in *Running*) echo $((taken - 1)) >"$S/away"; echo 'Cannot connect' >&2; exit 1 ;; esac
    fi
    [ -d "$C" ] || { echo "Error: No such object: $name" >&2; exit 1; }
    case "$*" in
      *PortBindings*) take "$C/port"; echo "$taken" ;;
      *Running*) take "$C/running"; said=$taken
        for file in exit oom; do take "$C/$file"; said="$said $taken"; done
        echo "$said" ;;
    esac ;;
  logs) cat "$S/logs/$name" ;;
  ps) for c in "$S"/containers/*; do
    take "$c/port"
    case $* in
      *publish=*) case $* in *"publish=$taken") ;; *) continue ;; esac ;;
      *label=*) case ${c##*/} in *-[0-9]*) ;; *) continue ;; esac ;;  # an app's are called APP-NUMBER
    esac
    take "$c/running"
    [ "$taken" != true ] || echo "${c##*/}"
  done ;;
  start)
    if [ -f "$S/start" ]; then cat "$S/start" >&2; exit 1; fi
    take "$C/restart"
    echo "start $name $taken" >>"$S/calls"
    echo true >"$C/running" ;;
  stop) echo "stop $3 $name" >>"$S/calls"; echo false >"$C/running"; echo 143 >"$C/exit" ;;
  rm) [ -d "$C" ] || exit 1; echo "rm $name" >>"$S/calls"; rm -r "$C" ;;
  update) echo "$3" >"$C/restart" ;;
  rmi) echo "rmi $name" >>"$S/calls" ;;
esac""",
    "curl": _HEAD
    + """out=/dev/null data= host= url=
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=$2; shift ;;
    -m | -w | --unix-socket) shift ;;
    --data-binary) data=${2#@}; shift ;;
    -H) case $2 in Host:*) host=${2#Host: } ;; esac; shift ;;
    -*) ;;
    *) url=$1 ;;
  esac
  shift
done
answer() { printf '%s' "$2" >"$out"; printf '%s' "$1"; [ "$1" != 000 ] || exit 7; exit 0; }
# ask NAME: what the container answers to its next request.
ask() {
  C=$S/containers/$1
  take "$C/running"
  [ "$taken" = true ] || answer 000
  line='200 fine'
  if [ -f "$S/answers/$1" ]; then
    { read -r line; read -r next; } <"$S/answers/$1" && sed -i 1d "$S/answers/$1"
  fi
  case $line in
    exit*) echo false >"$C/running"; echo "${line#exit }" >"$C/exit"; answer 000 ;;
    oom) echo false >"$C/running"; echo 137 >"$C/exit"; echo true >"$C/oom"; answer 000 ;;
  esac
  answer "${line%% *}" "${line#* }"
}
case $url in
  http://docker/containers/create*)
    if [ -f "$S/create" ]; then answer "$(head -n 1 "$S/create")" "$(sed 1d "$S/create")"; fi
    name=${url##*name=}
    mkdir "$S/containers/$name"
    cd "$S/containers/$name" || exit 1
    sed 's/.*"HostPort": "\\([0-9]*\\)".*/\\1/' "$data" >port
    echo false >running; echo no >restart; echo 0 >exit; echo false >oom
    echo "create $name $(cat port)" >>"$S/calls"
    answer 201 '{"Id":"1"}' ;;
  *:2019/load)
    if [ -f "$S/load" ]; then answer "$(head -n 1 "$S/load")" "$(sed 1d "$S/load")"; fi
    cp "$data" "$S/caddy.json"
    answer 200 ;;
  http://127.0.0.1:80/*)
    echo "$host" >>"$S/asked"
    if [ -f "$S/proxy" ]; then take "$S/proxy"; answer "$taken" 'from the proxy'; fi
    take "$S/live" && live=$taken
    if [ -f "$live/b" ]; then take "$live/b"; elif [ -f "$live/a" ]; then take "$live/a"; else answer 503; fi
    n=$taken
    take "$S/app"
    ask "$taken-$n" ;;
  http://127.0.0.1:*)
    echo "$host" >>"$S/asked"
    port=${url#http://127.0.0.1:} port=${port%%/*}
    for c in "$S"/containers/*; do
      take "$c/port"
      if [ "$taken" = "$port" ]; then take "$c/running"; [ "$taken" != true ] || ask "${c##*/}"; fi
    done
    answer 000 ;;
esac
exit 2""",
    # Two seconds pass each time that somebody looks, so that no test waits for a deadline.
    "date": _HEAD + 'take "$S/now"; now=${taken:-1000}; echo $((now + 2)) >"$S/now"; echo "$now"',
    "ss": _HEAD + '[ ! -f "$S/connections" ] || { head -n 1 "$S/connections"; sed -i 1d "$S/connections"; }',
    "sleep": "",
    "sync": "",  # of a disk that others use takes its time
}
