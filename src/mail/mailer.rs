//! Sends mail over SMTP (RFC 5321): that of tasks in their turn, that of accounts out of a bounded queue, or by handing it
//! to tasks too where there are some.
//!
//! In the queue, each mail has a place until it is delivered or given up. An answer of 5xx is final; a connection that
//! fails and an answer of 4xx are tried again, later and later. Addresses are not logged.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;

use lettre::address::Envelope;
use lettre::message::header::{self, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{AsyncSmtpTransport, PoolConfig};
use lettre::{Address, AsyncTransport as _, Message, Tokio1Executor};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::{Config, Error, Kind, Security, Templates, Values};
use crate::error::chain;

/// Sends mail. Cheap to clone.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    templates: Templates,
    post: Option<Post>,
    relay: OnceLock<Relay>,
}

/// A mail that is ready to be sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Mail {
    /// To whom, as in "Ann <ann@example.org>".
    pub to: Vec<String>,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<String>,
    /// One line.
    pub subject: String,
    /// The mail as text.
    pub text: Option<String>,
    /// The mail as HTML.
    pub html: Option<String>,
    /// What its Message-ID begins with; the same mail has the same at every try, so that receivers can tell.
    pub id: String,
}

/// Takes a mail over; false if it cannot, so that it is sent from here.
pub type Relay = Box<dyn Fn(Mail) -> BoxFuture<'static, bool> + Send + Sync>;

/// Why a mail was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It never will be.
    #[error("the mail server refuses the mail: {0}")]
    Final(String),
    /// It may be, later.
    #[error("the mail could not be delivered yet: {0}")]
    Later(String),
    /// It is no mail, or there is no mail server.
    #[error("the mail cannot be sent")]
    Unsendable(#[source] Error),
}

/// What is there when a mail server is configured.
struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// A place for each mail that waits.
    queue: Arc<Semaphore>,
    places: u32,
    /// A place for each conversation.
    connections: Semaphore,
    give_up_after: Duration,
    /// One attempt, whatever the server does with it.
    attempt: Duration,
}

/// How long somebody may take who takes a mail over. One who does so after all sends it twice, with one Message-ID.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts, growing four times each: 2 s, 8 s, 32 s, then this.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

impl Mailer {
    /// A mailer; nothing is connected yet.
    ///
    /// # Errors
    /// Templates or certificates that cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let templates = Templates::load(config)?;
        let post = if config.is_on() { Some(Post::new(config)?) } else { None };
        Ok(Self(Arc::new(Inner { templates, post, relay: OnceLock::new() })))
    }

    /// Whether mail can be sent at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.post.is_some()
    }

    /// From now on, mails of accounts are offered to `relay` first. The first one counts.
    pub fn hand_over(&self, relay: Relay) {
        let _ = self.0.relay.set(relay);
    }

    /// Hands a mail to the mail server, at once and once.
    ///
    /// # Errors
    /// It was not taken; nobody will try again.
    pub async fn deliver(&self, mail: &Mail) -> Result<(), Undelivered> {
        let post = self.0.post.as_ref().ok_or(Undelivered::Unsendable(Error::Unset))?;
        let (envelope, bytes) = post.put_together(mail).map_err(Undelivered::Unsendable)?;
        post.attempt(&envelope, &bytes).await
    }

    /// Queues a mail of `kind` to the address `to`. Returns at once; must be called on the runtime.
    ///
    /// # Errors
    /// No mail server, a full queue, or an address that is none.
    pub fn send(&self, kind: Kind, to: &str, values: &Values<'_>) -> Result<(), Error> {
        let post = self.0.post.as_ref().ok_or(Error::Unset)?;
        let to: Address = to.parse().map_err(|_| Error::Address)?;
        let letter = self.0.templates.render(kind, values);
        let mail = Mail {
            to: vec![to.to_string()],
            reply_to: None,
            subject: letter.subject,
            text: Some(letter.text),
            html: Some(letter.html),
            id: Uuid::new_v4().to_string(),
        };
        let (envelope, bytes) = post.put_together(&mail)?;
        let place = Arc::clone(&post.queue).try_acquire_owned().map_err(|_| Error::Full)?;
        let mailer = self.clone();
        tokio::spawn(async move {
            if let Some(relay) = mailer.0.relay.get()
                && timeout(PATIENCE, relay(mail)).await == Ok(true)
            {
                return;
            }
            if let Some(post) = &mailer.0.post {
                post.deliver(kind, &envelope, &bytes, place).await;
            }
        });
        Ok(())
    }

    /// Waits until everything queued is delivered or given up, at most for `grace`. Says how many mails are left.
    pub async fn drain(&self, grace: Duration) -> usize {
        let Some(post) = &self.0.post else { return 0 };
        if timeout(grace, post.queue.acquire_many(post.places)).await.is_ok() {
            return 0;
        }
        (post.places as usize).saturating_sub(post.queue.available_permits())
    }
}

const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

impl Post {
    fn new(config: &Config) -> Result<Self, Error> {
        // The configuration was validated.
        let from: Mailbox = config.from.parse().map_err(|_| Error::Address)?;
        let hello = if config.hello.is_empty() { from.email.domain().to_owned() } else { config.hello.clone() };
        let port = if config.port == 0 { config.security.port() } else { config.port };
        let tls = match config.security {
            Security::None => Tls::None,
            Security::Starttls => Tls::Required(parameters(config)?),
            Security::Tls => Tls::Wrapper(parameters(config)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(port)
            .tls(tls)
            .hello_name(ClientId::Domain(hello))
            .timeout(Some(config.timeout))
            .pool_config(PoolConfig::new().max_size(config.connections));
        if !config.username.is_empty() {
            let password = config.password.expose().to_owned();
            builder = builder.credentials(Credentials::new(config.username.clone(), password));
        }
        Ok(Self {
            transport: builder.build(),
            from,
            queue: Arc::new(Semaphore::new(config.queue as usize)),
            places: config.queue,
            connections: Semaphore::new(config.connections as usize),
            give_up_after: config.give_up_after,
            attempt: config.timeout.saturating_mul(6),
        })
    }

    /// The mail as it crosses the wire.
    fn put_together(&self, mail: &Mail) -> Result<(Envelope, Vec<u8>), Error> {
        let address = |text: &String| text.parse::<Mailbox>().map_err(|_| Error::Address);
        let to: Vec<Mailbox> = mail.to.iter().map(address).collect::<Result<_, _>>()?;
        let from = &self.from.email;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(&mail.subject)
            .message_id(Some(format!("<{}@{}>", mail.id, from.domain())))
            .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".into()))
            .header(header::MIME_VERSION_1_0);
        for to in &to {
            builder = builder.to(to.clone());
        }
        if let Some(reply_to) = &mail.reply_to {
            builder = builder.reply_to(address(reply_to)?);
        }
        let message = match (mail.text.clone(), mail.html.clone()) {
            (Some(text), Some(html)) => builder.multipart(MultiPart::alternative_plain_html(text, html)),
            (None, Some(html)) => builder.singlepart(SinglePart::html(html)),
            (text, None) => builder.singlepart(SinglePart::plain(text.unwrap_or_default())),
        };
        let message = message.map_err(Error::Build)?;
        let to = to.into_iter().map(|to| to.email).collect();
        let envelope = Envelope::new(Some(from.clone()), to).map_err(Error::Build)?;
        Ok((envelope, message.formatted()))
    }

    async fn deliver(&self, kind: Kind, envelope: &Envelope, bytes: &[u8], _place: OwnedSemaphorePermit) {
        let deadline = Instant::now() + self.give_up_after;
        let mut pause = Duration::from_secs(2);
        loop {
            let problem = match self.attempt(envelope, bytes).await {
                Ok(()) => {
                    tracing::debug!(kind = kind.name(), "a mail was handed to the mail server");
                    return;
                }
                Err(Undelivered::Final(problem)) => {
                    tracing::error!(kind = kind.name(), error = problem, "the mail server refuses a mail");
                    return;
                }
                Err(Undelivered::Later(problem)) => problem,
                Err(Undelivered::Unsendable(error)) => {
                    tracing::error!(kind = kind.name(), error = %chain(&error), "a mail cannot be sent");
                    return;
                }
            };
            if Instant::now() + pause >= deadline {
                tracing::error!(kind = kind.name(), error = problem, "a mail could not be delivered and is given up");
                return;
            }
            tracing::warn!(kind = kind.name(), error = problem, again_in = ?pause, "a mail could not be delivered yet");
            sleep(pause).await;
            pause = (pause * 4).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, envelope: &Envelope, bytes: &[u8]) -> Result<(), Undelivered> {
        let Ok(_turn) = self.connections.acquire().await else {
            return Err(Undelivered::Final("the queue is closed".into()));
        };
        let sent = timeout_at(Instant::now() + self.attempt, self.transport.send_raw(envelope, bytes)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => Err(Undelivered::Final(chain(&error).to_string())),
            Ok(Err(error)) => Err(Undelivered::Later(chain(&error).to_string())),
            Err(_) => Err(Undelivered::Later("the mail server takes too long".into())),
        }
    }
}

fn parameters(config: &Config) -> Result<TlsParameters, Error> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if !config.ca_file.as_os_str().is_empty() {
        let failed = |source| Error::File { path: config.ca_file.clone(), source };
        let pem = std::fs::read(&config.ca_file).map_err(failed)?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(Error::Transport)?);
    }
    builder.build().map_err(Error::Transport)
}
