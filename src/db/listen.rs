//! LISTEN on a connection of its own, which is opened again for as long as somebody wants to hear.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_postgres::{AsyncMessage, Client};

use super::Error;
use super::connect::{Connector, Messages};
use super::login::quoted;

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a silent connection is asked whether it is still there. A lost peer is noticed by TCP after this at the
/// latest plus tcp_user_timeout.
const PROBE: Duration = Duration::from_secs(30);

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `NOTIFY channel, 'payload'`
    Notification {
        /// The channel.
        channel: String,
        /// The payload, empty when there was none.
        payload: String,
    },
    /// The connection is (again) there: what was sent before may have been missed.
    Connected,
}

/// Hears notifications of some channels.
pub struct Listener {
    connector: Arc<Connector>,
    channels: Vec<String>,
    connection: Option<(Client, Messages)>,
    failures: u32,
}

impl Listener {
    pub(super) fn new(connector: Arc<Connector>, channels: &[&str]) -> Self {
        let channels = channels.iter().map(|&channel| channel.to_owned()).collect();
        Self { connector, channels, connection: None, failures: 0 }
    }

    /// The next notice; waits for as long as it takes, over any number of lost connections. May be dropped and called
    /// again without losing one.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some((client, messages)) = &mut self.connection else {
                if self.failures > 0 {
                    let pause = Duration::from_millis(250) * 2u32.saturating_pow(self.failures.min(8) - 1);
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                }
                // Counted before the attempt, so that one which is dropped half-way counts too.
                self.failures = self.failures.saturating_add(1);
                match connect(&self.connector, &self.channels).await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.failures = 0;
                        return Notice::Connected;
                    }
                    Err(error) => {
                        tracing::debug!(error = %crate::error::chain(&error), "cannot listen to the database yet");
                        continue;
                    }
                }
            };
            match tokio::time::timeout(PROBE, messages.next()).await {
                Ok(Some(Ok(AsyncMessage::Notification(heard)))) => {
                    return Notice::Notification {
                        channel: heard.channel().to_owned(),
                        payload: heard.payload().to_owned(),
                    };
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) => self.connection = None,
                Err(_) => {
                    // The answer comes as the driver is polled by the next turn; a dead peer ends it with an error.
                    let probe = client.simple_query_raw("");
                    if tokio::time::timeout(Duration::from_millis(1), probe).await.is_ok_and(|sent| sent.is_err()) {
                        self.connection = None;
                    }
                }
            }
        }
    }
}

/// Apart from the listener: what is borrowed while the future waits must be fit for several threads, and a stream of
/// messages is not.
async fn connect(connector: &Connector, channels: &[String]) -> Result<(Client, Messages), Error> {
    let (client, mut messages) = connector.open().await?;
    let sql = channels.iter().map(|channel| format!("listen {}", quoted(channel))).collect::<Vec<_>>().join(";");
    {
        // Nothing moves on the connection unless its messages are polled.
        let listening = client.batch_execute(&sql);
        tokio::pin!(listening);
        loop {
            tokio::select! {
                done = &mut listening => { done?; break; }
                message = messages.next() => match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Error::Absent("the connection was closed".into())),
                }
            }
        }
    }
    Ok((client, messages))
}
