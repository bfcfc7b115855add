//! Certificates from an ACME authority (RFC 8555): ordered when there is none, renewed in time, cached on disk.
//!
//! An authority that is down delays nothing: what is cached (or self-signed) serves, and orders are tried again at
//! growing intervals that are kept on disk, so that a server that restarts in a loop does not run into rate limits.

mod order;
mod schedule;
mod store;

use std::time::{Duration, SystemTime};

use instant_acme::{Account, CertificateIdentifier};
use tokio::time::{sleep, timeout};

pub use store::Store;

use self::order::Failure;
use self::schedule::{Window, back_off, renewal_at};
use super::certificate::Certificate;
use super::disk::Lock;
use super::server::Tls;
use crate::clock::write_rfc3339;
use crate::error::chain;

/// The longest sleep between two looks at the clock: it may be set, and machines are suspended.
const LOOK: Duration = Duration::from_mins(10);
/// How long another process may keep the lock before we look again.
const BUSY: Duration = Duration::from_secs(5);
/// A whole order, all challenges included.
const ORDER_LIMIT: Duration = Duration::from_mins(10);
/// One question for renewal information.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);
/// When to ask for renewal information again after a failure.
const ASK_AGAIN: Duration = Duration::from_hours(1);

/// Keeps the certificate of the present configuration; starts anew when that changes. Never ends.
pub async fn run(tls: &Tls) {
    loop {
        if let Some((store, _)) = tls.acme_job() {
            tokio::select! {
                () = keep(tls, &store) => {}
                () = tls.acme_changed() => {}
            }
        } else {
            tls.acme_changed().await;
        }
    }
}

/// What is kept between two looks at one certificate.
#[derive(Default)]
struct Progress {
    account: Option<Account>,
    renewal: Option<Renewal>,
}

/// What the authority said about the renewal of one certificate (RFC 9773).
struct Renewal {
    id: (String, String),
    window: Option<Window>,
    ask_again: SystemTime,
}

async fn keep(tls: &Tls, store: &Store) {
    let mut progress = Progress::default();
    while let Some((_, certificate)) = tls.acme_job() {
        let now = SystemTime::now();
        let current = certificate.filter(|certificate| certificate.is_for(store.names().iter().map(String::as_str)));
        let mut due = now;
        if let Some(certificate) = &current {
            progress.ask(store, certificate, now).await;
            due = renewal_at(certificate, progress.window());
        }
        let due = due.max(store.attempts().not_before());
        let now = SystemTime::now();
        if let Ok(left) = due.duration_since(now)
            && !left.is_zero()
        {
            sleep(left.min(LOOK)).await;
            continue;
        }
        match progress.order(tls, store, current.as_ref()).await {
            Ok(Some(certificate)) => {
                tracing::info!(
                    names = store.names().join(" "),
                    until = text(certificate.not_after),
                    "the authority issued a certificate for {}",
                    store.names().join(", ")
                );
                tls.issued(store, certificate);
            }
            Ok(None) => sleep(BUSY).await,
            Err(failure) => failed(tls, store, &failure),
        }
    }
}

impl Progress {
    fn window(&self) -> Option<Window> {
        self.renewal.as_ref().and_then(|renewal| renewal.window)
    }

    /// Asks for renewal information when it is time to. Failures are normal: then two thirds of the lifetime count.
    async fn ask(&mut self, store: &Store, certificate: &Certificate, now: SystemTime) {
        let Some(id) = &certificate.renewal_id else { return };
        let known = self.renewal.as_ref().filter(|renewal| renewal.id == *id);
        if known.is_some_and(|renewal| now < renewal.ask_again) {
            return;
        }
        let before = known.and_then(|renewal| renewal.window);
        let asked = timeout(QUESTION_LIMIT, async {
            if self.account.is_none() {
                self.account = store.account().await?;
            }
            let Some(account) = &self.account else { return Ok(None) };
            account.renewal_info(&identifier(id)).await.map(Some)
        })
        .await;
        let (window, wait) = match asked {
            Ok(Ok(Some((info, wait)))) => {
                if let Some(url) = &info.explanation_url {
                    tracing::info!(url, "the authority explains when it wants certificates renewed: {url}");
                }
                (Window::new(info.suggested_window.start.into(), info.suggested_window.end.into()), wait)
            }
            // The authority has no such thing, or we have no account to ask with.
            Ok(Ok(None) | Err(instant_acme::Error::Unsupported(_))) => (None, schedule::DAY),
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "no renewal information");
                (before, ASK_AGAIN)
            }
            Err(_) => (before, ASK_AGAIN),
        };
        // RFC 9773 section 4.3.2: a sane client bounds the wait from both sides.
        let wait = wait.clamp(Duration::from_mins(1), schedule::DAY);
        self.renewal = Some(Renewal { id: id.clone(), window, ask_again: now + wait });
    }

    /// Orders, unless another process does so now or has just done so. None: look again.
    async fn order(
        &mut self,
        tls: &Tls,
        store: &Store,
        current: Option<&Certificate>,
    ) -> Result<Option<Certificate>, Failure> {
        store.prepare()?;
        let Some(_lock) = Lock::take(store.lock_folder())? else { return Ok(None) };
        if let Some(found) = store.certificate()
            && found.is_for(store.names().iter().map(String::as_str))
            && current.is_none_or(|current| current.key.cert != found.key.cert)
        {
            return Ok(Some(found));
        }
        let replaced = current.filter(|_| self.window().is_some()).and_then(|current| current.renewal_id.as_ref());
        // On disk before the first request: a process that dies in the middle has spent an attempt too.
        let attempt = store.attempts().failed(back_off(store.attempts().failures() + 1));
        store.save_attempts(&attempt)?;
        let ordered =
            timeout(ORDER_LIMIT, order::order(tls, store, &mut self.account, replaced.map(identifier).as_ref())).await;
        match ordered {
            Ok(Ok(certificate)) => {
                store.clear_attempts();
                Ok(Some(certificate))
            }
            Ok(Err(failure)) => {
                // Whatever was wrong, the next attempt begins with a fresh look at the account and the directory.
                self.account = None;
                if let Some(least) = failure.least_wait() {
                    store.save_attempts(&attempt.at_least(least))?;
                }
                Err(failure)
            }
            Err(_) => {
                self.account = None;
                Err(Failure::Slow)
            }
        }
    }
}

fn failed(tls: &Tls, store: &Store, failure: &Failure) {
    let error = chain(failure).to_string();
    // The folder may not be writable, and then nothing on disk holds the next attempt back.
    let again = store.attempts().not_before().max(SystemTime::now() + Duration::from_mins(1));
    store.hold_back(again);
    tracing::warn!(
        names = store.names().join(" "),
        directory = store.directory(),
        error,
        again = text(again),
        "no certificate for {} from the authority: {}. What serves goes on serving; the next attempt is at {}",
        store.names().join(", "),
        failure.advice(),
        text(again)
    );
    tls.acme_failed(store, error);
}

fn identifier(id: &(String, String)) -> CertificateIdentifier<'static> {
    CertificateIdentifier { authority_key_identifier: id.0.clone().into(), serial: id.1.clone().into() }
}

fn text(time: SystemTime) -> String {
    let mut out = String::new();
    write_rfc3339(&mut out, time);
    out
}
