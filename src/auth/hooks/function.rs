//! A hook that is a function in the database: it takes and returns jsonb, and runs as the owner of Beacon's schemas.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{Error, LARGEST};
use crate::db::{self, Pool};

/// Calls the function in a transaction of its own; `None` is NULL. The names are plain identifiers.
pub(super) async fn call(
    pool: &Pool,
    schema: &str,
    name: &str,
    event: &str,
    timeout: Duration,
) -> Result<Option<Vec<u8>>, Error> {
    let run = async {
        let mut session = pool.get().await?;
        let transaction = session.begin().await?;
        // The database stops what nobody waits for any more.
        transaction.batch_execute(&format!("set local statement_timeout = {}", timeout.as_millis())).await?;
        let sql = format!("select left(\"{schema}\".\"{name}\"($1::text::jsonb)::text, {})", LARGEST + 1);
        let row = transaction.query_typed_one(&sql, &[(&event, Type::TEXT)]).await?;
        let answer: Option<String> = row.try_get(0)?;
        transaction.commit().await?;
        Ok::<_, db::Error>(answer)
    };
    // A little longer than the database has, whose error says more.
    match tokio::time::timeout(timeout + Duration::from_secs(1), run).await {
        Ok(Ok(Some(answer))) if answer.len() > LARGEST => Err(Error::TooLarge),
        Ok(Ok(answer)) => Ok(answer.map(String::into_bytes)),
        Ok(Err(error)) if error.sqlstate() == Some(SqlState::QUERY_CANCELED.code()) => Err(Error::Timeout(timeout)),
        Ok(Err(error)) => Err(Error::Function(error)),
        Err(_) => Err(Error::Timeout(timeout)),
    }
}
