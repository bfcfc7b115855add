//! A task that is to be sent, as JSON says it. Every member is known and has its type, or the answer names it: a
//! misspelt `countdwon` would run the task at once.

use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::Failure;
use crate::tasks::wire::now;
use crate::tasks::{NewTask, Unique};

/// The members of a task.
const MEMBERS: [&str; 15] = [
    "task",
    "args",
    "kwargs",
    "id",
    "queue",
    "priority",
    "eta",
    "countdown",
    "expires",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "headers",
    "unique",
    "idempotency_key",
];
/// The longest names, identifiers and keys, in bytes.
const LONGEST: usize = 255;
/// How long a task is unique at most, if it does not say.
const UNIQUE: Duration = Duration::from_hours(1);

/// A duration: "30s", "1h 30m", or a number of seconds, which may have a fraction.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

/// A moment in RFC 3339, with an offset or Z, in seconds since 1970.
#[must_use]
pub fn instant(text: &str) -> Option<f64> {
    let moment = text.trim().parse::<jiff::Timestamp>().ok()?;
    Some(moment.as_microsecond() as f64 / 1e6)
}

/// Reads a task.
///
/// # Errors
/// A member that is not known, missing, or of no use.
pub(super) fn task(value: Value) -> Result<NewTask, Failure> {
    let Value::Object(mut members) = value else {
        return Err(Failure::invalid(
            "A task is a JSON object.",
            "As in {\"task\": \"notify\", \"kwargs\": {\"order\": 42}}.",
        ));
    };
    known(&members, &MEMBERS)?;
    // `null` is as good as nothing.
    members.retain(|_, value| !value.is_null());
    let eta = match (members.get("eta"), members.get("countdown")) {
        (Some(_), Some(_)) => return Err(wrong("eta", "and countdown cannot both be set", "Leave one of them out.")),
        (Some(eta), None) => Some(moment("eta", eta)?),
        (None, Some(countdown)) => Some(now() + seconds("countdown", countdown)?),
        (None, None) => None,
    };
    let expires = match members.get("expires") {
        None => None,
        Some(Value::String(text)) if instant(text).is_some() => instant(text),
        Some(other) => Some(now() + seconds("expires", other)?),
    };
    let limit = |name: &str| members.get(name).map(|value| seconds(name, value)).transpose();
    let (time_limit, soft_time_limit) = (limit("time_limit")?, limit("soft_time_limit")?);
    let priority = match members.get("priority") {
        None => 0,
        Some(value) => value
            .as_u64()
            .and_then(|priority| u8::try_from(priority).ok())
            .filter(|priority| *priority <= 9)
            .ok_or_else(|| wrong("priority", "is no whole number from 0 to 9", "0 goes first."))?,
    };
    let ignore_result = match members.get("ignore_result") {
        None => None,
        Some(Value::Bool(ignored)) => Some(*ignored),
        Some(_) => return Err(wrong("ignore_result", "is neither true nor false", "")),
    };
    let unique = members.get("unique").map(unique).transpose()?;
    let name = word(&members, "task")?;
    Ok(NewTask {
        task: name.ok_or_else(|| wrong("task", "is missing", "Name the task that is to be run."))?,
        id: word(&members, "id")?,
        queue: word(&members, "queue")?,
        idempotency_key: word(&members, "idempotency_key")?,
        args: match members.remove("args") {
            None => Vec::new(),
            Some(Value::Array(args)) => args,
            Some(_) => return Err(wrong("args", "is no list", "Named arguments go into kwargs.")),
        },
        kwargs: object(&mut members, "kwargs")?,
        headers: object(&mut members, "headers")?,
        priority,
        eta,
        expires,
        time_limit,
        soft_time_limit,
        ignore_result,
        unique,
        ..NewTask::default()
    })
}

/// Refuses members that are not known.
pub(super) fn known(members: &Map<String, Value>, known: &[&str]) -> Result<(), Failure> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let near = known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
            let hint = match near {
                Some((distance, near)) if distance <= 3 => format!("Did you mean {near:?}?"),
                _ => format!("It may have: {}.", known.join(", ")),
            };
            Err(Failure::invalid(format!("There is no member {name:?} here."), hint))
        }
    }
}

fn wrong(name: &str, problem: &str, hint: &str) -> Failure {
    Failure::invalid(format!("{name} {problem}."), hint)
}

/// A name that fits on a line.
pub(super) fn word(members: &Map<String, Value>, name: &str) -> Result<Option<String>, Failure> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| wrong(name, "is no text", "Put it into quotes."))?;
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(wrong(name, "is empty, longer than 255 bytes, or has control characters", "Use a short name."));
    }
    Ok(Some(text.to_owned()))
}

fn object(members: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, Failure> {
    match members.remove(name) {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(wrong(name, "is no object", "As in {\"order\": 42}.")),
    }
}

fn moment(name: &str, value: &Value) -> Result<f64, Failure> {
    value
        .as_str()
        .and_then(instant)
        .ok_or_else(|| wrong(name, "is no time in RFC 3339", "As in \"2026-11-25T16:00:00Z\", with an offset or Z."))
}

/// Seconds: a number, or text with a unit.
fn seconds(name: &str, value: &Value) -> Result<f64, Failure> {
    let read = match value {
        Value::Number(number) => number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::String(text) => duration(text),
        _ => None,
    };
    read.map(|read| read.as_secs_f64())
        .ok_or_else(|| wrong(name, "is no time", "Use a number of seconds, or text as in \"5m\"."))
}

fn unique(value: &Value) -> Result<Unique, Failure> {
    let hint = "As in {\"key\": \"report:7\", \"for\": \"1h\"}.";
    let Some(members) = value.as_object() else { return Err(wrong("unique", "is no object", hint)) };
    known(members, &["key", "for"])?;
    let key = word(members, "key")?.ok_or_else(|| wrong("unique.key", "is missing", hint))?;
    let for_ = match members.get("for") {
        None => UNIQUE,
        Some(value) => Duration::try_from_secs_f64(seconds("unique.for", value)?).unwrap_or(UNIQUE),
    };
    if for_.is_zero() {
        return Err(wrong("unique.for", "is no time", hint));
    }
    Ok(Unique { key, for_ })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(value: Value) -> (String, String) {
        match task(value) {
            Err(Failure::Problem(problem)) => (problem.message.into_owned(), problem.hint.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_task_is_read_whole() {
        let read =
            task(json!({"task": "a.b", "args": [1], "kwargs": {"x": null}, "id": "i", "queue": "q", "priority": 9,
            "eta": "2026-11-25T16:00:00.5+01:00", "expires": "2026-11-26T00:00:00Z", "time_limit": "5m",
            "soft_time_limit": 1.5, "ignore_result": true, "headers": {"h": 1}, "unique": {"key": "k", "for": 60},
            "idempotency_key": "once", "countdown": null}))
            .unwrap();
        assert_eq!((read.task.as_str(), read.args, read.priority), ("a.b", vec![json!(1)], 9));
        assert_eq!((read.eta, read.expires), (Some(1_795_618_800.5), Some(1_795_651_200.0)));
        assert_eq!((read.time_limit, read.soft_time_limit, read.ignore_result), (Some(300.0), Some(1.5), Some(true)));
        assert_eq!(read.unique, Some(Unique { key: "k".into(), for_: Duration::from_mins(1) }));
        assert_eq!((read.kwargs.len(), read.headers.len(), read.idempotency_key.as_deref()), (1, 1, Some("once")));
    }

    #[test]
    fn times_from_now_are_counted_from_now() {
        let read = task(json!({"task": "t", "countdown": 90, "expires": "2m"})).unwrap();
        let (eta, expires) = (read.eta.unwrap() - now(), read.expires.unwrap() - now());
        assert!((85.0..=90.0).contains(&eta) && (115.0..=120.0).contains(&expires), "{eta} {expires}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, named) in [
            (json!([]), "A task is a JSON object"),
            (json!({}), "task is missing"),
            (json!({"task": ""}), "task is empty"),
            (json!({"task": "t", "args": {}}), "args is no list"),
            (json!({"task": "t", "kwargs": []}), "kwargs is no object"),
            (json!({"task": "t", "priority": 10}), "priority is no whole number"),
            (json!({"task": "t", "priority": "1"}), "priority is no whole number"),
            (json!({"task": "t", "eta": "tomorrow"}), "eta is no time"),
            (json!({"task": "t", "eta": "2026-11-25T16:00:00"}), "eta is no time"),
            (json!({"task": "t", "eta": "2026-11-25T16:00:00Z", "countdown": 1}), "eta and countdown"),
            (json!({"task": "t", "countdown": -1}), "countdown is no time"),
            (json!({"task": "t", "expires": true}), "expires is no time"),
            (json!({"task": "t", "id": 7}), "id is no text"),
            (json!({"task": "t", "queue": "a\nb"}), "queue is empty"),
            (json!({"task": "t", "unique": {"for": 1}}), "unique.key is missing"),
            (json!({"task": "t", "unique": {"key": "k", "for": 0}}), "unique.for is no time"),
        ] {
            let (message, _) = refusal(value.clone());
            assert!(message.starts_with(named), "{value}: {message}");
        }
        let (message, hint) = refusal(json!({"task": "t", "countdwon": 5}));
        assert_eq!(
            (message.as_str(), hint.as_str()),
            ("There is no member \"countdwon\" here.", "Did you mean \"countdown\"?")
        );
    }
}
