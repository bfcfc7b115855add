//! The roles and the database that the keeper makes as the superuser, before anybody else can use them.
//!
//! Everything after that is done by the owner's role, which is no superuser: the same as on a server that somebody else
//! runs. What an owner cannot do there, and the keeper does here, is to give service_role BYPASSRLS.

use tokio_postgres::{Client, Error};

/// The database.
pub const DATABASE: &str = "beacon";
/// The role that owns it.
pub const OWNER: &str = "beacon";
/// The superuser, which the keeper alone uses.
pub const SUPERUSER: &str = "postgres";

/// The owner's role: may make roles and databases, and follow changes.
const OWNER_ATTRIBUTES: &str = "LOGIN CREATEROLE CREATEDB REPLICATION NOSUPERUSER";

/// The roles of clients, which the owner gives on: to the role that their requests come in by.
const ROLES: [(&str, &str); 4] = [
    ("anon", "NOLOGIN NOINHERIT"),
    ("authenticated", "NOLOGIN NOINHERIT"),
    ("service_role", "NOLOGIN NOINHERIT BYPASSRLS"),
    ("authenticator", "LOGIN NOINHERIT"),
];

/// Makes what is missing; what is there stays as it is.
pub(super) async fn ensure(client: &Client) -> Result<(), Error> {
    let rows = client.query("SELECT rolname::text FROM pg_roles", &[]).await?;
    let there: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if !there.iter().any(|role| role == OWNER) {
        client
            .batch_execute(&format!(
                "BEGIN; CREATE ROLE {OWNER} {OWNER_ATTRIBUTES}; \
                 GRANT pg_monitor, pg_signal_backend TO {OWNER}; COMMIT"
            ))
            .await?;
    }
    for (role, attributes) in ROLES {
        if !there.iter().any(|have| have == role) {
            // With the right to give it on: since version 16 CREATEROLE alone is not enough for that.
            let sql =
                format!("BEGIN; CREATE ROLE {role} {attributes}; GRANT {role} TO {OWNER} WITH ADMIN OPTION; COMMIT");
            client.batch_execute(&sql).await?;
        }
    }
    if client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE]).await?.is_none() {
        client.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")).await?;
    }
    Ok(())
}
