//! A client's request as one transaction in one round trip: BEGIN, the settings that say who asks, the statement, and
//! COMMIT are sent together.
//!
//! If a part fails, PostgreSQL refuses the parts after it and COMMIT rolls back, so that a failed change of the role can
//! never be followed by a statement that runs as somebody else.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::{Either, FutureExt as _, join, join4, select};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::pool::Session;
use super::{Error, Pool};

/// A transaction with one statement, which returns one row unless it is run for all of them.
#[derive(Debug)]
pub struct Transaction<'a> {
    /// Whether the database refuses changes.
    pub read_only: bool,
    /// "repeatable read" or "serializable"; `None` is the database's default. Never a client's text.
    pub isolation: Option<Isolation>,
    /// Settings of the transaction, in their order: `set_config(name, value, true)`.
    pub settings: &'a [(&'a str, &'a str)],
    /// A statement that runs after the settings, such as a call of a function; its rows are dropped.
    pub before: Option<&'a str>,
    /// The statement.
    pub sql: &'a str,
    /// Its parameters.
    pub parameters: &'a [Parameter],
    /// Whether everything is undone at the end.
    pub rollback: bool,
    /// Whether the statement is worth preparing, because its text comes again.
    pub prepare: bool,
}

/// How much a transaction sees of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

/// A parameter of a client's statement: text of unknown type, for which the SQL decides the type, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Text; `None` is NULL.
    Text(Option<String>),
    /// A body that is text.
    Body(Bytes),
    /// A body that is bytea.
    Binary(Bytes),
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Text(None) => return Ok(IsNull::Yes),
            Self::Text(Some(text)) => out.put_slice(text.as_bytes()),
            Self::Body(bytes) | Self::Binary(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self {
            Self::Binary(_) => Format::Binary,
            _ => Format::Text,
        }
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Text of unknown type, borrowed.
#[derive(Debug)]
struct Plain<'a>(&'a str);

impl ToSql for Plain<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

type Sql<'a> = &'a (dyn ToSql + Sync);

impl Pool {
    /// Runs a transaction and gives its row.
    ///
    /// # Errors
    /// Those of the pool, of PostgreSQL, or [`Error::Timeout`].
    pub async fn transact(&self, transaction: &Transaction<'_>) -> Result<Row, Error> {
        one(self.run(transaction, None::<fn(&Row) -> bool>).await?).map(|(row, _)| row)
    }

    /// The same for a statement that may take longer than a request, or not as long.
    ///
    /// # Errors
    /// As [`Pool::transact`].
    pub async fn transact_within(&self, transaction: &Transaction<'_>, limit: Duration) -> Result<Row, Error> {
        one(self.run_within(transaction, limit, None::<fn(&Row) -> bool>).await?).map(|(row, _)| row)
    }

    /// Runs a transaction whose statement returns any number of rows.
    ///
    /// # Errors
    /// As [`Pool::transact`].
    pub async fn transact_all(&self, transaction: &Transaction<'_>) -> Result<Vec<Row>, Error> {
        self.run(transaction, None::<fn(&Row) -> bool>).await.map(|(rows, _)| rows)
    }

    /// Runs a transaction that is committed only if its row is accepted. It takes a second round trip.
    ///
    /// # Errors
    /// As [`Pool::transact`].
    pub async fn transact_if(
        &self,
        transaction: &Transaction<'_>,
        accept: impl FnOnce(&Row) -> bool + Send,
    ) -> Result<(Row, bool), Error> {
        one(self.run(transaction, Some(accept)).await?)
    }

    async fn run(
        &self,
        transaction: &Transaction<'_>,
        accept: Option<impl FnOnce(&Row) -> bool + Send>,
    ) -> Result<(Vec<Row>, bool), Error> {
        self.run_within(transaction, self.request_timeout(), accept).await
    }

    async fn run_within(
        &self,
        transaction: &Transaction<'_>,
        limit: Duration,
        mut accept: Option<impl FnOnce(&Row) -> bool + Send>,
    ) -> Result<(Vec<Row>, bool), Error> {
        // Who is asked whether to accept is asked once: what follows from the answer is not tried again.
        let asks = accept.is_some();
        let mut again = true;
        loop {
            let mut session = self.get().await?;
            let known = session.known(transaction.sql).is_some();
            let exchange = session.exchange(transaction, &mut accept);
            let Ok(result) = tokio::time::timeout(limit, exchange).await else {
                // The session is dropped with an open transaction: its statement is cancelled, its connection closed.
                return Err(Error::Timeout(limit));
            };
            let Err(Error::Query(error)) = &result else { return result };
            session.note(error);
            if !transaction.read_only && error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                // After a failover this may be the former primary. Whoever asked for a read has said so.
                session.renew();
            }
            let stale = known && error.code().is_some_and(may_be_stale);
            if stale {
                session.forget(transaction.sql);
            }
            // A read whose connection broke has done nothing.
            let lost = transaction.read_only && error.code().is_none() && error.is_closed();
            if !(again && (stale || lost) && accept.is_some() == asks) {
                return result;
            }
            again = false;
        }
    }
}

/// The row of a statement that returns one.
fn one((mut rows, accepted): (Vec<Row>, bool)) -> Result<(Row, bool), Error> {
    let count = rows.len();
    rows.pop().filter(|_| count == 1).map(|row| (row, accepted)).ok_or(Error::Rows(count))
}

/// Whether a prepared statement may fail so only because the schema has changed since.
fn may_be_stale(code: &SqlState) -> bool {
    let text = code.code();
    text.starts_with("42") && text != "42501" || text == "0A000" || text == "26000" || text == "22P02"
}

impl Session {
    /// Sends the whole transaction, and takes its answers.
    async fn exchange(
        &mut self,
        transaction: &Transaction<'_>,
        accept: &mut Option<impl FnOnce(&Row) -> bool + Send>,
    ) -> Result<(Vec<Row>, bool), Error> {
        let shared = self.shared.clone();
        let all: Vec<(&str, &str)> = shared
            .each_time
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(transaction.settings.iter().copied())
            .collect();
        let texts: Vec<Plain<'_>> = all.iter().flat_map(|(name, value)| [Plain(name), Plain(value)]).collect();
        let settings: Vec<Sql<'_>> = texts.iter().map(|text| text as Sql<'_>).collect();
        let parameters: Vec<Sql<'_>> = transaction.parameters.iter().map(|value| value as Sql<'_>).collect();
        let setup = setup_sql(all.len());
        let prepare = shared.prepare;
        let setup = if prepare { Ready::Prepared(self.prepared(&setup).await?) } else { Ready::Text(&setup) };
        let main = if prepare && transaction.prepare {
            Ready::Prepared(self.prepare_for(transaction, &setup, &settings).await?)
        } else {
            Ready::Text(transaction.sql)
        };
        let end = match (accept.is_some(), transaction.rollback) {
            (true, _) => None,
            (false, true) => Some("rollback"),
            (false, false) => Some("commit"),
        };
        self.open = true;
        let client = &**self;
        let (outcome, ended) = send(client, transaction, (&setup, &settings), (&main, &parameters), end).await;
        let rows = match (outcome, ended) {
            (Ok(rows), Ok(())) => rows,
            (Err(error), ended) => {
                if end.is_none() {
                    client.batch_execute("rollback").await?;
                }
                self.open = ended.is_err();
                return Err(error.into());
            }
            (Ok(_), Err(error)) => return Err(error.into()),
        };
        let accepted = match (accept.take(), &*rows) {
            (None, _) => !transaction.rollback,
            (Some(accept), [row]) => {
                let accepted = accept(row);
                let end = if accepted && !transaction.rollback { "commit" } else { "rollback" };
                client.batch_execute(end).await?;
                accepted
            }
            (Some(_), _) => {
                client.batch_execute("rollback").await?;
                false
            }
        };
        self.open = false;
        Ok((rows, accepted))
    }

    /// The statement, prepared. PostgreSQL looks names up with the rights and the search path of who prepares, so it is
    /// prepared within a transaction with the request's settings when it is not known yet.
    async fn prepare_for(
        &mut self,
        transaction: &Transaction<'_>,
        setup: &Ready<'_>,
        settings: &[Sql<'_>],
    ) -> Result<Statement, Error> {
        if let Some(known) = self.known(transaction.sql) {
            return Ok(known);
        }
        self.open = true;
        let client = &**self;
        let (begun, set) = join(client.batch_execute("begin read only"), setup.query(client, settings)).await;
        let prepared = match begun.and(set.map(drop)) {
            Ok(()) => self.prepared(transaction.sql).await,
            Err(error) => Err(error.into()),
        };
        self.batch_execute("rollback").await?;
        self.open = false;
        prepared
    }
}

/// Sends the transaction. Gives the statement's rows, if all up to it went well, and what came of its end.
async fn send(
    client: &tokio_postgres::Client,
    transaction: &Transaction<'_>,
    (setup, settings): (&Ready<'_>, &[Sql<'_>]),
    (main, parameters): (&Ready<'_>, &[Sql<'_>]),
    end: Option<&str>,
) -> (Result<Vec<Row>, tokio_postgres::Error>, Result<(), tokio_postgres::Error>) {
    // The first poll of each sends it, so that they are on their way in this order before any is answered.
    let answers = pin!(join4(
        client.batch_execute(begin_sql(transaction)),
        setup.query(client, settings),
        maybe(client, transaction.before),
        main.query(client, parameters),
    ));
    let ((begun, set, before, rows), ended) = match select(answers, pin!(maybe(client, end))).await {
        Either::Left((answers, ended)) if promises_nothing(transaction) && all_answered(&answers) => {
            // Sent, if it was not yet, and not waited for: whoever is next on this connection is served after it.
            let ended = ended.now_or_never().unwrap_or(Ok(()));
            (answers, ended)
        }
        Either::Left((answers, ended)) => (answers, ended.await),
        Either::Right((ended, answers)) => (answers.await, ended),
    };
    (begun.and(set.map(drop)).and(before).and(rows), ended)
}

/// A statement that is prepared, or one that is not.
enum Ready<'a> {
    Prepared(Statement),
    Text(&'a str),
}

impl Ready<'_> {
    async fn query(
        &self,
        client: &tokio_postgres::Client,
        parameters: &[Sql<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self {
            Self::Prepared(statement) => client.query(statement, parameters).await,
            Self::Text(sql) => {
                let typed: Vec<(Sql<'_>, Type)> = parameters.iter().map(|value| (*value, Type::UNKNOWN)).collect();
                client.query_typed(sql, &typed).await
            }
        }
    }
}

/// Answers to BEGIN, the settings, the statement before, and the statement.
type Answers<E> = (Result<(), E>, Result<Vec<Row>, E>, Result<(), E>, Result<Vec<Row>, E>);

fn all_answered<E>((begun, set, before, rows): &Answers<E>) -> bool {
    begun.is_ok() && set.is_ok() && before.is_ok() && rows.is_ok()
}

async fn maybe(client: &tokio_postgres::Client, sql: Option<&str>) -> Result<(), tokio_postgres::Error> {
    match sql {
        Some(sql) => client.batch_execute(sql).await,
        None => Ok(()),
    }
}

fn begin_sql(transaction: &Transaction<'_>) -> &'static str {
    match (transaction.isolation, transaction.read_only) {
        (None | Some(Isolation::ReadCommitted), true) => "begin isolation level read committed read only",
        (None | Some(Isolation::ReadCommitted), false) => "begin isolation level read committed read write",
        (Some(Isolation::RepeatableRead), true) => "begin isolation level repeatable read read only",
        (Some(Isolation::RepeatableRead), false) => "begin isolation level repeatable read read write",
        (Some(Isolation::Serializable), true) => "begin isolation level serializable read only",
        (Some(Isolation::Serializable), false) => "begin isolation level serializable read write",
    }
}

/// Whether nobody is told anything by the end of the transaction that its rows have not told. A serializable reader may
/// still be refused.
fn promises_nothing(transaction: &Transaction<'_>) -> bool {
    transaction.read_only && transaction.isolation != Some(Isolation::Serializable)
}

/// `select num_nulls(set_config($1, $2, true), …)`: a number in place of all the values, which nobody wants back.
fn setup_sql(count: usize) -> Cow<'static, str> {
    static TEXTS: [OnceLock<String>; 16] = [const { OnceLock::new() }; 16];
    let make = || {
        let calls: Vec<String> =
            (0..count).map(|index| format!("set_config(${}, ${}, true)", 2 * index + 1, 2 * index + 2)).collect();
        // A function takes 100 arguments at most, and at least one.
        if (1..=100).contains(&count) {
            format!("select num_nulls({})", calls.join(", "))
        } else {
            format!("select {}", calls.join(", "))
        }
    };
    TEXTS.get(count).map_or_else(|| make().into(), |text| text.get_or_init(make).as_str().into())
}
