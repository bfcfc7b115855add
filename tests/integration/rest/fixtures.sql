-- Beside the fixtures of the planner's tests.
SET search_path = test;
GRANT USAGE ON SCHEMA test TO anon, authenticated, service_role;
GRANT ALL ON ALL TABLES IN SCHEMA test TO anon, authenticated, service_role;
GRANT ALL ON ALL SEQUENCES IN SCHEMA test TO anon, authenticated, service_role;

CREATE TABLE notes (id int PRIMARY KEY, owner uuid, body text, film_id int REFERENCES films);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes TO authenticated USING (owner = auth.uid()) WITH CHECK (owner = auth.uid());
CREATE POLICY everybody ON notes FOR SELECT TO anon USING (owner IS NULL);
INSERT INTO notes VALUES (1, NULL, 'for all', 1), (2, '00000000-0000-0000-0000-00000000000a', 'mine', NULL);
GRANT ALL ON notes TO anon, authenticated, service_role;
CREATE VIEW open_notes AS SELECT * FROM notes;
CREATE VIEW guarded_notes WITH (security_invoker = true) AS SELECT * FROM notes;
GRANT ALL ON open_notes, guarded_notes TO anon, authenticated;
CREATE TABLE hidden (id int PRIMARY KEY);
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON hidden FROM anon, authenticated;
CREATE TABLE deferred (id int PRIMARY KEY, other int REFERENCES deferred DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON deferred TO authenticated;

CREATE FUNCTION setting(name text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting(name, true) $$;
CREATE FUNCTION who() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_user::text $$;
CREATE FUNCTION raise_pt() RETURNS void LANGUAGE plpgsql AS $$
  BEGIN RAISE SQLSTATE 'PT402' USING MESSAGE = 'Payment Required', DETAIL = 'Quota exceeded', HINT = 'Upgrade your plan'; END $$;
CREATE FUNCTION raise_all() RETURNS void LANGUAGE plpgsql AS $$
  BEGIN RAISE SQLSTATE 'PGRST' USING MESSAGE = '{"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}',
    DETAIL = '{"status":332,"headers":{"X-Header":"str"}}'; END $$;
CREATE FUNCTION plain_raise() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE FUNCTION custom() RETURNS text LANGUAGE plpgsql AS $$
  BEGIN PERFORM set_config('response.headers', '[{"Cache-Control":"no-cache"},{"Content-Type":"application/json"}]', true),
    set_config('response.status', '202', true); RETURN 'x'; END $$;
CREATE FUNCTION bad_headers() RETURNS text LANGUAGE plpgsql AS $$
  BEGIN PERFORM set_config('response.headers', '{"a":"b"}', true); RETURN 'x'; END $$;
CREATE FUNCTION delete_plain() RETURNS SETOF plain LANGUAGE sql AS $$ DELETE FROM test.plain RETURNING * $$;
CREATE FUNCTION write_by_get() RETURNS void LANGUAGE sql AS $$ DELETE FROM test.plain $$;
CREATE FUNCTION slow() RETURNS void LANGUAGE sql SET statement_timeout = '50ms' AS $$ SELECT pg_sleep(5) $$;
CREATE FUNCTION page() RETURNS xml LANGUAGE sql STABLE AS $$ SELECT '<a/>'::xml $$;
CREATE FUNCTION check_request() RETURNS void LANGUAGE plpgsql AS $$
  BEGIN IF current_setting('request.headers')::json->>'x-refuse' IS NOT NULL THEN RAISE 'refused'; END IF; END $$;
CREATE SCHEMA second;
GRANT USAGE ON SCHEMA second TO anon, authenticated;
CREATE TABLE second.films (id int PRIMARY KEY);
ALTER TABLE second.films ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON second.films TO anon USING (true);
INSERT INTO second.films VALUES (7);
GRANT SELECT ON second.films TO anon;
