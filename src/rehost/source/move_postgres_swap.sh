# The copy takes the target's name, and what was there is kept as NAME_before. UNDO=1: back. What is to be done is told by
# the names that are there: both renamings are one transaction.
facts
if [ -n "${UNDO:-}" ]; then
  if [ "$is_moving" = 1 ] || [ "$moved" = 0 ]; then
    echo "database $name: nothing was swapped"
  elif [ "$is_before" = 1 ]; then
    without "$name" "$before" <<'SQL' || fail "database $name could not be put back"
BEGIN;
ALTER DATABASE :"name" RENAME TO :"moving";
ALTER DATABASE :"before" RENAME TO :"name";
COMMIT;
SQL
  else
    without "$name" <<'SQL' || fail "database $name could not be taken away again"
ALTER DATABASE :"name" RENAME TO :"moving";
SQL
  fi
  exit 0
fi
if [ "$is_moving" = 0 ]; then
  [ "$moved" = 1 ] || fail "there is no copy of database $name"
  exit 0
fi
[ "$whole" = 1 ] || fail "the copy of database $name is not whole"
if [ "$is_name" = 0 ]; then
  without "$moving" <<'SQL' || fail "the copy could not be given its name"
ALTER DATABASE :"moving" RENAME TO :"name";
SQL
  exit 0
fi
if [ "$is_before" = 1 ]; then
  [ "$moved" = 1 ] || fail "there is a database $before that no move has made"
  echo 'DROP DATABASE :"before";' | without "$before" || fail "database $before of the move before could not be dropped"
fi
without "$name" "$moving" <<'SQL' || fail "the copy could not take the place of database $name"
BEGIN;
ALTER DATABASE :"name" RENAME TO :"before";
ALTER DATABASE :"moving" RENAME TO :"name";
COMMIT;
SQL
exit 0
