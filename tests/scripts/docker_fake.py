"""docker, curl and their like as sh programs that keep their state in files, for release.sh.

$S holds: containers/NAME/{port,running,restart,restarts,exit,oom}, answers/NAME (what a container does at each request:
a line "200 text", or "exit STATUS", "oom", or "again STATUS" where Docker starts it anew; the last line is repeated),
logs/NAME, calls, caddy.json, before (the status that before_release ends with; "hang" for none), connections (one line
for each look at how many are open; it is written anew then, so a test does not take it away), held (one is, while it is
there).
Order faults with the files create, load, start, proxy: what is answered there instead; away: how often Docker is asked
in vain how a container is; asleep: how often, which containers run; unstoppable: how often a stop fails.
"""

from __future__ import annotations

from collections.abc import Mapping

# No program but sh itself where it can be helped: a release calls these dozens of times.
_HEAD = 'S=${0%/*}/../docker\ntake() { taken=; [ ! -f "$1" ] || read -r taken <"$1" || :; }\n'

PROGRAMS: Mapping[str, str] = {
    "docker": _HEAD
    + """for name; do :; done
case $1 in
  logs) [ ! -f "$S/logs/$name" ] || cat "$S/logs/$name" ;;
  ps) for c in "$S"/containers/*; do
    take "$c/port"
    case $* in
      *publish=*) case $* in *"publish=$taken") ;; *) continue ;; esac
        take "$c/running"
        [ "$taken" != true ] || echo "${c##*/}" ;;
      *label=rehost.release=*) case ${c##*/} in *-"${name##*=}") echo "${c##*/}" ;; esac ;;
    esac
  done ;;
  rm) [ -d "$S/containers/$name" ] || exit 1; echo "rm $name" >>"$S/calls"; rm -r "$S/containers/$name" ;;
  rmi) echo "rmi $name" >>"$S/calls" ;;
esac""",
    "curl": _HEAD
    + """out= data= host= url= method=GET format=
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=$2; shift ;;
    -w) format=$2; shift ;;
    -X) method=$2; shift ;;
    -m | --unix-socket) shift ;;
    --data-binary | -d) data=${2#@}; shift ;;
    -H) case $2 in Host:*) host=${2#Host: } ;; esac; shift ;;
    -*) ;;
    *) url=$1 ;;
  esac
  shift
done
answer() {
  if [ "$1" = 000 ]; then echo 'curl: (7) refused' >&2; fi
  if [ -n "$out" ]; then printf '%s' "$2" >"$out"; else printf '%s' "$2"; fi
  case $format in '\\n'*) echo ;; esac
  printf '%s' "$1"
  [ "$1" != 000 ]
  exit
}
instead() { answer "$(head -n 1 "$1")" "$(sed 1d "$1")"; }
ends() { echo false >"$C/running"; echo "$1" >"$C/exit"; }
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
    exit*) ends "${line#exit }"; answer 000 ;;
    again*)
      if ! grep -q "^$1 " "$S/died" 2>/dev/null; then take "$C/restarts"; echo $((taken + 1)) >"$C/restarts"; fi
      echo "$1 ${line#again }" >>"$S/died"
      answer 000 ;;
    oom) ends 137; echo true >"$C/oom"; answer 000 ;;
  esac
  answer "${line%% *}" "${line#* }"
}
case $url in
  http://docker/containers/create*)
    if [ -f "$S/create" ]; then instead "$S/create"; fi
    name=${url##*name=}
    mkdir "$S/containers/$name" || answer 409 '{"message":"Conflict"}'
    cd "$S/containers/$name" || exit 1
    port=$(sed -n 's/.*"HostPort": "\\([0-9]*\\)".*/\\1/p' "$data")
    echo "$port" >port
    echo false >running; echo no >restart; echo 0 >restarts; echo 0 >exit; echo false >oom
    echo "create $name${port:+ $port}" >>"$S/calls"
    answer 201 '{"Id":"1"}' ;;
  http://docker/events*) [ ! -f "$S/died" ] || while read -r name status; do
    printf '{"status":"die","Actor":{"Attributes":{"exitCode":"%s","name":"%s"}}}\\n' "$status" "$name"
  done <"$S/died"; answer 200 ;;
  http://docker/containers/json*)
    take "$S/asleep"  # for so many lists
    if [ "${taken:-0}" -gt 0 ]; then echo $((taken - 1)) >"$S/asleep"; answer 000; fi
    said='['
    for c in "$S"/containers/*; do
      take "$c/running"
      # An app's are called APP-NUMBER.
      case $taken:${c##*/} in true:*-[0-9]*) said=$said'{"Names":["/'${c##*/}'"]},' ;; esac
    done
    answer 200 "${said%,}]" ;;
  http://docker/containers/*)
    name=${url#http://docker/containers/} name=${name%%[/?]*}
    C=$S/containers/$name
    [ -d "$C" ] || answer 404 '{"message":"No such container"}'
    case $method:${url#"http://docker/containers/$name"} in
      GET:/json)
        take "$C/running"
        if [ "$taken" = true ]; then
          take "$S/away"  # for so many looks at a container that runs
          if [ "${taken:-0}" -gt 0 ]; then echo $((taken - 1)) >"$S/away"; answer 000; fi
          case $name in *.before_release)
            take "$S/before"
            if [ "$taken" != hang ]; then ends "${taken:-0}"; fi ;;
          esac
        fi
        take "$C/running"; said='{"Id":"1","State":{"Status":"","Running":'$taken
        take "$C/oom"; said=$said',"OOMKilled":'$taken
        take "$C/exit"; said=$said',"ExitCode":'$taken'}'
        take "$C/restarts"; said=$said',"RestartCount":'$taken',"HostConfig":{'
        take "$C/port"; said=$said'"PortBindings":{"8080/tcp":[{"HostIp":"127.0.0.1","HostPort":"'$taken'"}]}'
        take "$C/restart"; answer 200 "$said"',"RestartPolicy":{"Name":"'$taken'","MaximumRetryCount":0}}}' ;;
      POST:/start)
        if [ -f "$S/start" ]; then answer 500 "$(cat "$S/start")"; fi
        take "$C/running"
        [ "$taken" != true ] || answer 304
        take "$C/restart"
        echo "start $name $taken" >>"$S/calls"
        echo true >"$C/running"; echo 0 >"$C/restarts"; answer 204 ;;
      POST:/stop*)
        take "$S/unstoppable"
        if [ "${taken:-0}" -gt 0 ]; then echo $((taken - 1)) >"$S/unstoppable"; answer 500 'no space left'; fi
        take "$C/running"
        [ "$taken" = true ] || answer 304
        echo "stop ${url##*=} $name" >>"$S/calls"; ends 143; answer 204 ;;
      POST:/kill)
        if [ -f "$S/unkillable" ]; then answer 500 'no space left'; fi
        echo "kill $name" >>"$S/calls"; ends 137; answer 204 ;;
      POST:/update) data=${data#*'"Name":"'}; echo "${data%%\\"*}" >"$C/restart"; answer 200 ;;
      DELETE:*) echo "rm $name" >>"$S/calls"; rm -r "$C"; answer 204 ;;
    esac ;;
  *:2019/config/*/routes)
    [ -f "$S/caddy.json" ] || answer 200 null
    answer 200 "$(sed 's/": "/":"/g' "$S/caddy.json")" ;;
  *:2019/config/* | *:2019/id/*)
    echo "$method ${url#*:2019}" >>"$S/calls"
    cp "$data" "$S/route.json"
    answer 200 ;;
  *:2019/load)
    if [ -f "$S/load" ]; then instead "$S/load"; fi
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
    "date": _HEAD
    + """take "$S/now"; now=${taken:-1000}; echo $((now + 2)) >"$S/now"
case $1 in +%s%N) echo "${now}000000000" ;; *) echo "$now" ;; esac""",
    "ss": _HEAD
    + """if [ -f "$S/held" ]; then echo ESTAB 1; fi
[ ! -f "$S/connections" ] || { head -n 1 "$S/connections"; sed -i 1d "$S/connections"; }""",
    "sleep": "",
    "sync": "",  # of a disk that others use takes its time
}
