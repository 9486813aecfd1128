-- Where each sequence stands: kind, name in hexadecimal, last value, whether it was given out. No snapshot holds for these.
SELECT format('SELECT ''sequence'', %L, last_value, is_called::int FROM %I.%I',
  encode(convert_to(format('%I.%I', nspname, relname), getdatabaseencoding()), 'hex'), nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'S' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')
ORDER BY 1 \gexec
