//! Hooks: an operator's function in the database, or program behind HTTP, that is asked while Beacon serves a request.
//!
//! [`Hooks::call`] gives an event and gets an answer, both JSON objects. An answer with `error` refuses what was about to
//! happen; so does a hook that fails or is late, because nobody knows what it would have said. Call hooks outside of
//! transactions: a function in the database takes a connection of its own, and commits what it did.

mod config;
mod error;
mod function;
mod program;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use config::{Config, Hook};
pub use error::Error;

use self::config::Place;
use self::signature::Key;
use crate::db::Pool;
use crate::http::Outbound;

/// The longest answer, in bytes.
const LARGEST: usize = 200 * 1024;
/// The longest event, in bytes.
const LARGEST_EVENT: usize = 1024 * 1024;

/// When a hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before an access token is signed: may change its claims.
    CustomAccessToken,
    /// Instead of sending a mail.
    SendEmail,
    /// Before a user is made.
    BeforeUserCreated,
}

/// The hooks of a configuration. A cheap clone.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    custom_access_token: Option<Ready>,
    send_email: Option<Ready>,
    before_user_created: Option<Ready>,
    pool: Pool,
    outbound: Outbound,
}

struct Ready {
    place: Place,
    keys: Vec<Key>,
    timeout: Duration,
}

impl Hooks {
    /// The hooks of a configuration, which was validated. Functions run on connections of `pool`.
    #[must_use]
    pub fn new(config: &Config, pool: Pool, outbound: Outbound) -> Self {
        let ready = |hook: &Hook| {
            let keys = signature::keys(&hook.secret).unwrap_or_default();
            Some(Ready { place: hook.place()?.ok()?, keys, timeout: hook.timeout })
        };
        Self(Arc::new(Inner {
            custom_access_token: ready(&config.custom_access_token),
            send_email: ready(&config.send_email),
            before_user_created: ready(&config.before_user_created),
            pool,
            outbound,
        }))
    }

    fn ready(&self, point: Point) -> Option<&Ready> {
        match point {
            Point::CustomAccessToken => self.0.custom_access_token.as_ref(),
            Point::SendEmail => self.0.send_email.as_ref(),
            Point::BeforeUserCreated => self.0.before_user_created.as_ref(),
        }
    }

    /// Whether somebody is to be asked.
    #[must_use]
    pub fn has(&self, point: Point) -> bool {
        self.ready(point).is_some()
    }

    /// Asks the hook. `None`: there is none. An answer without content is an empty object.
    ///
    /// # Errors
    /// The hook refused, or did not answer as it must.
    pub async fn call(&self, point: Point, event: &Value) -> Result<Option<Map<String, Value>>, Error> {
        let Some(hook) = self.ready(point) else { return Ok(None) };
        let event = event.to_string();
        if event.len() > LARGEST_EVENT {
            return Err(Error::EventTooLarge);
        }
        let answer = match &hook.place {
            Place::Function { schema, name } => {
                function::call(&self.0.pool, schema, name, &event, hook.timeout).await?
            }
            Place::Program(to) => program::call(&self.0.outbound, to, &hook.keys, event, hook.timeout).await?,
        };
        answer.map_or_else(|| Ok(Map::new()), |answer| read(&answer)).map(Some)
    }
}

/// The answer's object, unless it refuses.
fn read(answer: &[u8]) -> Result<Map<String, Value>, Error> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(answer) else { return Err(Error::Output) };
    let Some(error) = answer.get("error").filter(|error| !error.is_null()) else { return Ok(answer) };
    let status = error.get("http_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let message = error.get("message").and_then(Value::as_str).filter(|message| !message.is_empty());
    Err(Error::Refused {
        status: status.filter(|status| (400..600).contains(status)).unwrap_or(500),
        message: message.unwrap_or("The request was refused by a hook").chars().take(1_024).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_refuses_by_its_error() {
        let refusal = |text: &str| match read(text.as_bytes()) {
            Err(Error::Refused { status, message }) => (status, message),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refusal(r#"{"error":{"http_code":403,"message":"No."}}"#), (403, "No.".into()));
        assert_eq!(refusal(r#"{"error":{"message":"No."}}"#), (500, "No.".into()));
        assert_eq!(refusal(r#"{"error":{"http_code":200,"message":"No."}}"#), (500, "No.".into()));
        assert_eq!(refusal(r#"{"error":{"http_code":-1}}"#).0, 500);
        assert_eq!(refusal(r#"{"error":"No."}"#).0, 500);
        assert_eq!(read(br#"{"claims":{},"error":null}"#).unwrap().len(), 2);
        for broken in ["", "null", "[]", "{", "\"x\""] {
            assert!(matches!(read(broken.as_bytes()), Err(Error::Output)), "{broken}");
        }
    }
}
