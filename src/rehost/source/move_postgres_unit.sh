# Runs what stands in the file `inner` in a container of the service's image, in the service's network, as a unit of the
# machine: it goes on when nobody follows. Above stand DIR, CONTAINER (the service's) and MOVER, the new one's name. It is
# no process of the service's container: PostgreSQL is the first process there, and takes for a crash of its own what ends
# there by a signal.
set -u
export LC_ALL=C
fail() {
  printf '@fail %s\n' "$*"
  exit 3
}
docker rm -f "$MOVER" >/dev/null 2>&1
image=$(docker container inspect -f '{{.Image}}' "$CONTAINER" 2>&1) || fail "there is no container $CONTAINER"
# The service's own user, database and password, as assignments.
known=$(
  docker exec -i "$CONTAINER" sh <<'KNOWN'
for each in POSTGRES_USER POSTGRES_DB POSTGRES_PASSWORD; do
  eval "value=\${$each-}"
  printf "%s='%s'\n" "$each" "$(printf %s "$value" | sed "s/'/'\\\\''/g")"
done
KNOWN
) || fail "the service does not run"
size=$(wc -c <"$DIR/inner") || exit 74
# The file holds a password, so it goes at once; it is read from where it was opened.
exec 3<"$DIR/inner"
rm -f "$DIR/inner" "$DIR/pipe"
mkfifo "$DIR/pipe" || exit 74
# Both ends are ours: the container sees the end of it when this unit ends, and not before.
exec 4<>"$DIR/pipe"
rm -f "$DIR/pipe"
{ printf '%s\n' "$known" && cat <&3; } >&4 &
set -- --name "$MOVER" --network "container:$CONTAINER" --log-driver none --user 0 --entrypoint sh
if [ -f "$DIR/authority" ]; then set -- "$@" -v "$DIR/authority:/tmp/rehost-moving.ca:ro"; fi
# When the service ends or starts anew, its network goes away under the mover, which would wait for it for long.
{
  docker wait "$CONTAINER"
  docker rm -f "$MOVER"
} >/dev/null 2>&1 3<&- 4>&- &
waiter=$!
docker run --rm -i "$@" "$image" -c "eval \"\$(head -c $((${#known} + 1 + size)))\"" <&4 3<&- 4>&-
status=$?
kill "$waiter"
case $status in
  0 | 3) exit "$status" ;;
esac
docker rm -f "$MOVER" >/dev/null 2>&1
fail "it was cut off (status $status): did the service end?"
