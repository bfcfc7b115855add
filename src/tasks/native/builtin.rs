//! The tasks that every Celery worker has, as far as they make sense without Python.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::handler::{Call, Failure, Handler};
use super::runner::Tasks;
use crate::tasks::runner::Exception;

/// Their names and bodies.
pub fn all(tasks: &Tasks) -> [(&'static str, Arc<dyn Handler>); 8] {
    [
        ("celery.accumulate", Arc::new(Accumulate)),
        ("celery.backend_cleanup", Arc::new(Cleanup)),
        ("celery.chain", Arc::new(Chain)),
        ("celery.chord", Arc::new(Sends { kind: "chord", names: &["header", "body", "partial_args"] })),
        ("celery.chunks", Arc::new(Sends { kind: "chunks", names: &["task", "it", "n"] })),
        ("celery.group", Arc::new(Sends { kind: "group", names: &["tasks", "result", "group_id", "partial_args"] })),
        ("celery.map", Arc::new(Map { tasks: tasks.clone(), spread: false })),
        ("celery.starmap", Arc::new(Map { tasks: tasks.clone(), spread: true })),
    ]
}

/// Whether what a task gives is a signature, to be sent instead of it.
pub fn sends(task: &str) -> bool {
    matches!(task, "celery.chord" | "celery.chunks" | "celery.group")
}

/// What Celery says of it, too.
struct Chain;

impl Handler for Chain {
    fn run(&self, _: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        let exception = Exception::python("NotImplementedError", "chain is not a real task");
        Box::pin(async { Err(Failure { exception, again: super::Again::Never }) })
    }
}

/// A canvas that was sent as a task, as old clients do: the signature that it stands for.
struct Sends {
    kind: &'static str,
    /// Its parameters, in their order.
    names: &'static [&'static str],
}

impl Handler for Sends {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let mut kwargs = call.kwargs;
            kwargs.extend(self.names.iter().map(ToString::to_string).zip(call.args));
            let args = kwargs.remove("partial_args").filter(Value::is_array).unwrap_or_else(|| json!([]));
            let options = match kwargs.remove("group_id") {
                Some(group @ Value::String(_)) => json!({"task_id": group}),
                _ => json!({}),
            };
            kwargs.retain(|name, _| self.names.contains(&name.as_str()));
            let missing = self.names.iter().find(|name| {
                !["partial_args", "group_id", "result"].contains(name) && kwargs.get(**name).is_none_or(Value::is_null)
            });
            if let Some(name) = missing {
                return Err(Failure::arguments(format!("missing a required argument: '{name}'")));
            }
            Ok(json!({"task": format!("celery.{}", self.kind), "args": args, "kwargs": kwargs, "options": options,
                "subtask_type": self.kind, "immutable": false}))
        })
    }
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
                let exception = Exception::python("IndexError", "tuple index out of range");
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
                let exception = Exception::of("celery.exceptions", "NotRegistered", name);
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
