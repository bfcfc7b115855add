//! What each command does and answers, in the words of Celery 5.7: `celery inspect`, Flower and programs read them.
//!
//! An answer is a value, or the text that Python's `repr` would give an exception. What a command needs of the broker is
//! an [`Effect`], for the caller to bring about.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::info::{Binding, Tasks};
use super::{Panel, host, registered, signature, stats};
use crate::tasks::events::Events;
use crate::tasks::wire::repr;
use crate::tasks::{Desk, Held};

/// The most tasks that wait for their time which one answer lists.
const SCHEDULED: usize = 10_000;
/// What was sent right before the question is on its way to where it waits; clients wait a second for answers.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
/// The most places that a pool may be given from outside.
const PLACES: i64 = 1_000;
/// The most identifiers taken from one request.
const IDENTIFIERS: usize = 50_000;
/// Samples of memory that are kept.
const SAMPLES: usize = 100;

/// What a command answers: a value, or an exception as Python shows it.
pub(super) type Answer = Result<Value, String>;

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Done {
    /// The answer; `None` if there is to be none.
    pub(super) answer: Option<Answer>,
    /// What the broker is to be told.
    pub(super) effect: Option<Effect>,
}

/// What the broker is to be told.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Tasks that others know to be revoked.
    Revoked(Vec<String>),
    /// A queue is bound so.
    Bind(Binding),
}

/// A worker, as remote control sees it.
pub(super) struct Commands {
    pub(super) desk: Arc<dyn Desk>,
    pub(super) panel: Option<Arc<dyn Panel>>,
    pub(super) events: Events,
    /// What `stats` says of the broker.
    pub(super) broker: Value,
    /// What `conf` says if no application does.
    pub(super) conf: Value,
    /// How queues are bound, where it is not by their own name.
    pub(super) bindings: Mutex<HashMap<String, Binding>>,
    /// Rate limits that were set here, in the words that they were set in.
    pub(super) rates: Mutex<BTreeMap<String, Value>>,
    pub(super) samples: Mutex<Vec<String>>,
}

impl Commands {
    /// Does what is asked.
    pub(super) async fn run(&self, method: &str, arguments: &Map<String, Value>) -> Done {
        let Some(command) = signature::find(method) else {
            return Done { answer: Some(self.foreign(method, arguments).await), effect: None };
        };
        if let Err(fault) = command.check(arguments) {
            return Done { answer: Some(Err(fault)), effect: None };
        }
        let mut effect = None;
        let answer = match command.name {
            "active" => Ok(self.list(&self.desk.active(), truthy(arguments.get("safe")))),
            "active_queues" => Ok(self.queues()),
            "add_consumer" => self.add_queue(arguments).map(|(answer, binding)| {
                effect = binding.map(Effect::Bind);
                answer
            }),
            "autoscale" => Err(repr::exception("ValueError", "Autoscale not enabled")),
            "cancel_consumer" => text(arguments, "queue").map(|queue| {
                self.desk.remove_queue(queue);
                ok(format!("no longer consuming from {queue}"))
            }),
            "clock" => Ok(json!({"clock": self.events.clock().value()})),
            "conf" => match self.ask("conf", arguments).await {
                Some(answer) => answer,
                None => Ok(self.conf.clone()),
            },
            "disable_events" => {
                Ok(ok(if self.events.enable(false) { "task events disabled" } else { "task events already disabled" }))
            }
            // An election lets one worker send a task. Nothing of Celery holds one, and a stock worker that is alone
            // with one breaks: who wants it gets no winner here.
            "election" => Ok(Value::Null),
            "enable_events" => {
                Ok(ok(if self.events.enable(true) { "task events enabled" } else { "task events already enabled" }))
            }
            "heartbeat" => {
                self.events.beat();
                Ok(Value::Null)
            }
            "hello" => {
                let (answer, known) = self.hello(arguments).await;
                effect = (!known.is_empty()).then_some(Effect::Revoked(known));
                Ok(answer)
            }
            "memdump" => Ok(self.memory(arguments)),
            "memsample" => Ok(self.sample()),
            "objgraph" => match self.ask("objgraph", arguments).await {
                Some(answer) => answer,
                None => Err(repr::exception("ImportError", "Requires the objgraph library")),
            },
            "ping" => Ok(ok("pong")),
            "pool_grow" => self.resize(arguments, 1),
            "pool_restart" => Err(repr::exception("ValueError", "Pool restarts not enabled")),
            "pool_shrink" => self.resize(arguments, -1),
            "query_task" => Ok(self.query(&arguments["ids"]).await),
            "rate_limit" => self.rate(arguments),
            "registered" => self.registered(arguments).await,
            "report" => Ok(ok(self.report().await)),
            "reserved" => Ok(self.list(&self.desk.reserved(), false)),
            "revoke" => self.revoke(arguments, truthy(arguments.get("terminate"))).await,
            "terminate" => self.revoke(arguments, true).await,
            "revoke_by_stamped_headers" => self.revoke_stamped(arguments).await,
            "revoked" => Ok(self.desk.revoked().await.into()),
            "scheduled" => {
                let node = self.desk.node();
                let mut tasks = Tasks::new(&node, false);
                tokio::time::sleep(ON_ITS_WAY).await;
                Ok(self.desk.scheduled(SCHEDULED).await.iter().map(|held| tasks.scheduled(held)).collect())
            }
            "shutdown" => {
                let why = arguments.get("msg").and_then(Value::as_str).unwrap_or("Got shutdown from remote");
                tracing::warn!(why, "a stop of the worker was asked for by remote control");
                self.desk.shut_down();
                return Done { answer: None, effect: None };
            }
            "stats" => Ok(stats::all(&*self.desk, self.events.clock().value(), &self.broker)),
            "time_limit" => self.time_limit(arguments),
            // The table of signatures and this one are the same; a test calls each.
            other => Err(repr::exception("KeyError", other)),
        };
        Done { answer: Some(answer), effect }
    }

    /// A command of the application's own.
    async fn foreign(&self, method: &str, arguments: &Map<String, Value>) -> Answer {
        match self.ask(method, arguments).await {
            Some(answer) => answer,
            None => Err(repr::exception("KeyError", method)),
        }
    }

    async fn ask(&self, method: &str, arguments: &Map<String, Value>) -> Option<Answer> {
        match &self.panel {
            Some(panel) => panel.call(method, &Value::Object(arguments.clone())).await,
            None => None,
        }
    }

    fn list(&self, held: &[Held], safe: bool) -> Value {
        let node = self.desk.node();
        let mut tasks = Tasks::new(&node, safe);
        held.iter().map(|one| tasks.of(one)).collect()
    }

    fn queues(&self) -> Value {
        let bindings = lock(&self.bindings);
        let shown = |queue: &Arc<str>| match bindings.get(&**queue) {
            Some(binding) => binding.shown(),
            None => Binding::direct(queue).shown(),
        };
        self.desk.queues().iter().map(shown).collect()
    }

    fn add_queue(&self, arguments: &Map<String, Value>) -> Result<(Value, Option<Binding>), String> {
        let queue = text(arguments, "queue")?;
        let given = |name| arguments.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let mut binding = None;
        if given("exchange").is_some() || given("routing_key").is_some() {
            let whole = Binding {
                queue: queue.to_owned(),
                exchange: given("exchange").unwrap_or(queue).to_owned(),
                kind: given("exchange_type").unwrap_or("direct").to_owned(),
                routing_key: given("routing_key").unwrap_or(queue).to_owned(),
            };
            lock(&self.bindings).insert(queue.to_owned(), whole.clone());
            binding = Some(whole);
        }
        self.desk.add_queue(queue);
        Ok((ok(format!("add consumer {queue}")), binding))
    }

    async fn hello(&self, arguments: &Map<String, Value>) -> (Value, Vec<String>) {
        let from = arguments["from_node"].as_str().unwrap_or_default();
        if from == &*self.desk.node() {
            return (Value::Null, Vec::new());
        }
        tracing::debug!(node = from, "another worker has asked for what is revoked");
        let known = identifiers(arguments.get("revoked"));
        (json!({"revoked": self.desk.revoked().await, "clock": self.events.clock().forward()}), known)
    }

    fn sample(&self) -> Value {
        let Some(bytes) = host::resident() else { return Value::Null };
        let sample = host::size(bytes);
        let mut samples = lock(&self.samples);
        if samples.len() == SAMPLES {
            samples.remove(0);
        }
        samples.push(sample.clone());
        sample.into()
    }

    fn memory(&self, arguments: &Map<String, Value>) -> Value {
        let most = arguments.get("samples").and_then(Value::as_u64).unwrap_or(10).max(1) as usize;
        let samples = std::mem::take(&mut *lock(&self.samples));
        let each = if samples.len() <= most { 1 } else { samples.len() / most };
        let mut out = String::new();
        if !samples.is_empty() {
            out.push_str("- rss (sample):\n");
        }
        for sample in samples.iter().step_by(each).take(most) {
            let _ = writeln!(out, "-    > {sample},");
        }
        let end = host::resident().map(host::size).unwrap_or_default();
        (out + &format!("- rss (end): {end}.\n")).into()
    }

    fn resize(&self, arguments: &Map<String, Value>, sign: i64) -> Answer {
        let by = match arguments.get("n") {
            None => 1,
            Some(Value::Bool(one)) => i64::from(*one),
            Some(value) => value.as_i64().ok_or_else(|| {
                let fault = format!("'{}' object cannot be interpreted as an integer", kind(value));
                repr::exception("TypeError", &fault)
            })?,
        };
        let by = by.max(0);
        let places = self.desk.pool().places as i64;
        if sign < 0 && by >= places {
            return Err(repr::exception("ValueError", "Can't shrink pool. All processes busy!"));
        }
        if sign > 0 && places.saturating_add(by) > PLACES {
            return Err(repr::exception("ValueError", &format!("a pool has {PLACES} places at most")));
        }
        self.desk.resize((by * sign) as isize);
        Ok(ok(if sign > 0 { "pool will grow" } else { "pool will shrink" }))
    }

    async fn query(&self, ids: &Value) -> Value {
        let wanted: HashSet<&str> = listed(ids).iter().filter_map(|id| id.as_str()).collect();
        let node = self.desk.node();
        let mut tasks = Tasks::new(&node, false);
        let mut found = Map::new();
        let mut take = |held: Vec<Held>, state: &str| {
            for one in held {
                let id = &one.envelope.headers.id;
                if wanted.contains(&**id) && !found.contains_key(id) {
                    found.insert(id.clone(), json!([state, tasks.of(&one)]));
                }
            }
        };
        take(self.desk.active(), "active");
        take(self.desk.reserved(), "reserved");
        take(self.desk.scheduled(SCHEDULED).await, "scheduled");
        found.into()
    }

    fn rate(&self, arguments: &Map<String, Value>) -> Answer {
        let given = &arguments["rate_limit"];
        let rate = registered::rate(given)?;
        let Some(task) = arguments["task_name"].as_str() else { return Ok(nok("unknown task")) };
        if !self.desk.set_rate(task, rate) {
            return Ok(nok("unknown task"));
        }
        lock(&self.rates).insert(task.to_owned(), given.clone());
        if !truthy(Some(given)) {
            tracing::info!(task, "the rate limit was taken away by remote control");
            return Ok(ok("rate limit disabled successfully"));
        }
        tracing::info!(task, rate = %given, "a rate limit was set by remote control");
        Ok(ok("new rate limit set successfully"))
    }

    fn time_limit(&self, arguments: &Map<String, Value>) -> Answer {
        let seconds = |name: &str| match arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => registered::float(value).map(|seconds| {
                Some(Duration::try_from_secs_f64(seconds).unwrap_or_default()).filter(|limit| !limit.is_zero())
            }),
        };
        let (soft, hard) = (seconds("soft")?, seconds("hard")?);
        let task = arguments.get("task_name").and_then(Value::as_str).unwrap_or_default();
        if !self.desk.set_time_limits(task, soft, hard) {
            return Ok(nok("unknown task"));
        }
        tracing::info!(task, ?soft, ?hard, "time limits were set by remote control");
        Ok(ok("time limits set successfully"))
    }

    async fn registered(&self, arguments: &Map<String, Value>) -> Answer {
        let items = registered::items(arguments.get("taskinfoitems"));
        let builtins = truthy(arguments.get("builtins"));
        let specs = self.desk.specs();
        let mut lines = registered::lines(&specs, &items, builtins, &lock(&self.rates));
        // Attributes of the application's own task classes are known there only.
        if !registered::known(&items)
            && let Some(Ok(Value::Array(theirs))) = self.ask("registered", arguments).await
        {
            for line in theirs.into_iter().filter_map(|line| line.as_str().map(str::to_owned)) {
                let name = line.split(' ').next().unwrap_or_default().to_owned();
                lines.insert(name, line);
            }
        }
        Ok(lines.into_values().collect())
    }

    async fn report(&self) -> String {
        let report = match &self.panel {
            Some(panel) => panel.report().await,
            None => None,
        };
        report.unwrap_or_else(|| {
            let broker = &self.conf["broker_url"];
            format!(
                "\nsoftware -> beacon:{}\nsettings -> transport:redis\n\nbroker_url: {}\n",
                env!("CARGO_PKG_VERSION"),
                repr::value(broker)
            )
        })
    }

    async fn revoke(&self, arguments: &Map<String, Value>, terminate: bool) -> Answer {
        let mut ids: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for id in listed(&arguments["task_id"]).into_iter().take(IDENTIFIERS) {
            let Some(id) = id.as_str() else {
                let fault = format!("sequence item 0: expected str instance, {} found", kind(id));
                return Err(repr::exception("TypeError", &fault));
            };
            if seen.insert(id) {
                ids.push(id.to_owned());
            }
        }
        let signal = if terminate { Some(signal(arguments.get("signal"))) } else { None };
        // What was revoked is revoked even if the signal cannot be sent.
        let ended =
            self.desk.revoke(ids.clone(), signal.as_ref().and_then(|signal| signal.as_ref().ok().copied())).await;
        if let Some(signal) = signal {
            let signal = signal?;
            tracing::info!(signal, tasks = ended.len(), "tasks were ended by remote control");
            if ended.is_empty() {
                return Ok(ok("terminate: tasks unknown"));
            }
            return Ok(ok(format!("terminate: {}", ended.join(", "))));
        }
        tracing::info!(tasks = ids.len(), "tasks were revoked by remote control");
        Ok(ok(format!("tasks {} flagged as revoked", repr::set(ids.iter().map(String::as_str)))))
    }

    async fn revoke_stamped(&self, arguments: &Map<String, Value>) -> Answer {
        let signal = signal(arguments.get("signal"))?;
        let headers = stamps(&arguments["headers"])?;
        let shown = repr::dict(&headers);
        let stamps: Vec<(String, Vec<String>)> = headers
            .iter()
            .map(|(name, values)| (name.clone(), listed(values).into_iter().map(plain).collect()))
            .collect();
        let terminate = truthy(arguments.get("terminate"));
        let matching = if terminate { matching(&self.desk.active(), &stamps) } else { BTreeMap::new() };
        self.desk.revoke_stamped(stamps, terminate.then_some(signal)).await;
        if !terminate {
            return Ok(ok(format!("headers {shown} flagged as revoked, but not terminated")));
        }
        if matching.is_empty() {
            return Ok(ok(format!("headers {shown} were not terminated")));
        }
        let sets: Vec<String> = matching
            .iter()
            .map(|(name, values)| format!("{}: {}", repr::text(name), repr::set(values.iter().map(String::as_str))))
            .collect();
        Ok(ok(format!("headers defaultdict(<class 'set'>, {{{}}}) revoked", sets.join(", "))))
    }
}

/// What another worker has revoked: a list of identifiers, or (before Celery 5.7) a dictionary by them.
pub(super) fn identifiers(given: Option<&Value>) -> Vec<String> {
    match given {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).take(IDENTIFIERS).map(str::to_owned).collect(),
        Some(Value::Object(ids)) => ids.keys().take(IDENTIFIERS).cloned().collect(),
        _ => Vec::new(),
    }
}

/// The stamps of tasks that run and are meant, by name.
fn matching(active: &[Held], stamps: &[(String, Vec<String>)]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for held in active {
        for (name, wanted) in stamps {
            let has = held.envelope.headers.stamps.iter().filter(|(stamp, _)| stamp == name);
            for value in has.flat_map(|(_, values)| listed(values)).map(plain) {
                let of = all.entry(name.clone()).or_default();
                if wanted.contains(&value) && !of.contains(&value) {
                    of.push(value);
                }
            }
        }
    }
    all.retain(|_, values| !values.is_empty());
    all
}

/// Stamps by name, also from the command line's list of `name=value`.
fn stamps(headers: &Value) -> Result<Map<String, Value>, String> {
    match headers {
        Value::Object(all) => Ok(all.clone()),
        Value::Array(pairs) => {
            let pair = |pair: &Value| {
                let fault = |pair| format!("'{}' object has no attribute 'split'", kind(pair));
                let text = pair.as_str().ok_or_else(|| repr::exception("AttributeError", &fault(pair)))?;
                let mut parts = text.split('=');
                let name = parts.next().unwrap_or_default().to_owned();
                let value = parts.next().ok_or_else(|| repr::exception("IndexError", "list index out of range"))?;
                Ok((name, Value::from(value)))
            };
            pairs.iter().map(pair).collect()
        }
        other => Err(repr::exception("AttributeError", &format!("'{}' object has no attribute 'items'", kind(other)))),
    }
}

/// The number of a signal; SIGTERM if none is named.
fn signal(given: Option<&Value>) -> Result<i32, String> {
    const NAMES: [(&str, i32); 12] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STOP", 19),
    ];
    let name = match given {
        Some(value) if truthy(Some(value)) => value,
        _ => return Ok(15),
    };
    if let Some(number) = name.as_i64() {
        return i32::try_from(number)
            .ok()
            .filter(|number| (1..=64).contains(number))
            .ok_or_else(|| repr::exception("ValueError", "signal number out of range"));
    }
    let upper = |name: &str| name.chars().any(char::is_uppercase) && !name.chars().any(char::is_lowercase);
    let Some(name) = name.as_str().filter(|name| upper(name)) else {
        return Err(repr::exception("TypeError", "signal name must be uppercase string."));
    };
    let name = name.strip_prefix("SIG").unwrap_or(name);
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .ok_or_else(|| repr::exception("AttributeError", &format!("module 'signal' has no attribute 'SIG{name}'")))
}

fn ok(value: impl Into<Value>) -> Value {
    json!({"ok": value.into()})
}

fn nok(value: &str) -> Value {
    json!({"error": value})
}

fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = arguments.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= 1_000);
    text.ok_or_else(|| repr::exception("TypeError", &format!("{name} must be a name")))
}

/// A list's values, or the one that stands alone; none for null.
pub(super) fn listed(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether Python takes it for true.
fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(truth)) => *truth,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::Object(values)) => !values.is_empty(),
    }
}

/// The name of its type in Python.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
