# One run of a job, as the unit rehost-APP.job.NAME.service. Installed as /var/lib/rehost/APP/jobs/run.
# Usage: run APP NAME MAX GRACE [end]. MAX: seconds that it may take. end: what is left to do when the unit was stopped.
# jobs/NAME/now holds the number of the run while it runs; jobs/NAME/runs/NUMBER/{run,log} is what is kept of it.
set -u
export LC_ALL=C
umask 077
APP=$1 JOB=$2 MAX=$3 GRACE=$4
home=/var/lib/rehost/$APP
jobs=$home/jobs/$JOB
name=$APP.job.$JOB
KEEP=20

# ended STATUS: writes down how run $id ended, and drops what is older than the last KEEP runs. STATUS: the exit
# status, or "timeout", "memory", "stopped", "failed" (it could not be started).
ended() {
  docker logs "$name" 2>&1 | tail -c 1000000 >>"$run/log"
  printf 'status=%s\nended=%s\n' "$1" "$(date +%s)" >>"$run/run"
  rm -f "$jobs/now"
  for old in $(ls "$jobs/runs" | sort -n | head -n "-$KEEP"); do rm -rf "${jobs:?}/runs/$old"; done
}

if [ "${5:-}" = end ]; then
  id=$(cat "$jobs/now" 2>/dev/null) || exit 0
  run=$jobs/runs/$id
  docker stop -t "$GRACE" "$name" >/dev/null 2>&1
  ended stopped
  exit 0
fi

mkdir -p "$jobs/runs"
id=$(($(ls "$jobs/runs" | sort -n | tail -n 1) + 1))
run=$jobs/runs/$id
mkdir "$run" || exit 1
by=timer
if [ -f "$jobs/order" ]; then by=$(cat "$jobs/order"); fi
live=$home/live
n=$(cat "$live/b" 2>/dev/null || cat "$live/a" 2>/dev/null)
begin=$(date +%s)
printf 'started=%s\nby=%s\nrelease=%s\n' "$begin" "$by" "$n" >"$run/run"
printf '%s\n' "$id" >"$jobs/now"
rm -f "$jobs/order"

refuse() {
  echo "rehost: $1" | tee -a "$run/log"
  docker rm -f "$name" >/dev/null 2>&1 # an earlier run's log is not this one's
  ended failed 2>/dev/null
  exit 1
}
docker rm -f "$name" >/dev/null 2>&1
body=$home/releases/$n/job.$JOB.json
[ -f "$body" ] || refuse "release ${n:-none} has no job $JOB"
code=$(curl -sS -o "$run/answer" -w '%{http_code}' -H 'Content-Type: application/json' --data-binary "@$body" \
  --unix-socket /run/docker.sock "http://docker/containers/create?name=$name")
[ "$code" = 201 ] || refuse "Docker did not create the container: $(head -c 500 "$run/answer" 2>/dev/null)"
rm -f "$run/answer"
said=$(docker start "$name" 2>&1) || refuse "Docker did not start the container: $said"
: >"$run/begun"

status=
while [ -z "$status" ]; do
  left=$((begin + MAX - $(date +%s)))
  if [ "$left" -le 0 ]; then
    docker stop -t "$GRACE" "$name" >/dev/null 2>&1
    status=timeout
    break
  fi
  timeout "$left" docker wait "$name" >/dev/null 2>&1
  case $(docker container inspect -f '{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}' "$name" 2>&1) in
    'true '*) ;;
    'false '*' true') status=memory ;;
    'false '*) status=$(docker container inspect -f '{{.State.ExitCode}}' "$name") ;;
    *'No such'*) status=failed ;; # somebody removed it
    *) sleep 1 ;;                 # Docker is starting anew; the container lives on meanwhile
  esac
done
ended "$status"
[ "$status" = 0 ]
