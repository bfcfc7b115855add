//! The roles that a request may change to, and what they bring with them.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::catalog::Settings;
use super::error::Error;
use super::read;

/// PostgreSQL's own roles are not for clients.
const ASSUMABLE: &str = "\
select r.rolname, r.rolbypassrls or r.rolsuper
from pg_roles l
join pg_roles r on pg_has_role(l.oid, r.oid,
    case when current_setting('server_version_num')::integer >= 160000 then 'SET' else 'MEMBER' end)
where l.rolname = coalesce($1, current_user) and r.rolname !~ '^pg_'";

/// Those for all databases first, those for this one after them, which replace them. `has_parameter_privilege` would fail
/// for a role that is not there.
const SETTINGS: &str = "\
select r.rolname, split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1)
from pg_roles l
cross join pg_db_role_setting d
join pg_roles r on r.oid = d.setrole
cross join lateral unnest(d.setconfig) s(setting)
join pg_settings p on p.name = split_part(s.setting, '=', 1)
where l.rolname = coalesce($1, current_user)
  and d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
  and (p.context = 'user' or has_parameter_privilege(l.oid, p.name, 'set'))
order by r.rolname, d.setdatabase, 2";

/// Roles that `login` may change to, with whether policies do not bind them.
pub(super) async fn assumable(session: &Client, login: Option<&str>) -> Result<HashMap<Box<str>, bool>, Error> {
    let what = "roles";
    let rows = read::rows(session, what, ASSUMABLE, &[(&login, Type::TEXT)]).await?;
    let decode = |row: &Row| {
        let (name, bypasses): (&str, bool) = (row.try_get(0)?, row.try_get(1)?);
        Ok((name.into(), bypasses))
    };
    Ok(read::decoded(&rows, what, decode)?.into_iter().collect())
}

/// Settings of `roles`, which a change of role alone does not bring into force.
pub(super) async fn settings(
    session: &Client,
    login: Option<&str>,
    roles: &HashMap<Box<str>, bool>,
) -> Result<HashMap<Box<str>, Settings>, Error> {
    let what = "settings of roles";
    let rows = read::rows(session, what, SETTINGS, &[(&login, Type::TEXT)]).await?;
    let decode = |row: &Row| {
        let (role, name, value): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok((Box::from(role), Box::from(name), Box::from(value)))
    };
    let mut found: HashMap<Box<str>, Settings> = HashMap::new();
    for (role, name, value) in read::decoded(&rows, what, decode)? {
        if !roles.contains_key(&role) {
            continue;
        }
        let settings = found.entry(role).or_default();
        match settings.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => settings.push((name, value)),
        }
    }
    Ok(found)
}
