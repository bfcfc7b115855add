//! Ends that reach the result, the chord, the chain and the errbacks alike: those of native tasks, and those that a worker
//! decides without running a body (revoked, expired, unknown, too many attempts).
//!
//! A Redis that is away is waited for: the end has happened, and nobody else knows of it. The claim on the message is
//! kept meanwhile, so that a worker that dies here leaves the message to another one.

use std::time::Duration;

use serde_json::Value;

use super::Canvas;
use crate::error::chain;
use crate::tasks::error::Error;
use crate::tasks::results::Write;
use crate::tasks::runner::{Exception, Recorded, Spec, Stored};
use crate::tasks::wire::{self, Body, Embed, Envelope};

/// Between two attempts to reach a Redis that is away.
const PAUSE: Duration = Duration::from_millis(250);

impl Canvas {
    /// FAILURE. Gives what is to be stored, if nothing but the result follows.
    pub async fn failed(&self, envelope: &Envelope, spec: &Spec, embed: &Embed, exception: &Exception) -> Stored {
        let result = wire::Result::Failure(exception.clone());
        let ignored = envelope.headers.ignore_result.unwrap_or(spec.ignore_result);
        let stored = if ignored && !spec.store_errors_even_if_ignored {
            Stored::Nothing
        } else {
            self.stored(envelope, &result, &Value::Array(Vec::new()))
        };
        if *embed == Embed::default() {
            return stored;
        }
        self.keep(envelope, stored).await;
        persist(envelope, || self.fail(&envelope.headers, embed, exception)).await;
        Stored::Nothing
    }

    /// Stores a result.
    pub async fn keep(&self, envelope: &Envelope, stored: Stored) {
        let Stored::Meta { value, .. } = stored else { return };
        let entry = [Write { id: envelope.headers.id.clone(), value }];
        persist(envelope, || self.results().store(&entry)).await;
    }

    /// Counts a part of a chord, after its result has been stored.
    pub async fn counted(&self, envelope: &Envelope, embed: &Embed, result: &wire::Result) {
        persist(envelope, || self.count(&envelope.headers, embed, result)).await;
    }

    /// An end that was decided outside the body.
    pub async fn record(&self, envelope: &Envelope, spec: Option<&Spec>, recorded: Recorded) {
        let unknown = Spec::new(&envelope.headers.task);
        let spec = spec.unwrap_or(&unknown);
        // Of content that cannot be read it is not known what follows.
        let embed = Body::parse(&envelope.body).map(|body| body.embed).unwrap_or_default();
        match recorded {
            Recorded::Failed(exception) => {
                let stored = self.failed(envelope, spec, &embed, &exception).await;
                self.keep(envelope, stored).await;
            }
            Recorded::Revoked(reason) => {
                let result = wire::Result::Revoked(reason);
                let ignored = envelope.headers.ignore_result.unwrap_or(spec.ignore_result);
                if !ignored || spec.store_errors_even_if_ignored {
                    self.keep(envelope, self.stored(envelope, &result, &Value::Null)).await;
                }
                self.counted(envelope, &embed, &result).await;
            }
        }
    }
}

/// Does it until Redis is there. Anything else that goes wrong is told, and left at that.
async fn persist<F: Future<Output = Result<(), Error>>>(envelope: &Envelope, mut attempt: impl FnMut() -> F) {
    loop {
        match attempt().await {
            Ok(()) => return,
            Err(error) if error.is_unavailable() => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                let (id, task) = (&envelope.headers.id, &envelope.headers.task);
                tracing::warn!(id, task, error = %chain(&error), "what follows a task could not be written");
                return;
            }
        }
    }
}
