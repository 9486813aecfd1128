# Makes a prepared release the one that serves, or leaves everything as it was. Runs on the machine as a systemd
# unit, so a laptop that goes away changes nothing. Parameters and the functions of containers.sh, keep.sh and
# beside.sh stand above this line. Parameters: APP, N, SLOT, PORT, OLD_PORT, HOST, PROXY_HOST, ANY, HEALTH, LOW, HIGH, DEADLINE,
# MEMORY, DRAIN, GRACE, WATCH, BEFORE_LIMIT, EXCLUSIVE, PRUNE, PRUNE_IMAGES, BY.
# Each line of output begins with what it is: @by, @step, @try, @log, @fail, @down, @drain, @live, @left.
set -u
export LC_ALL=C
umask 077
dir=$home/releases/$N
name=$APP-$N
unit=rehost-$APP-drain.service
down='' lived='' old='' old_ran='' returned='' taken=''

# What is left to do once the traffic has moved: nobody has to wait for it. It runs as a unit of its own; the next
# release cuts it short and sees to the rest.
if [ "${1:-}" = after ]; then
  old=$2
  answer=$home/release/answer.after
  while
    failed='' away=''
    strays=$(running) || away=1
    for stray in $strays; do
      case $stray in
        "$name" | *.*) ;;
        *)
          retire "$stray" || failed=1
          if [ "$is" = away ]; then away=1; fi
          ;;
      esac
    done
    # A Docker that stands still is waited for, however long: without it nothing can be put right, and nobody may come.
    if [ -n "$failed" ]; then running >/dev/null || away=1; fi
    [ -n "$away" ]
  do sleep 1; done
  prune
  event ended ''
  rm -f "$answer" "$home/release/after"
  exit "${failed:-0}"
fi

# fail TEXT: takes the new container away; what served before serves on.
fail() {
  say @fail "$1"
  reason=$1
  look "$name"
  if [ -n "$logs" ]; then
    if [ "$is" = ended ]; then end_log; else end_log now; fi
  elif [ "$is" = running ] || [ "$is" = ended ]; then
    last_words
  fi
  if [ -n "$taken" ] && [ "$is" = running ]; then stop "$name"; fi # it may have requests in flight
  if [ "$is" != none ]; then
    remove "$name"
    case $code in 204 | 404) ;; *) say @left "$name could not be removed: $said" ;; esac
  fi
  beside_return "$old" "$N"
  if [ -n "$down" ]; then back_up; fi
  # A release that served before can be returned to again; a new one never proved itself.
  if [ "$was" = prepared ]; then mark "$N" failed; else mark "$N" "$was"; fi
  if [ -z "$returned" ]; then event failed "$reason"; fi
  rm -f "$answer"
  exit 3
}
# back_up: where two can't run at once, the old release was stopped: it serves again, and how long it did not is said.
back_up() {
  docker_api POST "/containers/$APP-$old/start"
  policy "$APP-$old" unless-stopped
  begin=$(now)
  while
    ask "http://127.0.0.1:$OLD_PORT$HEALTH" "$HOST"
    ! healthy && [ $(($(now) - begin)) -lt "$DEADLINE" ]
  do sleep 0.1; done
  if ! healthy; then say @left "release $old was started again and is not healthy: $(heard)"; fi
  say_down
}
say_down() {
  say @down "$((($(date +%s%N) - down) / 1000000))"
  down=
}
# await_health: asks until the container is healthy, quickly at first; fails when it ends or takes too long.
await_health() {
  begin=$(now)
  rounds=0 last='' next=5
  while :; do
    ask "http://127.0.0.1:$PORT$HEALTH" "$HOST"
    waited=$(($(now) - begin))
    if healthy; then
      say @try "healthy after ${waited}s: $(heard)"
      return
    fi
    rounds=$((rounds + 1))
    told=$(heard)
    # Docker is asked less often than the app: what is starting needs the processor.
    if [ "$rounds" -gt 20 ] || [ $((rounds % 5)) = 0 ] || [ "$waited" -ge "$DEADLINE" ]; then
      look "$name"
      case $is in
        away) told='Docker does not answer' ;; # it may be starting anew; the container lives on meanwhile
        running) ;;
        none) fail 'the container was removed by somebody else' ;;
        *)
          if [ "$oom" = true ]; then fail "the container ran out of its memory limit ($MEMORY)"; fi
          fail "the container ended by itself with status $status"
          ;;
      esac
    fi
    # What is new, and every few seconds that it still goes on.
    if [ "$told" != "$last" ] || [ "$waited" -ge "$next" ]; then
      say @try "after ${waited}s: $told"
      last=$told next=$((waited + 5))
    fi
    if [ "$waited" -ge "$DEADLINE" ]; then
      fail "not healthy within ${DEADLINE}s: $HEALTH gave $told"
    fi
    if [ "$rounds" -gt 10 ]; then follow_log "$name"; fi
    if [ "$rounds" -le 5 ]; then sleep 0.02; elif [ "$rounds" -le 20 ]; then sleep 0.05; else sleep 0.5; fi
  done
}
# run_before: the new release's own preparation, a migration for instance, in a container of its own.
run_before() {
  before=$name.before_release
  remove "$before"
  echo "@step running before_release"
  create "$before" "$dir/before.json" || fail "Docker did not create the container of before_release: $said"
  docker_api POST "/containers/$before/start"
  if [ "$code" != 204 ]; then
    why=$said
    remove "$before"
    fail "Docker did not start before_release: $why"
  fi
  begin=$(now)
  follow_log "$before"
  while look "$before" && [ "$is" != ended ] && [ "$is" != none ]; do
    if [ $(($(now) - begin)) -ge "$BEFORE_LIMIT" ]; then
      stop "$before"
      late=1
      break
    fi
    sleep 0.2
  done
  end_log
  result=$status
  if [ "$oom" = true ]; then result="$result: it ran out of its memory limit ($MEMORY)"; fi
  remove "$before"
  if [ -n "${late:-}" ]; then fail "before_release was stopped: it took longer than ${BEFORE_LIMIT}s"; fi
  if [ "$result" != 0 ]; then fail "before_release ended with status $result"; fi
}
# give_routes: the app's own route alone, where there are others' beside it: the whole configuration was made from what
# the machine had when it was read, and another app may have come since.
give_routes() {
  exec 9>>"${home%/*}/edge.lock"
  flock 9
  admin=http://localhost:2019
  routes=$admin/config/apps/http/servers/rehost/routes
  call "$routes"
  case $code$said in
    200*"\"@id\":\"rehost-$APP\""*) set -- -X PATCH --data-binary "@$dir/route.json" "$admin/id/rehost-$APP" ;;
    200*'"@id":"rehost--nobody"'*)
      # Before the others; one that answers for any name after them, and before the last, which is nobody's.
      place=0
      if [ -n "$ANY" ]; then place=$(($(printf '%s' "$said" | grep -o '"@id":"rehost-' | wc -l) - 1)); fi
      set -- -X PUT --data-binary "@$dir/route.json" "$routes/$place"
      ;;
    *) set -- --data-binary "@$dir/caddy.json" "$admin/load" ;;
  esac
  call -H 'Content-Type: application/json' "$@"
  exec 9>&-
}
# give_back WHY: the traffic returns to the release that had it, and this one has failed.
give_back() {
  if [ -n "$EXCLUSIVE" ]; then
    if [ -z "$down" ]; then down=$(date +%s%N); fi
    stop "$name"
    docker_api POST "/containers/$APP-$old/start"
  fi
  if [ "$serving" = b ]; then
    mv "$live/.back" "$live/b"
  else
    rm -f "$live/b"
  fi
  sync "$live"
  taken=1
  if [ "$lived" ]; then
    event returned "$old $1"
    returned=1
  fi
  fail "$1; the traffic is back on release $old"
}
# watch: looks each second whether the new release stays well. Sets $bad to what is wrong with it.
watch() {
  bad=
  echo "@step watching release $N for ${WATCH}s${old_ran:+; release $old stands by}"
  look "$name"
  first=$restarts misses=0
  begin=$(now)
  while [ $(($(now) - begin)) -lt "$WATCH" ]; do
    sleep 1
    look "$name"
    case $is in
      away) continue ;;
      none) bad='its container was removed' ;;
      ended) bad="the container ended by itself with status $status" ;;
      *) if [ "$restarts" != "$first" ]; then how_it_ended; fi ;;
    esac
    if [ "$oom" = true ]; then bad="the container ran out of its memory limit ($MEMORY)"; fi
    ask "http://127.0.0.1:$PORT$HEALTH" "$HOST"
    # One answer that is late or bad may be chance; three are none.
    if healthy; then misses=0; else misses=$((misses + 1)); fi
    if [ "$misses" -ge 3 ]; then bad="$HEALTH gave $(heard), three times"; fi
    if [ -z "$bad" ] && ! beside_up "$N"; then bad=$beside_why; fi
    if [ -n "$bad" ]; then
      bad="$bad, $(($(now) - begin))s after the switch"
      return
    fi
  done
}

# how_it_ended: sets $bad for a container that Docker has started again since: its state tells nothing any more.
how_it_ended() {
  bad='the container ended by itself'
  # To the nanosecond: what happened within this second has happened.
  docker_api GET "/events?since=$begin&until=$(date +%s.%N)&filters=%7B%22container%22%3A%5B%22$name%22%5D%7D"
  case $said in
    *'"status":"oom"'*) bad="the container ran out of its memory limit ($MEMORY)" ;;
    *'"exitCode":"'*)
      status=${said#*'"exitCode":"'}
      bad="$bad with status ${status%%\"*}"
      ;;
  esac
  bad="$bad and was started again"
}

if [ -f "$home/release/after" ]; then
  systemctl stop "$unit" 2>/dev/null # what it has not done yet is done here
  rm -f "$home/release/after"
fi
was=$(cat "$dir/state" 2>/dev/null || echo prepared)
# A move of data that was cut off comes to its end before anything starts on half of it.
if [ -f "$home/moving/swap" ] && ! sh "$home/moving/swap" again; then
  mark "$N" failed
  exit 3
fi
serving=
if [ -f "$live/b" ]; then serving=b; elif [ -f "$live/a" ]; then serving=a; fi
if [ -n "$serving" ]; then read -r old <"$live/$serving"; fi
if [ "$serving" = "$SLOT" ]; then
  echo '@fail another release was made meanwhile; nothing was changed by this one'
  exit 4
fi
say @by "$BY $(now)"
event began "$old"
# One that was cut off right after its switch serves, and can be returned to.
if [ -n "$old" ] && [ "$(cat "$home/releases/$old/state" 2>/dev/null)" = prepared ]; then mark "$old" live; fi

# What an earlier release left running would hold our port.
strays=$(running) || fail 'Docker does not answer'
for stray in $strays; do
  case $stray in
    "$APP-$old") old_ran=1 ;;
    *.before_release)
      echo "@step stopping $stray, left by a release that was cut off"
      stop "$stray"
      remove "$stray"
      ;;
    "$name" | *.*) ;;
    *) retire "$stray" || fail "$stray still runs, and holds what this release needs" ;;
  esac
done

look "$name"
if [ "$is" = away ]; then fail "Docker does not answer: $said"; fi
if [ "$is" = running ] && [ -f "$dir/ending" ]; then
  echo "@step waiting for $name to end: it was told to"
  stop "$name"
  is=ended
fi
rm -f "$dir/ending" "$dir/until"
if [ "$is" != none ] && [ "$bound" != "$PORT" ]; then
  remove "$name"
  is=none
fi
if [ "$is" = none ]; then
  echo "@step creating container $name"
  create "$name" "$dir/container.$SLOT.json" || fail "Docker did not create the container: $said"
  policy=no
fi
if [ -n "$EXCLUSIVE" ] && [ -n "$old_ran" ]; then
  echo "@step stopping release $old: two can't run at once"
  # Stopped by hand, a container stays down when the machine starts anew; with "always" it does not.
  policy "$APP-$old" always
  down=$(date +%s%N)
  all=$(running) || fail 'Docker does not answer'
  for each in $all; do
    case $each in
      *.job.*) ;; # as beside any release of its own
      "$APP-$old" | "$APP-$old".*) stop "$each" || fail "$each could not be stopped" ;;
    esac
  done
fi
if [ "$was" = prepared ] && [ -f "$dir/before.json" ]; then run_before; fi

if [ "$is" != running ]; then
  # A release that is returned to proves itself anew: if it dies at once, it must not come back by itself.
  if [ "$policy" != no ]; then policy "$name" no; fi
  echo "@step starting container $name"
  docker_api POST "/containers/$name/start"
  # A Docker that was cut off while it started a container gives its port back only when it starts anew. The
  # containers run on meanwhile (live-restore).
  case $said in
    *'port is already allocated'*)
      if [ -z "$(docker ps -q --filter "publish=$PORT")" ]; then
        echo "@step restarting Docker: it holds port $PORT for a container that is gone"
        systemctl restart docker.service
        docker_api POST "/containers/$name/start"
      fi
      ;;
  esac
  case $code in 204 | 304) ;; *) fail "Docker did not start the container: $said" ;; esac
fi
echo "@step waiting for http://127.0.0.1:$PORT$HEALTH to answer $LOW-$HIGH"
await_health
end_log now

if [ -f "$dir/caddy.json" ]; then
  echo "@step giving the proxy its routes"
  give_routes
  if [ "$code" != 200 ]; then fail "Caddy refused its configuration: $said"; fi
  rm -f "$dir/caddy.json" "$dir/route.json"
fi
# After a power cut two must not come up where one alone may run.
if [ -n "$down" ]; then policy "$APP-$old" no; fi
policy "$name" unless-stopped || fail 'Docker did not take the restart policy'
beside_ready "$N"

# The switch. The proxy looks for file b at each request, and takes slot b when it is there, else slot a. So one
# rename (to b) or one removal (to a) moves the traffic; the file's content is the record of which release it is.
echo "@step switching the traffic to release $N"
umask 022 # the proxy is a user without rights
[ -d "$live" ] || mkdir -p "$live"
# A full disk takes no byte, but gives an empty file.
printf '%s\n' "$N" >"$live/.next" || fail "$live/.next could not be written: is the machine's disk full?"
umask 077
if [ "$serving" = b ]; then ln -f "$live/b" "$live/.back"; fi
if [ "$SLOT" = b ]; then
  mv "$live/.next" "$live/b"
else
  mv "$live/.next" "$live/a"
  rm -f "$live/b"
fi
sync "$live"
taken=1

bad=
ask "http://127.0.0.1:80$HEALTH" "$PROXY_HOST"
if ! healthy; then
  bad="through the proxy, $HEALTH gave $(heard)"
elif ! beside_take_over "$old" "$N"; then
  bad=$beside_why
fi
if [ -n "$bad" ]; then
  if [ -n "$old" ]; then give_back "$bad"; fi
  rm -f "$live/a" "$live/b"
  fail "$bad"
fi
told=$(heard)
mark "$N" live
event live ''
lived=1
if [ -n "$down" ]; then say_down; fi
if [ "$WATCH" -gt 0 ]; then
  watch
  if [ -n "$bad" ]; then
    if [ -n "$old_ran" ]; then give_back "$bad"; fi
    last_words
    event failed "$bad"
    say @fail "$bad; there is no other release to return to, so it serves on"
    exit 5
  fi
fi
rm -f "$live/.back"
if [ -n "$old" ] && [ "$old" != "$N" ]; then mark "$old" replaced; fi
say @live "$N $told"

if [ -n "$old_ran" ] && [ -z "$EXCLUSIVE" ]; then
  open=$(open_requests "$OLD_PORT")
  if [ "$open" -gt 0 ]; then
    say @drain "release $old is finishing its requests on the machine ($open open), for up to ${DRAIN}s"
  fi
fi
rm -f "$answer"
if [ -z "$old$PRUNE$PRUNE_IMAGES" ]; then
  event ended ''
  exit 0
fi
# Its script is a copy: the next release writes over ours.
cp "$0" "$home/release/after.new" && mv "$home/release/after.new" "$home/release/after"
: >"$home/release/after.log"
systemd-run --quiet --collect --unit="$unit" --description="rehost: what release $N of $APP leaves to do" \
  -p StandardOutput="append:$home/release/after.log" -p StandardError="append:$home/release/after.log" \
  -p UMask=0077 /bin/sh "$home/release/after" after "$old" || exec sh "$home/release/after" after "$old"
exit 0
