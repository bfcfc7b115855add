//! Whether the catalogue may have changed, without reading it.
//!
//! Event triggers would tell, but only a superuser makes them. A fingerprint covers what the catalogue is made of: where a
//! row's own columns say enough it hashes them, else the transaction that wrote the row. What changes all the time and
//! means nothing is left out: temporary tables, indexes, partitions, files of truncated tables and refreshed views.

use tokio_postgres::Client;

use super::error::Error;
use super::read;

const FINGERPRINT: &str = "\
with spaces as (
    select oid, xmin::text::bigint as written from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
), relations as materialized (
    select c.oid, hashtextextended(concat_ws(' ', c.oid, c.relname, c.relnamespace, c.relkind, c.relnatts, c.reltype,
               c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.reloptions), 0) as written
    from pg_class c
    where c.relnamespace in (select oid from spaces) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
), parts(part, rows, written) as (
    select 'spaces', count(*), bit_xor(hashint8extended(written, oid::bigint)) from spaces
    union all select 'relations', count(*), bit_xor(written) from relations
    union all select 'columns', count(*), bit_xor(hashint8extended(a.xmin::text::bigint, a.attrelid::bigint << 16 | a.attnum))
        from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0
    union all select 'defaults', count(*), bit_xor(hashint8extended(d.xmin::text::bigint, d.oid::bigint))
        from relations r join pg_attrdef d on d.adrelid = r.oid
    union all select 'constraints', count(*), bit_xor(hashint8extended(c.xmin::text::bigint, c.oid::bigint))
        from relations r join pg_constraint c on c.conrelid = r.oid and c.contype in ('p', 'u', 'f') and c.conparentid = 0
    union all select 'rules', count(*), bit_xor(hashint8extended(w.xmin::text::bigint, w.oid::bigint))
        from relations r join pg_rewrite w on w.ev_class = r.oid
    union all select 'types', count(*), bit_xor(hashint8extended(t.xmin::text::bigint, t.oid::bigint))
        from pg_type t where t.typnamespace in (select oid from spaces) and t.typrelid = 0 and t.typelem = 0
    union all select 'labels', count(*), bit_xor(hashint8extended(e.xmin::text::bigint, e.oid::bigint)) from pg_enum e
    union all select 'functions', count(*), bit_xor(hashint8extended(p.xmin::text::bigint, p.oid::bigint))
        from pg_proc p where p.pronamespace in (select oid from spaces)
    union all select 'comments', count(*), bit_xor(hashint8extended(d.xmin::text::bigint, d.objoid::bigint << 16 | d.objsubid))
        from pg_description d where d.objoid >= 16384
    union all select 'roles', count(*), bit_xor(hashtextextended(concat_ws(' ', oid, rolname, rolsuper, rolbypassrls), 0))
        from pg_roles
    union all select 'members', count(*), bit_xor(hashint8extended(m.roleid::bigint << 32 | m.member::bigint, 0))
        from pg_auth_members m
    union all select 'settings', count(*),
        bit_xor(hashtextextended(concat_ws(' ', s.setdatabase, s.setrole, s.setconfig), 0)) from pg_db_role_setting s
        where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
)
select string_agg(concat_ws(' ', rows, written), ',' order by part) from parts";

/// Rows that were written to the tables of the catalogue since the statistics were reset. It is much cheaper than the
/// fingerprint, counts temporary tables too, and lags behind by up to ten seconds.
const WRITTEN: &str = "\
select coalesce(sum(pg_stat_get_tuples_inserted(r) + pg_stat_get_tuples_updated(r) + pg_stat_get_tuples_deleted(r)), 0)::bigint
from unnest(array['pg_namespace', 'pg_class', 'pg_attribute', 'pg_attrdef', 'pg_constraint', 'pg_rewrite', 'pg_type',
    'pg_enum', 'pg_proc', 'pg_description', 'pg_authid', 'pg_auth_members', 'pg_db_role_setting']::regclass[]) r";

/// The fingerprint as it is now.
pub(super) async fn fingerprint(session: &Client) -> Result<String, Error> {
    let what = "the fingerprint";
    let rows = read::rows(session, what, FINGERPRINT, &[]).await?;
    let decoded = read::decoded(&rows, what, |row| row.try_get(0))?;
    Ok(decoded.into_iter().next().unwrap_or_default())
}

/// How much was written to the catalogue.
pub(super) async fn written(session: &Client) -> Result<i64, Error> {
    let what = "the catalogue's statistics";
    let rows = read::rows(session, what, WRITTEN, &[]).await?;
    let decoded = read::decoded(&rows, what, |row| row.try_get(0))?;
    Ok(decoded.into_iter().next().unwrap_or_default())
}
