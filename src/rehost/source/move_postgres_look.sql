-- What a database holds, and what of it pg_dump leaves behind. Rows are estimates. One line of JSON.
WITH t AS (
  SELECT relowner, reltuples, n_live_tup
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_stat_user_tables ON relid = c.oid
  WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')
)
SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'size', pg_database_size(current_database()),
  'tables', (SELECT count(*) FROM t),
  'rows', (SELECT coalesce(sum(greatest(reltuples, n_live_tup, 0)), 0)::bigint FROM t),
  'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension),
  'databases', (SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
    WHERE NOT datistemplate AND datname NOT IN (current_database(), 'postgres')),
  'settings', (SELECT coalesce(json_agg(DISTINCT split_part(one, '=', 1)), '[]')
    FROM pg_db_role_setting, unnest(setconfig) AS one
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      OR setdatabase = 0 AND setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)),
  'roles', (SELECT coalesce(json_agg(DISTINCT pg_get_userbyid(relowner)), '[]') FROM t
    WHERE pg_get_userbyid(relowner) <> current_user),
  'publications', (SELECT count(*) FROM pg_publication),
  'slots', (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())
);
