//! A request of remote control, taken apart.

use serde_json::{Map, Value};

use super::mailbox::To;

/// Clocks of two hosts may differ by so much, in seconds. A publication is heard at once or never, so that one which seems
/// to be too old was sent by a clock that is behind.
const SKEW: f64 = 60.0;

/// A request.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) arguments: Map<String, Value>,
    /// What the asker knows it by, to be given back as it is.
    pub(super) ticket: Value,
    /// Where the answer goes; nowhere for commands that are only told.
    pub(super) to: Option<To>,
    /// When the asker waits no more, in seconds since 1970.
    expires: Option<f64>,
}

impl Request {
    /// Reads it from a message's content and headers; `None` if it names no command.
    pub(super) fn read(mut body: Map<String, Value>, headers: &Map<String, Value>) -> Option<Self> {
        let method = body.get("method")?.as_str()?.to_owned();
        let arguments = match body.remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            _ => Map::new(),
        };
        let to = body.get("reply_to").and_then(|to| {
            let text = |name| to.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
            Some(To { exchange: text("exchange")?, key: text("routing_key")? })
        });
        let expires = headers.get("expires").and_then(Value::as_f64).filter(|expires| *expires > 0.0);
        Some(Self { method, arguments, ticket: body.remove("ticket").unwrap_or_default(), to, expires })
    }

    /// Whether nobody waits for the answer any more, whatever the clocks show: it would stay in Redis.
    pub(super) fn is_late(&self, now: f64) -> bool {
        self.expires.is_some_and(|expires| now > expires + SKEW)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value, headers: &Value) -> Option<Request> {
        let Value::Object(body) = body else { panic!("no object") };
        Request::read(body, &headers.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn a_request_is_read_as_kombu_writes_it() {
        let body = json!({"method": "revoke", "arguments": {"task_id": "0caa"}, "destination": null, "pattern": null,
            "matcher": null, "ticket": "abd5", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "a672"}});
        let request = read(body, &json!({"clock": 5, "expires": 1_000.5})).unwrap();
        assert_eq!((request.method.as_str(), &request.ticket), ("revoke", &json!("abd5")));
        assert_eq!(request.arguments["task_id"], "0caa");
        assert_eq!(request.to, Some(To { exchange: "reply.celery.pidbox".into(), key: "a672".into() }));
        assert!(!request.is_late(1_000.0) && !request.is_late(1_030.0) && request.is_late(1_061.0));
    }

    #[test]
    fn what_is_missing_is_nothing() {
        let request =
            read(json!({"method": "ping", "arguments": null, "reply_to": {"exchange": "x"}}), &json!(null)).unwrap();
        assert_eq!((request.to, request.ticket), (None, json!(null)));
        assert!(request.arguments.is_empty());
        let cast = read(json!({"method": "ping"}), &json!({"expires": 0})).unwrap();
        assert!(!cast.is_late(1e12));
        assert_eq!(read(json!({"method": 7}), &json!({})), None);
        assert_eq!(read(json!({}), &json!({})), None);
    }
}
