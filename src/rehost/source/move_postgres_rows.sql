-- A line for each table that holds a row, and one for large objects.
SELECT format('SELECT 1 WHERE EXISTS (SELECT FROM ONLY %I.%I)', nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')
\gexec
SELECT 1 WHERE EXISTS (SELECT FROM pg_largeobject_metadata);
