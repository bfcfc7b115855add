//! Where events lie in Redis: the channels of kombu's fanout.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Map;

use super::sender::{Fate, Outlet};
use crate::redis::{Error, Value};
use crate::tasks::broker::Broker;
use crate::tasks::wire::Notice;

/// How long Redis may take for one of these messages.
const WITHIN: Duration = Duration::from_secs(3);

/// The channel of an exchange's messages with a key; without one if it is empty. Redis's channels know no databases, so
/// that the name says which it is.
pub(in crate::tasks) fn channel(broker: &Broker, exchange: &str, key: &str) -> String {
    let slash = if key.is_empty() { "" } else { "/" };
    broker.key(&format!("/{}.{exchange}{slash}{key}", broker.client().database()))
}

/// Publishes a worker's events.
pub(super) struct Line {
    pub(super) broker: Broker,
    pub(super) node: String,
}

impl Outlet for Line {
    fn is_there(&self) -> bool {
        self.broker.is_connected()
    }

    fn publish<'a>(&'a self, key: &'a str, body: &'a str) -> BoxFuture<'a, Fate> {
        async move {
            let exchange = &self.broker.transport().event_exchange;
            let headers = Map::from_iter([("hostname".to_owned(), self.node.as_str().into())]);
            let message = Notice { body, headers, exchange, routing_key: key }.message();
            let arguments = vec![Value::from(channel(&self.broker, exchange, key)), Value::Bytes(message)];
            match self.broker.client().command("PUBLISH", arguments, WITHIN).await {
                Ok(_) => Fate::Sent,
                Err(Error::Away(_)) => Fate::Later,
                Err(error) => {
                    tracing::debug!(%error, "an event could not be published");
                    Fate::Lost
                }
            }
        }
        .boxed()
    }
}
