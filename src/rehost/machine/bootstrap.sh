# Brings a Debian or Ubuntu machine to what rehost builds on: Docker, Caddy, swap, security upgrades, bounded logs.
# Runs as the startup script of a cloud machine at every boot, and over ssh when the probe finds something amiss.
# Doing it again changes nothing. Parameters stand above this line: VERSION, PACKAGES, DAEMON_JSON,
# KEEP_DAEMON_JSON (1: leave a file that is there), UPGRADES, JOURNALD, SSHD, LOGIND, SYSCTL, CADDY, ENDS, DOCKER.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
home=/var/lib/rehost/bootstrap
mkdir -p "$home"
log=$home/log
swap=/var/lib/rehost/swap
step=start

# At a boot, the startup script and an `up` over ssh may meet: the second one waits, then finds all in place.
exec 9>"$home/lock"
flock 9
: >"$log"

mark() {
  printf 'version=%s\nresult=%s\nstep=%s\n' "$VERSION" "$1" "$step" >"$home/state.new"
  mv "$home/state.new" "$home/state"
}
step() {
  step=$1
  mark running
  echo "rehost: $step" | tee -a "$log"
}
finish() {
  status=$?
  if [ "$status" = 0 ]; then
    step='ready'
    mark "done"
    echo 'rehost: ready' | tee -a "$log"
  else
    mark failed
    echo "rehost: failed at: $step (status $status)"
    tail -n 15 "$log"
  fi
}
trap finish EXIT

# put FILE CONTENT: true when the file had to change.
put() {
  if [ -f "$1" ] && [ "$(cat "$1"; echo x)" = "$2
x" ]; then return 1; fi
  mkdir -p "${1%/*}"
  printf '%s\n' "$2" >"$1.rehost-new"
  mv "$1.rehost-new" "$1"
}

step 'looking at the machine'
if ! [ -f /etc/debian_version ]; then
  echo 'This is neither Debian nor Ubuntu; rehost knows no other system yet.' >>"$log"
  exit 1
fi

restart_docker=
if [ "$KEEP_DAEMON_JSON" != 1 ] || ! [ -f /etc/docker/daemon.json ]; then
  if put /etc/docker/daemon.json "$DAEMON_JSON"; then restart_docker=1; fi
fi
put /etc/apt/apt.conf.d/20auto-upgrades "$UPGRADES" || :
if put /etc/systemd/journald.conf.d/rehost.conf "$JOURNALD"; then systemctl restart systemd-journald; fi
# An sshd that a socket starts (Ubuntu) may not run just now; it reads the file when it does.
if put /etc/ssh/sshd_config.d/60-rehost.conf "$SSHD"; then systemctl reload ssh >>"$log" 2>&1 || :; fi
# It reads its configuration anew at this signal; systemctl knows no reload of it.
if put /etc/systemd/logind.conf.d/rehost.conf "$LOGIND"; then
  systemctl kill -s HUP systemd-logind.service >>"$log" 2>&1 || :
fi
# Some containers may not write sysctls; the file still counts at the next boot.
if put /etc/sysctl.d/90-rehost.conf "$SYSCTL"; then sysctl -q -p /etc/sysctl.d/90-rehost.conf >>"$log" 2>&1 || :; fi
# Caddy need not start anew for it.
if put /etc/systemd/system/caddy-api.service.d/rehost.conf "$CADDY"; then systemctl daemon-reload; fi
put "$home/end-containers" "$ENDS" || :
if put /etc/systemd/system/docker.service.d/rehost.conf "$DOCKER"; then
  systemctl daemon-reload
  restart_docker=1
fi

memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
want=1024
if [ "$memory" -lt 4096 ]; then want=2048; fi
if ! grep -q "^$swap " /proc/swaps; then
  step "adding $want MB of swap"
  free=$(df -BM --output=avail /var/lib/rehost | tail -n 1 | tr -dc 0-9)
  if [ -f "$swap" ] && [ "$(stat -c %s "$swap")" != $((want * 1024 * 1024)) ]; then rm -f "$swap"; fi
  if ! [ -f "$swap" ]; then
    if [ "$free" -lt $((want + 1024)) ]; then
      echo "The disk has $free MB free; $want MB of swap and 1024 MB of room are needed." >>"$log"
      exit 1
    fi
    (umask 077 && fallocate -l "${want}M" "$swap.new" && mkswap "$swap.new" && mv "$swap.new" "$swap") >>"$log" 2>&1
  fi
  swapon "$swap" >>"$log" 2>&1
fi
if ! grep -q "^$swap " /etc/fstab 2>/dev/null; then echo "$swap none swap sw 0 0" >>/etc/fstab; fi

missing=
for package in $PACKAGES; do
  case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
    ?i*) ;;
    *) missing="$missing $package" ;;
  esac
done
if [ -n "$missing" ]; then
  # caddy.service would open port 80 with a welcome page; caddy-api.service keeps its configuration across restarts.
  systemctl mask caddy.service >>"$log" 2>&1
  attempt=1
  while :; do
    step "installing$missing (attempt $attempt)"
    dpkg --configure -a >>"$log" 2>&1 || :
    if [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mtime -1 2>/dev/null | head -n 1)" ] || [ "$attempt" -gt 1 ]; then
      apt-get -q -o DPkg::Lock::Timeout=600 update >>"$log" 2>&1 9>&- || :
    fi
    # shellcheck disable=SC2086  # a list of names, on purpose
    if apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
      install --no-install-recommends $missing >>"$log" 2>&1 9>&-; then break; fi
    if [ "$attempt" -ge 5 ]; then exit 1; fi
    sleep $((attempt * 5))
    attempt=$((attempt + 1))
  done
  # A Docker that was installed just now has read its configuration; one that was there before has not.
  case "$missing " in *' docker.io '*) restart_docker= ;; esac
fi

step 'starting Docker and Caddy'
systemctl is-enabled -q docker.service || systemctl enable -q docker.service >>"$log" 2>&1
if [ -n "$restart_docker" ]; then
  # live-restore keeps the containers running meanwhile.
  systemctl restart docker.service >>"$log" 2>&1
fi
systemctl is-active -q docker.service || systemctl start docker.service >>"$log" 2>&1
if systemctl is-active -q caddy.service; then systemctl disable -q --now caddy.service >>"$log" 2>&1; fi
systemctl is-enabled -q caddy-api.service || systemctl enable -q caddy-api.service >>"$log" 2>&1
systemctl is-active -q caddy-api.service || systemctl start caddy-api.service >>"$log" 2>&1
tries=0
until curl -sS --unix-socket /run/docker.sock http://docker/_ping >/dev/null 2>>"$log"; do
  tries=$((tries + 1))
  if [ "$tries" -ge 60 ]; then exit 1; fi
  sleep 0.5
done
