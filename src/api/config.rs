//! The section `[api]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema;
use crate::auth::gateway::RolePath;
use crate::auth::quota;
use crate::error::Fault;
use crate::http::CorsConfig;

/// The data of the database over HTTP, at /rest/v1.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the API answers at all. It needs a database.
    pub enabled: bool,
    /// Schemas whose tables, views and functions can be asked for. The first is the one that a request means when it
    /// names none (Accept-Profile, Content-Profile).
    pub schemas: Vec<String>,
    /// Schemas that the database searches for types, operators and functions besides the one that is asked for.
    pub extra_search_path: Vec<String>,
    /// The database role of those who bring no token; "" refuses them.
    pub anon_role: String,
    /// Where a token has its role, as a path of keys: ".role", ".app_metadata.role".
    pub role_claim_key: String,
    /// The most rows that a read returns, whatever the client asks for; 0 is no limit.
    pub max_rows: u64,
    /// Whether clients may use count(), sum(), avg(), min() and max(). They can be dear on large tables.
    pub aggregates_enabled: bool,
    /// Whether clients may ask for the database's execution plan (Accept: application/vnd.pgrst.plan). It tells of
    /// the database's insides.
    pub plan_enabled: bool,
    /// How a transaction ends: "commit", "rollback", or one of these with "-allow-override", so that a client decides
    /// (Prefer: tx=rollback); for tests.
    pub tx_end: TxEnd,
    /// A function without arguments, as "schema.name", that runs in each request's transaction before anything else,
    /// as the caller. It refuses a request by raising an error. "" is none.
    pub pre_request: String,
    /// Whether those who bring no token see tables without row-level security, and views that run with their owner's
    /// rights. Otherwise they are told to enable it.
    pub expose_unprotected: bool,
    /// Whether a filter, order or limit may call an embedded table by its name although it has an alias. It is answered
    /// with a header Warning.
    pub legacy_target_names: bool,
    /// Time between looks at the database for a changed schema; 0 is never. `NOTIFY pgrst` tells of a change at once.
    #[serde(with = "crate::clock::duration")]
    pub schema_poll: Duration,
    /// Settings for the database's functions: name = "value" is current_setting('app.settings.name').
    pub app_settings: BTreeMap<String, String>,
    /// What OpenAPI at / shows: "follow-privileges" (what the caller's role may use), "ignore-privileges" or "disabled".
    pub openapi_mode: OpenApiMode,
    /// Whether answers say how long each part took (Server-Timing).
    pub server_timing: bool,
    /// Whether the auth wall stands before the API, when it stands at all.
    pub wall: bool,
    /// How many requests a user, an API key and an anonymous client may make; counted in Redis if there is one.
    pub limits: quota::Config,
    /// Which pages of other origins may call it, and /auth/v1.
    pub cors: CorsConfig,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TxEnd {
    /// What was done stays.
    #[default]
    Commit,
    /// What was done stays unless the client says otherwise.
    CommitAllowOverride,
    /// What was done is undone.
    Rollback,
    /// What was done is undone unless the client says otherwise.
    RollbackAllowOverride,
}

impl TxEnd {
    /// Whether the client decides.
    #[must_use]
    pub fn is_free(self) -> bool {
        matches!(self, Self::CommitAllowOverride | Self::RollbackAllowOverride)
    }

    /// Whether what was done is undone when the client says nothing.
    #[must_use]
    pub fn rolls_back(self) -> bool {
        matches!(self, Self::Rollback | Self::RollbackAllowOverride)
    }
}

/// What the description of the API shows.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OpenApiMode {
    /// What the caller's role may use.
    #[default]
    FollowPrivileges,
    /// Everything in the schema.
    IgnorePrivileges,
    /// Nothing: there is no description.
    Disabled,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            schemas: vec!["public".into()],
            extra_search_path: vec!["public".into(), "extensions".into()],
            anon_role: "anon".into(),
            role_claim_key: ".role".into(),
            max_rows: 1000,
            aggregates_enabled: false,
            plan_enabled: false,
            tx_end: TxEnd::Commit,
            pre_request: String::new(),
            expose_unprotected: false,
            legacy_target_names: true,
            schema_poll: Duration::from_secs(5),
            app_settings: BTreeMap::new(),
            openapi_mode: OpenApiMode::FollowPrivileges,
            server_timing: false,
            wall: true,
            limits: quota::Config::default(),
            cors: CorsConfig::default(),
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.cors.validate().into_iter().map(|fault| fault.within("cors")).collect();
        faults.extend(self.limits.validate().into_iter().map(|fault| fault.within("limits")));
        if self.schemas.is_empty() {
            faults.push(Fault::new("schemas", "is empty", "Name a schema, or set api.enabled = false."));
        }
        for (key, names) in [("schemas", &self.schemas), ("extra_search_path", &self.extra_search_path)] {
            if names.iter().any(|name| name.is_empty() || name.contains('\0')) {
                faults.push(Fault::new(key, "has a name that is empty", "Remove it."));
            }
        }
        if self.role_claim_key.parse::<RolePath>().is_err() {
            let problem = format!("\"{}\" is no path of keys", self.role_claim_key);
            faults.push(Fault::new("role_claim_key", problem, "Use \".role\", or \".app_metadata.role\"."));
        }
        for schema in &self.schemas {
            if matches!(schema.as_str(), "pg_catalog" | "information_schema" | "auth" | "beacon") {
                let problem = format!("has \"{schema}\", whose tables are not for clients");
                faults.push(Fault::new(
                    "schemas",
                    problem,
                    "Remove it; views in another schema can show what is needed.",
                ));
            }
        }
        if !self.pre_request.is_empty() && self.pre_request_name().is_none() {
            faults.push(Fault::new(
                "pre_request",
                format!("is \"{}\"", self.pre_request),
                "Name a function with its schema, as in \"public.check_request\".",
            ));
        }
        if self.app_settings.keys().any(|name| !is_setting(name)) {
            faults.push(Fault::new(
                "app_settings",
                "has a name with something else than letters, digits, _ and dots between them",
                "Rename it.",
            ));
        }
        faults
    }

    /// What the schema cache reads.
    #[must_use]
    pub fn schema_options(&self) -> schema::Options {
        schema::Options {
            schemas: self.schemas.clone(),
            extra_search_path: self.extra_search_path.clone(),
            poll: self.schema_poll,
        }
    }

    /// The schema and the name of the function that runs before each request.
    #[must_use]
    pub fn pre_request_name(&self) -> Option<(&str, &str)> {
        self.pre_request.split_once('.').filter(|(schema, name)| !schema.is_empty() && !name.is_empty())
    }
}

/// Whether `app.settings.` and this is the name of a setting, for PostgreSQL.
fn is_setting(name: &str) -> bool {
    let part = |part: &str| {
        !part.starts_with(|ch: char| ch.is_ascii_digit())
            && !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_mistakes_are_named() {
        assert!(Config::default().validate().is_empty());
        let wrong = Config {
            schemas: vec!["auth".into()],
            extra_search_path: vec![String::new()],
            role_claim_key: "role".into(),
            pre_request: "check".into(),
            app_settings: [("a b".to_owned(), String::new())].into(),
            ..Config::default()
        };
        let keys: Vec<String> = wrong.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["extra_search_path", "role_claim_key", "schemas", "pre_request", "app_settings"]);
        assert_eq!(Config { schemas: vec![], ..Config::default() }.validate().len(), 1);
    }
}
