-- The roles that requests run as, and one that other servers of the same dialect log in with. Roles belong to the whole
-- cluster, so another database may have made them already, with more rights than this login may give.

do $$
declare
    bypass boolean;
begin
    -- Before PostgreSQL 16 only a superuser gives BYPASSRLS; since then one gives what one has.
    select rolsuper or (rolbypassrls and current_setting('server_version_num')::int >= 160000)
        into bypass from pg_roles where rolname = current_user;

    if to_regrole('anon') is null then
        create role anon nologin noinherit;
    end if;
    if to_regrole('authenticated') is null then
        create role authenticated nologin noinherit;
    end if;
    if to_regrole('service_role') is null then
        if bypass then
            create role service_role nologin noinherit bypassrls;
        else
            create role service_role nologin noinherit;
        end if;
    end if;
    if to_regrole('authenticator') is null then
        create role authenticator login noinherit;
    end if;
exception
    when duplicate_object or unique_violation then
        null; -- another database of this cluster makes them at this moment
    when insufficient_privilege then
        raise exception 'the roles anon, authenticated, service_role and authenticator are missing, and % may not create them', current_user
            using hint = format('Run as a superuser: alter role %I createrole;', current_user);
end
$$;

do $$
declare
    missing text;
begin
    for missing in
        select role from unnest(array['anon', 'authenticated', 'service_role']) as role
        where not pg_has_role('authenticator', role, 'member')
    loop
        execute format('grant %I to authenticator', missing);
    end loop;
exception
    when insufficient_privilege then
        null; -- only for servers beside Beacon; Beacon's own login is made with `beacon migrate` and checked by the doctor
end
$$;
