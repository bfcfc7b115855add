//! The table beacon.outbox: rows in their order, and what becomes of them.

use serde_json::{Map, Value};
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use crate::db::{Error, Session};
use crate::tasks::client::{NewTask, Unique};

/// Keyed by "outbox" in ASCII: one relay of a database moves rows at a time.
const LOCK: i64 = 0x6f75_7462_6f78;

/// The most rows of a batch, and their bytes as they are stored: a batch is in memory as a whole.
pub(super) const BATCH: i64 = 1_000;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// Idempotency keys that are deleted at once.
const OLD_KEYS: i64 = 5_000;

/// A row.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) task_id: Uuid,
    /// What is to be sent, or why nothing can be made of the row.
    pub(super) task: Result<NewTask, String>,
}

/// Takes the lock for this transaction; false if another relay has it. A relay that hangs within it loses its session, so
/// that another can go on.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<bool, Error> {
    let sql = "select pg_try_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '20s', true)";
    let row = transaction.query_typed_one(sql, &[(&LOCK, Type::INT8)]).await?;
    Ok(row.get(0))
}

/// Whether there is anything to do.
pub(super) async fn any(session: &Session) -> Result<bool, Error> {
    Ok(!session.query_typed("select 1 from beacon.outbox limit 1", &[]).await?.is_empty())
}

/// The first rows, in their order.
pub(super) async fn first(transaction: &Transaction<'_>) -> Result<Vec<Entry>, Error> {
    let sql = "select id, task_id, task, args, kwargs, queue, priority, extract(epoch from eta)::float8,
                   extract(epoch from expires)::float8, time_limit, soft_time_limit, ignore_result, headers,
                   idempotency_key, unique_key, extract(epoch from unique_for)::float8
            from (
                select *, sum(pg_column_size(args)::bigint + pg_column_size(kwargs) + pg_column_size(headers))
                    over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
                from (select * from beacon.outbox order by id limit $1) as oldest
            ) as weighed
            where coalesce(bytes_before, 0) < $2 order by id";
    let rows = transaction.query_typed(sql, &[(&BATCH, Type::INT8), (&BATCH_BYTES, Type::INT8)]).await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> Entry {
    Entry { id: row.get(0), task_id: row.get(1), task: task(row) }
}

/// The task of a row. Rows are written by `beacon.enqueue`, which checks, or by the owner's own hand.
fn task(row: &Row) -> Result<NewTask, String> {
    let name: String = row.get(2);
    if name.is_empty() {
        return Err("the task has no name".into());
    }
    let json = |index: usize, what: &str| {
        row.try_get::<_, Json<Value>>(index)
            .map(|json| json.0)
            .map_err(|error| format!("{what} cannot be read: {error}"))
    };
    let object = |index: usize, what: &str| match json(index, what)? {
        Value::Object(map) => Ok(map),
        _ => Err(format!("{what} are no object")),
    };
    let Value::Array(args) = json(3, "args")? else { return Err("args are no list".into()) };
    let (kwargs, headers): (_, Map<String, Value>) = (object(4, "kwargs")?, object(12, "headers")?);
    let priority = u8::try_from(row.get::<_, i16>(6)).ok().filter(|priority| *priority <= 9);
    let seconds = |index: usize| row.get::<_, Option<f64>>(index).filter(|seconds| seconds.is_finite());
    let unique = row.get::<_, Option<String>>(14).map(|key| {
        let lasts = std::time::Duration::try_from_secs_f64(seconds(15).unwrap_or(3_600.0));
        Unique { key, for_: lasts.unwrap_or(std::time::Duration::from_hours(1)) }
    });
    Ok(NewTask {
        task: name,
        args,
        kwargs,
        id: Some(row.get::<_, Uuid>(1).to_string()),
        queue: row.get::<_, Option<String>>(5).filter(|queue| !queue.is_empty()),
        priority: priority.ok_or("the priority is not between 0 and 9")?,
        eta: seconds(7),
        expires: seconds(8),
        time_limit: seconds(9),
        soft_time_limit: seconds(10),
        ignore_result: row.get(11),
        headers,
        idempotency_key: row.get(13),
        unique,
        ..NewTask::default()
    })
}

/// Deletes rows that are on their queues.
pub(super) async fn delete(transaction: &Transaction<'_>, ids: &[i64]) -> Result<(), Error> {
    transaction.query_typed("delete from beacon.outbox where id = any($1)", &[(&ids, Type::INT8_ARRAY)]).await?;
    Ok(())
}

/// Puts rows aside that no message can be made of.
pub(super) async fn fail(transaction: &Transaction<'_>, failed: &[(i64, String)]) -> Result<(), Error> {
    let (ids, reasons): (Vec<i64>, Vec<&str>) = failed.iter().map(|(id, why)| (*id, why.as_str())).unzip();
    let sql = "with told as (select * from unnest($1::bigint[], $2::text[]) as told (id, reason)),
            gone as (delete from beacon.outbox using told where outbox.id = told.id returning outbox.*, told.reason)
            insert into beacon.outbox_failed (id, task_id, task, entry, reason, created_at)
            select id, task_id, task, to_jsonb(gone) - 'reason', reason, created_at from gone
            on conflict (id) do nothing";
    transaction.query_typed(sql, &[(&ids, Type::INT8_ARRAY), (&reasons, Type::TEXT_ARRAY)]).await?;
    Ok(())
}

/// Forgets idempotency keys of more than a day ago.
pub(super) async fn forget_keys(session: &Session) -> Result<(), Error> {
    let sql = "delete from beacon.task_keys where key in (
            select key from beacon.task_keys where created_at < now() - interval '24 hours'
            order by created_at limit $1 for update skip locked)";
    session.query_typed(sql, &[(&OLD_KEYS, Type::INT8)]).await?;
    Ok(())
}

/// What this database is called in Redis.
pub(super) async fn identity(session: &Session) -> Result<String, Error> {
    // A copy of a database has its settings, but not its number.
    let sql = "select value || ':' || (select oid from pg_database where datname = current_database())
            from beacon.settings where name = 'outbox'";
    let rows = session.query_typed(sql, &[]).await?;
    rows.first().map(|row| row.get(0)).ok_or(Error::Rows(0))
}

/// How many rows wait (counted up to a bound), the age of the oldest in seconds, and how many were put aside.
pub(super) async fn figures(session: &Session) -> Result<(u64, f64, u64), Error> {
    let sql = "select (select count(*) from (select from beacon.outbox limit 1000000) as waiting),
            coalesce((select extract(epoch from clock_timestamp() - created_at)
                from beacon.outbox order by id limit 1), 0)::float8,
            (select count(*) from (select from beacon.outbox_failed limit 1000000) as failed)";
    let rows = session.query_typed(sql, &[]).await?;
    let row = rows.first().ok_or(Error::Rows(0))?;
    Ok((row.get::<_, i64>(0) as u64, row.get::<_, f64>(1).max(0.0), row.get::<_, i64>(2) as u64))
}
