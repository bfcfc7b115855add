//! What the kinds of handlers have in common: a call's arguments by name, and the failures that they share.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::fill::{Missing, Source};
use crate::tasks::Exception;
use crate::tasks::native::{Again, Call, Failure};

/// What of a call can be filled in.
pub(super) fn source(call: &Call) -> Source<'_> {
    Source { id: &call.id, task: &call.task, args: &call.args, kwargs: &call.kwargs }
}

/// The arguments of a task that has these, in their order, as Python would bind them.
///
/// # Errors
/// A `TypeError`: too many, one twice, or one of another name.
pub(super) fn bind(call: &Call, names: &[&str]) -> Result<Map<String, Value>, Failure> {
    if call.args.len() > names.len() {
        return Err(Failure::arguments(format!(
            "{} takes {} positional arguments but {} were given",
            call.task,
            names.len(),
            call.args.len()
        )));
    }
    let mut bound = call.kwargs.clone();
    if let Some(name) = bound.keys().find(|name| !names.contains(&name.as_str())) {
        let known = names.join(", ");
        return Err(Failure::arguments(format!("{} got an unexpected argument '{name}'; it knows {known}", call.task)));
    }
    for (name, value) in names.iter().zip(&call.args) {
        if bound.insert((*name).to_owned(), value.clone()).is_some() {
            return Err(Failure::arguments(format!("{} got several values for argument '{name}'", call.task)));
        }
    }
    Ok(bound)
}

/// The text of an argument; null and none are nothing.
///
/// # Errors
/// It is no text.
pub(super) fn string<'a>(bound: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Failure> {
    match bound.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Failure::arguments(format!("the argument '{name}' must be a text"))),
    }
}

/// The object of an argument; null and none are nothing.
///
/// # Errors
/// It is no object.
pub(super) fn object<'a>(bound: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, Failure> {
    match bound.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(Failure::arguments(format!("the argument '{name}' must be an object"))),
    }
}

/// An argument that is there, and no use: a `ValueError`.
pub(super) fn unusable(message: impl Into<String>) -> Failure {
    Failure { exception: Exception::python("ValueError", message), again: Again::Never }
}

/// What the configuration does not allow: a `PermissionError`.
pub(super) fn forbidden(message: impl Into<String>) -> Failure {
    Failure { exception: Exception::python("PermissionError", message), again: Again::Never }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self::arguments(missing.to_string())
    }
}

/// What a run ends in that was asked to end. The runner says so instead when it knows better why: a revoke, a stop.
pub(super) fn cut_short() -> Failure {
    let exception = Exception::of("billiard.exceptions", "SoftTimeLimitExceeded", "SoftTimeLimitExceeded()".into());
    Failure { exception, again: Again::Never }
}

/// What a run ends in whose hard limit is over.
pub(super) fn over_time(limit: Duration) -> Failure {
    let exception = Exception::of("billiard.exceptions", "TimeLimitExceeded", limit.as_secs_f64().to_string());
    Failure { exception, again: Again::Never }
}

/// Runs `work`, which may be dropped at any await, until it is done or asked to end.
///
/// # Errors
/// Those of `work`.
pub(super) async fn until_asked<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = cancel.cancelled() => Err(cut_short()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::tasks::native::Progress;

    /// A first run of a task.
    pub(in super::super) fn call(args: Value, kwargs: Value) -> Call {
        let Value::Array(args) = args else { panic!("no list: {args}") };
        let Value::Object(kwargs) = kwargs else { panic!("no object: {kwargs}") };
        Call {
            args,
            kwargs,
            id: "0b0f6c55-2f5c-4c68-a4b7-a0b6c2d2a1de".into(),
            task: "test.task".into(),
            attempt: 1,
            retries: 0,
            queue: "celery".into(),
            progress: Progress::ignored(),
            cancel: CancellationToken::new(),
        }
    }

    #[test]
    fn arguments_are_bound_as_python_binds_them() {
        let names = ["to", "subject", "values"];
        let bound = bind(&call(json!(["a", "b"]), json!({"values": {}})), &names).unwrap();
        assert_eq!(Value::Object(bound), json!({"to": "a", "subject": "b", "values": {}}));
        for (args, kwargs, told) in [
            (json!([1, 2, 3, 4]), json!({}), "takes 3 positional arguments but 4"),
            (json!(["a"]), json!({"to": "b"}), "several values for argument 'to'"),
            (json!([]), json!({"too": "b"}), "unexpected argument 'too'"),
        ] {
            let failure = bind(&call(args, kwargs), &names).unwrap_err();
            assert!(failure.exception.message.contains(told), "{failure:?}");
            assert_eq!((failure.exception.class.as_str(), failure.again), ("TypeError", Again::Never));
        }
    }

    #[tokio::test]
    async fn work_ends_when_it_is_asked_to() {
        let cancel = CancellationToken::new();
        assert_eq!(until_asked(&cancel, async { Ok(1) }).await, Ok(1));
        cancel.cancel();
        let ended = until_asked::<()>(&cancel, std::future::pending()).await.unwrap_err();
        assert_eq!(ended.exception.class, "SoftTimeLimitExceeded");
    }
}
