//! A policy that lets `service_role` past row-level security where it may not have BYPASSRLS.
//!
//! Before PostgreSQL 16 only a superuser gives BYPASSRLS, and a rented database has none. There each table of the exposed
//! schemas with row-level security gets a permissive policy for the role; restrictive policies still bind it. A policy
//! takes the table's strongest lock, so that each is made by itself and gives way soon: the next load tries again.

use tokio_postgres::types::Type;

use super::catalog::Catalog;
use super::error::Error;
use super::read;
use crate::db::{Pool, Session};

/// The role, and the name of the policies for it.
const ROLE: &str = "service_role";
const POLICY: &str = "beacon_service_role";

/// Tables with row-level security that belong to us, and that have no such policy.
const MISSING: &str = "\
select n.nspname, c.relname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relrowsecurity and n.nspname = any($1)
  and pg_has_role(c.relowner, 'USAGE')
  and not exists (select from pg_policy p where p.polrelid = c.oid and p.polname = $2)
order by n.nspname, c.relname";

/// Makes the policies that are missing in `schemas`; returns whether all are there.
///
/// # Errors
///
/// When the tables cannot be listed. A policy that cannot be made is logged.
pub(super) async fn ensure(owner: &Pool, catalog: &Catalog, schemas: &[String]) -> Result<bool, Error> {
    if catalog.roles.get(ROLE) != Some(&false) {
        return Ok(true);
    }
    let mut session = owner.get().await?;
    let what = "policies";
    let rows = read::rows(&session, what, MISSING, &[(&schemas, Type::TEXT_ARRAY), (&POLICY, Type::TEXT)]).await?;
    let tables: Vec<(String, String)> = read::decoded(&rows, what, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?;
    let mut all = true;
    for (schema, table) in tables {
        match create(&mut session, &schema, &table).await {
            Ok(()) => tracing::info!(schema, table, "service_role has a policy on a table"),
            Err(error) => {
                all = false;
                tracing::warn!(
                    schema,
                    table,
                    error = %crate::error::chain(&error),
                    "service_role gets no policy on a table and sees no rows of it for now"
                );
            }
        }
    }
    Ok(all)
}

async fn create(session: &mut Session, schema: &str, table: &str) -> Result<(), crate::db::Error> {
    let transaction = session.begin().await?;
    let sql = format!(
        "set local lock_timeout to '2s'; \
         create policy {POLICY} on {}.{} as permissive for all to {ROLE} using (true) with check (true)",
        quoted(schema),
        quoted(table)
    );
    transaction.batch_execute(&sql).await?;
    transaction.commit().await?;
    Ok(())
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
