# How release.sh talks to Docker, to the app and to whoever follows. Parameters stand above: APP, N, DRAIN, GRACE.
# Docker is asked by its own API: a start of docker(1) takes longer than most of what it is asked for.
home=/var/lib/rehost/$APP
live=$home/live
answer=$home/release/answer
newline='
'

# say WORD TEXT: one line. Not by echo, which would take what an app says for escapes.
say() {
  case $2 in *"$newline"*) set -- "$1" "$(printf '%s' "$2" | tr '\n' ' ')" ;; esac
  printf '%s %s\n' "$1" "$2"
}
now() { date +%s; }

# mark NUMBER STATE: what became of a release. One that is not kept any more has no state.
mark() {
  [ -d "$home/releases/$1" ] || return 0
  printf '%s\n' "$2" >"$home/releases/$1/state.new" && mv "$home/releases/$1/state.new" "$home/releases/$1/state"
}

# ask URL HOST: sets $code ("000": no answer). What was said stays in $answer.
ask() {
  : >"$answer"
  code=$(curl -s -o "$answer" -m 5 -w '%{http_code}' -H "Host: $2" "$1" 2>/dev/null) || :
}
healthy() { [ "$code" -ge "$LOW" ] && [ "$code" -le "$HIGH" ]; }
heard() {
  case $code in
    000) echo 'no answer' ;;
    *) printf '%s %s\n' "$code" "$(head -c 200 "$answer" | tr '\n\r\t' '   ')" ;;
  esac
}

# call CURL'S OPTION...: sets $code ("000": no answer) and $said, the other side's words, or curl's.
call() {
  said=$(curl -sS -w '\n%{http_code}' "$@" 2>&1)
  code=${said##*"$newline"}
  said=${said%"$newline"*}
  if [ "$code" = 000 ]; then said="no answer (${said%"$newline"})"; fi
}
# docker_api METHOD PATH [CURL'S OPTION...]
docker_api() {
  method=$1 path=$2
  shift 2
  call --unix-socket /run/docker.sock -X "$method" "$@" "http://docker$path"
}
# create CONTAINER FILE: from a body of Docker's API.
create() {
  docker_api POST "/containers/create?name=$1" -H 'Content-Type: application/json' --data-binary "@$2"
  [ "$code" = 201 ]
}
remove() { docker_api DELETE "/containers/$1?force=true"; }
# policy CONTAINER NAME: whether Docker starts it again by itself.
policy() {
  docker_api POST "/containers/$1/update" -H 'Content-Type: application/json' \
    -d "{\"RestartPolicy\":{\"Name\":\"$2\"}}"
  [ "$code" = 200 ]
}
# look CONTAINER: sets $is to none, running, ended or away (Docker does not answer); and $status, $oom, $restarts,
# $policy and $bound, its local port. In Docker's answer, .State comes before what a person may have named.
look() {
  docker_api GET "/containers/$1/json"
  status='' oom='' restarts='' policy='' bound=''
  case $code in
    404) is=none ;;
    200)
      field Running
      if [ "$field" = true ]; then is=running; else is=ended; fi
      field ExitCode && status=$field
      field OOMKilled && oom=$field
      field RestartCount && restarts=$field
      quoted '"RestartPolicy":{"Name":"' && policy=$quoted
      # "PortBindings":{"8080/tcp":[{"HostIp":"127.0.0.1","HostPort":"20000"}]}
      quoted '"HostPort":"' && bound=$quoted
      ;;
    *) is=away ;;
  esac
}
# field NAME: sets $field to the first value of that name in what Docker said.
field() {
  field=${said#*"\"$1\":"}
  field=${field%%[,\}]*}
}
# quoted TEXT: sets $quoted to what follows it in what Docker said, up to the next quotation mark; "" when it is not
# there. Nothing that a person named looks like a key: within a value, JSON writes each quotation mark as \".
quoted() {
  quoted=''
  case $said in
    *"$1"*)
      quoted=${said#*"$1"}
      quoted=${quoted%%\"*}
      ;;
  esac
}
# running: the containers of the app's releases that run. Those of workers, jobs and before_release have a dot in their
# names. What somebody runs by hand from the app's image has the label of the app, by the image, and of no release.
# A status other than 0: Docker does not say.
running() {
  docker_api GET "/containers/json?filters=%7B%22label%22%3A%5B%22rehost.app%3D$APP%22%2C%22rehost.release%22%5D%7D"
  [ "$code" = 200 ] || return 1
  while
    quoted '"Names":["/'
    [ -n "$quoted" ]
  do
    echo "$quoted"
    said=${said#*'"Names":["/'}
  done
}

# open_requests PORT: how many connections the proxy holds to it. It keeps none without a request.
open_requests() { ss -Htn state established "( dport = :$1 )" | grep -c .; }

# stop CONTAINER: SIGTERM, after its grace SIGKILL. A Docker that cannot (a full disk, a restart) is asked again for
# half a minute. A status other than 0: it runs on, and that was said.
stop() {
  tries=0
  while :; do
    docker_api POST "/containers/$1/stop?t=$GRACE"
    case $code in 204 | 304 | 404) return 0 ;; esac
    tries=$((tries + 1))
    if [ "$tries" -ge 30 ]; then break; fi
    sleep 1
  done
  why=$said
  docker_api POST "/containers/$1/kill"
  case $code in 204 | 404 | 409) return 0 ;; esac
  say @left "$1 could not be stopped and runs on: $why"
  return 1
}

# retire CONTAINER: one that gets no new requests may finish those it has, for DRAIN seconds; then it is stopped. How
# long it may go on is written down, so that whoever is cut off and comes again does not begin anew.
retire() {
  kept=$home/releases/${1#"$APP-"}
  look "$1"
  if [ "$is" = away ]; then
    say @left "$1 runs on: Docker does not answer"
    return 1
  fi
  if [ "$is" = running ] && [ -n "$bound" ]; then
    time=$(now)
    until=$((time + DRAIN)) before='' next=0
    if [ -f "$kept/until" ]; then read -r before <"$kept/until"; fi
    if [ -n "$before" ] && [ "$before" -lt "$until" ]; then
      until=$before
    elif [ -d "$kept" ]; then
      echo "$until" >"$kept/until"
    fi
    while open=$(open_requests "$bound") && [ "$open" -gt 0 ] && [ "$time" -lt "$until" ]; do
      if [ "$time" -ge "$next" ]; then
        say @step "$1 is finishing its requests ($open open), for up to $((until - time))s more"
        next=$((time + 5))
      fi
      sleep 0.2
      time=$(now)
    done
  fi
  # From here on it is told to end: it must not take requests again before it has ended (see release.sh).
  if [ -d "$kept" ]; then : >"$kept/ending"; fi
  policy "$1" no
  stop "$1" || return 1
  rm -f "$kept/until" "$kept/ending"
}

# What containers say. begun: since when it is of interest; logs: who follows one, if anybody.
begun=$(date +%s.%N) logs=
# follow_log CONTAINER: shows what it has said since this release began, and what it says, each line once.
follow_log() {
  [ -z "$logs" ] || return 0
  rm -f "$home/release/pipe"
  mkfifo "$home/release/pipe" || return 0
  # Both ends are open before anybody uses them: who opens one alone waits for the other, for ever when that was killed.
  exec 5<>"$home/release/pipe" 6<"$home/release/pipe" 7>"$home/release/pipe" 5>&-
  docker logs --follow --since "$begun" "$1" >&7 2>&1 6<&- 7>&- &
  logs=$!
  sed -u 's/^/@log /' <&6 6<&- 7>&- &
  shown=$!
  exec 6<&- 7>&-
}
# end_log: lets it show what an ended container has said; cuts it off from one that runs.
end_log() {
  [ -n "$logs" ] || return 0
  if [ "${1:-}" = now ]; then kill "$logs" 2>/dev/null; fi
  wait "$logs" "$shown" 2>/dev/null
  echo # what it said last may have no line end
  logs=
}
# last_words: of the new container; sed ends a line that has no end.
last_words() { docker logs --tail 50 "$name" 2>&1 | sed -e 's/^/@log /' -e '$a\'; }
