-- What the SQL of applications of this dialect expects: schemas, functions that say who asks, and grants.

create schema if not exists auth;
create schema if not exists storage;
create schema if not exists realtime;
create schema if not exists extensions;

grant usage on schema auth, storage, realtime, extensions to anon, authenticated, service_role;

-- A trusted extension, which a database's owner may create; nothing of ours needs it.
do $$
begin
    create extension if not exists pgcrypto with schema extensions;
exception when others then
    raise notice 'pgcrypto is not there: %', sqlerrm;
end
$$;

do $$
begin
    grant usage on schema public to anon, authenticated, service_role;
    grant all on all tables in schema public to anon, authenticated, service_role;
    grant all on all sequences in schema public to anon, authenticated, service_role;
    grant all on all routines in schema public to anon, authenticated, service_role;
exception when insufficient_privilege then
    raise notice 'some objects of schema public belong to others, who must grant them: %', sqlerrm;
end
$$;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on routines to anon, authenticated, service_role;

-- Who asks. The claims are those of the request's token, set for its transaction alone.
create or replace function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;
create or replace function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;
create or replace function auth.role() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;
create or replace function auth.email() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;
grant execute on function auth.jwt(), auth.uid(), auth.role(), auth.email() to anon, authenticated, service_role;

-- Beacon's own, which no client reads.
create table beacon.settings (
    name text primary key,
    value text not null
);
comment on table beacon.settings is 'What all Beacons on this database share, such as the password of their login.';

create table beacon.api_keys (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    kind text not null check (kind in ('publishable', 'secret')),
    prefix text not null,
    hash bytea not null unique,
    value text,
    role text not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    check (kind = 'publishable' or value is null)
);
comment on column beacon.api_keys.hash is 'SHA-256 of the key: a secret key itself is shown once and kept nowhere.';

create table beacon.signing_keys (
    id uuid primary key default gen_random_uuid(),
    algorithm text not null,
    private_key text not null,
    public_jwk jsonb not null,
    status text not null check (status in ('next', 'current', 'previous', 'revoked')),
    created_at timestamptz not null default now(),
    retired_at timestamptz
);
create unique index signing_keys_one_current on beacon.signing_keys ((true)) where status = 'current';
