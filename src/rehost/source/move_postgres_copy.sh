# Copies the origin's database beside the target, and compares what both hold. It is the first process of a container of its
# own (see move_postgres_unit.sh): when it ends, all that it started ends. In COUNT and SEQUENCES stand statements. Lines:
# @step, @log, @note, @fail, @state, @sent, @counted.
exec 5<&0 </dev/null
# Who started this holds its input open. When he is gone, this goes, and the sessions with it.
trap 'exit 143' TERM
{
  read -r _ <&5
  kill -s TERM "$$"
} >/dev/null 2>&1 &
(
T=/tmp/rehost-moving
rm -rf "$T"
mkdir "$T" || exit 3
say() { printf '@step %s\n' "$*"; }
log() { tail -n 30 "$1" | while IFS= read -r line || [ -n "$line" ]; do printf '@log %s\n' "$line"; done; }
keep='keepalives_idle=30 keepalives_interval=10 keepalives_count=6'

secure
facts
[ "$is_moving" = "$ours" ] || fail "there is a database $moving that no move has made"
[ "$is_before" = 0 ] || [ "$moved" = 1 ] || fail "there is a database $before that no move has made"

say "making database $moving"
if [ "$is_moving" = 1 ]; then
  echo 'DROP DATABASE :"moving";' | without "$moving" || fail "what an earlier run left could not be dropped"
fi
# All that is restored belongs to a role of its own, which may do what extensions need; then to the app's user.
sql template1 <<'SQL' 2>"$T/error" || fail "$(head -n 1 "$T/error")"
DROP ROLE IF EXISTS :"role";
CREATE ROLE :"role" SUPERUSER NOLOGIN;
SQL
ask="SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = current_database()"
found=$(from_origin psql -XqAtw -F ' ' -c "$ask" 2>"$T/error") || fail "$(tail -n 1 "$T/error")"
read -r encoding collate ctype <<FOUND
$found
FOUND
make='CREATE DATABASE :"moving" OWNER :"role" TEMPLATE template0 ENCODING :'"'encoding'"
if ! printf '%s LC_COLLATE %s LC_CTYPE %s;\n' "$make" ":'collate'" ":'ctype'" |
  sql template1 -v "encoding=$encoding" -v "collate=$collate" -v "ctype=$ctype" 2>"$T/error"; then
  echo "$make;" | sql template1 -v "encoding=$encoding" 2>"$T/error" || fail "$(head -n 1 "$T/error")"
  printf '@note the service has no locale %s: text is sorted by its own\n' "$collate"
fi

cat >"$T/dump" <<'DUMP'
# As a child of psql, whose transaction holds the snapshot.
{
  pg_dump --snapshot="$SNAPSHOT" --format=custom --compress=0 --no-owner --no-acl --no-tablespaces --no-publications \
    --no-subscriptions --lock-wait-timeout=60s --no-password -d "$KEEP" 2>"$T/dump.log" || echo >"$T/bad"
} | dd bs=65536 2>"$T/sent" | {
  unset PGPORT PGUSER PGDATABASE PGSSLMODE PGSSLROOTCERT PGOPTIONS PGCHANNELBINDING PGTARGETSESSIONATTRS
  PGHOST=$HOST PGPASSWORD=${POSTGRES_PASSWORD-} pg_restore --verbose --exit-on-error --no-owner --no-acl \
    --no-tablespaces --no-password --role="$ROLE" -U "$ADMIN" -d "$INTO" 2>"$T/restore.log" || echo >"$T/bad"
}
[ -f "$T/bad" ] || echo 1 >"$T/good"
DUMP
printf '%s' "$COUNT" >"$T/count"
printf '%s' "$SEQUENCES" >"$T/sequences"
cat >"$T/session" <<'SESSION'
SET search_path = pg_catalog;
SET row_security = off;
-- So that the origin, too, ends the session when this machine is gone.
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 6;
SELECT count(set_config(name, '0', false)) AS limits FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',
  'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout') \gset
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT pg_export_snapshot() AS snapshot, txid_current_snapshot() AS state \gset
\setenv SNAPSHOT :snapshot
\echo @state :state
\o /tmp/rehost-moving/total
SELECT count(*), pg_size_pretty(pg_database_size(current_database()))
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_';
\o /tmp/rehost-moving/before
\i /tmp/rehost-moving/sequences
\o
\! sh /tmp/rehost-moving/dump
\set good `cat /tmp/rehost-moving/good 2>/dev/null || echo 0`
\if :good
  \echo @step counting the rows of the origin
  \o /tmp/rehost-moving/origin
  \i /tmp/rehost-moving/count
  \i /tmp/rehost-moving/sequences
\endif
COMMIT;
SESSION

say "copying"
{
  while sleep 2 >/dev/null 2>&1 && [ ! -f "$T/good" ]; do
    read -r total size <"$T/total" && done=$(grep -c 'processing data for table' "$T/restore.log") &&
      now=$(echo "SELECT pg_size_pretty(pg_database_size(:'moving'))" | sql template1) &&
      say "copying: $done of $total tables begun, $now of $size"
  done
} 2>/dev/null &
ticker=$!
tab=$(printf '\t')
into=$(conn "$moving")
export T HOST POSTGRES_PASSWORD KEEP="$keep" ROLE="$role" ADMIN="$admin" INTO="$into"
from_origin psql -XqAtw -F "$tab" -v ON_ERROR_STOP=1 -d "$keep" -f "$T/session" 2>"$T/error"
ended=$?
kill "$ticker" 2>/dev/null
if [ ! -f "$T/good" ]; then
  # What broke first has more to say than what broke of it.
  for each in dump.log restore.log error; do
    why=$(grep -v -e 'Broken pipe' -e 'could not write to output' -e 'could not read from input' "$T/$each" 2>/dev/null |
      grep -m 1 -i -e 'error:' -e 'fatal:')
    if [ -n "$why" ]; then log "$T/$each"; fail "$why"; fi
  done
  log "$T/error"
  fail "the dump broke off"
fi
if [ "$ended" != 0 ]; then
  log "$T/error"
  fail "the origin's rows could not be counted: $(tail -n 1 "$T/error")"
fi
printf '@sent %s\n' "$(sed -n 's/^\([0-9]*\) bytes.*/\1/p' "$T/sent")"

say "counting the rows of the copy"
{
  printf '\\o %s/copy\n' "$T"
  cat "$T/count" "$T/sequences"
  cat <<'SQL'
\o /tmp/rehost-moving/verdict
CREATE TEMP TABLE origin (kind text, name text, n numeric, given int);
CREATE TEMP TABLE earlier (LIKE origin);
CREATE TEMP TABLE copied (LIKE origin);
\copy origin FROM /tmp/rehost-moving/origin
\copy earlier FROM /tmp/rehost-moving/before
\copy copied FROM /tmp/rehost-moving/copy
SELECT format('%s %s: %s at the origin, %s in the copy', kind,
  convert_from(decode(name, 'hex'), getdatabaseencoding()), coalesce(o.n::text, 'none'), coalesce(c.n::text, 'none'))
FROM origin o FULL JOIN copied c USING (kind, name) LEFT JOIN earlier b USING (kind, name)
WHERE CASE WHEN kind <> 'sequence' OR o.n IS NULL OR c.n IS NULL OR b.n IS NULL THEN o.n IS DISTINCT FROM c.n
  -- While the origin is written to, a sequence goes on: the copy's stands where it stood before, after or in between.
  WHEN b.n = o.n THEN (c.n, c.given) NOT IN ((o.n, o.given), (b.n, b.given))
  ELSE c.n NOT BETWEEN least(b.n, o.n) AND greatest(b.n, o.n) END
ORDER BY 1;
\o
SELECT format('@counted {"tables": %s, "rows": %s, "sequences": %s, "objects": %s}',
  count(*) FILTER (WHERE kind = 'table'), coalesce(sum(n) FILTER (WHERE kind = 'table'), 0),
  count(*) FILTER (WHERE kind = 'sequence'), coalesce(sum(n) FILTER (WHERE kind = 'objects'), 0))
FROM copied;
SQL
} >"$T/compare"
sql "$moving" -F "$tab" -f "$T/compare" 2>"$T/error" || fail "the copy could not be counted: $(tail -n 1 "$T/error")"
if [ -s "$T/verdict" ]; then
  log "$T/verdict"
  fail "the copy is not what the origin holds: $(head -n 1 "$T/verdict")"
fi

say "gathering statistics"
echo 'ANALYZE;' | sql "$moving" 2>"$T/error" || fail "$(tail -n 1 "$T/error")"
# From here on it is whole: the mark and the owner come together.
sql "$moving" <<'SQL' 2>"$T/error" || fail "$(tail -n 1 "$T/error")"
BEGIN;
REASSIGN OWNED BY :"role" TO :"owner";
COMMENT ON DATABASE :"moving" IS :'mark';
COMMIT;
DROP ROLE :"role";
SQL
) &
wait "$!"
