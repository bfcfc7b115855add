//! How far a task is, stored while it runs: the newest value ten times a second at most, on no account after the result.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handler::Progress;
use crate::tasks::canvas::Canvas;
use crate::tasks::results::Write;
use crate::tasks::wire::{self, Envelope};

/// Between two values that are stored.
const PAUSE: Duration = Duration::from_millis(100);

/// Stores what is told. To be ended before the result is stored.
pub struct Publisher {
    ended: CancellationToken,
    values: watch::Sender<Option<Value>>,
}

/// A task's progress, and what stores it. It costs nothing until something is told.
pub fn of(canvas: Canvas, envelope: Arc<Envelope>) -> (Progress, Publisher) {
    let (values, _) = watch::channel(None);
    let ended = CancellationToken::new();
    let publisher = Publisher { ended: ended.clone(), values: values.clone() };
    let progress = Progress::new(move |_, value| {
        if ended.is_cancelled() {
            return;
        }
        let first = values.receiver_count() == 0;
        // Subscribed before it is sent, so that the first one is not missed.
        let heard = first.then(|| values.subscribe());
        values.send_replace(Some(value));
        if let Some(heard) = heard {
            tokio::spawn(publish(canvas.clone(), envelope.clone(), heard, ended.clone()));
        }
    });
    (progress, publisher)
}

impl Publisher {
    /// Stops, and waits for a value that is being stored.
    pub async fn end(self) {
        self.ended.cancel();
        self.values.closed().await;
    }
}

async fn publish(
    canvas: Canvas,
    envelope: Arc<Envelope>,
    mut values: watch::Receiver<Option<Value>>,
    ended: CancellationToken,
) {
    values.mark_changed();
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            changed = values.changed() => if changed.is_err() { return },
        }
        let Some(value) = values.borrow_and_update().clone() else { continue };
        let result = wire::Result::Custom("PROGRESS", value);
        let value = canvas.meta(&envelope, &result, &Value::Array(Vec::new()));
        let entry = Write { id: envelope.headers.id.clone(), value };
        // It is news, and the next one will be, too.
        let _ = canvas.results().store(&[entry]).await;
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
