\startpipeline
BEGIN;
SELECT set_config('search_path', 'public, extensions', true), set_config('role', 'authenticated', true), set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001","role":"authenticated","aud":"authenticated"}', true), set_config('request.method', 'POST', true), set_config('request.path', '/notes', true), set_config('request.headers', '{"accept":"application/json"}', true), set_config('request.cookies', '{}', true);
INSERT INTO entries (title, amount) SELECT 'entry ' || n, n FROM generate_series(1, 1000) n;
COMMIT;
\endpipeline
