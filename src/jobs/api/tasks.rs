//! /tasks: sent, looked at, cancelled, tried again.

use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::answer::{Answer, Failure, json as answer, ok};
use super::ask::Ask;
use super::order;
use super::{Cancelled, Inner, MOUNT, Place, Retried, Wanted};
use crate::tasks::Sent;

/// The most tasks of one request.
const BULK: usize = 1_000;
/// The longest wait for a task.
const LONGEST: Duration = Duration::from_mins(2);

/// What an identifier cannot have in an address; UUIDs stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Inner {
    /// POST /tasks
    pub(super) async fn send(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        let key = match ask.headers.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(value) => Some(idempotency(value)?),
        };
        match ask.json()? {
            Value::Array(tasks) => {
                if key.is_some() {
                    let hint = "Give each task an idempotency_key of its own.";
                    return Err(Failure::invalid("Idempotency-Key is for one task, not for a list.", hint));
                }
                self.send_all(tasks).await
            }
            one => {
                let mut task = order::task(one)?;
                task.idempotency_key = key.or(task.idempotency_key);
                let sent = self.look.client().send(&task).await?;
                let status = if matches!(sent, Sent::New(_)) { StatusCode::ACCEPTED } else { StatusCode::OK };
                let mut response = answer(status, &self.sent(&sent).await?);
                let place = format!("{MOUNT}/tasks/{}", utf8_percent_encode(sent.id(), ESCAPED));
                if let Ok(place) = HeaderValue::try_from(place) {
                    response.headers_mut().insert(LOCATION, place);
                }
                Ok(response)
            }
        }
    }

    async fn send_all(&self, tasks: Vec<Value>) -> Answer {
        if tasks.is_empty() || tasks.len() > BULK {
            let message = format!("The list has {} tasks; 1 to {BULK} can be sent at once.", tasks.len());
            return Err(Failure::invalid(message, "Send it in parts."));
        }
        let read = tasks.into_iter().enumerate().map(|(at, task)| {
            order::task(task).map_err(|failure| match failure {
                Failure::Problem(mut problem) => {
                    problem.message = format!("The task at place {at} of the list: {}", problem.message).into();
                    Failure::Problem(problem)
                }
                other => other,
            })
        });
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let mut told = Vec::with_capacity(read.len());
        for sent in self.look.client().send_all(&read).await? {
            told.push(self.sent(&sent).await?);
        }
        Ok(answer(StatusCode::ACCEPTED, &told))
    }

    async fn sent(&self, sent: &Sent) -> Result<Value, Failure> {
        let state = match sent {
            Sent::New(_) => None,
            Sent::Same(id) => self.look.results().get(id).await?.map(|meta| meta.status),
        };
        let state = state.unwrap_or_else(|| "PENDING".into());
        Ok(json!({"id": sent.id(), "state": state, "new": matches!(sent, Sent::New(_))}))
    }

    /// GET /tasks
    pub(super) async fn list(&self, ask: &Ask) -> Answer {
        ask.only(&["state", "queue", "task", "limit", "offset"])?;
        let place = match ask.param("state") {
            None => None,
            Some("waiting") => Some(Place::Waiting),
            Some("scheduled") => Some(Place::Scheduled),
            Some("running") => Some(Place::Running),
            Some("finished") => Some(Place::Finished),
            Some("dead") => Some(Place::Dead),
            Some(other) => {
                let hint = "Use waiting, scheduled, running, finished or dead.";
                return Err(Failure::invalid(format!("There is no state {other:?}."), hint));
            }
        };
        let (limit, offset) = ask.page()?;
        let (queue, task) = (ask.param("queue").map(str::to_owned), ask.param("task").map(str::to_owned));
        let listing = self.look.list(&Wanted { place, queue, task, limit, offset }).await?;
        ok(&json!({"tasks": listing.rows, "more": listing.more}))
    }

    /// GET /tasks/{id}
    pub(super) async fn get(&self, ask: &Ask, id: &str) -> Answer {
        ask.only(&["wait"])?;
        if let Some(within) = ask.wait()? {
            let _place =
                self.waiting.clone().try_acquire_owned().map_err(|_| {
                    Failure::later("too_many_waiting", "Too many requests wait for tasks at this moment.")
                })?;
            tokio::select! {
                waited = self.look.client().wait(id, within.min(LONGEST)) => drop(waited?),
                () = self.ending.cancelled() => {}
            }
        }
        ok(&self.look.find(id).await?.ok_or_else(|| unknown(id))?)
    }

    /// POST /tasks/{id}/cancel
    pub(super) async fn cancel(&self, ask: &Ask, id: &str) -> Answer {
        ask.only(&[])?;
        let members = ask.object()?;
        order::known(&members, &["terminate", "signal"])?;
        let terminate = match members.get("terminate") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(terminate)) => *terminate,
            Some(_) => return Err(Failure::invalid("terminate is neither true nor false.", "")),
        };
        let signal = order::word(&members, "signal")?;
        if signal.as_deref().is_some_and(|signal| !is_signal(signal)) {
            return Err(Failure::invalid(
                "signal is no signal's name.",
                "As in \"SIGTERM\", \"SIGINT\" or \"SIGKILL\".",
            ));
        }
        let signal = terminate.then(|| signal.as_deref().unwrap_or("SIGTERM"));
        match self.look.cancel(id, signal).await? {
            Cancelled::Ended(found) => Err(Failure::conflict(
                "already_ended",
                format!("The task has ended: {}.", found.row.state),
                "There is nothing left to cancel.",
            )),
            Cancelled::Removed(row) => ok(&row),
            Cancelled::Running(row) => Ok(answer(StatusCode::ACCEPTED, &row)),
            Cancelled::Unseen => Ok(answer(StatusCode::ACCEPTED, &json!({"id": id, "state": "REVOKED"}))),
        }
    }

    /// POST /tasks/{id}/retry
    pub(super) async fn retry(&self, ask: &Ask, id: &str) -> Answer {
        ask.only(&[])?;
        match self.look.retry(id).await? {
            Retried::Again(row) => Ok(answer(StatusCode::ACCEPTED, &row)),
            Retried::Elsewhere(found) => Err(Failure::conflict(
                "not_dead",
                format!("The task is no dead letter: {}.", found.row.state),
                "Messages of tasks that have ended are not kept. Send it anew with POST /tasks/v1/tasks.",
            )),
            Retried::Unknown => Err(unknown(id)),
        }
    }
}

fn unknown(id: &str) -> Failure {
    Failure::not_found(
        "task_not_found",
        format!("Nothing is known of a task {id:?}."),
        "It was never sent, its result has expired or is not kept (ignore_result), or it is in a queue behind 10,000 others.",
    )
}

/// The header's key, without the quotes that the draft standard wants and few clients send.
fn idempotency(value: &HeaderValue) -> Result<String, Failure> {
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > 255 {
        return Err(Failure::invalid("Idempotency-Key is empty, longer than 255 bytes, or no ASCII.", "Use a UUID."));
    }
    Ok(text.to_owned())
}

fn is_signal(name: &str) -> bool {
    let known = ["TERM", "INT", "QUIT", "KILL", "HUP", "USR1", "USR2", "ABRT"];
    known.contains(&name.strip_prefix("SIG").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_loses_its_quotes_alone() {
        let key = |text: &'static str| idempotency(&HeaderValue::from_static(text)).ok();
        assert_eq!(key("\"a b\"").as_deref(), Some("a b"));
        assert_eq!(key(" a\"b ").as_deref(), Some("a\"b"));
        assert_eq!((key(""), key("\"\"")), (None, None));
    }

    #[test]
    fn signals_are_known_by_both_names() {
        assert!(is_signal("SIGTERM") && is_signal("KILL") && !is_signal("SIGSEGV") && !is_signal("9"));
    }
}
