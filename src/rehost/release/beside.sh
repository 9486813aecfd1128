# What runs beside the web process of a release, its workers and jobs: functions for release.sh and mend.py.
# Before this stand APP, GRACE and (below, in release.sh) $home. Release N's worker PROCESS is the container
# APP-N.PROCESS, made from releases/N/process.PROCESS.json. Never two releases' workers at once: two schedulers would do
# everything twice. So the old ones are stopped first, then the new ones started, right after the traffic was switched.
# Release N's job JOB is releases/N/job.JOB.{json,timer,service}; only the release that serves has timers (see job.sh).
units=/etc/systemd/system

# beside_workers N: the names of its containers.
beside_workers() {
  for found in "$home/releases/$1"/process.*.json; do
    [ -f "$found" ] || continue
    found=${found##*/process.}
    echo "$APP-$1.${found%.json}"
  done
}

# beside_make N: creates what is not there; a status other than 0, and $beside_why, when Docker refuses.
beside_make() {
  for worker in $(beside_workers "$1"); do
    if docker container inspect "$worker" >/dev/null 2>&1; then continue; fi
    code=$(curl -sS -o "$home/releases/$1/answer" -w '%{http_code}' -H 'Content-Type: application/json' \
      --data-binary "@$home/releases/$1/process.${worker#*.}.json" --unix-socket /run/docker.sock \
      "http://docker/containers/create?name=$worker")
    if [ "$code" != 201 ]; then
      beside_why="Docker did not create $worker: $(head -c 500 "$home/releases/$1/answer")"
      return 1
    fi
    rm -f "$home/releases/$1/answer"
  done
}

# beside_stop CONTAINER...: all at the same time, each with its grace.
beside_stop() {
  [ $# -gt 0 ] || return 0
  echo "@step stopping $*"
  docker stop -t "$GRACE" "$@" >/dev/null || docker kill "$@" >/dev/null 2>&1
}

# beside_up N: a status other than 0, $beside_why and the last lines of a worker that does not run, or came back by
# itself. A Docker that does not answer says nothing about them.
beside_up() {
  # shellcheck disable=SC2046  # a list of names
  beside_look $(beside_workers "$1")
}
beside_look() {
  for worker; do
    running=$(docker container inspect -f '{{.State.Running}} {{.RestartCount}} {{.State.ExitCode}} {{.State.OOMKilled}}' \
      "$worker" 2>/dev/null)
    case $running in
      '' | 'true 0 '*) continue ;;
      *' true') beside_why="process ${worker#*.} ran out of its memory limit" ;;
      'true '*) beside_why="process ${worker#*.} ended by itself and was started anew" ;;
      *) beside_why="process ${worker#*.} ended by itself with status $(echo "$running" | cut -d' ' -f3)" ;;
    esac
    docker logs --tail 50 "$worker" 2>&1 | sed 's/^/@log /'
    return 1
  done
}

# beside_start N: starts what does not run. Without a restart policy until it has stayed up for three seconds: what
# dies at once must not come back again and again.
beside_start() {
  started=
  for worker in $(beside_workers "$1"); do
    if [ "$(docker container inspect -f '{{.State.Running}}' "$worker" 2>/dev/null)" = true ]; then continue; fi
    echo "@step starting $worker"
    docker update --restart no "$worker" >/dev/null
    if ! said=$(docker start "$worker" 2>&1); then
      beside_why="Docker did not start $worker: $said"
      return 1
    fi
    started="$started $worker"
  done
  [ -n "$started" ] || return 0
  looks=6
  while [ "$looks" -gt 0 ]; do
    sleep 0.5
    # shellcheck disable=SC2086
    beside_look $started || return 1
    looks=$((looks - 1))
  done
  # shellcheck disable=SC2086  # a list of names
  docker update --restart unless-stopped $started >/dev/null || {
    beside_why='Docker did not take the restart policy'
    return 1
  }
}

# beside_ready N: what must be possible before N takes over.
beside_ready() { beside_make "$1" || fail "$beside_why"; }

# beside_take_over OLD N: a status other than 0, and $beside_why, when N's workers do not stay up.
beside_take_over() {
  workers='' stopping=
  # Where no release has workers, Docker need not be asked which of them run.
  for worker in "$home"/releases/*/process.*.json; do
    [ -f "$worker" ] || break
    workers=$(running) || { # of containers.sh
      beside_why='Docker does not answer'
      return 1
    }
    break
  done
  for worker in $workers; do
    case $worker in "$APP-$2".*) ;; "$APP"-*.*) stopping="$stopping $worker" ;; esac
  done
  # shellcheck disable=SC2086
  beside_stop $stopping
  beside_start "$2" && beside_schedule "$2"
}

# beside_return OLD N: N's workers go, OLD's work again. OLD may be empty; doing it again changes nothing.
beside_return() {
  gone=
  for worker in $(beside_workers "$2"); do
    if docker container inspect "$worker" >/dev/null 2>&1; then gone="$gone $worker"; fi
  done
  if [ -n "$gone" ]; then
    # shellcheck disable=SC2086
    docker stop -t "$GRACE" $gone >/dev/null 2>&1
    # shellcheck disable=SC2086
    docker rm -f $gone >/dev/null 2>&1
  fi
  if [ -z "$1" ]; then
    beside_jobs ''
    return 0
  fi
  # The reason why N failed is not overwritten by what goes wrong here.
  kept=${beside_why:-}
  if ! beside_hold "$1"; then say @step "release $1 is back, but: $beside_why"; fi
  beside_why=$kept
}

# beside_jobs N: the jobs of release N are the app's jobs: their unit files, and timers that wait. N may be empty.
# systemd 252 starts a job at once when its timer was stopped, unit files were read anew, and it starts again after
# something was due. So a timer that changes, or does not wait, is forgotten before it is made.
beside_jobs() {
  set -- "$home/releases/${1:-none}"
  if [ -f "$1/job.sh" ]; then
    mkdir -p "$home/jobs"
    { cp "$1/job.sh" "$home/jobs/run.new" && mv "$home/jobs/run.new" "$home/jobs/run"; } || return 1
  fi
  changed=
  for target in "$units/rehost-$APP".job.*; do
    job=$1/${target##*/rehost-"$APP".}
    [ -f "$target" ] || continue
    case $target in
      *.timer)
        if cmp -s "$job" "$target" && [ "$(systemctl show -p ActiveState --value "${target##*/}")" = active ]; then
          continue
        fi
        systemctl disable --now "${target##*/}" 2>/dev/null
        ;;
      *) if [ -f "$job" ]; then continue; fi ;; # of a run that is under way, perhaps
    esac
    rm -f "$target"
    changed=1
  done
  for job in "$1"/job.*.service; do
    target=$units/rehost-$APP.${job##*/}
    if [ ! -f "$job" ] || cmp -s "$job" "$target"; then continue; fi
    beside_put "$job" "$target" || return 1
    changed=1
  done
  if [ -n "$changed" ]; then systemctl daemon-reload || return 1; fi
  for job in "$1"/job.*.timer; do
    target=$units/rehost-$APP.${job##*/}
    if [ ! -f "$job" ] || [ -f "$target" ]; then continue; fi
    beside_put "$job" "$target" || return 1
    { systemctl enable "${target##*/}" 2>/dev/null && systemctl start "${target##*/}"; } || return 1
  done
}
beside_put() { cp "$1" "$2.new" && chmod 644 "$2.new" && mv "$2.new" "$2"; }
beside_schedule() {
  beside_jobs "$1" && return 0
  beside_why='the timers of the jobs could not be set up'
  return 1
}

# beside_hold N: what should work beside N does so again; a status other than 0, and $beside_why, when it does not.
beside_hold() { beside_make "$1" && beside_start "$1" && beside_schedule "$1"; }
