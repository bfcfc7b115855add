//! The login that clients' requests run with: made for this database, owning nothing, a member of the roles that a
//! request may change to.
//!
//! Its password is random, kept in beacon.settings, which the owner alone reads, so that all Beacons on a database share
//! it. PostgreSQL gets its SCRAM verifier and never the password, which its log could show.

use std::fmt::Write as _;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Error, Pool, Session};
use crate::secret::Secret;

/// The roles of the contract, which every request login may change to.
const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

/// The login that was made.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// A login of its own.
    Own(String, Secret),
    /// The owner's, because this database gives Beacon no right to make another.
    Owner,
}

impl Made {
    pub(super) fn credentials(&self) -> Option<(&str, &Secret)> {
        match self {
            Self::Own(name, password) => Some((name, password)),
            Self::Owner => None,
        }
    }
}

/// The name of the login of a database; names of PostgreSQL end after 63 bytes.
pub(super) fn name(database: &str) -> String {
    let mut name = format!("beacon_request_{database}");
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// What `ensure` left behind.
pub(super) async fn read(owner: &Pool) -> Result<Made, Error> {
    let session = owner.get().await?;
    let rows = session
        .query("select name, value from beacon.settings where name in ('request_login', 'request_password')", &[])
        .await
        .map_err(|error| match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME | &SqlState::INSUFFICIENT_PRIVILEGE) => {
                Error::Absent("the database has not been prepared yet".into())
            }
            _ => Error::Query(error),
        })?;
    let value = |name: &str| rows.iter().find(|row| row.get::<_, &str>(0) == name).map(|row| row.get::<_, String>(1));
    match (value("request_login"), value("request_password")) {
        (Some(name), Some(password)) => Ok(Made::Own(name, Secret::new(password))),
        (Some(_), None) => Ok(Made::Owner),
        (None, _) => Err(Error::Absent("the database has not been prepared yet".into())),
    }
}

/// Makes the login if it is missing, and sees that it can change to `roles`. Run under the migrations' lock.
pub(super) async fn ensure(client: &Client, database: &str, anonymous: &[String]) -> Result<Made, Error> {
    let name = name(database);
    let mut password = client
        .query_opt("select value from beacon.settings where name = 'request_password'", &[])
        .await?
        .map(|row| Secret::new(row.get::<_, String>(0)));
    let known = client.query_opt("select 1 from pg_roles where rolname = $1", &[&name]).await?.is_some();
    // The role may be there with another database's password, or with one from before a restore: it is set each time.
    let new = match &password {
        Some(password) => password.clone(),
        None => random()?,
    };
    // A verifier holds only characters of base64, `$`, `:` and `-`; the name is quoted.
    let verifier = postgres_protocol::password::scram_sha_256(new.expose().as_bytes());
    let verb = if known { "alter" } else { "create" };
    let made =
        client.batch_execute(&format!("{verb} role {} login noinherit password '{verifier}'", quoted(&name))).await;
    match made {
        Ok(()) => password = Some(new),
        // Who may not set it now may have been allowed to make it.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && known && password.is_some() => {
            tracing::debug!(login = name, "the login's password cannot be set again");
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::warn!(
                "the database's login may not create roles, so requests of clients run in its own sessions: \
                 a function that changes the role by itself could become the owner. Give it CREATEROLE, or set \
                 database.request_url"
            );
            store(client, "request_login", "").await?;
            client.execute("delete from beacon.settings where name = 'request_password'", &[]).await?;
            return Ok(Made::Owner);
        }
        Err(error) => return Err(error.into()),
    }
    let password = password.unwrap_or_default();
    store(client, "request_login", &name).await?;
    store(client, "request_password", password.expose()).await?;
    // Whatever was granted to authenticator by the application's migrations counts for us too.
    let wanted = ["authenticator"].into_iter().chain(ROLES).map(str::to_owned).chain(anonymous.iter().cloned());
    for role in wanted {
        let missing = client
            .query_opt(
                "select 1 from pg_roles where rolname = $1 and not pg_has_role($2, oid, 'member')",
                &[&role, &name],
            )
            .await?
            .is_some();
        if missing
            && let Err(error) = client.batch_execute(&format!("grant {} to {}", quoted(&role), quoted(&name))).await
        {
            tracing::warn!(%error, role, login = name, "requests cannot change to this role: grant it to the login");
        }
    }
    Ok(Made::Own(name, password))
}

async fn store(client: &Client, name: &str, value: &str) -> Result<(), Error> {
    client
        .execute(
            "insert into beacon.settings (name, value) values ($1, $2)
             on conflict (name) do update set value = excluded.value where settings.value <> excluded.value",
            &[&name, &value],
        )
        .await?;
    Ok(())
}

fn random() -> Result<Secret, Error> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Password(format!("the kernel gives no random bytes: {error}")))?;
    Ok(Secret::new(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })))
}

/// Sees that names without a schema mean those of `public`. PostgreSQL looks into the schema called as the login first,
/// and a login may be called as one of Beacon's: an application's tables would end in there, where no client sees them.
pub(super) async fn look_into_public(session: &Session) -> Result<(), Error> {
    let sql = "select format('alter role %I in database %I set search_path = public, extensions', current_user, \
               current_database()) from pg_namespace where nspname = current_user and nspname in ('auth', 'beacon', \
               'storage', 'realtime', 'extensions') and current_setting('search_path') like '%$user%'";
    if let Some(row) = session.query_opt(sql, &[]).await? {
        session.batch_execute(row.get(0)).await?;
        session.batch_execute("set search_path = public, extensions").await?;
        // Connections that were opened before look where they did.
        session.renew();
    }
    Ok(())
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_s_name_fits_and_is_quoted() {
        assert_eq!(name("shop"), "beacon_request_shop");
        assert_eq!(name(&"é".repeat(40)).len(), 63);
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
