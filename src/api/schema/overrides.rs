//! Configuration that the database brings along: `ALTER ROLE authenticator SET pgrst.db_schemas = 'api, public'`.
//!
//! It overrides the file. Settings are read from the role that the upstream API logs in with, and from the two roles that
//! Beacon logs in with, which count more; a setting for this database alone counts more than one for all. What is not
//! known or not right is reported and changes nothing.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::error::Error;
use super::read;

/// The role that the upstream API logs in with by convention.
const AUTHENTICATOR: &str = "authenticator";

const SETTINGS: &str = "\
select split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1), r.rolname
from pg_db_role_setting d
join pg_roles r on r.oid = d.setrole
cross join lateral unnest(d.setconfig) with ordinality s(setting, place)
where s.setting like 'pgrst.%' and r.rolname in ($1, current_user, coalesce($2, current_user))
  and d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
order by r.rolname <> $1, r.rolname = coalesce($2, current_user), d.setdatabase, s.place";

/// Values that take the place of those in the section [api]. `None`: the file's value holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `pgrst.db_schemas`: the exposed schemas, the first one is the default.
    pub schemas: Option<Vec<String>>,
    /// `pgrst.db_extra_search_path`
    pub extra_search_path: Option<Vec<String>>,
    /// `pgrst.db_anon_role`; empty: nobody without a token.
    pub anon_role: Option<String>,
    /// `pgrst.db_max_rows`; 0: no limit.
    pub max_rows: Option<u64>,
    /// `pgrst.db_aggregates_enabled`
    pub aggregates_enabled: Option<bool>,
    /// `pgrst.db_plan_enabled`
    pub plan_enabled: Option<bool>,
    /// `pgrst.db_pre_request`: "schema.function"; empty: none.
    pub pre_request: Option<String>,
    /// `pgrst.db_tx_end`: one of "commit", "commit-allow-override", "rollback", "rollback-allow-override".
    pub tx_end: Option<String>,
    /// `pgrst.jwt_role_claim_key`, as in ".role".
    pub role_claim_key: Option<String>,
    /// `pgrst.openapi_mode`: one of "follow-privileges", "ignore-privileges", "disabled".
    pub openapi_mode: Option<String>,
    /// `pgrst.server_timing_enabled`
    pub server_timing: Option<bool>,
    /// `pgrst.app_settings_<name>`: what `app.settings.<name>` is.
    pub app_settings: Vec<(String, String)>,
    /// Settings that change nothing, each with the reason.
    pub faults: Vec<String>,
}

/// Values of `db_tx_end`.
const TX_ENDS: [&str; 4] = ["commit", "commit-allow-override", "rollback", "rollback-allow-override"];

/// Values of `openapi_mode`.
const OPENAPI_MODES: [&str; 3] = ["follow-privileges", "ignore-privileges", "disabled"];

impl Overrides {
    /// Reads them over `session`; `login` is the role that requests log in with.
    pub(super) async fn read(session: &Client, login: Option<&str>) -> Result<Self, Error> {
        let what = "settings of the API";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&AUTHENTICATOR, Type::TEXT), (&login, Type::TEXT)];
        let rows = read::rows(session, what, SETTINGS, &parameters).await?;
        let decode = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let settings: Vec<(String, String, String)> = read::decoded(&rows, what, decode)?;
        let mut overrides = Self::default();
        for (name, value, role) in &settings {
            let name = name.trim_start_matches("pgrst.");
            if let Err(why) = overrides.set(name, value) {
                overrides.faults.push(format!("pgrst.{name} of role {role} {why}"));
            }
        }
        Ok(overrides)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let text = || Some(value.trim().to_owned());
        match name {
            "db_schemas" | "db_schema" => {
                let schemas = list(value);
                if schemas.is_empty() {
                    return Err("names no schema");
                }
                self.schemas = Some(schemas);
            }
            "db_extra_search_path" => self.extra_search_path = Some(list(value)),
            "db_anon_role" => self.anon_role = text(),
            "db_max_rows" if value.trim().is_empty() => self.max_rows = Some(0),
            "db_max_rows" => self.max_rows = Some(value.trim().parse().map_err(|_| "is not a number")?),
            "db_aggregates_enabled" => self.aggregates_enabled = Some(boolean(value)?),
            "db_plan_enabled" => self.plan_enabled = Some(boolean(value)?),
            "db_pre_request" => self.pre_request = text(),
            "db_tx_end" => self.tx_end = Some(one_of(&TX_ENDS, value)?),
            "jwt_role_claim_key" => self.role_claim_key = text(),
            "openapi_mode" => self.openapi_mode = Some(one_of(&OPENAPI_MODES, value)?),
            "server_timing_enabled" => self.server_timing = Some(boolean(value)?),
            _ => match name.strip_prefix("app_settings_") {
                Some(name) if !name.is_empty() => {
                    self.app_settings.retain(|(known, _)| known != name);
                    self.app_settings.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err("is not known here, or has to be set in the configuration file"),
            },
        }
        Ok(())
    }
}

/// Names between commas.
fn list(value: &str) -> Vec<String> {
    value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn boolean(value: &str) -> Result<bool, &'static str> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

fn one_of(known: &[&str], value: &str) -> Result<String, &'static str> {
    let value = value.trim();
    if known.contains(&value) { Ok(value.to_owned()) } else { Err("has a value that is not known") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let mut overrides = Overrides::default();
        for (name, value) in [
            ("db_schemas", "api, other ,"),
            ("db_extra_search_path", ""),
            ("db_max_rows", " 100 "),
            ("db_aggregates_enabled", "True"),
            ("db_tx_end", "rollback"),
            ("app_settings_a", "1"),
            ("app_settings_a", "2"),
        ] {
            overrides.set(name, value).unwrap();
        }
        assert_eq!(overrides.schemas.as_deref(), Some(&["api".to_owned(), "other".to_owned()][..]));
        assert_eq!(overrides.extra_search_path.as_deref(), Some(&[][..]));
        assert_eq!((overrides.max_rows, overrides.aggregates_enabled), (Some(100), Some(true)));
        assert_eq!(overrides.tx_end.as_deref(), Some("rollback"));
        assert_eq!(overrides.app_settings, [("a".to_owned(), "2".to_owned())]);
        for (name, value) in [
            ("db_schemas", " , "),
            ("db_max_rows", "many"),
            ("db_plan_enabled", "maybe"),
            ("db_tx_end", "sometimes"),
            ("openapi_mode", "on"),
            ("jwt_secret", "x"),
            ("app_settings_", "x"),
        ] {
            assert!(overrides.set(name, value).is_err(), "{name}");
        }
    }
}
