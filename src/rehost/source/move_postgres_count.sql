-- Every row of every table, and the large objects. Lines: kind, name in hexadecimal, number, 0.
-- What extensions own is theirs: pg_dump leaves it to CREATE EXTENSION. A partition is a table; its parent holds no rows.
SELECT format('SELECT ''table'', %L, count(*), 0 FROM ONLY %I.%I',
  encode(convert_to(format('%I.%I', nspname, relname), getdatabaseencoding()), 'hex'), nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')
ORDER BY 1 \gexec
SELECT 'objects', '', count(*), 0 FROM pg_largeobject_metadata;
