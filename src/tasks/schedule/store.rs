//! The table beacon.schedules: entries that people add while Beacon runs. Every change wakes the schedulers.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

use super::config::Entry;
use crate::db::{self, Database};
use crate::error::Fault;

/// Entries in the database. Clones share it.
#[derive(Clone)]
pub struct Store(Database);

/// What can go wrong with an entry of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The entry makes no sense.
    #[error("the schedule cannot be used")]
    Invalid(Vec<Fault>),
    /// The database is away, or refused.
    #[error("schedules cannot be read or written")]
    Database(#[from] db::Error),
}

const COLUMNS: &str = "name, task, cron, timezone, args::text, kwargs::text, queue, priority, enabled, \
                       (extract(epoch from every) * 1000)::bigint, (extract(epoch from expires) * 1000)::bigint, \
                       (extract(epoch from grace) * 1000)::bigint";

impl Store {
    /// Entries in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self(database)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0
    }

    /// All of them, in the order of their names.
    ///
    /// # Errors
    /// The database is away.
    pub async fn list(&self) -> Result<Vec<(String, Entry)>, StoreError> {
        let sql = format!("select {COLUMNS} from beacon.schedules order by name");
        let session = self.0.owner().get().await?;
        let rows = session.query_typed(&sql, &[]).await.map_err(db::Error::from)?;
        Ok(rows.iter().map(entry).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// The database is away.
    pub async fn get(&self, name: &str) -> Result<Option<Entry>, StoreError> {
        let sql = format!("select {COLUMNS} from beacon.schedules where name = $1");
        let session = self.0.owner().get().await?;
        let row = session.query_typed_opt(&sql, &[(&name, Type::TEXT)]).await.map_err(db::Error::from)?;
        Ok(row.as_ref().map(entry).map(|(_, entry)| entry))
    }

    /// Adds one, or changes the one of this name.
    ///
    /// # Errors
    /// The entry cannot be used, or the database is away.
    pub async fn put(&self, name: &str, entry: &Entry) -> Result<(), StoreError> {
        let mut faults = entry.validate();
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            faults.push(Fault::new("name", "is empty, too long or has control characters", "Use up to 200 bytes."));
        }
        if !faults.is_empty() {
            return Err(StoreError::Invalid(faults));
        }
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).map(Json).unwrap_or_default();
        let (args, kwargs) = (json(&entry.args), json(&entry.kwargs));
        let [every, expires, grace] = [entry.every, entry.expires, entry.grace].map(milliseconds);
        let sql = "insert into beacon.schedules
                (name, task, cron, timezone, args, kwargs, queue, priority, enabled, every, expires, grace)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                $10 * interval '1 millisecond', $11 * interval '1 millisecond', $12 * interval '1 millisecond')
            on conflict (name) do update set
                task = excluded.task, cron = excluded.cron, timezone = excluded.timezone, args = excluded.args,
                kwargs = excluded.kwargs, queue = excluded.queue, priority = excluded.priority,
                enabled = excluded.enabled, every = excluded.every, expires = excluded.expires,
                grace = excluded.grace, updated_at = now()";
        let session = self.0.owner().get().await?;
        session
            .query_typed(
                sql,
                &[
                    (&name, Type::TEXT),
                    (&entry.task, Type::TEXT),
                    (&entry.cron, Type::TEXT),
                    (&entry.timezone, Type::TEXT),
                    (&args, Type::JSONB),
                    (&kwargs, Type::JSONB),
                    (&entry.queue, Type::TEXT),
                    (&i16::from(entry.priority), Type::INT2),
                    (&entry.enabled, Type::BOOL),
                    (&every, Type::FLOAT8),
                    (&expires, Type::FLOAT8),
                    (&grace, Type::FLOAT8),
                ],
            )
            .await
            .map_err(db::Error::from)?;
        Ok(())
    }

    /// Removes one; false if there is none.
    ///
    /// # Errors
    /// The database is away.
    pub async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        self.changed("delete from beacon.schedules where name = $1 returning 1", &[(&name, Type::TEXT)]).await
    }

    /// Puts one into force, or out of it; false if there is none.
    ///
    /// # Errors
    /// The database is away.
    pub async fn enable(&self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        let sql = "update beacon.schedules set enabled = $2, updated_at = now() where name = $1 returning 1";
        self.changed(sql, &[(&name, Type::TEXT), (&enabled, Type::BOOL)]).await
    }

    async fn changed(
        &self,
        sql: &str,
        parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)],
    ) -> Result<bool, StoreError> {
        let session = self.0.owner().get().await?;
        Ok(!session.query_typed(sql, parameters).await.map_err(db::Error::from)?.is_empty())
    }
}

fn entry(row: &Row) -> (String, Entry) {
    let duration = |index| Duration::from_millis(row.get::<_, i64>(index).max(0) as u64);
    let entry = Entry {
        task: row.get(1),
        cron: row.get(2),
        timezone: row.get(3),
        args: row.get(4),
        kwargs: row.get(5),
        queue: row.get(6),
        priority: row.get::<_, i16>(7) as u8,
        enabled: row.get(8),
        every: duration(9),
        expires: duration(10),
        grace: duration(11),
    };
    (row.get(0), entry)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
