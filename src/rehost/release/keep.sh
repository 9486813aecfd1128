# What a release leaves behind on the machine. release.sh and room.sh call these functions. Parameters: APP, N, BY (who
# releases), PRUNE (numbers of releases to drop), PRUNE_IMAGES (names or ids of images that go with them), $home, $old.

# event WORD TEXT: one line of the app's history, which outlives the release's own directory.
event() {
  if [ "$1" = began ]; then bound_history; fi
  printf '%s\t%s\t%s\t%s\t%s\n' "$(date +%s.%N)" "$1" "$N" "$BY" "$(printf '%s' "$2" | tr '\t\n' '  ')" \
    2>/dev/null >>"$home/history" || : # a full disk must not stop a release
}
# The last 400 lines are more than a hundred releases; cut now and then, not each time.
bound_history() {
  if [ -f "$home/history" ] && [ "$(wc -l <"$home/history")" -gt 500 ]; then
    tail -n 400 "$home/history" >"$home/history.new" && mv "$home/history.new" "$home/history"
  fi
}
# Only what carries the app's own labels goes: somebody else's container may have a name like ours. Never a volume.
prune() {
  for number in $PRUNE; do
    if [ "$number" = "$N" ] || [ "$number" = "$old" ]; then continue; fi
    for container in $(docker ps -aq --filter "label=rehost.app=$APP" --filter "label=rehost.release=$number"); do
      docker rm -f "$container" >/dev/null 2>&1
    done
    rm -rf "${home:?}/releases/$number"
  done
  for image in $PRUNE_IMAGES; do
    # Not forced: refused by Docker when a container of anybody's still uses it, and then it stays.
    docker rmi "$image" >/dev/null 2>&1 || :
  done
}
