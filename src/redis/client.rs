//! The connection to Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::interfaces::{ClientLike as _, EventInterface as _};
use fred::types::config::{
    Config as Settings, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    TlsConfig, TlsConnector, TlsHostMapping, UnresponsiveConfig,
};
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;

use super::address::{Address, Place};
use super::{Config, Error, Script, tls};
use crate::error::chain;

/// How long a connection may take to open, and each of its first commands.
const OPENING: Duration = Duration::from_secs(5);
/// A connection on which an answer is overdue for so long is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to connect: from the first to the second, doubled each time.
const PAUSES: (u32, u32) = (100, 5_000);
/// Calls that wait to be written; beyond it Redis counts as away.
const WAITING: usize = 10_000;
/// Between two attempts to connect, up to so much more, so that not all that lost Redis come back at once; milliseconds.
const JITTER: u32 = 250;
/// Messages of subscriptions that wait for their reader; beyond it there is a gap. The library has nine channels for each
/// connection, all of this size, and takes the memory at once: about 1 kB a connection for each message.
const UNREAD: usize = 256;
/// How long a last answer is waited for.
const CLOSING: Duration = Duration::from_secs(1);

/// Redis. Clones share one connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    client: fred::clients::Client,
    place: String,
    same: Same,
    /// One of several of the same owner: its state goes without saying.
    further: bool,
    closed: AtomicBool,
}

/// Which data a client sees, as far as its URL says it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Same(Place, u8, Option<String>);

impl Client {
    /// The Redis at the configuration's URL, without going there: [`Client::keep`] does.
    ///
    /// # Errors
    /// A URL that cannot be used, or unreadable certificates.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let address = Address::parse(&config.url)?;
        let server = match &address.place {
            Place::Tcp { host, port } => ServerConfig::Centralized { server: Server::new(host.as_str(), *port) },
            Place::Unix(path) => ServerConfig::Unix { path: path.clone() },
        };
        let protection = if address.tls {
            let connector = TlsConnector::from(tls::config(&address.authorities)?);
            Some(TlsConfig { connector, hostnames: TlsHostMapping::None })
        } else {
            None
        };
        let settings = Settings {
            // A Redis that is not there yet is as good as one that went away.
            fail_fast: false,
            username: address.user.clone(),
            password: address.password.as_ref().map(|password| password.expose().to_owned()),
            database: Some(address.database),
            server,
            tls: protection,
            ..Settings::default()
        };
        let performance = PerformanceConfig {
            default_command_timeout: OPENING,
            broadcast_channel_capacity: UNREAD,
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: OPENING,
            internal_command_timeout: OPENING,
            // What was sent may have been done: it is the caller's to say whether to do it again.
            max_command_attempts: 1,
            max_command_buffer_len: WAITING,
            unresponsive: UnresponsiveConfig { max_timeout: Some(SILENCE), interval: Duration::from_secs(1) },
            reconnect_on_auth_error: true,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        let mut policy = ReconnectPolicy::new_exponential(0, PAUSES.0, PAUSES.1, 2);
        policy.set_jitter(JITTER);
        let client = fred::clients::Client::new(settings, Some(performance), Some(connection), Some(policy));
        let same = Same(address.place.clone(), address.database, address.user.clone());
        Ok(Self(Arc::new(Inner {
            client,
            place: address.shown(),
            same,
            further: false,
            closed: AtomicBool::new(false),
        })))
    }

    /// One more connection to the same Redis, for calls that block it: it has its own [`Client::keep`].
    #[must_use]
    pub fn another(&self) -> Self {
        Self(Arc::new(Inner {
            client: self.0.client.clone_new(),
            place: self.0.place.clone(),
            same: self.0.same.clone(),
            further: true,
            closed: AtomicBool::new(false),
        }))
    }

    /// Whether both see the same data.
    #[must_use]
    pub fn sees_what(&self, other: &Self) -> bool {
        self.0.same == other.0.same
    }

    /// The number of its database.
    #[must_use]
    pub fn database(&self) -> u8 {
        self.0.same.1
    }

    pub(super) fn library(&self) -> &fred::clients::Client {
        &self.0.client
    }

    /// Connects, and connects again whenever the connection is lost, until [`Client::close`]. To be started once;
    /// dropping the future ends the connection.
    pub async fn keep(self) {
        let client = &self.0.client;
        let (mut failed, mut connected) = (client.error_rx(), client.reconnect_rx());
        let mut away = false;
        while !self.0.closed.load(Ordering::Acquire) {
            let mut running = AbortOnDropHandle::new(client.connect());
            loop {
                // Each change of state is told once.
                tokio::select! {
                    _ = &mut running => break,
                    Ok(_) = connected.recv() => {
                        if away && !self.0.further {
                            tracing::info!(redis = %self.0.place, "Redis answers again");
                        } else {
                            tracing::debug!(redis = %self.0.place, "connected to Redis");
                        }
                        away = false;
                    }
                    Ok((error, _)) = failed.recv() => {
                        if !away && !self.0.further && !self.0.closed.load(Ordering::Acquire) {
                            let error = chain(&error).to_string();
                            tracing::warn!(redis = %self.0.place, %error, "Redis does not answer; trying again");
                        }
                        away = true;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(PAUSES.1.into()).min(CLOSING)).await;
        }
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.client.is_connected()
    }

    /// Which Redis it is, for messages; without a secret.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Asks Redis for an answer.
    ///
    /// # Errors
    /// There is none `within` this time.
    pub async fn ping(&self, within: Duration) -> Result<(), Error> {
        self.call::<String>("PING", Vec::new(), within).await.map(drop)
    }

    /// Runs a script with keys and arguments, and gives the whole numbers that it answers with.
    ///
    /// # Errors
    /// Redis is away (at once), did not answer `within` this time (the script may run all the same), or refused.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[i64],
        within: Duration,
    ) -> Result<Vec<i64>, Error> {
        let keys = keys.iter().map(|key| Value::from(*key)).collect();
        let arguments = arguments.iter().map(|argument| Value::from(*argument)).collect();
        let answer = self.eval(script, keys, arguments, within).await?;
        answer.convert().map_err(|error| Error::Refused(error.details().to_owned()))
    }

    /// Runs a script with keys and arguments of any bytes, and gives what it answers with.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub async fn eval(
        &self,
        script: &Script,
        keys: Vec<Value>,
        arguments: Vec<Value>,
        within: Duration,
    ) -> Result<Value, Error> {
        let parameters = |script: &str| {
            let mut all = Vec::with_capacity(2 + keys.len() + arguments.len());
            all.push(Value::from(script));
            all.push(Value::from(keys.len() as i64));
            all.extend(keys.iter().cloned());
            all.extend(arguments.iter().cloned());
            all
        };
        // Not the library's own calls for scripts: those wait for one another's answers instead of being sent at once.
        match self.call("EVALSHA", parameters(script.name()), within).await {
            Err(Error::Refused(why)) if why.starts_with("NOSCRIPT") => {
                self.call("EVAL", parameters(script.text()), within).await
            }
            result => result,
        }
    }

    /// Runs a command, and gives what Redis answers.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub async fn command(&self, name: &'static str, arguments: Vec<Value>, within: Duration) -> Result<Value, Error> {
        self.call(name, arguments, within).await
    }

    /// Runs commands in this order, all sent without waiting for the answers in between. Each may fail alone.
    pub async fn batch(
        &self,
        commands: Vec<(&'static str, Vec<Value>)>,
        within: Duration,
    ) -> Vec<Result<Value, Error>> {
        // Each is put into the connection's line when it is first looked at, which is in this order.
        join_all(commands.into_iter().map(|(name, arguments)| self.call(name, arguments, within))).await
    }

    async fn call<T: fred::types::FromValue>(
        &self,
        name: &'static str,
        arguments: Vec<Value>,
        within: Duration,
    ) -> Result<T, Error> {
        // The library would let the call wait for a connection.
        if !self.is_connected() {
            return Err(Error::Away(self.0.place.clone()));
        }
        let options = Options { max_attempts: Some(1), timeout: Some(within), fail_fast: true, ..Options::default() };
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        let client = self.0.client.with_options(&options);
        let result = match tokio::time::timeout(within, client.custom(command, arguments)).await {
            Ok(result) => result.map_err(|error| Error::of_call(&error, &self.0.place, within)),
            Err(_) => Err(Error::Timeout(within)),
        };
        // It was the primary and is a replica now: the name may lead elsewhere already.
        if let Err(Error::Refused(why)) = &result
            && why.starts_with("READONLY")
        {
            let _ = self.0.client.force_reconnection().await;
        }
        result
    }

    /// Gives the connection up and opens another one, whatever state it is in; calls that wait for their answers fail.
    ///
    /// # Errors
    /// There is no connection again in a few seconds; it is tried on.
    pub async fn renew(&self) -> Result<(), Error> {
        match tokio::time::timeout(OPENING, self.0.client.force_reconnection()).await {
            Ok(result) => result.map_err(|error| Error::of_call(&error, &self.0.place, OPENING)),
            Err(_) => Err(Error::Timeout(OPENING)),
        }
    }

    /// Ends the connection, after what was asked has been answered or a second has gone by.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let _ = tokio::time::timeout(CLOSING, self.0.client.quit()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_client_is_made_without_a_runtime_and_without_going_anywhere() {
        let client = Client::new(&Config { url: Secret::new("redis://:hunter2@nowhere.invalid/1") }).unwrap();
        assert!(!client.is_connected());
        assert_eq!(client.place(), "nowhere.invalid:6379/1");
        assert!(Client::new(&Config { url: Secret::new("rediss://h?ssl_ca_certs=/none.pem") }).is_err());
    }
}
