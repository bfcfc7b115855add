//! What is said over Redis's PUBLISH: a message of kombu around an event, or around a request to the workers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

/// The largest message that is read, in bytes. Events come in lists, and Celery's clients send none of a megabyte.
const LARGEST: usize = 16 * 1024 * 1024;

/// A message that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its headers, an object.
    pub headers: Value,
    /// What it says.
    pub body: Value,
}

/// Reads a message; `None` if it is none, or in a serialisation other than JSON.
#[must_use]
pub fn open(raw: &[u8]) -> Option<Opened> {
    if raw.len() > LARGEST {
        return None;
    }
    let mut whole: Value = serde_json::from_slice(raw).ok()?;
    let kind = whole.get("content-type").and_then(Value::as_str).unwrap_or("application/json");
    if kind != "application/json" {
        return None;
    }
    let encoded = whole.pointer("/properties/body_encoding").and_then(Value::as_str) == Some("base64");
    let body = match whole.get("body")? {
        Value::String(text) if encoded => serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()?,
        Value::String(text) => serde_json::from_str(text).ok()?,
        _ => return None,
    };
    let headers = whole.get_mut("headers").map(Value::take).unwrap_or_default();
    Some(Opened { headers, body })
}

/// Puts a message around a body of JSON, as kombu does.
#[must_use]
pub fn seal(headers: &impl Serialize, exchange: &str, routing_key: &str, body: &[u8]) -> Vec<u8> {
    let whole = json!({
        "body": STANDARD.encode(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": exchange, "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid::Uuid::new_v4().to_string(),
        },
    });
    whole.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_in_both_encodings_and_nothing_else_is_taken_for_a_message() {
        // As kombu 5.7 publishes it.
        let raw = br#"{"body": "eyJtZXRob2QiOiAicGluZyJ9", "content-encoding": "utf-8", "content-type": "application/json",
            "headers": {"clock": 5, "expires": 0}, "properties": {"delivery_mode": 1, "delivery_info": {"exchange":
            "celery.pidbox", "routing_key": ""}, "priority": 0, "body_encoding": "base64", "delivery_tag": "x"}}"#;
        let opened = open(raw).unwrap();
        assert_eq!(opened.body, json!({"method": "ping"}));
        assert_eq!(opened.headers["clock"], 5);
        let plain = br#"{"body": "[1]", "properties": {}}"#;
        assert_eq!(open(plain).unwrap().body, json!([1]));
        assert_eq!(open(plain).unwrap().headers, Value::Null);
        let sealed = seal(&json!({"ticket": "t"}), "reply.celery.pidbox", "oid", b"{\"a\": 1}");
        let opened = open(&sealed).unwrap();
        assert_eq!((opened.headers, opened.body), (json!({"ticket": "t"}), json!({"a": 1})));
        let whole: Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(whole["properties"]["delivery_info"], json!({"exchange": "reply.celery.pidbox", "routing_key": "oid"}));
        assert!(whole["properties"]["delivery_tag"].as_str().unwrap().len() == 36);
        for bad in [
            &b""[..],
            b"1",
            b"{}",
            b"{\"body\": 1}",
            b"{\"body\": \"!\", \"properties\": {\"body_encoding\": \"base64\"}}",
            b"{\"body\": \"[\"}",
            b"{\"body\": \"1\", \"content-type\": \"application/x-python-serialize\"}",
            &[0xff, 0xfe],
        ] {
            assert!(open(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
