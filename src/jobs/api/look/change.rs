//! What people do to tasks: cancel, try again, put back.

use serde_json::Value;

use super::find::revoked;
use super::row::{Place, Row};
use super::{Found, Look};
use crate::redis;
use crate::tasks::Error;
use crate::tasks::results::Write;
use crate::tasks::wire;

/// Dead letters and parked messages that are handled at once.
const BATCH: usize = 500;
/// How long Redis may take.
const CALL: std::time::Duration = std::time::Duration::from_secs(5);

/// What a cancellation led to.
#[derive(Clone, Debug)]
pub enum Cancelled {
    /// It had ended before.
    Ended(Box<Found>),
    /// Its message was removed: it will never run.
    Removed(Box<Row>),
    /// A worker has it. It is ended if that was asked for; otherwise it goes on, and is not tried again.
    Running(Box<Row>),
    /// It is not to be found; should it be in a queue after all, it is dropped when its turn comes.
    Unseen,
}

/// What a wish to try a task again led to.
#[derive(Clone, Debug)]
pub enum Retried {
    /// Its message is in its queue again.
    Again(Box<Row>),
    /// It is no dead letter; what it is instead.
    Elsewhere(Box<Found>),
    /// It is not to be found.
    Unknown,
}

impl Look {
    /// Cancels a task, so that it never runs, or never again. One that runs is ended by the signal, if there is one.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn cancel(&self, id: &str, signal: Option<&str>) -> Result<Cancelled, Error> {
        Box::pin(self.revoke(id, signal)).await
    }

    async fn revoke(&self, id: &str, signal: Option<&str>) -> Result<Cancelled, Error> {
        let ids = [id.to_owned()];
        let found = self.find(id).await?;
        if let Some(found) = &found
            && found.is_ready()
            && matches!(found.row.place, None | Some(Place::Finished | Place::Dead))
        {
            return Ok(Cancelled::Ended(Box::new(found.clone())));
        }
        // First of all: whoever takes it from here on drops it. What waits for its time is gone with it.
        self.client.cancel(&ids, signal).await?;
        if let Some(row) = self.find_taken(id).await? {
            return Ok(Cancelled::Running(Box::new(row)));
        }
        if let Some(Found { row, .. }) = found
            && row.place == Some(Place::Scheduled)
        {
            return Ok(Cancelled::Removed(Box::new(revoked(row))));
        }
        let Some((lain, row)) = Box::pin(self.find_waiting(id)).await? else { return Ok(Cancelled::Unseen) };
        // A part of a group is left to the worker whose turn it is, which counts it for the chord.
        if lain.envelope.headers.group.is_none() && self.broker().withdraw(&lain.list, &lain.envelope.raw).await? {
            let value = wire::Result::Revoked("revoked").meta(&lain.envelope, &Value::Null, None);
            self.results().store(&[Write { id: id.to_owned(), value }]).await?;
        }
        Ok(Cancelled::Removed(Box::new(revoked(row))))
    }

    /// Sends a dead letter's task again.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn retry(&self, id: &str) -> Result<Retried, Error> {
        let names = [id.to_owned()];
        if let Some(letter) = self.broker().letters(&names).await?.first() {
            let row = Row {
                place: Some(Place::Waiting),
                state: "PENDING".into(),
                error: None,
                ended_at: None,
                ..Row::dead(letter)
            };
            if Box::pin(self.replay(&names)).await? == 1 {
                return Ok(Retried::Again(Box::new(row)));
            }
        }
        Ok(self.find(id).await?.map_or(Retried::Unknown, |found| Retried::Elsewhere(Box::new(found))))
    }

    /// Sends dead letters to their queues again. What is known of their failure is forgotten, so that who waits for a
    /// task waits for the new run. Gives how many were there.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn replay(&self, names: &[String]) -> Result<usize, Error> {
        let mut done = 0;
        for names in names.chunks(BATCH) {
            let letters = self.broker().letters(names).await?;
            let ids: Vec<String> = letters.iter().filter_map(|letter| letter.id.clone()).collect();
            self.broker().unrevoke(&ids).await?;
            for id in &ids {
                self.results().forget(id).await?;
                let attempts = self.broker().key(&format!("beacon:attempts:{id}"));
                self.broker().client().command("DEL", vec![attempts.into()], CALL).await?;
            }
            done += self.broker().replay(names).await?;
        }
        Ok(done)
    }

    /// The names of all dead letters at this moment, the newest first.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn letter_names(&self) -> Result<Vec<String>, Error> {
        let range = vec![self.broker().key("beacon:dead").into(), 0.into(), (-1).into()];
        let names = redis::list(self.broker().client().command("ZREVRANGE", range, CALL).await?);
        Ok(names.into_iter().filter_map(redis::text).collect())
    }

    /// Puts everything that waits for its time at the heads of the queues, where a stock worker waits for the time itself.
    /// Gives how many there were.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn release(&self) -> Result<usize, Error> {
        let mut done = 0;
        loop {
            let parked = self.broker().parked(BATCH).await?;
            if parked.is_empty() {
                return Ok(done);
            }
            let mut ids: Vec<String> = parked.into_iter().map(|parked| parked.id).collect();
            ids.dedup();
            let released = self.broker().unpark(&ids).await?;
            if released == 0 {
                return Ok(done);
            }
            done += released;
        }
    }
}
