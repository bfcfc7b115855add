//! The end of a task: what is stored, what becomes of its message, and who is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::held::Held;
use super::{Worker, lock};
use crate::error::chain;
use crate::tasks::broker::{Claimed, Fate, Settled};
use crate::tasks::event::Happening;
use crate::tasks::results::Write;
use crate::tasks::runner::{Exception, Finished, Outcome, Recorded, Stored};
use crate::tasks::wire::{self, Envelope};

/// Of an exception so many bytes are kept in the list of tasks that ended last.
const SHORT: usize = 200;

/// What is told of an end.
struct Told {
    happening: Option<Happening>,
    outcome: &'static str,
    exception: Option<Exception>,
    runtime: Option<Duration>,
}

impl Told {
    /// The line in the list of tasks that ended last; none if it has not ended.
    fn line(&self, node: &str, envelope: &Envelope, queue: &str) -> Option<String> {
        let state = match self.happening.as_ref()? {
            Happening::Succeeded { .. } => "SUCCESS",
            Happening::Failed { .. } => "FAILURE",
            Happening::Revoked { .. } => "REVOKED",
            Happening::Rejected { requeue: false } => "REJECTED",
            _ => return None,
        };
        let headers = &envelope.headers;
        let mut line = Map::from_iter([
            ("id".to_owned(), json!(headers.id)),
            ("task".to_owned(), json!(headers.task)),
            ("queue".to_owned(), json!(queue)),
            ("state".to_owned(), json!(state)),
            ("at".to_owned(), json!((wire::now() * 1e3).round() / 1e3)),
            ("node".to_owned(), json!(node)),
        ]);
        if let Some(runtime) = self.runtime {
            line.insert("runtime".to_owned(), json!((runtime.as_secs_f64() * 1e6).round() / 1e6));
        }
        if let Some(exception) = &self.exception {
            line.insert("exception".to_owned(), json!(short(&exception.repr)));
        }
        Some(Value::Object(line).to_string())
    }
}

/// The beginning of an exception.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT.min(text.len()))]
}

impl Worker {
    /// A runner is done with a task.
    pub(super) async fn finish(&self, held: Arc<Held>, finished: Finished) {
        let Finished { outcome, stored, runtime } = finished;
        held.stored().await;
        let spec = &held.spec;
        let back = held.back.load(Ordering::Acquire);
        let unstored = stored == Stored::Nothing;
        let began = held.begun().is_some();
        let runtime = began.then_some(runtime);
        let told = |happening, outcome, exception| Told { happening: Some(happening), outcome, exception, runtime };
        let failed = |exception: Exception| {
            let happening = Happening::Failed { exception: exception.clone(), runtime };
            told(happening, "failed", Some(exception))
        };
        let (fate, told) = match outcome {
            // The worker stops, and it was ended for that: it begins anew elsewhere.
            Outcome::Terminated(_) | Outcome::NotBegun | Outcome::Lost(_) if back => {
                (again(&held, true, None), Told { happening: None, outcome: "given back", exception: None, runtime })
            }
            Outcome::NotBegun | Outcome::Terminated(_) if held.revoked.load(Ordering::Acquire) && !began => {
                self.record(&held.envelope, Recorded::Revoked("revoked")).await;
                let happening = Happening::Revoked { terminated: false, signal: None, expired: false };
                (Fate::Ack, told(happening, "revoked", None))
            }
            Outcome::NotBegun => {
                (again(&held, true, None), Told { happening: None, outcome: "not begun", exception: None, runtime })
            }
            Outcome::Succeeded(result) => {
                let happening = Happening::Succeeded { result, runtime: runtime.unwrap_or_default() };
                (Fate::Ack, told(happening, "succeeded", None))
            }
            Outcome::Failed(exception) => (Fate::Ack, failed(exception)),
            Outcome::TimedOut(exception) => {
                let fate = if spec.acks_late && !spec.acks_on_timeout {
                    again(&held, false, Some(held.id()))
                } else {
                    Fate::Ack
                };
                if unstored {
                    self.record(&held.envelope, Recorded::Failed(exception.clone())).await;
                }
                (fate, Told { outcome: "timed out", ..failed(exception) })
            }
            Outcome::Lost(exception) if spec.acks_late && spec.reject_on_worker_lost => {
                // Counted: what takes every process down becomes a dead letter.
                let fate = again(&held, true, Some(held.id()));
                let happening = Happening::Rejected { requeue: true };
                (fate, told(happening, "lost", Some(exception)))
            }
            Outcome::Lost(exception) => {
                if unstored {
                    self.record(&held.envelope, Recorded::Failed(exception.clone())).await;
                }
                (Fate::Ack, Told { outcome: "lost", ..failed(exception) })
            }
            Outcome::Retried(exception) => {
                (Fate::Followed, told(Happening::Retried(exception.clone()), "retried", Some(exception)))
            }
            Outcome::Terminated(signal) => {
                if unstored {
                    self.record(&held.envelope, Recorded::Revoked("terminated")).await;
                }
                let happening = Happening::Revoked { terminated: true, signal: Some(signal), expired: false };
                (Fate::Ack, told(happening, "terminated", None))
            }
            Outcome::Ignored => (Fate::Ack, Told { happening: None, outcome: "ignored", exception: None, runtime }),
            Outcome::Replaced => {
                (Fate::Replaced, Told { happening: None, outcome: "replaced", exception: None, runtime })
            }
            Outcome::Rejected { requeue } => {
                let fate = if requeue { again(&held, false, None) } else { Fate::Ack };
                (fate, told(Happening::Rejected { requeue }, "rejected", None))
            }
        };
        let write = match stored {
            Stored::Meta { value, .. } => Some(Write { id: held.id().to_owned(), value }),
            Stored::Nothing => None,
        };
        if let Some((shared, key)) = &held.shared
            && let Err(error) = shared.leave(&self.0.options.broker, key, held.claim.as_str()).await
        {
            // It falls free by itself.
            tracing::debug!(key, error = %chain(&error), "a place of a limit was not given back");
        }
        let line = told.line(&self.0.options.node, &held.envelope, &held.queue);
        let settled = Settled { claim: held.claim.clone(), stored: write, fate, line };
        let worker = self.clone();
        self.0.settler.end(settled, move |ours| worker.ended(&held, told, ours));
    }

    /// Redis has it.
    fn ended(&self, held: &Arc<Held>, told: Told, ours: bool) {
        let figures = &self.0.options.figures;
        figures.active(self.0.held.remove(&held.claim));
        figures.ended(&held.spec.name, told.outcome, told.runtime);
        let (task, id, queue, attempt) = (&held.spec.name, held.id(), &held.queue, held.attempt);
        let outcome = told.outcome;
        let seconds = told.runtime.unwrap_or_default().as_secs_f64();
        if let Some(exception) = &told.exception {
            let exception = exception.repr.as_str();
            tracing::warn!(%task, id, %queue, outcome, seconds, attempt, exception, "task");
        } else {
            tracing::info!(%task, id, %queue, outcome, seconds, attempt, "task");
        }
        if !ours {
            tracing::warn!(%task, id, "another worker has taken this task over: it may run twice");
        }
        if let Some(happening) = told.happening {
            self.tell(&held.envelope, &held.queue, Some(&held.spec), happening);
        }
        self.let_in(&held.spec.name);
    }

    /// A place of a task's own limit is free: who waits longest goes on.
    fn let_in(&self, task: &Arc<str>) {
        let next = {
            let mut waiting = lock(&self.0.waiting);
            let Some(all) = waiting.get_mut(task) else { return };
            let next = (!all.is_empty()).then(|| all.remove(0));
            if all.is_empty() {
                waiting.remove(task);
            }
            next
        };
        if let Some(id) = next {
            let broker = self.0.options.broker.clone();
            tokio::spawn(async move {
                if let Err(error) = broker.unpark(&[id]).await {
                    tracing::debug!(error = %chain(&error), "a task that waits for a place waits on");
                }
            });
        }
    }

    /// Makes an end known that no body has come to.
    pub(super) async fn record(&self, envelope: &Arc<Envelope>, recorded: Recorded) {
        if let Some((runner, spec)) = self.runner_of(&envelope.headers.task) {
            if self.0.options.runners[runner].record(envelope.clone(), recorded.clone()).await {
                return;
            }
            self.0.options.canvas.record(envelope, Some(&spec), recorded).await;
        } else {
            self.0.options.canvas.record(envelope, None, recorded).await;
        }
    }

    /// A message whose task does not run.
    pub(super) async fn end_without_run(
        &self,
        claimed: Claimed,
        envelope: Arc<Envelope>,
        recorded: Recorded,
        fate: Fate,
    ) {
        self.record(&envelope, recorded.clone()).await;
        let spec = self.runner_of(&envelope.headers.task).map(|(_, spec)| spec);
        let dead = match &fate {
            Fate::Dead { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        let worker = self.clone();
        let told = match recorded {
            Recorded::Revoked(reason) => {
                let happening =
                    Some(Happening::Revoked { terminated: false, signal: None, expired: reason == "expired" });
                Told { happening, outcome: reason, exception: None, runtime: None }
            }
            Recorded::Failed(exception) => {
                let outcome = if dead.is_some() { "dead" } else { "refused" };
                let happening = Some(Happening::Failed { exception: exception.clone(), runtime: None });
                Told { happening, outcome, exception: Some(exception), runtime: None }
            }
        };
        let line = told.line(&self.0.options.node, &envelope, &claimed.queue);
        let settled = Settled { claim: claimed.claim.clone(), stored: None, fate, line };
        self.0.settler.end(settled, move |_| {
            let headers = &envelope.headers;
            let (task, id, queue, outcome) = (&headers.task, &headers.id, &claimed.queue, told.outcome);
            if let Some(exception) = &told.exception {
                tracing::warn!(task, id, %queue, outcome, exception = exception.repr, "task");
            } else {
                tracing::info!(task, id, %queue, outcome, "task");
            }
            let name: Arc<str> = task.as_str().into();
            worker.0.options.figures.ended(&name, outcome, None);
            if let Some(happening) = told.happening {
                worker.tell(&envelope, queue, spec.as_deref(), happening);
            }
            if let Some(reason) = dead {
                worker.tell(&envelope, queue, spec.as_deref(), Happening::Dead(reason));
            }
        });
    }
}

/// To its queue again.
fn again(held: &Held, head: bool, lost: Option<&str>) -> Fate {
    Fate::Requeue {
        raw: held.envelope.raw.clone(),
        queue: held.queue.clone(),
        priority: held.envelope.priority,
        head,
        redelivered: held.begun().is_some(),
        lost: lost.map(str::to_owned),
    }
}
