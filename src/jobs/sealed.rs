//! The mails of accounts as tasks: they outlive a restart and a mail server that is away, and are tried by whichever Beacon
//! has time.
//!
//! Such a mail lets its reader in, so nobody who reads Redis may read it: it is sealed with a key that all Beacons on the
//! database share and Redis never sees. The queue is one that no stock worker consumes, for it would answer the task's
//! name with an error and drop it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use tokio_postgres::types::Type;

use super::call::{bind, string, unusable};
use super::mail::deliver;
use crate::db::Pool;
use crate::error::chain;
use crate::mail::{Mail, Mailer, Relay};
use crate::tasks::native::{Call, Failure, Handler, Settings};
use crate::tasks::{self, Client, NewTask};

/// The task's name.
pub const TASK: &str = "beacon.account_mail";
/// What is sealed for another purpose is no mail.
const PURPOSE: &[u8] = b"beacon.account_mail";
/// The key's name in beacon.settings.
const SETTING: &str = "mail_key";

/// What can go wrong with the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away.
    #[error("the key of mails cannot be read")]
    Database(#[from] crate::db::Error),
    /// The key in the database is none.
    #[error("the key of mails in beacon.settings cannot be used")]
    Key,
    /// It is no sealed mail, or one that was sealed with another key.
    #[error("the mail cannot be opened")]
    Closed,
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Seals mails and opens them. A cheap clone.
#[derive(Clone)]
pub struct Seal(Arc<Inner>);

struct Inner {
    /// The pool whose login owns Beacon's schemas.
    owner: Pool,
    key: OnceCell<RandomizedNonceKey>,
}

impl Seal {
    /// With the key in a database, which is read, or made, when it is needed first.
    #[must_use]
    pub fn new(owner: Pool) -> Self {
        Self(Arc::new(Inner { owner, key: OnceCell::new() }))
    }

    async fn key(&self) -> Result<&RandomizedNonceKey, Error> {
        self.0.key.get_or_try_init(|| fetch(&self.0.owner)).await
    }

    /// A mail that only a Beacon on the same database can read.
    ///
    /// # Errors
    /// The database is away.
    pub async fn close(&self, mail: &Mail) -> Result<String, Error> {
        close(self.key().await?, mail)
    }

    /// The mail again.
    ///
    /// # Errors
    /// It was not sealed with this key, or the database is away.
    pub async fn open(&self, sealed: &str) -> Result<Mail, Error> {
        open(self.key().await?, sealed)
    }
}

fn close(key: &RandomizedNonceKey, mail: &Mail) -> Result<String, Error> {
    let mut bytes = serde_json::to_vec(mail).map_err(|_| Error::Closed)?;
    let nonce = key.seal_in_place_append_tag(Aad::from(PURPOSE), &mut bytes).map_err(|_| Error::Key)?;
    Ok(STANDARD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
}

fn open(key: &RandomizedNonceKey, sealed: &str) -> Result<Mail, Error> {
    let mut bytes = STANDARD.decode(sealed).map_err(|_| Error::Closed)?;
    let (nonce, bytes) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(Error::Closed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Closed)?;
    let plain = key.open_in_place(nonce, Aad::from(PURPOSE), bytes).map_err(|_| Error::Closed)?;
    serde_json::from_slice(plain).map_err(|_| Error::Closed)
}

/// The key that all Beacons on the database share; whoever comes first makes it.
async fn fetch(owner: &Pool) -> Result<RandomizedNonceKey, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::Key)?;
    let session = owner.get().await?;
    let insert = "insert into beacon.settings (name, value) values ($1, $2) on conflict (name) do nothing";
    let made = STANDARD.encode(bytes);
    session.execute_typed(insert, &[(&SETTING, Type::TEXT), (&made, Type::TEXT)]).await?;
    let row = session.query_typed_one("select value from beacon.settings where name = $1", &[(&SETTING, Type::TEXT)]);
    let kept: String = row.await?.try_get(0)?;
    let bytes = STANDARD.decode(kept).map_err(|_| Error::Key)?;
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::Key)
}

/// Lets tasks carry mails, each for so long at most: what [`Mailer::hand_over`] wants.
#[must_use]
pub fn relay(client: Client, seal: Seal, give_up_after: Duration) -> Relay {
    Box::new(move |mail| {
        let (client, seal) = (client.clone(), seal.clone());
        async move {
            let sent = send(&client, &seal, &mail, give_up_after).await;
            if let Err(error) = &sent {
                tracing::warn!(%error, "a mail is sent from here, and not by a task");
            }
            sent.is_ok()
        }
        .boxed()
    })
}

async fn send(client: &Client, seal: &Seal, mail: &Mail, give_up_after: Duration) -> Result<(), String> {
    let told = |error: &(dyn std::error::Error + 'static)| chain(error).to_string();
    let sealed = seal.close(mail).await.map_err(|error| told(&error))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let task = NewTask {
        task: TASK.into(),
        kwargs: Map::from_iter([("sealed".to_owned(), sealed.into())]),
        id: Some(mail.id.clone()),
        queue: Some(tasks::QUEUE.into()),
        expires: Some((now + give_up_after).as_secs_f64()),
        ignore_result: Some(true),
        ..NewTask::default()
    };
    client.send(&task).await.map(drop).map_err(|error| told(&error))
}

/// The task.
pub(super) struct AccountMail {
    pub(super) mailer: Mailer,
    pub(super) seal: Seal,
}

/// How it is tried: soon, because people wait, and as long as `mail.give_up_after` says, which its expiry sees to.
pub(super) fn settings(attempt: Duration) -> Settings {
    Settings {
        time_limit: attempt,
        retries: 100,
        retry_delay: Duration::from_secs(4),
        retry_delay_max: Duration::from_mins(2),
        ignore_result: true,
        ..Settings::default()
    }
}

impl Handler for AccountMail {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let bound = bind(&call, &["sealed"])?;
            let sealed = string(&bound, "sealed")?.ok_or_else(|| Failure::arguments("'sealed' is missing"))?;
            let mail = self.seal.open(sealed).await.map_err(|error| match error {
                Error::Database(_) => Failure::passing("Unavailable", error.to_string()),
                Error::Key | Error::Closed => unusable(error.to_string()),
            })?;
            deliver(&self.mailer, &mail).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_a_mail() {
        let key = |byte| RandomizedNonceKey::new(&AES_256_GCM, &[byte; 32]).unwrap();
        let mail = Mail { to: vec!["ann@example.org".into()], text: Some("123456".into()), ..Mail::default() };
        let (one, two) = (close(&key(1), &mail).unwrap(), close(&key(1), &mail).unwrap());
        assert_ne!(one, two);
        assert_eq!(open(&key(1), &one).unwrap(), mail);
        assert!(matches!(open(&key(2), &one), Err(Error::Closed)));
        let mut bytes = STANDARD.decode(&one).unwrap();
        bytes[20] ^= 1;
        for bad in [STANDARD.encode(bytes), STANDARD.encode([0; 5]), String::new(), "!".into()] {
            assert!(matches!(open(&key(1), &bad), Err(Error::Closed)), "{bad}");
        }
    }
}
