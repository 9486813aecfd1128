# Builds an image, as a unit. Parameters stand above: BY, ROOT (what ship.sh filled), SHIPPED (its fingerprint), ID_FILE;
# the command is the arguments. Ends with OTHER_FILES when something else lies there, with NO_MEMORY when the build was
# stopped.
export DOCKER_BUILDKIT=1 HOME=/root LC_ALL=C
echo "@by $BY $(date +%s)"
# The lock keeps further ships out while Docker reads.
exec 9>>"$ROOT.lock" 2>&1
flock 9
# Somebody else may have shipped since; an image of other files than its label says would be taken for this one.
if [ "$(cat "$ROOT.shipped" 2>/dev/null)" != "$SHIPPED" ]; then
  echo 'Somebody else has sent other files meanwhile.'
  exit "$OTHER_FILES"
fi

# memory: sets $all and $left, in kB: memory and swap together. Nothing is started for it. On a machine that is a container
# SwapTotal counts more than there is (lxcfs); what is used of it is right, and so are the sizes in /proc/swaps.
memory() {
  all=0 left=0
  while read -r _ _ size _; do
    case $size in *[!0-9]* | '') ;; *) all=$((all + size)) left=$((left + size)) ;; esac
  done </proc/swaps
  while read -r name size _; do
    case $name in
      MemTotal:) all=$((all + size)) ;;
      MemAvailable: | SwapFree:) left=$((left + size)) ;;
      SwapTotal:) left=$((left - size)) ;;
    esac
  done </proc/meminfo
}
# guard PID: stops a build that takes the last of the machine's memory. Nothing would answer any more, the app least of
# all, for as long as the kernel takes to find a program that it may end. Half of what there is a build may have anyway.
guard() {
  memory
  keep=$((all / 8))
  for most in 524288 $((left / 2)); do
    if [ "$keep" -gt "$most" ]; then keep=$most; fi
  done
  while
    memory
    [ "$left" -ge "$keep" ]
  do sleep 0.2; done
  trap '' TERM
  echo "@memory $((left / 1024))"
  kill "$1" || :
}
"$@" </dev/null &
build=$!
guard "$build" 9>&- &
guard=$!
wait "$build"
status=$?
# It ends by itself when it has stopped the build.
kill "$guard" 2>/dev/null
if wait "$guard" 2>/dev/null; then exit "$NO_MEMORY"; fi
if [ "$status" = 0 ]; then echo "@image $(cat "$ID_FILE")"; fi
exit "$status"
