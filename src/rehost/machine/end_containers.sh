#!/bin/sh
# When the machine goes down, Docker leaves its containers running (live-restore), and they would get SIGTERM at the very
# end, when the network is gone; whoever ignores it holds the machine for 90 seconds. So here each gets its stop signal
# and its grace, as from `docker stop`. Not by Docker, which is gone: it would keep them from starting at the next boot.
[ "$(systemctl is-system-running)" = stopping ] || exit 0
cd /var/lib/docker/containers 2>/dev/null || exit 0
now() { cut -d. -f1 /proc/uptime; }
left=
for config in */config.v2.json; do
  [ -f "$config" ] || continue
  pid=$(grep -o '"Pid":[0-9]*' "$config" | head -n 1)
  pid=${pid#*:}
  # What stands there may be of another boot.
  parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/${pid:-none}/status" 2>/dev/null)
  case $(cat "/proc/${parent:-none}/comm" 2>/dev/null) in containerd-shim*) ;; *) continue ;; esac
  signal=$(grep -o '"StopSignal":"[A-Z0-9+-]*"' "$config" | cut -d'"' -f4)
  grace=$(grep -o '"StopTimeout":[0-9]*' "$config" | cut -d: -f2)
  # systemd gives all of this 90 seconds.
  if [ "${grace:=10}" -gt 80 ]; then grace=80; fi
  signal=${signal#SIG}
  kill -s "${signal:-TERM}" "$pid" 2>/dev/null || kill "$pid"
  name=$(grep -o '"Name":"/[^"]*"' "$config" | head -n 1 | cut -d/ -f2)
  left="$left $pid:$(($(now) + grace + 1)):${name%\"}:$grace"
done
while [ -n "$left" ]; do
  still=
  for each in $left; do
    pid=${each%%:*} said=${each#*:}
    [ -d "/proc/$pid" ] || continue
    if [ "$(now)" -lt "${said%%:*}" ]; then
      still="$still $each"
    elif kill -s KILL "$pid"; then
      said=${said#*:}
      echo "rehost: ${said%:*} did not end within its ${said##*:} s and was killed"
    fi
  done
  left=$still
  if [ -n "$left" ]; then sleep 0.1; fi
done
