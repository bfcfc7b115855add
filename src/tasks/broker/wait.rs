//! Waiting for work without taking it: `BLMOVE q q RIGHT RIGHT` answers when a list has something, and leaves the list as
//! it is, so that nothing is lost if whoever waited is gone by then.
//!
//! Each list needs a connection of its own. Beyond a number of lists the rest is looked at by the clock. That wakes every
//! worker for every message; who comes late finds nothing and waits again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Broker;
use crate::redis::{Client, Value};

/// The most connections that wait.
const MOST: usize = 16;
/// How long Redis holds a call: less than what makes the connection count as stalled.
const HELD: &str = "2";
/// When the call is given up.
const GIVEN_UP: Duration = Duration::from_secs(4);
/// The longest that a waiter sleeps although all lists are watched.
const SLOW: Duration = Duration::from_secs(1);
/// The same, if some are not.
const QUICK: Duration = Duration::from_millis(100);
/// After an error.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until one of some queues may have something, until it is dropped.
pub struct Wait {
    watchers: Vec<(Arc<Notify>, AbortOnDropHandle<()>, AbortOnDropHandle<()>)>,
    found: Arc<Notify>,
    all: bool,
}

impl Broker {
    /// Waits for these queues. Needs a runtime.
    #[must_use]
    pub fn wait(&self, queues: &[Arc<str>]) -> Wait {
        let mut lists: Vec<_> = queues.iter().flat_map(|queue| self.lists(queue)).collect();
        // Most messages have the first priority.
        lists.sort_by_key(|list| list.step);
        let all = lists.len() <= MOST;
        let found = Arc::new(Notify::new());
        let watchers = lists
            .iter()
            .take(MOST)
            .map(|list| {
                let client = self.client().another();
                let keeper = AbortOnDropHandle::new(tokio::spawn(client.clone().keep()));
                let asked = Arc::new(Notify::new());
                let watcher = watch(client, list.key.clone(), asked.clone(), found.clone());
                (asked, AbortOnDropHandle::new(tokio::spawn(watcher)), keeper)
            })
            .collect();
        Wait { watchers, found, all }
    }
}

async fn watch(client: Client, key: String, asked: Arc<Notify>, found: Arc<Notify>) {
    loop {
        asked.notified().await;
        loop {
            let [source, target] = [key.as_str(), key.as_str()].map(Value::from);
            let arguments = vec![source, target, "RIGHT".into(), "RIGHT".into(), HELD.into()];
            match client.command("BLMOVE", arguments, GIVEN_UP).await {
                Ok(Value::Null) => {}
                Ok(_) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        found.notify_one();
    }
}

impl Wait {
    /// Returns when one of the lists may have something; after a second in any case. Cancel-safe.
    ///
    /// A list that has something wakes at once, and again at the next call: who does not take from it (a paused queue)
    /// has to leave it out or to wait by the clock.
    pub async fn next(&self) {
        for (asked, ..) in &self.watchers {
            asked.notify_one();
        }
        let longest = if self.all { SLOW } else { QUICK };
        let _ = tokio::time::timeout(longest, self.found.notified()).await;
    }
}
