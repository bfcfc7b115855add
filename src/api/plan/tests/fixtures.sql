CREATE SCHEMA test;
CREATE SCHEMA private;
SET search_path = test;
CREATE ROLE reader NOLOGIN;
CREATE ROLE writer NOLOGIN;
GRANT reader, writer TO CURRENT_USER;
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TYPE address AS (street text, number int);
CREATE DOMAIN positive AS int CHECK (value > 0);

CREATE TABLE directors (id int PRIMARY KEY, name text NOT NULL, born int);
CREATE TABLE films (
  id int PRIMARY KEY, title text NOT NULL, year int, rating numeric(4,2),
  director_id int REFERENCES directors, tags text[] DEFAULT '{}', info jsonb, raw json,
  during int4range, search tsvector, home address, mood mood, added timestamptz DEFAULT '2020-01-01 00:00:00+00',
  deleted boolean
);
CREATE TABLE actors (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE roles (
  film_id int REFERENCES films, actor_id int REFERENCES actors, "character" text, PRIMARY KEY (film_id, actor_id)
);
CREATE TABLE nominations (film_id int PRIMARY KEY REFERENCES films, prize text);
CREATE TABLE people (id int PRIMARY KEY, name text, boss_id int REFERENCES people);
CREATE TABLE places (id serial PRIMARY KEY, name varchar(10) DEFAULT 'nowhere', made date DEFAULT now(), size positive DEFAULT 7,
  code text UNIQUE);
CREATE TABLE plain (a int, b text);
CREATE TABLE "od d" ("we ird""c" int PRIMARY KEY, "od d" text);
CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (10) TO (20);
CREATE VIEW film_titles AS SELECT id, title, director_id FROM films;
-- A table that has the name of an alias, and names as long as they can be.
CREATE TABLE directors_1 (id int PRIMARY KEY, director_id int REFERENCES directors);
CREATE TABLE a23456789_123456789_123456789_123456789_123456789_123456789_123 (
  id int PRIMARY KEY, up int CONSTRAINT up REFERENCES a23456789_123456789_123456789_123456789_123456789_123456789_123
);
-- A column that has its table's name.
CREATE TABLE same (id int PRIMARY KEY, same text);
CREATE TABLE secrets (id int PRIMARY KEY, word text);

INSERT INTO directors VALUES (1, 'Ann', 1950), (2, 'Bob', 1960), (3, 'Cy', NULL);
INSERT INTO films (id, title, year, rating, director_id, tags, info, raw, during, home, mood, deleted) VALUES
  (1, 'Alpha', 1990, 7.50, 1, '{a,b}', '{"k": {"n": 1, "s": "x"}, "l": [10, 20]}', '{"z": 1, "a": 2}', '[1,5)', ROW('Main', 5), 'calm', true),
  (2, 'Beta', 1995, 8.00, 1, '{b,"c,d"}', '{"k": {"n": 2, "s": "y"}}', NULL, '[5,9)', NULL, 'cross', false),
  (3, 'Gamma', 2000, NULL, 2, '{}', NULL, NULL, NULL, NULL, NULL, NULL),
  (4, 'Del"ta, \x', NULL, 6.25, NULL, NULL, NULL, NULL, '[20,30)', NULL, NULL, NULL);
UPDATE films SET search = to_tsvector('english', CASE id WHEN 1 THEN 'running fat cats' ELSE title END);
INSERT INTO actors VALUES (1, 'Xena'), (2, 'Yul'), (3, 'Zoe');
INSERT INTO roles VALUES (1, 1, 'hero'), (1, 2, 'villain'), (2, 1, 'aunt'), (3, 3, 'cat');
INSERT INTO nominations VALUES (1, 'gold');
INSERT INTO people VALUES (1, 'root', NULL), (2, 'left', 1), (3, 'right', 1), (4, 'leaf', 2);
INSERT INTO places (name, code) VALUES ('here', 'h'), ('there', 't');
INSERT INTO plain VALUES (1, 'x'), (2, 'y'), (3, NULL);
INSERT INTO "od d" VALUES (1, 'q');
INSERT INTO directors_1 VALUES (7, 2);
INSERT INTO a23456789_123456789_123456789_123456789_123456789_123456789_123 VALUES (1, NULL), (2, 1);
INSERT INTO same VALUES (1, 'x');
INSERT INTO secrets VALUES (1, 'a');
GRANT USAGE ON SCHEMA test TO reader, writer;
GRANT SELECT ON ALL TABLES IN SCHEMA test TO reader;
GRANT INSERT, UPDATE, DELETE ON secrets, places TO writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA test TO writer;

CREATE FUNCTION shout(films) RETURNS text LANGUAGE sql STABLE AS $$ SELECT upper($1.title) $$;
CREATE FUNCTION words(film films) RETURNS tsvector LANGUAGE sql STABLE AS $$ SELECT film.search $$;
CREATE FUNCTION louder(same) RETURNS text LANGUAGE sql STABLE AS $$ SELECT upper($1.same) || $1.id $$;
CREATE FUNCTION twins(same) RETURNS SETOF same LANGUAGE sql STABLE AS $$ SELECT s.* FROM test.same s WHERE s.id = $1.id $$;
CREATE FUNCTION peers(films) RETURNS SETOF films LANGUAGE sql STABLE AS $$
  SELECT f.* FROM test.films f WHERE f.director_id = $1.director_id AND f.id <> $1.id $$;
CREATE FUNCTION boss(films) RETURNS SETOF directors ROWS 1 LANGUAGE sql STABLE AS $$
  SELECT d.* FROM test.directors d WHERE d.id = $1.director_id $$;
CREATE FUNCTION add_them(a int, b int DEFAULT 10) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT a + b $$;
CREATE FUNCTION no_arguments() RETURNS text LANGUAGE sql AS $$ SELECT 'hi'::text $$;
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION a_null() RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;
CREATE FUNCTION numbers(upto int) RETURNS SETOF int LANGUAGE sql AS $$ SELECT generate_series(1, upto) $$;
CREATE FUNCTION best_film() RETURNS films LANGUAGE sql STABLE AS $$ SELECT * FROM test.films WHERE id = 2 $$;
CREATE FUNCTION all_films() RETURNS SETOF films LANGUAGE sql STABLE AS $$ SELECT * FROM test.films $$;
CREATE FUNCTION new_films() RETURNS SETOF films LANGUAGE plpgsql VOLATILE AS $$
  BEGIN PERFORM set_config('response.headers', '[{"X-Made": "1"}]', true);
  RETURN QUERY INSERT INTO test.films (id, title, director_id) VALUES (90, 'New', 2), (91, 'Newer', 1) RETURNING *; END $$;
CREATE FUNCTION as_table(n int) RETURNS TABLE (x int, y text) LANGUAGE sql AS $$ SELECT g, 'v' || g FROM generate_series(1, n) g $$;
CREATE FUNCTION with_out(OUT p int, OUT q text) LANGUAGE sql AS $$ SELECT 1, 'one' $$;
CREATE FUNCTION one_out(OUT p int) LANGUAGE sql AS $$ SELECT 5 $$;
CREATE FUNCTION a_record() RETURNS record LANGUAGE sql AS $$ SELECT f.id, f.title FROM test.films f WHERE id = 1 $$;
CREATE FUNCTION records() RETURNS SETOF record LANGUAGE sql AS $$ SELECT f.id, f.title FROM test.films f ORDER BY id LIMIT 2 $$;
CREATE FUNCTION greet(VARIADIC names text[]) RETURNS text LANGUAGE sql AS $$ SELECT array_to_string(names, '+') $$;
CREATE FUNCTION street(at address) RETURNS text LANGUAGE sql AS $$ SELECT coalesce(at.street, '-') || coalesce(at.number::text, '-') $$;
CREATE FUNCTION of_film(film films) RETURNS text LANGUAGE sql AS $$ SELECT coalesce(film.title, 'untitled') $$;
CREATE FUNCTION total(list int[]) RETURNS bigint LANGUAGE sql AS $$ SELECT sum(x) FROM unnest(list) x $$;
CREATE FUNCTION whole(json) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('got', $1) $$;
CREATE FUNCTION whole_text(text) RETURNS text LANGUAGE sql AS $$ SELECT 'got ' || $1 $$;
CREATE FUNCTION whole_bytes(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT $1 || '\x00'::bytea $$;
CREATE FUNCTION letter(c char) RETURNS char LANGUAGE sql AS $$ SELECT c $$;
CREATE FUNCTION an_address() RETURNS address LANGUAGE sql AS $$ SELECT ROW('Elm', 3)::test.address $$;
ANALYZE;
