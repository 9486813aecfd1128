# Makes a prepared release the one that serves, or leaves everything as it was. Runs on the machine as a systemd
# unit, so a laptop that goes away changes nothing. Parameters stand above this line: APP, N, SLOT, PORT,
# CONTAINER_PORT, OLD_PORT, HOST, PROXY_HOST, HEALTH, LOW, HIGH, DEADLINE, GRACE, PRUNE, PRUNE_IMAGES.
# Each line of output begins with what it is: @step, @try, @log, @fail, @live.
set -u
export LC_ALL=C
umask 077
home=/var/lib/rehost/$APP
dir=$home/releases/$N
live=$home/live
name=$APP-$N
answer=$dir/answer

mark() {
  printf '%s\n' "$2" >"$home/releases/$1/state.new" && mv "$home/releases/$1/state.new" "$home/releases/$1/state"
}
# say WORD TEXT: one line. Not by echo, which would take what an app says for escapes.
say() { printf '%s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')"; }
fail() {
  say @fail "$1"
  if docker inspect "$name" >/dev/null 2>&1; then
    docker logs --tail 50 "$name" 2>&1 | sed 's/^/@log /'
    docker rm -f "$name" >/dev/null 2>&1
  fi
  # A release that served before can be returned to again; a new one never proved itself.
  if [ "$was" = prepared ]; then mark "$N" failed; fi
  rm -f "$answer"
  exit 3
}
# ask URL HOST: sets $code ("000": no answer), $text (the first 200 characters).
ask() {
  : >"$answer"
  code=$(curl -s -o "$answer" -m 5 -w '%{http_code}' -H "Host: $2" "$1" 2>/dev/null) || :
  text=$(head -c 200 "$answer" | tr '\n\r\t' '   ')
}
# send FILE URL [OPTION...]: posts JSON, sets $code; the other side's words are in $answer, curl's in the log.
send() {
  file=$1 url=$2
  shift 2
  : >"$answer"
  code=$(curl -sS -o "$answer" -w '%{http_code}' -H 'Content-Type: application/json' --data-binary "@$file" "$@" \
    "$url") || echo 'no answer' >"$answer"
}
healthy() { [ "$code" -ge "$LOW" ] && [ "$code" -le "$HIGH" ]; }
heard() { if [ "$code" = 000 ]; then echo 'no answer'; else printf '%s %s\n' "$code" "$text"; fi; }

was=$(cat "$dir/state" 2>/dev/null || echo prepared)
now=
if [ -f "$live/b" ]; then now=b; elif [ -f "$live/a" ]; then now=a; fi
old=
if [ -n "$now" ]; then old=$(cat "$live/$now"); fi
if [ "$now" = "$SLOT" ]; then
  echo '@fail another release was made meanwhile; nothing was changed by this one'
  exit 4
fi

# What an earlier release left running when it was cut off would hold our port.
for stray in $(docker ps --filter "label=rehost.app=$APP" --format '{{.Names}}'); do
  if [ "$stray" != "$APP-$old" ] && [ "$stray" != "$name" ]; then
    echo "@step stopping $stray, left by a release that was cut off"
    docker stop -t "$GRACE" "$stray" >/dev/null
  fi
done

bound=$(docker inspect -f "{{(index (index .HostConfig.PortBindings \"$CONTAINER_PORT/tcp\") 0).HostPort}}" "$name" 2>/dev/null)
if [ -n "$bound" ] && [ "$bound" != "$PORT" ]; then
  docker rm -f "$name" >/dev/null 2>&1
  bound=
fi
if [ -z "$bound" ]; then
  echo "@step creating container $name"
  docker rm -f "$name" >/dev/null 2>&1
  send "$dir/container.$SLOT.json" "http://docker/containers/create?name=$name" --unix-socket /run/docker.sock
  if [ "$code" != 201 ]; then fail "Docker did not create the container: $(head -c 500 "$answer")"; fi
else
  # A release that is returned to proves itself anew: if it dies at once, it must not come back by itself.
  docker update --restart no "$name" >/dev/null
fi
echo "@step starting container $name"
if ! docker start "$name" >/dev/null 2>"$answer"; then
  # A Docker that was cut off while it started a container gives its port back only when it starts anew. The
  # containers run on meanwhile (live-restore).
  if grep -q 'port is already allocated' "$answer" && [ -z "$(docker ps -q --filter "publish=$PORT")" ]; then
    echo "@step restarting Docker: it holds port $PORT for a container that is gone"
    systemctl restart docker.service
    docker start "$name" >/dev/null 2>"$answer" && : >"$answer"
  fi
  if [ -s "$answer" ]; then fail "Docker did not start the container: $(head -c 500 "$answer")"; fi
fi

echo "@step waiting for http://127.0.0.1:$PORT$HEALTH to answer $LOW-$HIGH"
begin=$(date +%s)
last=
while :; do
  ask "http://127.0.0.1:$PORT$HEALTH" "$HOST"
  waited=$(($(date +%s) - begin))
  if healthy; then
    say @try "healthy after ${waited}s: $(heard)"
    break
  fi
  running=$(docker inspect -f '{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}' "$name" 2>/dev/null)
  case $running in
    '') code='Docker does not answer' text= ;; # it may be starting anew; the container lives on meanwhile
    true*) ;;
    *true) fail "the container ran out of its memory limit" ;;
    *) fail "the container ended by itself with status $(echo "$running" | cut -d' ' -f2)" ;;
  esac
  if [ "$(heard)" != "$last" ] || [ $((waited % 5)) = 0 ]; then say @try "after ${waited}s: $(heard)"; fi
  last=$(heard)
  if [ "$waited" -ge "$DEADLINE" ]; then
    fail "not healthy within ${DEADLINE}s: $HEALTH gave $(heard)"
  fi
  sleep 0.5
done

if [ -f "$dir/caddy.json" ]; then
  echo "@step giving the proxy its routes"
  send "$dir/caddy.json" http://localhost:2019/load
  if [ "$code" != 200 ]; then fail "Caddy refused its configuration: $(head -c 500 "$answer")"; fi
  rm -f "$dir/caddy.json"
fi
docker update --restart unless-stopped "$name" >/dev/null || fail 'Docker did not take the restart policy'

# The switch. The proxy looks for file b at each request, and takes slot b when it is there, else slot a. So one
# rename (to b) or one removal (to a) moves the traffic; the file's content is the record of which release it is.
echo "@step switching the traffic to release $N"
mkdir -p "$live"
chmod 755 "${home%/*}" "$home" "$live"
# A full disk takes no byte, but gives an empty file.
printf '%s\n' "$N" >"$live/.next" || fail "$live/.next could not be written: is the machine's disk full?"
chmod 644 "$live/.next"
if [ "$now" = b ]; then ln -f "$live/b" "$live/.back"; fi
if [ "$SLOT" = b ]; then
  mv "$live/.next" "$live/b"
else
  mv "$live/.next" "$live/a"
  rm -f "$live/b"
fi
sync "$live"

ask "http://127.0.0.1:80$HEALTH" "$PROXY_HOST"
if ! healthy; then
  if [ -n "$old" ]; then
    if [ "$now" = b ]; then
      mv "$live/.back" "$live/b"
    else
      rm -f "$live/b"
    fi
    fail "through the proxy, $HEALTH gave $(heard); the traffic is back on release $old"
  fi
  rm -f "$live/a" "$live/b"
  fail "through the proxy, $HEALTH gave $(heard)"
fi
rm -f "$live/.back"
mark "$N" live
say @live "$N $(heard)"

if [ -n "$old" ] && [ "$old" != "$N" ]; then
  echo "@step letting release $old finish its requests"
  tries=$((GRACE * 5))
  while [ "$tries" -gt 0 ] && ss -Htn state established "( sport = :$OLD_PORT )" | grep -q .; do
    tries=$((tries - 1))
    sleep 0.2
  done
  docker stop -t "$GRACE" "$APP-$old" >/dev/null 2>&1
  if [ -d "$home/releases/$old" ]; then mark "$old" replaced; fi
fi
for number in $PRUNE; do
  docker rm -f "$APP-$number" >/dev/null 2>&1
  rm -rf "${home:?}/releases/$number"
done
for image in $PRUNE_IMAGES; do
  # Refused by Docker when a container of somebody's still uses it: then it stays.
  docker rmi "$image" >/dev/null 2>&1
done
rm -f "$answer"
exit 0
