//! Moves rows of beacon.outbox to their queues: in their order, each once, one relay of a database at a time.
//!
//! A batch is one transaction: the lock, the rows, the script in Redis, the deletion. Whoever has the lock works; the
//! others look each second, and take over at once when its session ends. This holds behind a pooler in transaction mode,
//! too. While Redis or a row's queue cannot take it, rows wait: none is ever dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pass::{Message, Pass, Taken};
use super::row;
use crate::db::{self, Database};
use crate::error::chain;
use crate::tasks::client::{Client, NewTask};

/// How often the table is looked at without a notice.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses after a failure, doubled each time.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often it is told that rows wait because something is away.
const TELL: Duration = Duration::from_mins(1);
/// How often old idempotency keys are forgotten.
const TIDY: Duration = Duration::from_mins(1);

/// Moves rows of the outbox to Redis. Clones share it.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    database: Database,
    client: Client,
    sent: AtomicU64,
    failed: AtomicU64,
}

/// What is in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Rows that wait to be sent; a million means that or more.
    pub waiting: u64,
    /// The age of the oldest, in seconds.
    pub oldest: f64,
    /// Rows that were put aside in beacon.outbox_failed.
    pub failed: u64,
    /// Rows that this process has sent since its start.
    pub sent: u64,
}

/// Why rows wait.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, or refused.
    #[error("the outbox cannot be read")]
    Database(#[from] db::Error),
    /// Redis is away, or refused.
    #[error("the outbox cannot be sent")]
    Send(#[from] crate::tasks::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What a look at the table came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There was nothing, or another relay is at it.
    Idle,
    /// Rows were moved; there may be more.
    Moved,
}

/// What is known between two looks.
#[derive(Default)]
struct Memory {
    pass: Option<Pass>,
    /// Whether the last batch was ours, so that we are the relay that Redis knows unless another came.
    ours: bool,
    /// Rows that Redis still remembers, although they are deleted.
    deleted: Vec<Uuid>,
    tidied: Option<Instant>,
}

impl Relay {
    /// A relay from this database to this Redis; [`Relay::run`] makes it work.
    #[must_use]
    pub fn new(database: Database, client: Client) -> Self {
        let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { database, client, sent, failed }))
    }

    /// Moves rows until it is stopped.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.0.database.ready() => {}
        }
        let mut listener = self.0.database.listen(&["beacon_outbox"]);
        let mut memory = Memory::default();
        let (mut failures, mut told) = (0u32, None::<Instant>);
        while !stop.is_cancelled() {
            let pause = match self.turn(&mut memory).await {
                Ok(turn) => {
                    if failures > 0 {
                        tracing::info!("the outbox is sent again");
                    }
                    (failures, told) = (0, None);
                    if turn == Turn::Moved {
                        continue;
                    }
                    LOOK
                }
                Err(error) => {
                    memory.ours = false;
                    if told.is_none_or(|told| told.elapsed() >= TELL) {
                        self.tell(&error).await;
                        told = Some(Instant::now());
                    }
                    failures += 1;
                    (AGAIN.0 * 2u32.saturating_pow(failures.min(8) - 1)).min(AGAIN.1)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = listener.next(), if failures == 0 => {}
            }
        }
    }

    /// Says why rows wait, how many, and for how long.
    async fn tell(&self, error: &Error) {
        let error = chain(error).to_string();
        if let Ok(Figures { waiting, oldest, .. }) = self.figures().await {
            tracing::warn!(%error, waiting, oldest_s = oldest as u64, "tasks wait in the outbox");
        } else {
            tracing::warn!(%error, "tasks wait in the outbox");
        }
    }

    /// Moves one batch.
    async fn turn(&self, memory: &mut Memory) -> Result<Turn, Error> {
        let mut session = self.0.database.owner().get().await?;
        if memory.tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY) {
            row::forget_keys(&session).await?;
            memory.tidied = Some(Instant::now());
        }
        if !row::any(&session).await? {
            return Ok(Turn::Idle);
        }
        if memory.pass.is_none() {
            memory.pass = Some(Pass::new(self.0.client.broker().clone(), row::identity(&session).await?));
        }
        let Some(pass) = &memory.pass else { return Ok(Turn::Idle) };
        let transaction = session.begin().await?;
        if !row::lock(&transaction).await? {
            memory.ours = false;
            return Ok(Turn::Idle);
        }
        if !memory.ours {
            pass.announce().await?;
            memory.ours = true;
        }
        let entries = row::first(&transaction).await?;
        if entries.is_empty() {
            return Ok(Turn::Idle);
        }
        let (mut messages, mut failed, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            match self.message(entry.task_id, entry.task).await {
                Ok(message) => {
                    messages.push(message);
                    ids.push(entry.id);
                }
                Err(Unsent::Row(why)) => {
                    tracing::error!(row = entry.id, task_id = %entry.task_id, "a row of the outbox is put aside: {why}");
                    failed.push((entry.id, why));
                }
                Err(Unsent::Redis(error)) => return Err(error.into()),
            }
        }
        if !messages.is_empty() {
            let Some(taken) = pass.take(&messages, &memory.deleted).await? else {
                memory.ours = false;
                return Ok(Turn::Moved);
            };
            memory.deleted.clear();
            for (message, taken) in messages.iter().zip(&taken) {
                match taken {
                    Taken::Now => {}
                    Taken::Before => tracing::debug!(task_id = %message.id, "a row was sent before its relay was lost"),
                    Taken::Duplicate => {
                        tracing::info!(task_id = %message.id, "a row is not sent: its key stands for another task");
                    }
                }
            }
            let sent = taken.iter().filter(|taken| **taken == Taken::Now).count();
            self.0.sent.fetch_add(sent as u64, Ordering::Relaxed);
            row::delete(&transaction, &ids).await?;
        }
        if !failed.is_empty() {
            row::fail(&transaction, &failed).await?;
        }
        transaction.commit().await?;
        self.0.failed.fetch_add(failed.len() as u64, Ordering::Relaxed);
        memory.deleted = messages.into_iter().map(|message| message.id).collect();
        Ok(Turn::Moved)
    }

    async fn message(&self, id: Uuid, task: Result<NewTask, String>) -> Result<Message, Unsent> {
        let task = task.map_err(Unsent::Row)?;
        let broker = self.0.client.broker();
        let built = self.0.client.prepare(&task).map_err(|error| Unsent::Row(chain(&error).to_string()))?;
        broker.declare_once(&built.queue).await.map_err(Unsent::Redis)?;
        Ok(Message {
            id,
            raw: built.raw,
            list: built.list,
            idempotency: task.idempotency_key.map(|key| broker.key(&format!("beacon:idempotency:{key}"))),
            unique: task.unique.map(|unique| (broker.unique_key(&unique.key), unique.for_)),
        })
    }

    /// What is in the outbox.
    ///
    /// # Errors
    /// The database is away.
    pub async fn figures(&self) -> Result<Figures, Error> {
        let session = self.0.database.owner().get().await?;
        let (waiting, oldest, failed) = row::figures(&session).await?;
        Ok(Figures { waiting, oldest, failed, sent: self.0.sent.load(Ordering::Relaxed) })
    }
}

/// Why a row is not sent.
enum Unsent {
    /// No message can be made of it.
    Row(String),
    /// Redis is away.
    Redis(crate::tasks::Error),
}
