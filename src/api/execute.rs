//! A statement's way to the database and its row back.

use bytes::Bytes;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::plan::Statement;
use super::query;
use super::settings::Settings;
use crate::db::{self, Parameter, Pool, Transaction};

/// What a statement returned.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The response's body.
    pub(super) body: Bytes,
    /// Rows in the body, or that were written.
    pub(super) rows: i64,
    /// Rows that there are without limit and offset.
    pub(super) total: Option<i64>,
    /// Rows that were new.
    pub(super) inserted: Option<i64>,
    /// The primary key of the first row, as a JSON object.
    pub(super) location: Option<String>,
    /// What a function set as response.headers.
    pub(super) headers: Option<String>,
    /// What a function set as response.status.
    pub(super) status: Option<String>,
}

/// How a transaction runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    /// Who asks, and what the transaction knows.
    pub(super) settings: &'a Settings<'a>,
    /// What is to run first.
    pub(super) before: Option<&'a str>,
    /// Whether the database refuses changes.
    pub(super) read_only: bool,
    /// Whether what was done is undone.
    pub(super) rollback: bool,
}

/// A value's bytes as PostgreSQL sends them, whatever its type. For text, xml, json and bytea these are the value.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn text(row: &Row, column: usize) -> Result<Option<String>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<Raw<'_>>>(column)?.map(|raw| String::from_utf8_lossy(raw.0).into_owned()))
}

impl Outcome {
    fn read(row: &Row) -> Result<Self, db::Error> {
        let body = row.try_get::<_, Option<Raw<'_>>>(0)?.map(|raw| Bytes::copy_from_slice(raw.0));
        Ok(Self {
            body: body.unwrap_or_default(),
            rows: row.try_get(1)?,
            total: row.try_get(2)?,
            inserted: row.try_get(3)?,
            location: text(row, 4)?,
            headers: text(row, 5)?,
            status: text(row, 6)?,
        })
    }
}

/// How many rows a statement's row says that there are.
fn rows_of(row: &Row) -> i64 {
    row.try_get(1).unwrap_or_default()
}

impl Run<'_> {
    /// Runs a statement. What it did is undone unless `accept` agrees to the number of rows; without `accept`, all is
    /// done in one round trip. The flag says whether it was agreed to.
    pub(super) async fn statement(
        self,
        pool: &Pool,
        statement: &Statement,
        accept: Option<impl FnOnce(i64) -> bool + Send>,
    ) -> Result<(Outcome, bool), db::Error> {
        let settings = self.settings.list();
        let transaction = self.transaction(&settings, &statement.sql, &statement.parameters, true);
        match accept {
            None => Ok((Outcome::read(&pool.transact(&transaction).await?)?, true)),
            Some(accept) => {
                let mut agreed = false;
                let (row, _) = pool
                    .transact_if(&transaction, |row| {
                        agreed = accept(rows_of(row));
                        agreed
                    })
                    .await?;
                Ok((Outcome::read(&row)?, agreed))
            }
        }
    }

    /// How many rows the database believes that a statement returns.
    pub(super) async fn estimate(
        self,
        pool: &Pool,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Option<i64>, db::Error> {
        let settings = self.settings.list();
        let sql = format!("explain (format json) {sql}");
        let row = pool.transact(&self.transaction(&settings, &sql, parameters, false)).await?;
        let Raw(json) = row.try_get(0)?;
        let plan: Value = serde_json::from_slice(json).unwrap_or_default();
        Ok(plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_f64).map(|rows| rows as i64))
    }

    /// How the database would run a statement, or has run it (`analyze`).
    pub(super) async fn explain(
        self,
        pool: &Pool,
        statement: &Statement,
        plan: &query::Plan,
    ) -> Result<Bytes, db::Error> {
        let mut options = String::from(if plan.json { "format json" } else { "format text" });
        for option in &plan.options {
            options.push_str(", ");
            options.push_str(option);
        }
        let sql = format!("explain ({options}) {}", statement.sql);
        let settings = self.settings.list();
        let transaction = self.transaction(&settings, &sql, &statement.parameters, false);
        let mut out = Vec::new();
        for row in pool.transact_all(&transaction).await? {
            let Raw(line) = row.try_get(0)?;
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        Ok(out.into())
    }

    fn transaction<'a>(
        &'a self,
        settings: &'a [(&'a str, &'a str)],
        sql: &'a str,
        parameters: &'a [Parameter],
        prepare: bool,
    ) -> Transaction<'a> {
        Transaction {
            read_only: self.read_only,
            isolation: self.settings.isolation,
            settings,
            before: self.before,
            sql,
            parameters,
            rollback: self.rollback,
            prepare,
        }
    }
}
