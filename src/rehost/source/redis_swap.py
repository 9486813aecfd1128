"""The swap of two databases of a Redis or Valkey in a container, in shell for the machine. See move_redis.py."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from rehost.source.redis_side import MARKER

# One step for the server: nothing else runs meanwhile, and what it writes to its log stands there whole or not at all.
_SCRIPT: Final = """redis.call('SELECT', ARGV[2])
local mark = redis.call('GET', KEYS[1]) or 'no'
if mark == ARGV[4] or (ARGV[5] == 'maybe' and mark ~= ARGV[3]) then return 'nothing to do' end
if mark ~= ARGV[3] then return 'its mark is ' .. mark end
redis.call('SWAPDB', ARGV[1], ARGV[2])
redis.call('SELECT', ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('SELECT', ARGV[2])
redis.call('SET', KEYS[1], ARGV[4])
return 'done'"""
# Where nothing is appended to a file, what is in memory would go with the next power cut: SAVE, while nobody asks.
_TURN: Final = """[ ! -s "$secret" ] || {{ REDISCLI_AUTH=$(cat "$secret"); export REDISCLI_AUTH; }}
cli() {{
  docker exec -e REDISCLI_AUTH {container} sh -c 'for each in redis-cli valkey-cli; do
    ! command -v "$each" >/dev/null || exec "$each" "$@"
  done
  echo "its image has no redis-cli"' sh {options} "$@" 2>&1
}}
tries=0
while :; do
  said=$(cli EVAL {script} 1 {mark} {words})
  case $said in
    done | 'nothing to do') break ;;
    *LOADING* | *refused* | *'not running'* | *restarting*) ;;
    *) echo "$said" >&2; exit 1 ;;
  esac
  tries=$((tries + 1))
  [ "$tries" -lt 300 ] || {{ echo "$said" >&2; exit 1; }}
  sleep 0.2
done
echo {about}"$said"
case $(cli INFO persistence) in *aof_enabled:1*) exit 0 ;; esac
[ -n "$(cli CONFIG GET save | sed -n 2p)" ] || exit 0
while said=$(cli SAVE); [ "$said" != OK ]; do
  tries=$((tries + 1))
  case $said in *'in progress'*) ;; *) tries=3000 ;; esac
  [ "$tries" -lt 3000 ] || {{ echo "$said" >&2; exit 1; }}
  sleep 0.2
done
"""


def turn(
    container: str,
    options: Sequence[str],
    numbers: tuple[int, int],
    mark: str,
    then: str,
    about: str,
    *,
    must: bool,
) -> str:
    """Swaps the two databases where the second has the mark, which becomes `then`; nothing where it is that already.

    must: any other mark is an error; else there is nothing to do. options: of redis-cli. about: what it says then.
    The password, if there is one, lies in the file $secret.
    """
    words = [str(numbers[0]), str(numbers[1]), mark, then, "must" if must else "maybe"]
    return _TURN.format(
        container=shlex.quote(container),
        options=shlex.join(options),
        script=shlex.quote(_SCRIPT),
        mark=shlex.quote(MARKER.decode()),
        words=shlex.join(words),
        about=shlex.quote(f"{about}: "),
    )
