//! Arguments of tasks on a command line: JSON, or plain text where that is no JSON.

use serde_json::{Map, Value};

use crate::jobs::api::{duration, instant};

/// A value: JSON, else the text itself. What begins like JSON and is none is an error rather than a text.
pub(super) fn value(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if text.trim_start().starts_with(['{', '[', '"']) => Err(format!("it is no JSON: {error}")),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

/// A named value: `order=42`, `to=ann@example.org`, `lines='[1, 2]'`.
pub(super) fn pair(text: &str) -> Result<(String, Value), String> {
    let (name, rest) = text.split_once('=').ok_or("it needs a name and a value, as in order=42")?;
    if name.is_empty() {
        return Err("it has no name before the =".into());
    }
    Ok((name.to_owned(), value(rest)?))
}

/// Named values; of two with one name the last counts.
pub(super) fn kwargs(pairs: Vec<(String, Value)>) -> Map<String, Value> {
    pairs.into_iter().collect()
}

/// Seconds, or text with a unit.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    duration(text).map(|read| read.as_secs_f64()).ok_or_else(|| "use seconds, or text as in 5m or \"1h 30m\"".into())
}

/// A moment in RFC 3339.
pub(super) fn moment(text: &str) -> Result<f64, String> {
    instant(text).ok_or_else(|| "use RFC 3339 with an offset or Z, as in 2026-11-25T16:00:00Z".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_or_text() {
        assert_eq!(pair("order=42").unwrap(), ("order".into(), json!(42)));
        assert_eq!(pair("to=ann@example.org").unwrap().1, json!("ann@example.org"));
        assert_eq!(pair("text=\"42\"").unwrap().1, json!("42"));
        assert_eq!(pair("a=b=c").unwrap().1, json!("b=c"));
        assert_eq!(pair("empty=").unwrap().1, json!(""));
        for bad in ["order", "=1", "list=[1,", "object={a: 1}", "text=\"open"] {
            assert!(pair(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units_or_none() {
        assert_eq!((seconds("90"), seconds("1m 30s"), seconds("0.5")), (Ok(90.0), Ok(90.0), Ok(0.5)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err() && moment("2026-11-25").is_err());
    }
}
