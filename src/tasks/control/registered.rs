//! Task types and their attributes, as `celery inspect registered` lists them; and rate limits as Celery writes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::commands::kind;
use crate::tasks::Spec;
use crate::tasks::wire::repr;

/// What is listed if nothing else is asked for.
const USUAL: [&str; 3] = ["exchange", "routing_key", "rate_limit"];
/// Attributes that need no Python: those of a [`Spec`], and those that no task has unless its class was given them.
const KNOWN: [&str; 13] = [
    "exchange",
    "routing_key",
    "rate_limit",
    "name",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "store_errors_even_if_ignored",
    "track_started",
    "send_events",
    "acks_late",
    "acks_on_failure",
    "reject_on_worker_lost",
];

/// The attributes that are asked for.
pub(super) fn items(given: Option<&Value>) -> Vec<String> {
    let asked: Vec<String> = match given {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        // Python goes through a text by letters.
        Some(Value::String(name)) => name.chars().map(String::from).collect(),
        _ => Vec::new(),
    };
    let asked = if asked.is_empty() { USUAL.map(str::to_owned).to_vec() } else { asked };
    asked.into_iter().filter(|name| !name.starts_with('_')).take(100).collect()
}

/// Whether all of them are known without Python.
pub(super) fn known(items: &[String]) -> bool {
    items.iter().all(|item| KNOWN.contains(&item.as_str()))
}

/// One line a task, by name. `rates` are limits that were set since the start.
pub(super) fn lines(
    specs: &[Arc<Spec>],
    items: &[String],
    builtins: bool,
    rates: &BTreeMap<String, Value>,
) -> BTreeMap<String, String> {
    let listed = specs.iter().filter(|spec| builtins || !spec.name.starts_with("celery."));
    listed
        .map(|spec| {
            let shown = |item: &String| Some(format!("{item}={}", attribute(spec, item, rates)?));
            let fields: Vec<String> = items.iter().filter_map(shown).collect();
            let line =
                if fields.is_empty() { spec.name.to_string() } else { format!("{} [{}]", spec.name, fields.join(" ")) };
            (spec.name.to_string(), line)
        })
        .collect()
}

fn attribute(spec: &Spec, item: &str, rates: &BTreeMap<String, Value>) -> Option<String> {
    let flag = |flag: bool| Some(if flag { "True" } else { "False" }.to_owned());
    match item {
        "name" => Some(spec.name.to_string()),
        "rate_limit" => match rates.get(&*spec.name) {
            Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(repr::value(value)),
            None => spec.rate.map(rate_text),
        },
        "time_limit" => spec.time_limit.map(seconds),
        "soft_time_limit" => spec.soft_time_limit.map(seconds),
        "ignore_result" => flag(spec.ignore_result),
        "store_errors_even_if_ignored" => flag(spec.store_errors_even_if_ignored),
        "track_started" => flag(spec.track_started),
        "send_events" => flag(spec.send_events),
        "acks_late" => flag(spec.acks_late),
        "acks_on_failure" => flag(spec.acks_on_failure),
        "reject_on_worker_lost" => flag(spec.reject_on_worker_lost),
        _ => None,
    }
}

fn seconds(limit: Duration) -> String {
    if limit.subsec_nanos() == 0 { limit.as_secs().to_string() } else { repr::value(&Value::from(limit.as_secs_f64())) }
}

/// Runs a second in Celery's words: "10/m" rather than a fraction.
fn rate_text(rate: f64) -> String {
    for (unit, each) in [("s", 1.0), ("m", 60.0), ("h", 3_600.0)] {
        let runs = rate * each;
        if runs >= 1.0 && (runs - runs.round()).abs() < 1e-6 {
            return format!("{}/{unit}", runs.round());
        }
    }
    repr::value(&Value::from(rate))
}

/// A rate limit in runs a second: "100/m", "2/h", "0.5/s", or a number. `None` is no limit.
///
/// # Errors
/// What Celery answers, as an exception or as text.
pub(super) fn rate(given: &Value) -> Result<Option<f64>, String> {
    let rate = match given {
        Value::String(text) if text.is_empty() => 0.0,
        Value::String(text) => {
            let (runs, unit) = text.split_once('/').unwrap_or((text, ""));
            let each = match unit {
                "" | "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                other => return Err(repr::exception("KeyError", other)),
            };
            float(&Value::from(runs)).map_err(|fault| format!("Invalid rate limit string: {fault}"))? / each
        }
        Value::Null => 0.0,
        Value::Bool(one) => f64::from(u8::from(*one)),
        value => float(value)?,
    };
    Ok(Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0))
}

/// As Python's `float()`.
///
/// # Errors
/// Python's exception.
pub(super) fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => Ok(number.as_f64().unwrap_or_default()),
        Value::Bool(one) => Ok(f64::from(u8::from(*one))),
        Value::String(text) => text.trim().parse().map_err(|_| {
            repr::exception("ValueError", &format!("could not convert string to float: {}", repr::text(text)))
        }),
        other => {
            let fault = format!("float() argument must be a string or a real number, not '{}'", kind(other));
            Err(repr::exception("TypeError", &fault))
        }
    }
}
