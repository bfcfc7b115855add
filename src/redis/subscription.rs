//! Channels that are listened to, on a connection of their own, which survive the loss of the connection.
//!
//! Publications are not kept anywhere: what is published while the connection is lost is not heard. [`Heard::Gap`] says
//! that it may have happened, so that a listener can look at what is stored.

use std::sync::Arc;

use bytes::Bytes;
use fred::interfaces::EventInterface as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

use super::value::{Value, bytes};
use super::{Client, Error};

/// What a subscription hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something was published.
    Message {
        /// On this channel.
        channel: String,
        /// These bytes.
        payload: Bytes,
    },
    /// The connection was there again, or the reader was too slow: something may have been missed.
    Gap,
}

/// Channels and patterns that are listened to, until it is dropped.
pub struct Subscription {
    messages: Receiver<fred::types::Message>,
    connected: Receiver<fred::types::config::Server>,
    client: Client,
    channels: Vec<String>,
    patterns: Vec<String>,
    _keeper: AbortOnDropHandle<()>,
    _manager: AbortOnDropHandle<()>,
}

impl Client {
    /// Listens to channels and patterns, whether Redis is there already or not. Needs a runtime.
    #[must_use]
    pub fn subscribe(&self, channels: &[&str], patterns: &[&str]) -> Subscription {
        let client = self.another();
        let messages = client.library().message_rx();
        let connected = client.library().reconnect_rx();
        let (channels, patterns) = (
            channels.iter().map(ToString::to_string).collect::<Vec<_>>(),
            patterns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        let keeper = AbortOnDropHandle::new(tokio::spawn(client.clone().keep()));
        // Asked again at every connection, by a task of its own: a reader that is busy must not delay it.
        let asked = Arc::new((channels.clone(), patterns.clone()));
        let (asking, mut again) = (client.clone(), client.library().reconnect_rx());
        let manager = AbortOnDropHandle::new(tokio::spawn(async move {
            while !matches!(again.recv().await, Err(RecvError::Closed)) {
                let (channels, patterns) = &*asked;
                for attempt in 0..3_u32 {
                    let asked = async {
                        ask(&asking, channels, "SUBSCRIBE").await?;
                        ask(&asking, patterns, "PSUBSCRIBE").await
                    };
                    match asked.await {
                        Ok(()) => break,
                        Err(error) => tracing::warn!(%error, attempt, "Redis did not take a subscription"),
                    }
                }
            }
        }));
        Subscription { messages, connected, client, channels, patterns, _keeper: keeper, _manager: manager }
    }
}

async fn ask(client: &Client, names: &[String], command: &'static str) -> Result<(), Error> {
    use fred::interfaces::PubsubInterface as _;

    if names.is_empty() {
        return Ok(());
    }
    let names = names.to_vec();
    let result = if command == "SUBSCRIBE" {
        client.library().subscribe(names).await
    } else {
        client.library().psubscribe(names).await
    };
    result.map_err(|error| Error::Refused(error.details().to_owned()))
}

impl Subscription {
    /// The next thing heard. Cancel-safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Ok(message) => {
                        let payload = match message.value {
                            Value::Array(_) | Value::Map(_) => continue,
                            value => bytes(value).unwrap_or_default(),
                        };
                        return Heard::Message { channel: message.channel.to_string(), payload };
                    }
                    Err(RecvError::Lagged(_)) => return Heard::Gap,
                    Err(RecvError::Closed) => std::future::pending().await,
                },
                connected = self.connected.recv() => match connected {
                    Ok(_) | Err(RecvError::Lagged(_)) => return Heard::Gap,
                    Err(RecvError::Closed) => std::future::pending().await,
                },
            }
        }
    }

    /// Listens to one more channel.
    ///
    /// # Errors
    /// Redis is away or refused. It is not asked again.
    pub async fn add(&self, channel: &str) -> Result<(), Error> {
        ask(&self.client, &[channel.to_owned()], "SUBSCRIBE").await
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// What it listens to from the start: channels, and patterns.
    #[must_use]
    pub fn names(&self) -> (&[String], &[String]) {
        (&self.channels, &self.patterns)
    }
}
