-- Tasks from SQL, sent after the commit of the transaction that asks for them, and tasks at set times.

create table beacon.outbox (
    id bigint generated always as identity primary key,
    task_id uuid not null default gen_random_uuid(),
    task text not null,
    args jsonb not null default '[]',
    kwargs jsonb not null default '{}',
    queue text,
    priority smallint not null default 0,
    eta timestamptz,
    expires timestamptz,
    time_limit double precision,
    soft_time_limit double precision,
    ignore_result boolean,
    headers jsonb not null default '{}',
    idempotency_key text,
    unique_key text,
    unique_for interval,
    created_at timestamptz not null default clock_timestamp()
);
comment on table beacon.outbox is 'Tasks that are to be sent, in the order of their ids; a row goes when its task is on its queue.';
-- Rows come and go all the time: it is to be cleaned by how many went, not by their share of what is there.
alter table beacon.outbox set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

create table beacon.outbox_failed (
    id bigint primary key,
    task_id uuid not null,
    task text not null,
    entry jsonb not null,
    reason text not null,
    created_at timestamptz not null,
    failed_at timestamptz not null default now()
);
comment on table beacon.outbox_failed is 'Rows of the outbox that no message can be made of, and why.';

create table beacon.task_keys (
    key text primary key,
    task_id uuid not null,
    created_at timestamptz not null default now()
);
create index task_keys_created_at_idx on beacon.task_keys (created_at);
comment on table beacon.task_keys is 'Idempotency keys of the last 24 hours and the tasks that they stand for.';

-- Which database this is to the Redis that it sends to: a row that was sent, and could not be deleted before a crash, is
-- known there by it.
insert into beacon.settings (name, value) values ('outbox', gen_random_uuid()::text);

create function beacon.enqueue(
    task text,
    args jsonb default '[]',
    kwargs jsonb default '{}',
    queue text default null,
    eta timestamptz default null,
    expires timestamptz default null,
    priority integer default 0,
    idempotency_key text default null,
    unique_key text default null,
    unique_for interval default '1 hour',
    time_limit double precision default null,
    soft_time_limit double precision default null,
    ignore_result boolean default null,
    headers jsonb default '{}'
) returns uuid language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    made uuid := gen_random_uuid();
    known uuid;
begin
    if coalesce(task, '') = '' then
        raise exception 'a task has a name' using errcode = 'invalid_parameter_value';
    end if;
    if jsonb_typeof(args) is distinct from 'array' then
        raise exception 'args of the task % is no list', task
            using errcode = 'invalid_parameter_value', hint = 'Use jsonb_build_array(...), or ''[]''.';
    end if;
    if jsonb_typeof(kwargs) is distinct from 'object' then
        raise exception 'kwargs of the task % is no object', task
            using errcode = 'invalid_parameter_value', hint = 'Use jsonb_build_object(...), or ''{}''.';
    end if;
    if jsonb_typeof(headers) is distinct from 'object' then
        raise exception 'headers of the task % is no object', task
            using errcode = 'invalid_parameter_value', hint = 'Use jsonb_build_object(...), or ''{}''.';
    end if;
    if priority is null or priority not between 0 and 9 then
        raise exception 'the priority of the task % is not between 0, which goes first, and 9', task
            using errcode = 'invalid_parameter_value';
    end if;
    if queue = '' then
        raise exception 'the queue of the task % has no name', task
            using errcode = 'invalid_parameter_value', hint = 'Leave it out for the queue "beacon".';
    end if;
    if idempotency_key is not null then
        -- Whoever has the same key at this moment is waited for.
        insert into beacon.task_keys as old (key, task_id) values (idempotency_key, made)
            on conflict (key) do update set task_id = excluded.task_id, created_at = now()
            where old.created_at < now() - interval '24 hours';
        if not found then
            select old.task_id into known from beacon.task_keys as old where old.key = idempotency_key;
            if known is not null then
                return known;
            end if;
        end if;
    end if;
    insert into beacon.outbox (
        task_id, task, args, kwargs, queue, priority, eta, expires, time_limit, soft_time_limit, ignore_result, headers,
        idempotency_key, unique_key, unique_for
    ) values (
        made, task, args, kwargs, queue, priority, eta, expires, time_limit, soft_time_limit, ignore_result, headers,
        idempotency_key, unique_key, case when unique_key is not null then unique_for end
    );
    perform pg_notify('beacon_outbox', '');
    return made;
end
$$;
comment on function beacon.enqueue is 'Sends a task when this transaction commits, and never if it does not. Gives the task''s id.';

-- Whoever may send a task may do what the task does: nobody until it is granted, but for the role with all rights.
revoke all on function beacon.enqueue from public;
grant usage on schema beacon to service_role;
grant execute on function beacon.enqueue to service_role;

create table beacon.schedules (
    name text primary key check (name <> ''),
    task text not null check (task <> ''),
    cron text not null default '',
    every interval not null default '0',
    timezone text not null default 'UTC',
    args jsonb not null default '[]' check (jsonb_typeof(args) = 'array'),
    kwargs jsonb not null default '{}' check (jsonb_typeof(kwargs) = 'object'),
    queue text not null default '',
    priority smallint not null default 0 check (priority between 0 and 9),
    expires interval not null default '0',
    grace interval not null default '1 hour',
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((cron = '') = (every > interval '0'))
);
comment on table beacon.schedules is 'Tasks that are sent at set times, besides those of the configuration.';

create function beacon.schedules_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('beacon_schedules', '');
    return null;
end
$$;
revoke all on function beacon.schedules_changed from public;
create trigger schedules_changed after insert or update or delete or truncate on beacon.schedules
    for each statement execute function beacon.schedules_changed();
