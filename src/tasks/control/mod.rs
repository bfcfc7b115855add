//! Celery's remote control: `celery inspect`, `celery control`, Flower and programs ask workers over Redis's PUBLISH, and
//! get answers on a list of their own.

mod commands;
mod host;
mod info;
mod matcher;
mod registered;
mod signature;
mod stats;
#[cfg(test)]
pub(in crate::tasks) mod testing;

use futures_util::future::BoxFuture;
use serde_json::Value;

pub use info::Binding;

/// What an application adds to remote control: its own commands, and what only it knows of itself.
pub trait Panel: Send + Sync + 'static {
    /// Runs a command of the application with its arguments, an object: the answer, or the exception as Python's `repr`
    /// shows it. `None` if it has no such command.
    fn call<'a>(&'a self, method: &'a str, arguments: &'a Value) -> BoxFuture<'a, Option<Result<Value, String>>>;

    /// What `celery report` says of it; `None` if it does not answer.
    fn report(&self) -> BoxFuture<'_, Option<String>>;
}
