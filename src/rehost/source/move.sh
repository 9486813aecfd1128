# Puts verified copies in the place of what the app has, while its containers stand still, or leaves all as it was. Runs
# as the unit of a release, so that a release and a move never run at once. Above this line stand the parameters, the
# functions of containers.sh and beside.sh, and a swap_0, undo_0 and so on for each move. Parameters: APP, N (the release
# that serves), HOST, HEALTH, LOW, HIGH, DEADLINE, GRACE, DRAIN, NAMES (of the moves), SERVICES (whose volumes move), BY.
# Lines of output begin with @by, @step, @try, @log, @fail, @down, @left, @live or @back.
# While a swap is under way this script lies in moving/swap, and how far it is in moving/step: whoever comes next, a move
# or a release, runs `moving/swap again` first.
set -u
export LC_ALL=C
umask 077
moves=$home/moving
name=$APP-$N
down='' started=''

# step WORD: how far it is, on the disk before anything of it is done.
step() { echo "$1" >"$moves/step.new" && mv "$moves/step.new" "$moves/step" && sync "$moves"; }

# act swap|undo NUMBER NAME
act() {
  # shellcheck disable=SC2034  # the bodies of swap and undo use them
  app=$APP moving=$moves/$3 secret=$moves/$3/secret
  "$1_$2" >"$moves/said" 2>&1 </dev/null && return
  why="$(tail -n 20 "$moves/said")"
  return 1
}
swap_all() {
  number=0
  for each in $NAMES; do
    say @step "putting $each in place"
    : >"$moves/$each/begun"
    if ! act swap "$number" "$each"; then
      why="$each could not be put in place: $why"
      return 1
    fi
    number=$((number + 1))
  done
}
# undo_all: those that were begun, from the last to the first: what an earlier move kept of before is not this one's. One
# that cannot be undone does not keep the others from it.
undo_all() {
  stuck='' number=0 backwards=''
  for each in $NAMES; do
    backwards="$number:$each $backwards"
    number=$((number + 1))
  done
  for each in $backwards; do
    [ -f "$moves/${each#*:}/begun" ] || continue
    say @step "putting back what ${each#*:} held before"
    if ! act undo "${each%%:*}" "${each#*:}"; then
      say @left "what ${each#*:} held before could not be put back: $why"
      stuck=1
    fi
  done
  [ -z "$stuck" ]
}

# stop_all: web, processes, jobs and whatever an earlier release left running; then the services whose volumes move.
# A Docker that does not answer must not be taken for one that runs nothing.
stop_all() {
  say @step "stopping release $N"
  systemctl stop "rehost-$APP.job.*.timer" "rehost-$APP.job.*.service" 2>/dev/null
  tries=0
  while :; do
    still=$(running) || still=away
    going=
    for each in $still; do
      case $each in "$APP".*) ;; *) going="$going $each" ;; esac # services go on
    done
    [ -n "$going" ] || break
    tries=$((tries + 1))
    if [ "$tries" -gt 10 ]; then
      why="these could not be stopped:$going"
      return 1
    fi
    if [ "$tries" -gt 1 ]; then sleep 1; fi
    for each in $going; do
      [ "$each" = away ] || stop "$each" &
    done
    wait
  done
  for each in $SERVICES; do
    say @step "stopping service $each: its volume moves"
    (
      GRACE=30
      stop "$APP.$each"
    ) || {
      why="service $each could not be stopped"
      return 1
    }
  done
}

# start_all: as before; a status other than 0, and $why, when the app is not well.
start_all() {
  for each in $SERVICES; do
    docker_api POST "/containers/$APP.$each/start"
    case $code in 204 | 304) ;; *)
      why="Docker did not start service $each: $said"
      return 1
      ;;
    esac
  done
  say @step "starting release $N"
  policy "$name" no # until it has proved itself: what dies at once must not come back again and again
  docker_api POST "/containers/$name/start"
  case $code in 204 | 304) ;; *)
    why="Docker did not start release $N: $said"
    return 1
    ;;
  esac
  await_health || return 1
  say_down
  policy "$name" unless-stopped || {
    why='Docker did not take the restart policy'
    return 1
  }
  if beside_hold "$N"; then return; fi
  why=$beside_why
  return 1
}
await_health() {
  look "$name"
  port=$bound begin=$(now) last='' next=5
  while :; do
    ask "http://127.0.0.1:$port$HEALTH" "$HOST"
    waited=$(($(now) - begin)) told=$(heard)
    if healthy; then
      say @try "healthy after ${waited}s: $told"
      return
    fi
    look "$name"
    why=
    case $is in
      running | away) ;;
      *) why="the container ended by itself with status $status" ;;
    esac
    if [ "$oom" = true ]; then why="the container ran out of its memory limit"; fi
    if [ "$waited" -ge "$DEADLINE" ]; then why="not healthy within ${DEADLINE}s: $HEALTH gave $told"; fi
    if [ -n "$why" ]; then return 1; fi
    if [ "$told" != "$last" ] || [ "$waited" -ge "$next" ]; then
      say @try "after ${waited}s: $told"
      last=$told next=$((waited + 5))
    fi
    sleep 0.2
  done
}
# say_down: for how long nothing served, in milliseconds.
say_down() {
  if [ -z "$down" ]; then down=$(cat "$moves/since"); fi
  say @down "$((($(date +%s%N) - down) / 1000000))"
}

# conclude: nothing is under way any more.
conclude() {
  for each in $NAMES; do rm -f "$moves/$each/secret" "$moves/$each/moved.json.new" "$moves/$each/begun"; done
  sync "$moves"
  rm -f "$moves/swap" "$moves/step" "$moves/since" "$moves/said" "$answer"
}
done_with() {
  for each in $NAMES; do
    [ ! -f "$moves/$each/moved.json.new" ] || mv "$moves/$each/moved.json.new" "$moves/$each/moved.json"
  done
  told=$(heard)
  conclude
  say @live "$N $told"
  exit 0
}
# back: what was there serves again.
back() {
  say @fail "$why"
  look "$name"
  # What it said since it was stopped: the container is the same as before.
  case $is$started in running1 | ended1) docker logs --since "$begun" --tail 50 "$name" 2>&1 | sed -e 's/^/@log /' -e '$a\' ;; esac
  step returning
  if ! stop_all || ! undo_all; then
    say @left "release $N stays stopped, so that it does not work on half of what it had: ${why:-}"
    exit 5
  fi
  if ! start_all; then say @left "release $N was started again, and is not well: $why"; fi
  conclude
  say @back "$N"
  exit "$1"
}
go_on() {
  if [ "$1" = starting ]; then
    if start_all; then done_with; fi
    started=1
    back 3
  fi
  why='it was cut off in the middle'
  back 0
}

if [ "${1:-}" = again ]; then
  say @step 'ending a move of data that was cut off'
  step=$(cat "$moves/step" 2>/dev/null)
  go_on "${step:-swapping}"
fi

say @by "$BY $(now)"
if [ -f "$moves/swap" ]; then
  sh "$moves/swap" again
  echo '@fail another move was cut off, and was brought to its end; nothing was changed by this one'
  exit 4
fi
# nothing TEXT: why not; nothing was touched.
nothing() {
  for each in $NAMES; do rm -f "$moves/$each/secret" "$moves/$each/moved.json.new"; done
  say @fail "$1; nothing was changed by this one"
  exit 4
}
serving=
for each in "$live/b" "$live/a"; do
  if [ -f "$each" ]; then
    read -r serving <"$each"
    break
  fi
done
look "$name"
if [ "$serving" != "$N" ] || [ "$is" = none ]; then
  nothing 'another release was made meanwhile'
fi
if [ "$is" = away ]; then nothing "Docker does not answer: $said"; fi
if [ -f "$home/release/after" ]; then
  systemctl stop "rehost-$APP-drain.service" 2>/dev/null # what it has not done yet is the next release's
  rm -f "$home/release/after"
fi

down=$(date +%s%N)
{ echo "$down" >"$moves/since" && step swapping && cp "$0" "$moves/swap.new" && mv "$moves/swap.new" "$moves/swap" &&
  sync "$moves"; } || nothing 'what is under way could not be written down'
if ! stop_all || ! swap_all; then back 3; fi
step starting
go_on starting
