//! What follows the end of a task that no Python process has run: its callbacks and the next step of its chain, its part
//! of a chord, and after a failure the rest of its chain and its errbacks.
//!
//! The order is the one that clients rely on: what follows is published, the result is stored, the part of the chord is
//! counted, and only then is the message acknowledged. A worker that dies in between does it again: parts of a chord
//! are counted once by the identifier of their task, messages may come twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::message::{Made, options};
use super::plan::{Plan, Planner};
use super::signature::{Error as Meaning, Kind, Signature, list};
use crate::tasks::broker::{Broker, Publish};
use crate::tasks::error::Error;
use crate::tasks::results::{Results, Write};
use crate::tasks::runner::{Exception, Stored};
use crate::tasks::wire::repr;
use crate::tasks::wire::{self, Body, Embed, Envelope, Headers, Task};

/// Parts are ordered by their place in the header, as Celery does it unless an application says otherwise.
const ORDERED: bool = true;
/// How long the body of a chord may take to be published, in seconds; Celery's time.
const PUBLISHING: u32 = 21;
/// Messages that are published in one step.
const BATCH: usize = 1_000;

/// Sends what follows tasks. Cheap to clone.
#[derive(Clone)]
pub struct Canvas(Arc<Inner>);

struct Inner {
    broker: Broker,
    results: Results,
    queue: String,
    node: Arc<str>,
    /// Results say what the task was called with and where it ran.
    extended: bool,
}

/// Why something could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The message's signatures make no sense: it is the task's failure.
    #[error(transparent)]
    Meaning(#[from] Meaning),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] Error),
}

/// A task's part of a chord.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub task: String,
    pub group: String,
    pub index: Option<i64>,
    pub body: Value,
    pub state: &'static str,
    /// The value; of a failure the object that results have.
    pub result: Value,
    /// Who has the part: parents of what follows.
    pub root: Option<String>,
}

impl Canvas {
    /// Sends to `queue` what names none, as this node.
    #[must_use]
    pub fn new(broker: Broker, results: Results, queue: &str, node: Arc<str>) -> Self {
        Self(Arc::new(Inner { broker, results, queue: queue.to_owned(), node, extended: false }))
    }

    /// The same, with more or less in results: Celery's `result_extended`.
    #[must_use]
    pub fn extended(&self, extended: bool) -> Self {
        let Inner { broker, results, queue, node, .. } = &*self.0;
        let (broker, results) = (broker.clone(), results.clone());
        Self(Arc::new(Inner { broker, results, queue: queue.clone(), node: node.clone(), extended }))
    }

    /// What is stored of a task.
    #[must_use]
    pub fn meta(&self, envelope: &Envelope, result: &wire::Result, children: &Value) -> Bytes {
        if !self.0.extended {
            return result.meta(envelope, children, None);
        }
        // Of content that cannot be read nobody knows what it was called with.
        let body = Body::parse(&envelope.body).unwrap_or_default();
        let extended = wire::Extended { args: &body.args, kwargs: &body.kwargs, worker: &self.0.node };
        result.meta(envelope, children, Some(&extended))
    }

    /// The same, to be stored by the worker.
    #[must_use]
    pub fn stored(&self, envelope: &Envelope, result: &wire::Result, children: &Value) -> Stored {
        Stored::Meta { value: self.meta(envelope, result, children), state: result.state() }
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> &Results {
        &self.0.results
    }

    /// After a success: publishes the callbacks and the next step of the chain, and gives the result's children.
    ///
    /// # Errors
    /// Signatures that make no sense, or Redis.
    pub async fn follow(&self, headers: &Headers, embed: &Embed, value: &Value) -> Result<Value, Unsent> {
        let callbacks = list(Some(&embed.callbacks));
        let chain = list(Some(&embed.chain));
        if callbacks.is_empty() && chain.is_empty() {
            return Ok(json!([]));
        }
        let root = headers.root_id.as_deref().unwrap_or(&headers.id);
        let mut planner = Planner::new(Some(root), Some(&headers.id));
        let given = || options([("root_id", json!(root)), ("parent_id", json!(headers.id))]);
        let args = std::slice::from_ref(value);
        let mut signatures = Vec::with_capacity(callbacks.len());
        for callback in callbacks {
            signatures.push(Signature::read(callback, "a callback")?);
        }
        if signatures.len() > 1 {
            // Groups one by one, and the others as one.
            let (groups, others): (Vec<_>, Vec<_>) = signatures.into_iter().partition(Signature::is_group);
            for group in groups {
                planner.call(group, args, given())?;
            }
            if !others.is_empty() {
                planner.call(Signature::group(others, options([])), args, given())?;
            }
        } else {
            for callback in signatures {
                planner.call(callback, args, given())?;
            }
        }
        if let Some((next, rest)) = chain.split_last() {
            let mut given = given();
            given.insert("chain".into(), Value::Array(rest.to_vec()));
            planner.call(Signature::read(next, "the next step of the chain")?, args, given)?;
        }
        let mut plan = planner.finish();
        let children = Value::Array(std::mem::take(&mut plan.children));
        self.send(plan).await?;
        Ok(children)
    }

    /// Sends a signature from within a task, and gives the results of what was sent.
    ///
    /// # Errors
    /// It makes no sense, or Redis.
    pub async fn call(&self, headers: &Headers, signature: &Value) -> Result<Vec<Value>, Unsent> {
        let root = headers.root_id.as_deref().unwrap_or(&headers.id);
        let mut planner = Planner::new(Some(root), Some(&headers.id));
        let given = options([("root_id", json!(root)), ("parent_id", json!(headers.id))]);
        planner.call(Signature::read(signature, "what is to be sent")?, &[], given)?;
        let mut plan = planner.finish();
        let children = std::mem::take(&mut plan.children);
        self.send(plan).await?;
        Ok(children)
    }

    /// Publishes the next try of a task, after this pause: the same message with the same identifier, one try more.
    ///
    /// # Errors
    /// Content that cannot be read, or Redis.
    pub async fn again(&self, envelope: &Envelope, queue: &str, pause: Duration) -> Result<(), Error> {
        let body = Body::parse(&envelope.body).map_err(Error::Task)?;
        let headers = &envelope.headers;
        let message = Task {
            task: &headers.task,
            id: &headers.id,
            args: &body.args,
            kwargs: body.kwargs,
            embed: body.embed,
            shadow: headers.shadow.as_deref(),
            eta: Some(wire::now() + pause.as_secs_f64()),
            expires: headers.expires,
            group: headers.group.as_deref(),
            group_index: headers.group_index,
            retries: headers.retries + 1,
            limits: (headers.time_limit, headers.soft_time_limit),
            root_id: headers.root_id.as_deref(),
            parent_id: headers.parent_id.as_deref().or(Some(&headers.id)),
            origin: headers.origin.as_deref().unwrap_or(&self.0.node),
            ignore_result: headers.ignore_result,
            replaced_task_nesting: headers.replaced_task_nesting,
            stamps: headers.stamps.iter().cloned().collect(),
            headers: kept(&envelope.raw),
            reply_to: envelope.reply_to.as_deref(),
            exchange: "",
            routing_key: queue,
            priority: envelope.priority,
            reprs: headers.argsrepr.as_deref().zip(headers.kwargsrepr.as_deref()),
        };
        self.0
            .broker
            .publish(&[Publish { queue, priority: envelope.priority, raw: message.message(), queue_expires: None }])
            .await
    }

    /// Counts a task's part of the chord that it is in, if it is in one. After its result has been stored.
    ///
    /// # Errors
    /// Redis.
    pub async fn count(&self, headers: &Headers, embed: &Embed, outcome: &wire::Result) -> Result<(), Error> {
        match part(headers, embed, outcome) {
            Some(part) => self.parts(vec![part]).await,
            None => Ok(()),
        }
    }

    /// After a failure whose result has been stored: the chord, the rest of the chain, and the errbacks.
    ///
    /// # Errors
    /// Redis.
    pub async fn fail(&self, headers: &Headers, embed: &Embed, exception: &Exception) -> Result<(), Error> {
        let outcome = wire::Result::Failure(exception.clone());
        let mut parts: Vec<Part> = part(headers, embed, &outcome).into_iter().collect();
        parts.extend(self.fail_chain(&embed.chain, exception).await?);
        self.errbacks(&headers.id, headers.root_id.as_deref(), list(Some(&embed.errbacks))).await?;
        self.parts(parts).await
    }

    /// Fails the steps of a chain that will not run: clients may wait for any of them. Gives their parts of chords.
    async fn fail_chain(&self, chain: &Value, exception: &Exception) -> Result<Vec<Part>, Error> {
        let outcome = wire::Result::Failure(exception.clone());
        let (mut parts, mut stored) = (Vec::new(), Vec::new());
        let mut steps: VecDeque<&Value> = list(Some(chain)).iter().collect();
        while let Some(step) = steps.pop_front() {
            let option = |name: &str| step.get("options").and_then(|options| options.get(name));
            let text = |name: &str| option(name).and_then(Value::as_str).map(str::to_owned);
            if step.get("subtask_type").and_then(Value::as_str) == Some("chord") {
                // It ends with its body.
                steps.extend(step.get("kwargs").and_then(|kwargs| kwargs.get("body")).filter(|body| body.is_object()));
            }
            let Some(id) = text("task_id") else { continue };
            let headers = Headers {
                task: step.get("task").and_then(Value::as_str).unwrap_or_default().to_owned(),
                group: text("group_id"),
                group_index: option("group_index").and_then(Value::as_i64),
                parent_id: text("parent_id"),
                root_id: text("root_id"),
                id,
                ..Headers::default()
            };
            let embed = Embed { chord: option("chord").cloned().unwrap_or_default(), ..Embed::default() };
            if !embed.chord.is_null() {
                let known = self.0.results.get(&headers.id).await?;
                // One that failed already has returned its part.
                if known.is_some_and(|meta| matches!(meta.status.as_str(), "FAILURE" | "REVOKED")) {
                    continue;
                }
                parts.extend(part(&headers, &embed, &outcome));
            }
            let envelope = blank(headers);
            let value = outcome.meta(&envelope, &json!([]), None);
            stored.push(Write { id: envelope.headers.id, value });
        }
        if !stored.is_empty() {
            self.0.results.store(&stored).await?;
        }
        Ok(parts)
    }

    /// Sends the errbacks as tasks with the failed task's identifier: which of them take more is known to Python only.
    async fn errbacks(&self, id: &str, root: Option<&str>, errbacks: &[Value]) -> Result<(), Error> {
        let root = root.unwrap_or(id);
        let mut planner = Planner::new(Some(root), Some(id));
        let mut signatures = Vec::with_capacity(errbacks.len());
        for errback in errbacks {
            match Signature::read(errback, "an errback") {
                Ok(signature) => signatures.push(signature),
                Err(error) => tracing::warn!(id, %error, "an errback cannot be sent"),
            }
        }
        if signatures.is_empty() {
            return Ok(());
        }
        let given = options([("root_id", json!(root)), ("parent_id", json!(id))]);
        match planner.call(Signature::group(signatures, options([])), &[json!(id)], given) {
            Ok(()) => self.send(planner.finish()).await,
            Err(error) => {
                tracing::warn!(id, %error, "errbacks cannot be sent");
                Ok(())
            }
        }
    }

    /// Counts parts of chords. Whoever counts the last part of one sends its body, or fails it; a body that fails may
    /// be a part itself.
    async fn parts(&self, parts: Vec<Part>) -> Result<(), Error> {
        let mut parts = VecDeque::from(parts);
        while let Some(part) = parts.pop_front() {
            let (results, group) = (&self.0.results, part.group.as_str());
            let result = wire::json(&part.result);
            let counted = results.chord_part(group, &part.task, part.index, part.state, &result, ORDERED).await?;
            let Some(claim) = counted.claim else { continue };
            let body = match Signature::read(&part.body, "the body of the chord") {
                Ok(body) => body,
                Err(error) => {
                    tracing::warn!(group = part.group, %error, "a chord's body cannot be sent");
                    results.fail_chord(group).await?;
                    continue;
                }
            };
            match self.joined(group).await? {
                Ok(values) => {
                    if !results.extend_chord(group, &claim, PUBLISHING).await? {
                        tracing::warn!(group = part.group, "another worker has taken over the chord");
                        continue;
                    }
                    let mut planner = Planner::new(part.root.as_deref(), Some(&part.task));
                    match planner.call(body.clone(), &[Value::Array(values)], options([])) {
                        Ok(()) => {
                            self.send(planner.finish()).await?;
                            results.finish_chord(group, &claim).await?;
                        }
                        Err(error) => {
                            let why = format!("Callback error: {error}");
                            parts.extend(self.fail_body(body, &chord_error(why)).await?);
                            results.finish_chord(group, &claim).await?;
                        }
                    }
                }
                Err(why) => {
                    tracing::warn!(group = part.group, error = why, "a chord has failed");
                    parts.extend(self.fail_body(body, &chord_error(why)).await?);
                    // A copy of a header's task that comes later must not fail it again.
                    results.fail_chord(group).await?;
                }
            }
        }
        Ok(())
    }

    /// The results of a chord's header, or why there are none.
    async fn joined(&self, group: &str) -> Result<Result<Vec<Value>, String>, Error> {
        if let Some(saved) = self.0.results.saved_group(group).await? {
            // Nested groups: the structure was kept, the values are with the tasks' results.
            return self.structure(&saved).await;
        }
        let mut values = Vec::new();
        for part in self.0.results.chord_parts(group, ORDERED).await? {
            let Some([_, task, state, result]) = serde_json::from_slice::<Value>(&part)
                .ok()
                .and_then(|part| <[Value; 4]>::try_from(part.as_array()?.clone()).ok())
            else {
                return Ok(Err("Join error: a part that is no JSON".into()));
            };
            if matches!(state.as_str(), Some("FAILURE" | "REVOKED")) {
                let task = task.as_str().unwrap_or_default();
                return Ok(Err(format!("Dependency {task} raised {}", raised(&result))));
            }
            values.push(result);
        }
        Ok(Ok(values))
    }

    /// The values of a group's results, nested as its result tuple is.
    async fn structure(&self, saved: &Value) -> Result<Result<Vec<Value>, String>, Error> {
        let mut values = Vec::new();
        for child in list(saved.get(1)) {
            if child.get(1).is_some_and(Value::is_array) {
                match Box::pin(self.structure(child)).await? {
                    Ok(inner) => values.push(Value::Array(inner)),
                    Err(why) => return Ok(Err(why)),
                }
                continue;
            }
            let id = child.get(0).and_then(|result| result.get(0).unwrap_or(result).as_str()).unwrap_or_default();
            // Its part is counted after its result is stored: it is there, unless it has expired.
            let Some(meta) = self.0.results.get(id).await? else {
                return Ok(Err(format!("Join error: the result of {id} is gone")));
            };
            if matches!(meta.status.as_str(), "FAILURE" | "REVOKED") {
                return Ok(Err(format!("Join error: {}", raised(&meta.result))));
            }
            values.push(meta.result);
        }
        Ok(Ok(values))
    }

    /// Fails a chord's body, which will not run. Gives the parts of chords that it is in.
    async fn fail_body(&self, body: Signature, exception: &Exception) -> Result<Vec<Part>, Error> {
        let outcome = wire::Result::Failure(exception.clone());
        let rest = body.options.get("chain").cloned().unwrap_or_default();
        let mut stored = Vec::new();
        let mut parts = Vec::new();
        let own = list(body.options.get("link_error")).to_vec();
        let members = match body.kind {
            Kind::Group(members) => members,
            // Its result is that of its last step.
            Kind::Chain(mut steps) => steps.pop().into_iter().collect(),
            _ => vec![body],
        };
        for mut member in members {
            let mut errbacks = own.clone();
            let mut link = |options: &serde_json::Map<String, Value>| {
                for errback in list(options.get("link_error")) {
                    if !errbacks.contains(errback) {
                        errbacks.push(errback.clone());
                    }
                }
            };
            link(&member.options);
            // A chord's result is that of its body.
            while let Kind::Chord { body: Some(inner), .. } = member.kind {
                member = *inner;
                link(&member.options);
            }
            let options_of = &member.options;
            let text = |name: &str| options_of.get(name).and_then(Value::as_str).map(str::to_owned);
            let Some(id) = text("task_id") else { continue };
            let headers = Headers {
                task: member.task.clone(),
                id,
                group: text("group_id"),
                group_index: options_of.get("group_index").and_then(Value::as_i64),
                root_id: text("root_id"),
                parent_id: text("parent_id"),
                ..Headers::default()
            };
            let embed = Embed { chord: options_of.get("chord").cloned().unwrap_or_default(), ..Embed::default() };
            self.errbacks(&headers.id, headers.root_id.as_deref(), &errbacks).await?;
            parts.extend(part(&headers, &embed, &outcome));
            let envelope = blank(headers);
            let value = outcome.meta(&envelope, &json!([]), None);
            stored.push(Write { id: envelope.headers.id, value });
        }
        if !stored.is_empty() {
            self.0.results.store(&stored).await?;
        }
        parts.extend(self.fail_chain(&rest, exception).await?);
        Ok(parts)
    }

    /// Carries a plan out.
    ///
    /// # Errors
    /// Redis. Some of it may have been done.
    pub async fn send(&self, plan: Plan) -> Result<(), Error> {
        for (group, result) in &plan.saved {
            self.0.results.save_group(group, result).await?;
        }
        for (group, size) in &plan.chords {
            self.0.results.chord_size(group, *size as u64).await?;
        }
        let made: Vec<Made> = plan.messages.iter().map(|message| message.make(&self.0.queue, &self.0.node)).collect();
        for made in made.chunks(BATCH) {
            let messages: Vec<Publish<'_>> = made.iter().map(Made::publish).collect();
            self.0.broker.publish(&messages).await?;
        }
        Ok(())
    }
}

/// A task's part, if it is in a chord.
fn part(headers: &Headers, embed: &Embed, outcome: &wire::Result) -> Option<Part> {
    let group = headers.group.clone().filter(|_| !embed.chord.is_null())?;
    let result = match outcome {
        wire::Result::Success(value) => value.clone(),
        wire::Result::Failure(exception) => serde_json::from_str(&wire::raised(exception)).unwrap_or_default(),
        wire::Result::Revoked(reason) => {
            json!({"exc_type": "TaskRevokedError", "exc_message": [reason], "exc_module": "celery.exceptions"})
        }
        _ => return None,
    };
    Some(Part {
        task: headers.id.clone(),
        group,
        index: headers.group_index,
        body: embed.chord.clone(),
        state: outcome.state(),
        result,
        root: headers.root_id.clone().or_else(|| Some(headers.id.clone())),
    })
}

/// The headers of a message that are not of Celery's: ours, and those that its sender has added.
fn kept(raw: &[u8]) -> serde_json::Map<String, Value> {
    match serde_json::from_slice::<Value>(raw).ok().and_then(|mut message| message.get_mut("headers").map(Value::take))
    {
        Some(Value::Object(headers)) => headers,
        // Python's numbers that are none: what matters to us is found all the same.
        _ => wire::header_of(raw, wire::UNIQUE).map(|key| (wire::UNIQUE.to_owned(), key.into())).into_iter().collect(),
    }
}

/// A stored exception as Python shows it.
fn raised(result: &Value) -> String {
    let class = result.get("exc_type").and_then(Value::as_str).unwrap_or("Exception");
    repr::call(class, list(result.get("exc_message")))
}

fn chord_error(why: String) -> Exception {
    Exception::of("celery.exceptions", "ChordError", why)
}

/// A message that there is none of, for the result of a task that did not get so far.
pub fn blank(headers: Headers) -> Envelope {
    Envelope {
        raw: bytes::Bytes::new(),
        headers,
        content_type: String::new(),
        content_encoding: String::new(),
        correlation_id: None,
        reply_to: None,
        delivery_tag: String::new(),
        exchange: String::new(),
        routing_key: String::new(),
        priority: 0,
        redelivered: false,
        body: bytes::Bytes::new(),
    }
}
