//! The tasks that every Celery worker has, as far as they make sense without Python.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::handler::{Call, Failure, Handler};
use super::runner::Tasks;

/// Their names and bodies.
pub fn all(tasks: &Tasks) -> [(&'static str, Arc<dyn Handler>); 4] {
    [
        ("celery.accumulate", Arc::new(Accumulate)),
        ("celery.backend_cleanup", Arc::new(Cleanup)),
        ("celery.map", Arc::new(Map { tasks: tasks.clone(), spread: false })),
        ("celery.starmap", Arc::new(Map { tasks: tasks.clone(), spread: true })),
    ]
}

/// Gives its arguments: the body of what was a group and has become a chord.
struct Accumulate;

impl Handler for Accumulate {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let Some(index) = call.kwargs.get("index").and_then(Value::as_i64) else {
                return Ok(Value::Array(call.args));
            };
            // Counted from the end if it is negative, as in Python.
            let at = if index < 0 { index + call.args.len() as i64 } else { index };
            let found = usize::try_from(at).ok().and_then(|at| call.args.get(at)).cloned();
            found.ok_or_else(|| {
                let exception = crate::tasks::runner::Exception::python("IndexError", "tuple index out of range");
                Failure { exception, again: super::Again::Never }
            })
        })
    }
}

/// Results expire by themselves in Redis.
struct Cleanup;

impl Handler for Cleanup {
    fn run(&self, _: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async { Ok(Value::Null) })
    }
}

/// A task over a list, one item after the other; `spread`: each item is a list of arguments.
struct Map {
    tasks: Tasks,
    spread: bool,
}

impl Handler for Map {
    fn run(&self, mut call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let task = call.kwargs.remove("task").unwrap_or_default();
            let name = task.get("task").unwrap_or(&task).as_str().map(str::to_owned);
            let Some(name) = name else { return Err(Failure::arguments("the task's name is missing")) };
            let Some(Value::Array(items)) = call.kwargs.remove("it") else {
                return Err(Failure::arguments("'it' is no list"));
            };
            // A map of maps could nest without an end.
            let entry = self.tasks.find(&name).filter(|_| !name.starts_with("celery."));
            let Some(entry) = entry else {
                let exception = crate::tasks::runner::Exception::of("celery.exceptions", "NotRegistered", name);
                return Err(Failure { exception, again: super::Again::Never });
            };
            let mut results = Vec::with_capacity(items.len());
            for item in items {
                let args = match item {
                    Value::Array(args) if self.spread => args,
                    _ if self.spread => return Err(Failure::arguments("an item is no list of arguments")),
                    item => vec![item],
                };
                let one = Call { args, kwargs: serde_json::Map::new(), task: name.as_str().into(), ..call.clone() };
                results.push(entry.handler.run(one).await?);
            }
            Ok(Value::Array(results))
        })
    }
}
