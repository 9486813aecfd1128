# The origin's transactions: those that were given out, and those that run.
secure
from_origin psql -XqAtw -v ON_ERROR_STOP=1 -c 'SELECT txid_current_snapshot()' || fail "the origin could not be read"
