//! What belongs to a database and is not in its dump, because PostgreSQL keeps it for the whole server: the roles that its
//! objects name, who is a member of which, and settings by role and database.
//!
//! Passwords are not in it: only a superuser reads them. The login that Beacon makes for requests gets a new one.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{literal, quoted};

/// The first entry of a database in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The server's major version.
    pub version: u32,
    /// The database's name.
    pub database: String,
    /// The login that owns Beacon's schemas.
    pub owner: String,
    /// The roles that its objects, rights and policies name.
    pub roles: Vec<Role>,
    /// Pairs of a role and a member of it.
    pub members: Vec<(String, String)>,
    /// Settings: for which role (all, if none), only in this database or everywhere, and "name=value".
    pub settings: Vec<(Option<String>, bool, String)>,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub login: bool,
    /// Whether it has the rights of the roles that it is a member of.
    pub inherit: bool,
    /// Whether it passes row-level security.
    pub bypass: bool,
}

/// Roles of the contract are needed even where nothing names them yet.
const ROLES: &str = "
    select r.oid, r.rolname::text, r.rolcanlogin, r.rolinherit, r.rolbypassrls from pg_roles r
    where (r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator') or r.oid in (
        select d.refobjid from pg_shdepend d where d.refclassid = 'pg_authid'::regclass
        and d.dbid = (select oid from pg_database where datname = current_database())))
    and r.rolname not like 'pg\\_%' and not r.rolsuper order by 2";

impl About {
    /// Reads it from the database of a connection, whose objects `owner` owns.
    pub(super) async fn read(client: &Client, owner: &str) -> Result<Self, tokio_postgres::Error> {
        let row = client
            .query_one("select current_setting('server_version_num')::int / 10000, current_database()::text", &[])
            .await?;
        let (version, database): (i32, String) = (row.get(0), row.get(1));
        let rows = client.query(ROLES, &[]).await?;
        let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        let roles = rows
            .iter()
            .map(|row| Role { name: row.get(1), login: row.get(2), inherit: row.get(3), bypass: row.get(4) })
            .collect();
        let members = client
            .query(
                "select distinct g.rolname::text, r.rolname::text from pg_auth_members m
                 join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member
                 where m.roleid = any($1) and m.member = any($1) order by 1, 2",
                &[&oids],
            )
            .await?;
        let settings = client
            .query(
                "select r.rolname::text, s.setdatabase <> 0, unnest(s.setconfig) from pg_db_role_setting s
                 left join pg_roles r on r.oid = s.setrole
                 where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                 and (s.setrole = 0 or s.setrole = any($1)) order by 1, 2, 3",
                &[&oids],
            )
            .await?;
        Ok(Self {
            version: version as u32,
            database,
            owner: owner.to_owned(),
            roles,
            members: members.iter().map(|row| (row.get(0), row.get(1))).collect(),
            settings: settings.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
        })
    }

    /// Makes the roles that are missing, and their memberships. What this login may not do is left out and told: it
    /// concerns roles that somebody else has to make.
    pub(super) async fn make_roles(&self, client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut missed = Vec::new();
        for role in &self.roles {
            if client.query_opt("select from pg_roles where rolname = $1", &[&role.name]).await?.is_some() {
                continue;
            }
            let mut sql = format!("create role {}", quoted(&role.name));
            let _ = write!(sql, " {}login", if role.login { "" } else { "no" });
            let _ = write!(sql, " {}inherit", if role.inherit { "" } else { "no" });
            let with = format!("{sql} bypassrls");
            if role.bypass && client.batch_execute(&with).await.is_ok() {
                continue;
            }
            client.batch_execute(&sql).await?;
            if role.bypass {
                missed.push(format!("the role {} has no BYPASSRLS here, which only a superuser gives", role.name));
            }
        }
        for (role, member) in &self.members {
            let missing = client
                .query_opt(
                    "select from pg_roles r, pg_roles m where r.rolname = $1 and m.rolname = $2
                     and not exists (select from pg_auth_members where roleid = r.oid and member = m.oid)",
                    &[role, member],
                )
                .await?
                .is_some();
            let sql = format!("grant {} to {}", quoted(role), quoted(member));
            if missing && let Err(error) = client.batch_execute(&sql).await {
                missed.push(format!("{member} is no member of {role} here: {}", crate::error::chain(&error)));
            }
        }
        Ok(missed)
    }

    /// Gives the settings to the roles, and to the database that is called `database`.
    pub(super) async fn give_settings(&self, client: &Client, database: &str) -> Vec<String> {
        let mut missed = Vec::new();
        for (role, here, setting) in &self.settings {
            let Some((name, value)) = setting.split_once('=') else { continue };
            let target = match (role, here) {
                (None, true) => format!("alter database {}", quoted(database)),
                (Some(role), true) => format!("alter role {} in database {}", quoted(role), quoted(database)),
                (Some(role), false) => format!("alter role {}", quoted(role)),
                (None, false) => continue,
            };
            let sql = format!("{target} set {} = {}", quoted(name), written(name, value));
            if let Err(error) = client.batch_execute(&sql).await {
                missed.push(format!("`{sql}` failed: {}", crate::error::chain(&error)));
            }
        }
        missed
    }
}

/// A stored value as SET wants it: of some settings it is a list of names, which has its quotes already.
fn written(name: &str, value: &str) -> String {
    const LISTS: [&str; 5] = [
        "search_path",
        "temp_tablespaces",
        "session_preload_libraries",
        "shared_preload_libraries",
        "local_preload_libraries",
    ];
    let list = LISTS.iter().any(|list| name.eq_ignore_ascii_case(list));
    // PostgreSQL wrote it; but the archive may have been written by somebody else.
    let plain =
        value.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '"' | '$' | ',' | ' ' | '_' | '-'));
    if list && plain && !value.is_empty() && value.matches('"').count().is_multiple_of(2) {
        value.to_owned()
    } else {
        literal(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_quotes_and_everything_else_is_a_text() {
        assert_eq!(written("search_path", "\"$user\", public"), "\"$user\", public");
        assert_eq!(written("statement_timeout", "3s"), "E'3s'");
        assert_eq!(written("search_path", "x; drop role y"), "E'x; drop role y'");
        assert_eq!(written("app.secret", "a'b\\"), "E'a''b\\\\'");
    }
}
