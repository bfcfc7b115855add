//! Every form against a real PostgreSQL: queries are parsed, planned with the catalogue of the fixtures, and run.

mod calls;
mod embeds;
#[path = "../../../../tests/support/ports.rs"]
mod ports;
#[expect(dead_code, reason = "the integration tests need more of it")]
#[path = "../../../../tests/support/postgres.rs"]
mod postgres;
mod reads;
mod writes;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};

use super::{Arguments, Conflict, Count, Error, Insert, Output, Rows, Statement, Target, Work, plan};
use crate::api::query::{Mode, Query, parse_text};
use crate::api::schema::{Catalog, Function, Name, Scope, load};
use crate::db::Parameter;

const JSON: Output = Output::Json { strip_nulls: false };
const OBJECT: Output = Output::Object { strip_nulls: false };

static DATABASE: LazyLock<postgres::Database<'static>> = LazyLock::new(|| {
    let database = postgres::Postgres::shared().database();
    database.execute(include_str!("fixtures.sql"));
    database
});

/// A session in a transaction that nobody commits, with the catalogue.
struct Bench {
    client: Client,
    catalog: Catalog,
}

/// What a statement gave.
#[derive(Debug)]
struct Outcome {
    body: Option<String>,
    rows: i64,
    total: Option<i64>,
    inserted: Option<i64>,
    location: Option<String>,
    headers: Option<String>,
    sql: String,
}

impl Outcome {
    #[track_caller]
    fn json(&self) -> Value {
        let body = self.body.as_deref().expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn text(&self) -> &str {
        self.body.as_deref().expect("a body")
    }
}

/// Why there is no outcome.
#[derive(Debug)]
enum Failure {
    Plan(Error),
    Database { code: String, message: String },
}

impl Failure {
    fn code(&self) -> &str {
        match self {
            Self::Database { code, .. } => code,
            Self::Plan(error) => panic!("not planned: {error:?}"),
        }
    }
}

fn name(name: &str) -> Name {
    Name { schema: "test".into(), name: name.into() }
}

fn query(text: &str, arguments: bool) -> Query {
    parse_text(text, Mode { arguments, legacy_names: true }).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// A write's body: columns are the keys of all objects, as the handler finds them.
fn keys(body: &str) -> Vec<String> {
    let parsed: Value = serde_json::from_str(body).unwrap();
    let objects = match &parsed {
        Value::Array(members) => members.clone(),
        one => vec![one.clone()],
    };
    let mut keys: Vec<String> = Vec::new();
    for key in objects.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

impl Bench {
    async fn new() -> Self {
        let database = tokio::task::spawn_blocking(|| &*DATABASE).await.unwrap();
        let mut config = Config::new();
        config.host_path(database.server().socket()).port(database.server().port());
        config.user(postgres::OWNER).password(postgres::PASSWORD).dbname(database.name());
        let (mut client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let schemas = ["test".to_owned()];
        let scope = Scope { schemas: &schemas, extra_search_path: &[], login: None };
        let transaction = client.transaction().await.unwrap();
        let catalog = load(&transaction, &scope, None).await.unwrap();
        transaction.commit().await.unwrap();
        client.batch_execute("SET search_path = test; SET timezone = 'UTC'; BEGIN").await.unwrap();
        Self { client, catalog }
    }

    /// Plans and runs in a transaction of its own.
    async fn run(&self, work: &Work<'_>) -> Result<Outcome, Failure> {
        let planned = plan(&self.catalog, work).map_err(Failure::Plan)?;
        self.client.batch_execute("SAVEPOINT s").await.unwrap();
        let outcome = self.execute(&planned).await;
        self.client.batch_execute("ROLLBACK TO s").await.unwrap();
        if let Some((sql, parameters)) = &planned.estimate {
            let sql = format!("EXPLAIN (FORMAT JSON) {sql}");
            self.rows(&sql, parameters).await.expect("an estimate can be explained");
        }
        outcome
    }

    async fn rows(
        &self,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        let wires: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|wire| wire as &(dyn ToSql + Sync)).collect();
        self.client.query(sql, &wires).await
    }

    async fn execute(&self, planned: &Statement) -> Result<Outcome, Failure> {
        let rows = self.rows(&planned.sql, &planned.parameters).await.map_err(|error| match error.as_db_error() {
            Some(known) => {
                // What a client wrote must never be a fault of our SQL.
                if ["42601", "42P10", "42702", "42712", "XX000"].contains(&known.code().code()) {
                    println!("{}", planned.sql);
                }
                Failure::Database { code: known.code().code().to_owned(), message: known.message().to_owned() }
            }
            None => panic!("{error:?}\n{}", planned.sql),
        })?;
        assert_eq!(rows.len(), 1, "{}", planned.sql);
        let row = &rows[0];
        let body = row.try_get::<_, Option<String>>(0).unwrap_or_else(|_| {
            row.get::<_, Option<Vec<u8>>>(0).map(|bytes| bytes.iter().map(|byte| char::from(*byte)).collect())
        });
        let _: Option<String> = row.get(6);
        Ok(Outcome {
            body,
            rows: row.get(1),
            total: row.get(2),
            inserted: row.get(3),
            location: row.get(4),
            headers: row.get(5),
            sql: planned.sql.clone(),
        })
    }

    async fn attempt(
        &self,
        relation: &str,
        text: &str,
        output: Output,
        count: Option<Count>,
    ) -> Result<Outcome, Failure> {
        let (asked, relation) = (query(text, false), name(relation));
        let work = Work {
            target: Target::Read(&relation),
            level: &asked.level,
            output,
            count,
            max_rows: Some(1000),
            aggregates: true,
        };
        self.run(&work).await
    }

    /// A read that succeeds.
    async fn read(&self, relation: &str, text: &str) -> Outcome {
        match self.attempt(relation, text, JSON, None).await {
            Ok(outcome) => outcome,
            Err(failure) => panic!("{relation}?{text}: {failure:?}"),
        }
    }

    /// The JSON of a read.
    async fn get(&self, relation: &str, text: &str) -> Value {
        self.read(relation, text).await.json()
    }

    /// The ids of a read's rows.
    async fn ids(&self, relation: &str, text: &str) -> Vec<i64> {
        let read = self.get(relation, &format!("select=id&order=id&{text}")).await;
        read.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    }

    async fn failure(&self, relation: &str, text: &str) -> Failure {
        self.attempt(relation, text, JSON, None).await.expect_err(text)
    }

    async fn insert(&self, to: &Write<'_>, body: &str) -> Result<Outcome, Failure> {
        let (asked, relation) = (query(to.query, false), name(to.relation));
        let columns = asked.columns.clone().unwrap_or_else(|| keys(body));
        let on = asked.on_conflict.clone().unwrap_or_default();
        let insert = Insert {
            rows: Rows { body: Bytes::copy_from_slice(body.as_bytes()), columns: &columns, defaults: to.defaults },
            conflict: to.merge.map(|merge| Conflict { columns: &on, merge }),
        };
        self.run(&to.work(Target::Insert(&relation, insert), &asked)).await
    }

    async fn update(&self, to: &Write<'_>, body: &str) -> Result<Outcome, Failure> {
        let (asked, relation) = (query(to.query, false), name(to.relation));
        let columns = asked.columns.clone().unwrap_or_else(|| keys(body));
        let rows = Rows { body: Bytes::copy_from_slice(body.as_bytes()), columns: &columns, defaults: to.defaults };
        self.run(&to.work(Target::Update(&relation, rows), &asked)).await
    }

    async fn delete(&self, to: &Write<'_>) -> Result<Outcome, Failure> {
        let (asked, relation) = (query(to.query, false), name(to.relation));
        self.run(&to.work(Target::Delete(&relation), &asked)).await
    }

    fn function(&self, called: &str) -> &Arc<Function> {
        &self.catalog.functions.get(&name(called)).unwrap_or_else(|| panic!("{called}"))[0]
    }

    async fn call(
        &self,
        called: &str,
        arguments: Arguments<'_>,
        text: &str,
        output: Output,
    ) -> Result<Outcome, Failure> {
        self.counted_call(called, arguments, text, output, None).await
    }

    async fn counted_call(
        &self,
        called: &str,
        arguments: Arguments<'_>,
        text: &str,
        output: Output,
        count: Option<Count>,
    ) -> Result<Outcome, Failure> {
        let asked = query(text, true);
        let work = Work {
            target: Target::Call(self.function(called), arguments),
            level: &asked.level,
            output,
            count,
            max_rows: Some(1000),
            aggregates: true,
        };
        self.run(&work).await
    }
}

/// How to write.
struct Write<'a> {
    relation: &'a str,
    query: &'a str,
    output: Output,
    count: Option<Count>,
    merge: Option<bool>,
    defaults: bool,
}

impl<'a> Write<'a> {
    fn to(relation: &'a str, query: &'a str) -> Self {
        Self { relation, query, output: JSON, count: None, merge: None, defaults: false }
    }

    fn work<'w>(&self, target: Target<'w>, asked: &'w Query) -> Work<'w> {
        Work {
            target,
            level: &asked.level,
            output: self.output,
            count: self.count,
            max_rows: Some(1),
            aggregates: true,
        }
    }
}
