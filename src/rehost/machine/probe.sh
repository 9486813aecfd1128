# Reads the whole state of a machine in one go and leaves nothing; probe.py reads the answer. Each program that is
# started costs a shared-core machine some milliseconds: one grep reads all files, one curl asks Docker and Caddy, and
# what takes longest runs side by side.
# Parameters stand above this line: MARK (the section mark), APP, PACKAGES, FILES, HEALTH, HOST.
say() { printf '%s %s\n' "$MARK" "$1"; }
parts=$(mktemp -d /run/rehost-probe.XXXXXX) || exit 1
trap 'rm -r "$parts"' EXIT
trap 'exit 1' HUP INT TERM
ask_units() {
  say units
  systemctl show -p Id,ActiveState,SubState,UnitFileState,Result docker.service caddy-api.service caddy.service \
    unattended-upgrades.service google-startup-scripts.service "rehost-$APP-build.service" \
    "rehost-$APP-release.service" "rehost-$APP-drain.service" rehost-bootstrap.service "rehost-$APP.job.*.timer"
}
# A drain that ends while we read would leave, in an older list of containers, one that runs and that nobody stops. So
# where one may be under way (release.sh keeps that file meanwhile), its unit is asked for before the containers.
if [ -f "/var/lib/rehost/$APP/release/after" ]; then ask_units >"$parts/1"; else ask_units >"$parts/1" & fi
{
  # Docker and Caddy answer only when they are installed and running; absence is an answer too.
  docker=/run/docker.sock
  say docker
  # Not its version: to tell that, Docker starts two programs.
  curl -s -m 10 --unix-socket $docker -w "\n$MARK containers\n" http://docker/_ping \
    --next -s -m 10 --unix-socket $docker -w "\n$MARK images\n" \
    'http://docker/containers/json?all=1&filters=%7B%22label%22%3A%5B%22rehost.app%22%5D%7D' \
    --next -s -m 10 --unix-socket $docker -w "\n$MARK tagged\n" \
    "http://docker/images/json?filters=%7B%22label%22%3A%5B%22rehost.app%3D$APP%22%5D%7D" \
    --next -s -m 10 --unix-socket $docker -w "\n$MARK caddy\n" \
    "http://docker/images/json?filters=%7B%22reference%22%3A%5B%22rehost%2F$APP%22%5D%7D" \
    --next -s -m 10 -w '\n' http://localhost:2019/config/
} >"$parts/2" &
{
  # Asked through the proxy, as the world does; only when a release should serve.
  say health
  if [ -f "/var/lib/rehost/$APP/live/a" ] || [ -f "/var/lib/rehost/$APP/live/b" ]; then
    curl -s -m 5 -H "Host: $HOST" -w '\n%{http_code} %{time_total}\n' "http://127.0.0.1:80$HEALTH" | tail -c 400
  fi
} >"$parts/3" &
say texts
# Each line comes with its file's path before it. The file under live/ that the proxy looks at names the release too:
# switch and record are one act.
# shellcheck disable=SC2086  # a list of names, on purpose
grep -asH '' /etc/os-release /proc/meminfo /proc/swaps /proc/uptime $FILES /var/lib/rehost/bootstrap/state \
  /var/lib/rehost/*/ports "/var/lib/rehost/$APP"/live/[ab] \
  "/var/lib/rehost/$APP"/releases/*/state "/var/lib/rehost/$APP"/releases/*/release.json \
  "/etc/systemd/system/rehost-$APP".job.* "/var/lib/rehost/$APP"/services/*/service.json \
  "/var/lib/rehost/$APP"/moving/step "/var/lib/rehost/$APP"/moving/*/moved.json
say cpus
nproc
say disk
df -B1 --output=target,size,avail /var/lib
say packages
# shellcheck disable=SC2086
dpkg-query -W -f '${Package} ${db:Status-Abbrev} ${Version} ${Architecture}\n' $PACKAGES 2>/dev/null
wait
cat "$parts"/*
say end
