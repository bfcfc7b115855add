-- A schema that shows something different to each role.

create schema test;
comment on schema test is E'Test title\n\nTest description\nof two lines';
grant usage on schema test to anon, authenticated;
set search_path to test;

create type mood as enum ('sad', 'happy');

create table entities (id integer primary key, name text);
alter table entities enable row level security;
grant select on entities to anon;

create table child_entities (id integer primary key, name text, parent_id integer references entities (id));
comment on table child_entities is E'child_entities summary\n\nand more\nof it';
comment on column child_entities.id is 'child_entities id comment';
comment on column child_entities.name is 'a name';
-- A reference leads to the table, not to a view of it.
create view a_view as select id, name from entities;

create table openapi_types (
    a_varchar varchar(20), a_character char(1), a_boolean boolean default false, a_bigint bigint default 42,
    a_numeric numeric(8, 2), a_double double precision, a_json json, a_jsonb jsonb,
    a_date date default '1900-01-01', a_text_arr text[], a_json_arr json[], an_enum mood
);

create table half (id integer primary key, seen text, secret text);
grant select (id, seen), update (seen) on half to anon;
create table hidden (id integer primary key);
create view shown as select count(*) as n from entities;
grant all on shown to anon;

create function varied("double" double precision, ints integer[], data jsonb default '{}') returns void
language sql stable as '';
comment on function varied is E'A function\n\nof many arguments';
create function writes() returns void language sql as '';
create function many(variadic v text[]) returns text[] language sql immutable as 'select v';
create function overloaded(a integer) returns integer language sql as 'select a';
create function overloaded(a integer, b text) returns integer language sql as 'select a';
create function whole(jsonb) returns jsonb language sql immutable as 'select $1';
create function open(mood mood default 'sad') returns text language sql immutable as $$ select 'open' $$;
revoke execute on all functions in schema test from public;
grant execute on function open to anon;

grant all on all tables in schema test to authenticated;
grant execute on all functions in schema test to authenticated;
