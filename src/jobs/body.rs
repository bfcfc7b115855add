//! What a request carries: its body, headers and signature.

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use super::fill::{Missing, Source, Text};
use crate::auth::hooks::signature::{self, Key};
use crate::secret::Secret;

/// A body of the configuration.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A text, or one value.
    Text(Text),
    /// A list.
    List(Vec<Body>),
    /// An object.
    Object(Vec<(String, Body)>),
    /// A number, true, false or null.
    Constant(Value),
}

impl Body {
    /// Reads JSON with places in its texts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        Self::read(value)
    }

    fn read(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Text::parse(&text)?),
            Value::Array(list) => Self::List(list.into_iter().map(Self::read).collect::<Result<_, _>>()?),
            Value::Object(map) => Self::Object(
                map.into_iter().map(|(name, value)| Ok((name, Self::read(value)?))).collect::<Result<_, String>>()?,
            ),
            other => Self::Constant(other),
        })
    }

    /// The body for a task.
    ///
    /// # Errors
    /// A value that is missing.
    pub(super) fn fill(&self, source: &Source<'_>) -> Result<Value, Missing> {
        Ok(match self {
            Self::Text(text) => text.value(source)?,
            Self::List(list) => Value::Array(list.iter().map(|item| item.fill(source)).collect::<Result<_, _>>()?),
            Self::Object(pairs) => {
                let mut map = Map::new();
                for (name, value) in pairs {
                    map.insert(name.clone(), value.fill(source)?);
                }
                Value::Object(map)
            }
            Self::Constant(value) => value.clone(),
        })
    }
}

/// The body where the configuration has none. It is the same at every try.
pub(super) fn whole(source: &Source<'_>) -> Value {
    json!({ "id": source.id, "task": source.task, "args": source.args, "kwargs": source.kwargs })
}

/// Checks a header of the configuration or of a task.
///
/// # Errors
/// What is wrong with it.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "is no name of a header")?;
    let ours = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, TE, TRAILER, UPGRADE, ACCEPT_ENCODING];
    if ours.contains(&name) || name.as_str().starts_with("webhook-") {
        return Err("is a header that Beacon sets itself");
    }
    let mut value = HeaderValue::try_from(value).map_err(|_| "has a value that cannot stand in a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Whether a request may have this method.
pub(super) fn is_method(text: &str) -> bool {
    method(text).is_some()
}

/// The method of that name.
pub(super) fn method(text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok()?;
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]
        .contains(&method)
        .then_some(method)
}

/// The keys in a secret, which may stand without the "v1," that hooks of accounts have in front.
///
/// # Errors
/// What is wrong with it.
pub(super) fn keys(secret: &Secret) -> Result<Vec<Key>, &'static str> {
    if secret.is_empty() {
        return Ok(Vec::new());
    }
    let each = secret.expose().split('|').map(|text| {
        let text = text.trim();
        if text.starts_with("v1,") { text.to_owned() } else { format!("v1,{text}") }
    });
    signature::keys(&Secret::new(each.collect::<Vec<_>>().join("|")))
        .map_err(|problem| if problem.contains("begin") { "does not begin with \"whsec_\"" } else { problem })
}

/// Adds the headers of Standard Webhooks: the identifier, the same at every try, so that the receiver can tell; the time; and
/// a signature over both and the body for each key.
pub(super) fn sign(headers: &mut HeaderMap, keys: &[Key], id: &str, timestamp: u64, body: &[u8]) {
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert("webhook-id", value);
    }
    if keys.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&signature::sign(keys, id, timestamp, body)) {
        headers.insert("webhook-signature", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values_wherever_they_stand() {
        let body =
            Body::parse(r#"{"text": "Hi {kwargs.name}", "n": "{kwargs.n}", "all": ["{args.0}", 1, null, "{{}}"]}"#);
        let kwargs = json!({"name": "\", \"x\": \"y", "n": 3}).as_object().cloned().unwrap();
        let args = [json!({"a": 1})];
        let source = Source { id: "1", task: "t", args: &args, kwargs: &kwargs };
        let filled = body.unwrap().fill(&source).unwrap();
        assert_eq!(filled, json!({"text": "Hi \", \"x\": \"y", "n": 3, "all": [{"a": 1}, 1, null, "{}"]}));
        assert!(Body::parse("{").is_err() && Body::parse(r#"["{nothing}"]"#).is_err());
    }

    #[test]
    fn headers_of_the_connection_are_ours() {
        assert!(header("Authorization", "Bearer x").is_ok());
        for bad in [("Host", "a"), ("content-length", "1"), ("webhook-id", "x"), ("a b", "c"), ("x", "a\r\nb: c")] {
            assert!(header(bad.0, bad.1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_taken_in_both_forms() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(keys(&Secret::new(format!("{key}|v1,{key}"))).unwrap().len(), 2);
        assert_eq!(keys(&Secret::new("x")).err(), Some("does not begin with \"whsec_\""));
        let mut headers = HeaderMap::new();
        let one = keys(&Secret::new(key)).unwrap();
        sign(&mut headers, &one, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
    }
}
