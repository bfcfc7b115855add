//! What Redis takes and gives: the library's value, and ways to take one apart that forgive the protocol's version.

use bytes::Bytes;

pub use fred::types::Value;

/// A text's or byte string's bytes; `None` for nil and for anything else.
#[must_use]
pub fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::String(text) => Some(text.into_inner()),
        Value::Integer(number) => Some(Bytes::from(number.to_string())),
        _ => None,
    }
}

/// A text; bytes that are none are replaced.
#[must_use]
pub fn text(value: Value) -> Option<String> {
    bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A whole number, also one that comes as text; a truth is 0 or 1.
#[must_use]
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Boolean(truth) => Some((*truth).into()),
        Value::Double(number) => Some(*number as i64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number, also one that comes as text: scores are texts in RESP2 and numbers in RESP3.
#[must_use]
pub fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A list's elements; nil is an empty one, and a map its keys and values in turn.
#[must_use]
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(elements) => elements,
        Value::Map(map) => {
            map.inner().into_iter().flat_map(|(key, value)| [Value::Bytes(key.into_bytes()), value]).collect()
        }
        Value::Null => Vec::new(),
        single => vec![single],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_both_protocols_are_taken_apart() {
        assert_eq!(bytes(Value::from("a")).as_deref(), Some(&b"a"[..]));
        assert_eq!(bytes(Value::Bytes(Bytes::from_static(b"\xff"))).as_deref(), Some(&b"\xff"[..]));
        assert_eq!(bytes(Value::Null), None);
        assert_eq!(text(Value::Bytes(Bytes::from_static(b"a\xff"))).as_deref(), Some("a\u{FFFD}"));
        assert_eq!((integer(&Value::from("12")), integer(&Value::from(12))), (Some(12), Some(12)));
        assert_eq!((float(&Value::from("1.5")), float(&Value::Double(1.5))), (Some(1.5), Some(1.5)));
        assert_eq!(list(Value::Null).len(), 0);
        assert_eq!(list(Value::Array(vec![Value::Null, Value::Null])).len(), 2);
    }
}
