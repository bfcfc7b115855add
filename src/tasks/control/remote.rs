//! The asking side of remote control: what `celery inspect` and `celery control` do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::mailbox::Mailbox;
use crate::redis::Error;
use crate::tasks::broker::Broker;
use crate::tasks::events::Clock;
use crate::tasks::wire::{Notice, now};

/// How often answers are looked for.
const LOOK: Duration = Duration::from_millis(25);

/// The largest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// Asks workers, ours and stock ones.
#[derive(Clone)]
pub struct Remote {
    mailbox: Mailbox,
    clock: Clock,
}

impl Remote {
    /// At this broker.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        Self::with_clock(broker, Clock::default())
    }

    pub(super) fn with_clock(broker: Broker, clock: Clock) -> Self {
        Self { mailbox: Mailbox(broker), clock }
    }

    /// Tells workers to do something, without waiting for them: all, or those named. Gives how many heard it; all hear
    /// it, also those that it is not for.
    ///
    /// # Errors
    /// Redis is away, or refused.
    pub async fn cast(&self, method: &str, arguments: Value, nodes: Option<&[String]>) -> Result<i64, Error> {
        let body = json!({"method": method, "arguments": arguments, "destination": nodes, "pattern": null,
            "matcher": null});
        self.mailbox.request(self.headers(json!(0)), &body).await
    }

    /// Asks workers and collects their answers, by node name: until all of the named have answered, or all that heard
    /// it, but no longer than `within`.
    ///
    /// # Errors
    /// Redis is away, or refused.
    pub async fn call(
        &self,
        method: &str,
        arguments: Value,
        nodes: Option<&[String]>,
        within: Duration,
    ) -> Result<BTreeMap<String, Value>, Error> {
        let key = Uuid::new_v4().to_string();
        self.mailbox.open(&key).await?;
        let answers = self.collect(&key, method, arguments, nodes, within).await;
        self.mailbox.close(&key).await;
        answers
    }

    fn headers(&self, expires: Value) -> Map<String, Value> {
        Map::from_iter([("clock".to_owned(), self.clock.forward().into()), ("expires".to_owned(), expires)])
    }

    async fn collect(
        &self,
        key: &str,
        method: &str,
        arguments: Value,
        nodes: Option<&[String]>,
        within: Duration,
    ) -> Result<BTreeMap<String, Value>, Error> {
        let ticket = Uuid::new_v4().to_string();
        let body = json!({"method": method, "arguments": arguments, "destination": nodes, "pattern": null,
            "matcher": null, "ticket": ticket,
            "reply_to": {"exchange": self.mailbox.answers(), "routing_key": key}});
        let headers = self.headers(json!(now() + within.as_secs_f64()));
        let until = Instant::now() + within;
        let heard = self.mailbox.request(headers, &body).await? as usize;
        let expected = nodes.map_or(heard, |nodes| nodes.len().min(heard));
        let mut all = BTreeMap::new();
        while all.len() < expected && Instant::now() < until {
            let fetched = self.mailbox.fetch(key).await?;
            if fetched.is_empty() {
                sleep(LOOK).await;
            }
            for (headers, answer) in fetched.iter().filter_map(|raw| Notice::read(raw, LARGEST)) {
                if headers.get("ticket").and_then(Value::as_str).is_some_and(|of| of != ticket) {
                    continue;
                }
                self.clock.adjust(headers.get("clock").and_then(Value::as_u64).unwrap_or_default());
                if let Value::Object(nodes) = answer {
                    all.extend(nodes);
                }
            }
        }
        Ok(all)
    }
}
