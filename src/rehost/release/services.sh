# Makes a service's container, or replaces it; the one before comes back when the new one fails. Runs as a unit.
# Parameters stand above this line: APP, NAME, NETWORK, IMAGE, HEALTH (a command in the container, or nothing), DEADLINE,
# GRACE. The container is made from services/NAME/container.json, which root alone reads.
set -u
export LC_ALL=C
umask 077
dir=/var/lib/rehost/$APP/services/$NAME
name=$APP.$NAME

there() { docker container inspect "$1" >/dev/null 2>&1; }
fail() {
  printf '@fail %s\n' "$(printf '%s' "$1" | tr '\n' ' ')"
  if [ -n "${made:-}" ]; then
    docker logs --tail 50 "$name" 2>&1 | sed 's/^/@log /'
    docker rm -f "$name" >/dev/null 2>&1
  fi
  if there "$name.old"; then
    docker rename "$name.old" "$name" && docker start "$name" >/dev/null
    echo "@step the service as it was before runs again"
  fi
  exit 3
}

# Services are set up side by side, and Docker makes two networks of one name when it is asked by two.
exec 9>>"${dir%/*}/network.lock"
flock 9
if ! docker network inspect "$NETWORK" >/dev/null 2>&1; then
  said=$(docker network create --label "rehost.app=$APP" "$NETWORK" 2>&1) || fail "Docker made no network: $said"
fi
exec 9>&-
if ! docker image inspect "$IMAGE" >/dev/null 2>&1; then
  echo "@step pulling $IMAGE"
  said=$(docker pull --quiet "$IMAGE" 2>&1) || fail "$IMAGE could not be pulled: $said"
fi

# A replacement that was cut off: what is under the name may be half of one, the one before is whole.
if there "$name.old"; then
  docker rm -f "$name" >/dev/null 2>&1
elif there "$name"; then
  echo "@step stopping $NAME"
  docker stop -t "$GRACE" "$name" >/dev/null || docker kill "$name" >/dev/null 2>&1
  docker rename "$name" "$name.old" || fail "the container of before could not be renamed"
fi

echo "@step starting $NAME from $IMAGE"
code=$(curl -sS -o "$dir/answer" -w '%{http_code}' -H 'Content-Type: application/json' \
  --data-binary "@$dir/container.json" --unix-socket /run/docker.sock "http://docker/containers/create?name=$name")
[ "$code" = 201 ] || fail "Docker did not create the container: $(head -c 500 "$dir/answer")"
rm -f "$dir/answer"
made=1
said=$(docker start "$name" 2>&1) || fail "Docker did not start the container: $said"

# With a health command until that is content, else for three seconds.
begin=$(date +%s)
while :; do
  sleep 0.5
  case $(docker container inspect -f '{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}' "$name" 2>/dev/null) in
    'true '* | '') ;;
    *' true') fail "it ran out of its memory limit" ;;
    *) fail "it ended by itself with status $(docker container inspect -f '{{.State.ExitCode}}' "$name")" ;;
  esac
  waited=$(($(date +%s) - begin))
  if [ -z "$HEALTH" ]; then
    [ "$waited" -lt 3 ] || break
  elif said=$(eval "timeout 10 docker exec \"\$name\" $HEALTH" 2>&1); then
    break
  elif [ "$waited" -ge "$DEADLINE" ]; then
    fail "not healthy within ${DEADLINE}s: $HEALTH says $(printf '%s' "$said" | tail -n 1)"
  fi
done
docker update --restart unless-stopped "$name" >/dev/null || fail 'Docker did not take the restart policy'
mv "$dir/service.json.new" "$dir/service.json" || fail 'its record could not be written'
docker rm "$name.old" >/dev/null 2>&1
exit 0
