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
mod tests {
    use super::super::testing::{Application, Fake};
    use super::*;

    fn commands(desk: &Arc<Fake>, panel: bool) -> Commands {
        Commands {
            desk: Arc::clone(desk) as Arc<dyn Desk>,
            panel: panel.then(|| Arc::new(Application) as Arc<dyn Panel>),
            events: Events::new("w1@host".into(), false),
            broker: json!({"transport": "redis"}),
            conf: json!({"broker_url": "redis://"}),
            bindings: Mutex::default(),
            rates: Mutex::default(),
            samples: Mutex::default(),
        }
    }

    async fn call(commands: &Commands, method: &str, arguments: Value) -> Value {
        let done = commands.run(method, arguments.as_object().unwrap()).await;
        done.answer.unwrap().unwrap_or_else(|error| json!({"error": error}))
    }

    #[tokio::test]
    async fn every_answer_is_the_one_of_a_stock_worker() {
        // The answers to these requests were recorded from celery 5.7, but for `aN` and `a1`, which run here.
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, false);
        for (method, arguments, answer) in [
            ("ping", json!({"zz": 1}), json!({"ok": "pong"})),
            ("nosuch", json!({}), json!({"error": "KeyError('nosuch')"})),
            ("registered", json!({}), json!(["wapp.add", "wapp.lim [rate_limit=10/m]", "wapp.quiet", "wapp.slow"])),
            ("revoke", json!({"task_id": "zz1"}), json!({"ok": "tasks {'zz1'} flagged as revoked"})),
            (
                "revoke",
                json!({"task_id": ["zz2", "zz1", "zz2"]}),
                json!({"ok": "tasks {'zz2', 'zz1'} flagged as revoked"}),
            ),
            ("revoke", json!({"task_id": null}), json!({"ok": "tasks set() flagged as revoked"})),
            ("revoke", json!({"task_id": "zz1", "terminate": true}), json!({"ok": "terminate: tasks unknown"})),
            ("revoke", json!({"task_id": ["a1", "zz", "a2"], "terminate": true}), json!({"ok": "terminate: a1, a2"})),
            (
                "revoke",
                json!({"task_id": "zz1", "terminate": true, "signal": "kill"}),
                json!({"error": "TypeError('signal name must be uppercase string.')"}),
            ),
            (
                "revoke",
                json!({"task_id": "zz1", "terminate": true, "signal": "FOO"}),
                json!({"error": "AttributeError(\"module 'signal' has no attribute 'SIGFOO'\")"}),
            ),
            (
                "revoke",
                json!({"task_id": 7}),
                json!({"error": "TypeError('sequence item 0: expected str instance, int found')"}),
            ),
            ("terminate", json!({"signal": 9, "task_id": ["b"]}), json!({"ok": "terminate: tasks unknown"})),
            (
                "revoke_by_stamped_headers",
                json!({"headers": {"mtask_id": "a"}}),
                json!({"ok": "headers {'mtask_id': 'a'} flagged as revoked, but not terminated"}),
            ),
            (
                "revoke_by_stamped_headers",
                json!({"headers": ["mtask_id=a"]}),
                json!({"ok": "headers {'mtask_id': 'a'} flagged as revoked, but not terminated"}),
            ),
            (
                "revoke_by_stamped_headers",
                json!({"headers": {"mtask_id": ["a", "b'c"]}, "terminate": true}),
                json!({"ok": "headers {'mtask_id': ['a', \"b'c\"]} were not terminated"}),
            ),
            (
                "revoke_by_stamped_headers",
                json!({"headers": {"mtask_id": "abc"}, "terminate": true}),
                json!({"ok": "headers defaultdict(<class 'set'>, {'mtask_id': {'abc'}}) revoked"}),
            ),
            (
                "revoke_by_stamped_headers",
                json!({"headers": "abc"}),
                json!({"error": "AttributeError(\"'str' object has no attribute 'items'\")"}),
            ),
            (
                "revoke_by_stamped_headers",
                json!({"headers": ["abc"]}),
                json!({"error": "IndexError('list index out of range')"}),
            ),
            (
                "rate_limit",
                json!({"task_name": "wapp.add", "rate_limit": "5/m"}),
                json!({"ok": "new rate limit set successfully"}),
            ),
            (
                "rate_limit",
                json!({"task_name": "wapp.lim", "rate_limit": null}),
                json!({"ok": "rate limit disabled successfully"}),
            ),
            (
                "rate_limit",
                json!({"task_name": "wapp.add", "rate_limit": "x"}),
                json!({"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")"}),
            ),
            ("rate_limit", json!({"task_name": "wapp.add", "rate_limit": "5/q"}), json!({"error": "KeyError('q')"})),
            ("rate_limit", json!({"task_name": "nope", "rate_limit": "5/m"}), json!({"error": "unknown task"})),
            (
                "rate_limit",
                json!({"task_name": "wapp.add", "rate_limit": [1]}),
                json!({"error": "TypeError(\"float() argument must be a string or a real number, not 'list'\")"}),
            ),
            ("registered", json!({}), json!(["wapp.add [rate_limit=5/m]", "wapp.lim", "wapp.quiet", "wapp.slow"])),
            (
                "registered",
                json!({"taskinfoitems": ["name", "acks_late", "time_limit", "_x"], "builtins": true}),
                json!([
                    "celery.chain [name=celery.chain acks_late=False]",
                    "wapp.add [name=wapp.add acks_late=False]",
                    "wapp.lim [name=wapp.lim acks_late=False]",
                    "wapp.quiet [name=wapp.quiet acks_late=False]",
                    "wapp.slow [name=wapp.slow acks_late=True time_limit=5]",
                ]),
            ),
            (
                "registered",
                json!({"taskinfoitems": "name"}),
                json!(["wapp.add", "wapp.lim", "wapp.quiet", "wapp.slow"]),
            ),
            (
                "time_limit",
                json!({"task_name": "wapp.add", "soft": 1.0, "hard": 2}),
                json!({"ok": "time limits set successfully"}),
            ),
            ("time_limit", json!({}), json!({"error": "unknown task"})),
            ("disable_events", json!({}), json!({"ok": "task events already disabled"})),
            ("enable_events", json!({}), json!({"ok": "task events enabled"})),
            ("enable_events", json!({}), json!({"ok": "task events already enabled"})),
            ("disable_events", json!({}), json!({"ok": "task events disabled"})),
            ("heartbeat", json!({}), json!(null)),
            ("election", json!({"id": "e", "topic": "task"}), json!(null)),
            ("pool_grow", json!({"n": 1}), json!({"ok": "pool will grow"})),
            ("pool_shrink", json!({}), json!({"ok": "pool will shrink"})),
            (
                "pool_grow",
                json!({"n": "x"}),
                json!({"error": "TypeError(\"'str' object cannot be interpreted as an integer\")"}),
            ),
            (
                "pool_shrink",
                json!({"n": 100}),
                json!({"error": "ValueError(\"Can't shrink pool. All processes busy!\")"}),
            ),
            ("autoscale", json!({"max": 3, "min": 1}), json!({"error": "ValueError('Autoscale not enabled')"})),
            ("pool_restart", json!({}), json!({"error": "ValueError('Pool restarts not enabled')"})),
            ("objgraph", json!({}), json!({"error": "ImportError('Requires the objgraph library')"})),
            ("add_consumer", json!({"queue": "q3"}), json!({"ok": "add consumer q3"})),
            ("cancel_consumer", json!({"queue": "q2"}), json!({"ok": "no longer consuming from q2"})),
            ("cancel_consumer", json!({"queue": "nope"}), json!({"ok": "no longer consuming from nope"})),
            ("hello", json!({"from_node": "x@y", "revoked": {}}), json!({"revoked": ["z1"], "clock": 1})),
            ("hello", json!({"from_node": "w1@host"}), json!(null)),
            ("clock", json!({"a": 2}), json!({"clock": 1})),
            ("dump_revoked", json!({}), json!(["z1"])),
            ("query_task", json!({"ids": "abc"}), json!({})),
        ] {
            assert_eq!(call(&commands, method, arguments.clone()).await, answer, "{method} {arguments}");
        }
        assert_eq!(
            desk.was_told(),
            [
                "revoke [\"zz1\"] None",
                "revoke [\"zz2\", \"zz1\"] None",
                "revoke [] None",
                "revoke [\"zz1\"] Some(15)",
                "revoke [\"a1\", \"zz\", \"a2\"] Some(15)",
                "revoke [\"zz1\"] None",
                "revoke [\"zz1\"] None",
                "revoke [\"b\"] Some(9)",
                "stamped [(\"mtask_id\", [\"a\"])] None",
                "stamped [(\"mtask_id\", [\"a\"])] None",
                "stamped [(\"mtask_id\", [\"a\", \"b'c\"])] Some(15)",
                "stamped [(\"mtask_id\", [\"abc\"])] Some(15)",
                "rate wapp.add Some(0.08333333333333333)",
                "rate wapp.lim None",
                "rate nope Some(0.08333333333333333)",
                "limits wapp.add Some(1s) Some(2s)",
                "limits  None None",
                "resize 1",
                "resize -1",
            ]
        );
    }

    #[tokio::test]
    async fn tasks_are_listed_where_they_are() {
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, false);
        let active = call(&commands, "active", json!({})).await;
        assert_eq!((&active[0]["id"], &active[0]["args"]), (&json!("a1"), &json!([20])));
        assert_eq!(active[0]["hostname"], "w1@host");
        assert_eq!(call(&commands, "dump_active", json!({"safe": 1})).await[0]["args"], "(20,)");
        assert_eq!(call(&commands, "reserved", json!({})).await[0]["id"], "r1");
        let scheduled = call(&commands, "scheduled", json!({})).await;
        assert_eq!(scheduled[0]["eta"], "2026-11-25T02:28:12.500000+00:00");
        assert_eq!(scheduled[1]["request"]["id"], "s2");
        let found = call(&commands, "query_task", json!({"ids": ["a1", "s2", "r1", "x"]})).await;
        assert_eq!(found.as_object().unwrap().len(), 3);
        assert_eq!(
            (&found["a1"][0], &found["r1"][0], &found["s2"][0]),
            (&json!("active"), &json!("reserved"), &json!("scheduled"))
        );
    }

    #[tokio::test]
    async fn statistics_have_what_flower_and_celery_read() {
        let desk = Arc::new(Fake::default());
        let stats = call(&commands(&desk, false), "stats", json!({})).await;
        assert_eq!(stats["total"], json!({"wapp.add": 3, "wapp.sleeping": 1}));
        assert_eq!(
            (&stats["pid"], &stats["clock"], &stats["uptime"]),
            (&json!(std::process::id()), &json!("0"), &json!(7))
        );
        let pool = &stats["pool"];
        assert_eq!((&pool["max-concurrency"], &pool["processes"]), (&json!(2), &json!([5, 6])));
        assert_eq!((&pool["timeouts"], &pool["max-tasks-per-child"]), (&json!([0, 9.0]), &json!("N/A")));
        assert_eq!((&stats["broker"], &stats["prefetch_count"]), (&json!({"transport": "redis"}), &json!(2)));
        assert!(stats["rusage"]["utime"].is_f64());
    }

    #[tokio::test]
    async fn an_application_answers_what_only_it_knows() {
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, true);
        for (method, arguments, answer) in [
            ("double", json!({"n": 4}), json!({"ok": 8})),
            ("double", json!({}), json!({"error": "KeyError('n')"})),
            ("nosuch", json!({}), json!({"error": "KeyError('nosuch')"})),
            ("dump_conf", json!({"with_defaults": true}), json!({"include": ["wapp"]})),
            ("report", json!({}), json!({"ok": "software -> celery:5.7.0"})),
            ("ping", json!({}), json!({"ok": "pong"})),
            (
                "registered",
                json!({"taskinfoitems": ["priority"]}),
                json!(["wapp.add [priority=3]", "wapp.lim", "wapp.quiet", "wapp.slow"]),
            ),
        ] {
            assert_eq!(call(&commands, method, arguments).await, answer, "{method}");
        }
        let alone = super::tests::commands(&desk, false);
        assert_eq!(call(&alone, "conf", json!({})).await, json!({"broker_url": "redis://"}));
        assert!(call(&alone, "report", json!({})).await["ok"].as_str().unwrap().contains("software -> beacon:"));
    }

    #[tokio::test]
    async fn the_broker_is_told_what_it_has_to_know() {
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, false);
        let run = async |method: &str, arguments: Value| commands.run(method, arguments.as_object().unwrap()).await;
        let known = Some(Effect::Revoked(vec!["one".into(), "two".into()]));
        assert_eq!(run("hello", json!({"from_node": "x", "revoked": ["one", 2, "two"]})).await.effect, known);
        assert_eq!(run("hello", json!({"from_node": "x", "revoked": {"one": [1.5], "two": []}})).await.effect, known);
        assert_eq!(run("hello", json!({"from_node": "w1@host", "revoked": ["one"]})).await.effect, None);
        assert_eq!(run("add_consumer", json!({"queue": "q3", "exchange": null})).await.effect, None);
        let binding =
            Binding { queue: "q4".into(), exchange: "ex4".into(), kind: "topic".into(), routing_key: "a.#".into() };
        let arguments = json!({"queue": "q4", "exchange": "ex4", "exchange_type": "topic", "routing_key": "a.#"});
        assert_eq!(run("add_consumer", arguments).await.effect, Some(Effect::Bind(binding)));
        let queues = call(&commands, "active_queues", json!({})).await;
        let names: Vec<_> =
            queues.as_array().unwrap().iter().map(|queue| (&queue["name"], &queue["exchange"]["name"])).collect();
        assert_eq!(names[0], (&json!("celery"), &json!("celery")));
        assert_eq!(names[3], (&json!("q4"), &json!("ex4")));
        assert_eq!(queues[3]["routing_key"], "a.#");
        let stop = run("shutdown", json!({})).await;
        assert_eq!((stop.answer, desk.was_told()), (None, vec!["shut down".to_owned()]));
    }

    #[tokio::test]
    async fn samples_of_memory_are_dumped_once() {
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, false);
        assert!(call(&commands, "memsample", json!({})).await.as_str().unwrap().ends_with('B'));
        let dump = call(&commands, "memdump", json!({})).await;
        assert!(dump.as_str().unwrap().starts_with("- rss (sample):\n-    > "), "{dump}");
        let dump = call(&commands, "memdump", json!({"samples": 0})).await;
        assert!(dump.as_str().unwrap().starts_with("- rss (end): "), "{dump}");
    }

    #[tokio::test]
    async fn no_command_fails_for_strange_arguments() {
        let desk = Arc::new(Fake::default());
        let commands = commands(&desk, false);
        for method in signature::names() {
            for strange in [
                json!(null),
                json!(-1e300),
                json!(u64::MAX),
                json!("\u{0}'\""),
                json!([[], {}, null]),
                json!({"a": {}}),
                json!(true),
            ] {
                let mut arguments = Map::new();
                for name in signature::find(method).unwrap().parameters() {
                    arguments.insert((*name).to_owned(), strange.clone());
                }
                let done = commands.run(method, &arguments).await;
                assert!(done.answer.is_some() || method == "shutdown", "{method}");
                assert_ne!(done.answer, Some(Err(repr::exception("KeyError", method))), "it is a known one");
            }
        }
    }
}
