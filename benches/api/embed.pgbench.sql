\set id random(1, 1000)
\startpipeline
BEGIN READ ONLY;
SELECT set_config('search_path', 'public, extensions', true), set_config('role', 'authenticated', true), set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001","role":"authenticated","aud":"authenticated"}', true), set_config('request.method', 'GET', true), set_config('request.path', '/notes', true), set_config('request.headers', '{"accept":"application/json"}', true), set_config('request.cookies', '{}', true);
SELECT coalesce(json_agg(r), '[]') FROM (SELECT a.id, a.name, b.books FROM authors a LEFT JOIN LATERAL (SELECT coalesce(json_agg(x), '[]') AS books FROM (SELECT id, title FROM books WHERE author_id = a.id) x) b ON true WHERE a.id = :id) r;
COMMIT;
\endpipeline
