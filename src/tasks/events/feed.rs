//! Events inside the process, for who looks on: live streams of the API, `beacon tasks events` and `top`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::broadcast;

/// How many events may wait for a reader who is slow; the oldest are lost to that reader.
const WAITING: usize = 1_024;

/// One event.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its type, as in "task-succeeded".
    pub kind: Cow<'static, str>,
    /// The worker's node name.
    pub node: Arc<str>,
    /// The whole event, a JSON object with the fields of Celery's; those of this process's own tasks all have `name` and
    /// `queue`, too.
    pub json: Bytes,
}

impl Told {
    /// Its fields.
    #[must_use]
    pub fn fields(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// Where events can be followed. Clones are the same feed.
#[derive(Clone, Debug)]
pub struct Feed(broadcast::Sender<Told>);

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl Feed {
    /// Follows the events from now on. A reader that falls behind by 1,024 loses the oldest, and is told how many.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Told> {
        self.0.subscribe()
    }

    /// Whether anybody looks on.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(super) fn tell(&self, notice: Told) {
        // Without readers there is nothing to do.
        let _ = self.0.send(notice);
    }
}
