# What is there on both sides; nothing is changed. Lines: a word and JSON. In LOOK and
# ROWS stand statements.
secure
seen=$(printf '%s' "$LOOK" | from_origin psql -XqAtw -v ON_ERROR_STOP=1) || fail "the origin could not be read"
printf 'origin %s\n' "$seen"
facts
sql template1 <<'SQL' || exit 3
SELECT 'service ' || json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'owner', :'owner',
  'role', EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner'),
  'extensions', (SELECT coalesce(json_agg(name), '[]') FROM pg_available_extensions),
  'freed', coalesce((SELECT pg_database_size(oid) FROM pg_database WHERE datname = :'moving'), 0)
);
SQL
printf 'names {"name":"%s","moved":%s,"moving":%s,"ours":%s,"before":%s}\n' \
  "$(printf '%s' "$name" | sed 's/[\\"]/\\&/g')" "$moved" "$is_moving" "$ours" "$is_before"
# Free bytes where the server keeps its data.
df -Pk "$(echo 'SHOW data_directory' | sql template1)" | {
  read -r _
  read -r _ _ _ free _
  printf 'free %s\n' "$((free * 1024))"
}
if [ "$is_name" = 1 ]; then
  seen=$(printf '%s' "$LOOK" | sql "$name") || exit 3
  printf 'target %s\n' "$seen"
  # A line for each table with a row in it.
  rows=$(printf '%s' "$ROWS" | sql "$name" | head -n 1)
  [ -z "$rows" ] || echo 'rows true'
fi
