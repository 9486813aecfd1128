# What look, copy and swap share. It runs beside the service's server, in its image, which has psql, pg_dump and pg_restore of
# the server's own version. Above stand NAME and OWNER (the target's database and user, empty: the service's own), MODE (the
# origin's sslmode, empty: TLS when it is offered), HOST (where the server is, empty: its socket) and, but for the swap,
# from_origin: a function that runs a program with the origin's address in its environment. The server is asked as its
# superuser, whom it trusts from its own side.
set -u
export LC_ALL=C PGCONNECT_TIMEOUT=10 PGAPPNAME=rehost
umask 077
admin=${POSTGRES_USER:-postgres}
name=${NAME:-${POSTGRES_DB:-$admin}}
owner=${OWNER:-$admin}
moving=${name}_moving
before=${name}_before
# Of a copy that is being made, and of nothing else.
role=rehost_moving
mark='rehost move'

fail() {
  printf '%s%s\n' "${FAIL:-}" "$*" >&2
  exit 3
}
# Longer names would be cut, and might be cut to each other.
[ "${#name}" -le 56 ] || fail "the database's name is longer than 56 bytes: $name"

# conn DATABASE: for -d. A bare name with "=" in it would be taken for more than a name.
conn() { printf "dbname='%s'" "$(printf '%s' "$1" | sed "s/[\\\\']/\\\\&/g")"; }
# sql DATABASE [PSQL'S OPTION...]: statements come by standard input.
sql() {
  db=$(conn "$1")
  shift
  PGHOST=$HOST PGPASSWORD=${POSTGRES_PASSWORD-} psql -XqAtw -F ' ' -v ON_ERROR_STOP=1 -v "name=$name" -v "moving=$moving" -v "before=$before" \
    -v "owner=$owner" -v "role=$role" -v "mark=$mark" "$@" -U "$admin" -d "$db"
}
# facts: which databases there are. $moved: the one that serves came by a move; $whole: so did the one beside it, and it
# was verified; $ours: that one was made here, verified or not.
facts() {
  found=$(
    sql template1 <<'SQL'
WITH d AS (
  SELECT datname, coalesce(shobj_description(d.oid, 'pg_database'), '') = :'mark' AS marked, rolname
  FROM pg_database d LEFT JOIN pg_roles r ON r.oid = datdba
)
SELECT count(*) FILTER (WHERE datname = :'name'),
  count(*) FILTER (WHERE datname = :'name' AND marked),
  count(*) FILTER (WHERE datname = :'moving'),
  count(*) FILTER (WHERE datname = :'moving' AND marked),
  count(*) FILTER (WHERE datname = :'moving' AND (marked OR rolname = :'role')),
  count(*) FILTER (WHERE datname = :'before')
FROM d
SQL
  ) || exit 3
  read -r is_name moved is_moving whole ours is_before <<FOUND
$found
FOUND
}
# leave DATABASE: ends the sessions on it.
leave() {
  printf '%s\n' "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :'gone' AND pid <> pg_backend_pid();" |
    sql template1 -v "gone=$1" -o /dev/null
}
# without DATABASE... : runs the statements of standard input when nobody is on these databases. Who comes again at once
# is sent away again.
without() {
  statements=$(cat)
  tries=0
  while :; do
    for each in "$@"; do leave "$each" || return 1; done
    said=$(printf '%s\n' "$statements" | sql template1 2>&1) && return 0
    tries=$((tries + 1))
    case $said in *'being accessed by other users'*) ;; *) break ;; esac
    if [ "$tries" -ge 5 ]; then break; fi
  done
  printf '%s\n' "$said" >&2
  return 1
}
# secure: sets MODE where the address says nothing. What offers TLS is never asked without it.
secure() {
  [ -z "$MODE" ] || return 0
  MODE=require
  said=$(from_origin psql -XqAtw -c 'SELECT 1' 2>&1) || case $said in *'does not support SSL'*) MODE=disable ;; esac
}
