\startpipeline
BEGIN READ ONLY;
SELECT set_config('search_path', 'public, extensions', true), set_config('role', 'authenticated', true), set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001","role":"authenticated","aud":"authenticated"}', true), set_config('request.method', 'GET', true), set_config('request.path', '/notes', true), set_config('request.headers', '{"accept":"application/json"}', true), set_config('request.cookies', '{}', true);
SELECT coalesce(json_agg(r), '[]') FROM (SELECT id, title, made FROM notes ORDER BY made DESC LIMIT 20) r;
COMMIT;
\endpipeline
