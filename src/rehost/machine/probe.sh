# Reads the whole state of a machine in one go and changes nothing. Sections are parsed by probe.py.
# Parameters stand above this line: MARK (the section mark), APP, PACKAGES, FILES, HEALTH, HOST.
say() { printf '%s %s\n' "$MARK" "$1"; }
api() { curl -sS --max-time 10 --unix-socket /run/docker.sock "http://docker$1" 2>/dev/null || true; echo; }
say os
cat /etc/os-release
say memory
grep -E '^(MemTotal|MemAvailable):' /proc/meminfo
say swaps
cat /proc/swaps
say cpus
nproc
say uptime
cat /proc/uptime
say disk
df -B1 --output=target,size,avail /var/lib
say packages
# shellcheck disable=SC2086  # a list of names, on purpose
dpkg-query -W -f '${Package} ${db:Status-Abbrev} ${Version}\n' $PACKAGES 2>/dev/null || true
say files
for file in $FILES; do
  if [ -f "$file" ]; then printf '%s %s\n' "$(base64 -w0 <"$file")" "$file"; else printf -- '- %s\n' "$file"; fi
done
say units
systemctl show -p Id,ActiveState,SubState,UnitFileState,Result docker.service caddy-api.service caddy.service \
  unattended-upgrades.service google-startup-scripts.service "rehost-$APP-build.service" \
  "rehost-$APP-release.service" rehost-bootstrap.service
say bootstrap
cat /var/lib/rehost/bootstrap/state 2>/dev/null
# Docker and Caddy answer on a socket only when they are installed and running; absence is an answer too.
say docker
api /version
say containers
api '/containers/json?all=1&filters=%7B%22label%22%3A%5B%22rehost.app%22%5D%7D'
say images
api "/images/json?filters=%7B%22label%22%3A%5B%22rehost.app%3D$APP%22%5D%7D"
say caddy
curl -sS --max-time 10 http://localhost:2019/config/ 2>/dev/null || true
echo
say ports
for file in /var/lib/rehost/*/ports; do
  [ -f "$file" ] || continue
  dir=${file%/ports}
  printf '%s %s\n' "${dir##*/}" "$(cat "$file")"
done
say live
# The file that the proxy looks at names the release too: switch and record are one act.
for slot in b a; do
  if [ -f "/var/lib/rehost/$APP/live/$slot" ]; then
    printf '%s %s\n' "$slot" "$(cat "/var/lib/rehost/$APP/live/$slot")"
    break
  fi
done
# Asked through the proxy, as the world does; only when a release should serve.
say health
if [ -f "/var/lib/rehost/$APP/live/a" ] || [ -f "/var/lib/rehost/$APP/live/b" ]; then
  # No line of the answer may look like a mark of ours.
  curl -s -m 5 -H "Host: $HOST" -w '\n%{http_code} %{time_total}\n' "http://127.0.0.1:80$HEALTH" \
    | tail -c 400 | tr -d '\r' | sed "s/^$MARK/ &/"
fi
say releases
for dir in "/var/lib/rehost/$APP"/releases/*/; do
  [ -f "$dir/release.json" ] || continue
  number=${dir%/}
  printf '%s %s %s\n' "${number##*/}" "$(cat "$dir/state" 2>/dev/null || echo prepared)" "$(tr -d '\n' <"$dir/release.json")"
done
say end
