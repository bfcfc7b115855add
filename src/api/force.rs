//! What is in force: the configuration, with what the database says of it, and the catalogue that it goes with.
//!
//! It is made once for each reading of the schema, so that a request finds it ready.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as ValueError;

use super::Config;
use super::schema::{Cache, Catalog, Overrides};
use super::settings::quote;

/// A configuration and a catalogue that belong together.
pub(super) struct InForce {
    number: u64,
    /// The configuration, with the database's settings over it.
    pub(super) config: Config,
    /// What the database has.
    pub(super) catalog: Arc<Catalog>,
    /// What runs before each statement, if anything does.
    pub(super) before: Option<String>,
    /// The same for a transaction that is undone: what would fail at its end has to fail before.
    pub(super) before_undone: String,
}

/// Keeps what is in force.
pub(super) struct Force {
    config: Config,
    cache: Cache,
    last: ArcSwapOption<InForce>,
}

impl Force {
    pub(super) fn new(config: Config, cache: Cache) -> Self {
        Self { config, cache, last: ArcSwapOption::empty() }
    }

    /// What is in force now; nothing before the schema has been read.
    pub(super) fn now(&self) -> Option<Arc<InForce>> {
        let snapshot = self.cache.snapshot()?;
        let last = self.last.load();
        if let Some(last) = last.as_ref()
            && last.number == snapshot.number
        {
            return Some(last.clone());
        }
        let config = Config { schemas: snapshot.schemas.clone(), ..overridden(&self.config, &snapshot.overrides) };
        let made = Arc::new(InForce::new(snapshot.number, config, snapshot.catalog.clone()));
        self.last.store(Some(made.clone()));
        Some(made)
    }
}

impl InForce {
    fn new(number: u64, config: Config, catalog: Arc<Catalog>) -> Self {
        let before = config.pre_request_name().map(|(schema, name)| {
            let mut sql = String::from("select ");
            quote(&mut sql, schema);
            sql.push('.');
            quote(&mut sql, name);
            sql.push_str("()");
            sql
        });
        let before_undone = format!("set constraints all immediate; {}", before.as_deref().unwrap_or_default());
        Self { number, config, catalog, before, before_undone }
    }
}

/// The configuration with the database's settings in their places.
fn overridden(config: &Config, overrides: &Overrides) -> Config {
    let mut config = config.clone();
    put(&mut config.extra_search_path, overrides.extra_search_path.clone());
    put(&mut config.max_rows, overrides.max_rows);
    put(&mut config.aggregates_enabled, overrides.aggregates_enabled);
    put(&mut config.plan_enabled, overrides.plan_enabled);
    put(&mut config.tx_end, overrides.tx_end.as_deref().and_then(named));
    put(&mut config.openapi_mode, overrides.openapi_mode.as_deref().and_then(named));
    put(&mut config.server_timing, overrides.server_timing);
    config.app_settings.extend(overrides.app_settings.iter().cloned());
    if let Some(function) = &overrides.pre_request {
        let before = std::mem::replace(&mut config.pre_request, function.clone());
        if !function.is_empty() && config.pre_request_name().is_none() {
            tracing::warn!(function, "pgrst.db_pre_request names no function with its schema; it changes nothing");
            config.pre_request = before;
        }
    }
    // Whoever asks is known before the schema is.
    for (name, set, ours) in [
        ("db_anon_role", &overrides.anon_role, &config.anon_role),
        ("jwt_role_claim_key", &overrides.role_claim_key, &config.role_claim_key),
    ] {
        if set.as_ref().is_some_and(|set| set != ours) {
            tracing::warn!(setting = name, "a setting in the database changes nothing: set it in the section [api]");
        }
    }
    config
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// A value by the name that it has in the configuration.
fn named<'de, T: Deserialize<'de>>(name: &'de str) -> Option<T> {
    let text: serde::de::value::BorrowedStrDeserializer<'de, ValueError> =
        serde::de::value::BorrowedStrDeserializer::new(name);
    T::deserialize(text.into_deserializer()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{OpenApiMode, TxEnd};
    use super::*;

    #[test]
    fn the_database_decides_over_the_file() {
        let overrides = Overrides {
            max_rows: Some(7),
            tx_end: Some("rollback-allow-override".into()),
            openapi_mode: Some("disabled".into()),
            pre_request: Some("test.check".into()),
            app_settings: vec![("a".into(), "2".into())],
            ..Overrides::default()
        };
        let file = Config { app_settings: [("a".to_owned(), "1".to_owned())].into(), ..Config::default() };
        let config = overridden(&file, &overrides);
        assert_eq!((config.max_rows, config.tx_end), (7, TxEnd::RollbackAllowOverride));
        assert_eq!((config.openapi_mode, config.pre_request.as_str()), (OpenApiMode::Disabled, "test.check"));
        assert_eq!(config.app_settings["a"], "2");
        assert_eq!(overridden(&file, &Overrides::default()), file);
        let nameless = Overrides { pre_request: Some("check".into()), ..Overrides::default() };
        assert_eq!(overridden(&file, &nameless).pre_request, "");
    }
}
