//! Celery's remote control: `celery inspect`, `celery control`, Flower and programs ask workers over Redis's PUBLISH, and
//! get answers on a list of their own.
//!
//! Requests are not kept anywhere: what is asked while Redis is away is not heard, and its asker knows by the time that
//! went by. A worker listens until it has ended, so that one that drains still says what it does.

mod commands;
mod host;
mod info;
mod mailbox;
mod matcher;
mod registered;
mod remote;
mod request;
mod signature;
mod stats;
#[cfg(test)]
pub(in crate::tasks) mod testing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use info::Binding;
pub use remote::Remote;

use self::commands::{Answer, Commands, Effect};
use self::mailbox::Mailbox;
use self::request::Request;
use super::broker::Broker;
use super::events::{Events, channel};
use super::wire::repr;
use super::wire::{Notice, now};
use super::{Config, Desk};
use crate::redis::Heard;

/// How often this node's binding is written again: whoever empties Redis or evicts it takes it away unseen.
const BIND: Duration = Duration::from_mins(3);
/// So many requests may be with the application at once.
const ASKED: usize = 16;
/// The largest request that is read, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;
/// How long an application may take for one.
const ANSWER: Duration = Duration::from_mins(1);
/// How long the other workers are waited for at the start, as Celery does.
const MINGLE: Duration = Duration::from_secs(1);
/// What a stop waits for requests that are being answered.
const LAST: Duration = Duration::from_secs(1);

/// What an application adds to remote control: its own commands, and what only it knows of itself.
pub trait Panel: Send + Sync + 'static {
    /// Runs a command of the application with its arguments, an object: the answer, or the exception as Python's `repr`
    /// shows it. `None` if it has no such command.
    fn call<'a>(&'a self, method: &'a str, arguments: &'a Value) -> BoxFuture<'a, Option<Result<Value, String>>>;

    /// What `celery report` says of it; `None` if it does not answer.
    fn report(&self) -> BoxFuture<'_, Option<String>>;
}

/// Answers for a worker. Clones are the same.
#[derive(Clone)]
pub struct Control {
    commands: Arc<Commands>,
    mailbox: Mailbox,
    node: Arc<str>,
    listening: Arc<watch::Sender<bool>>,
}

impl Control {
    /// Remote control of the worker at this desk. `events` are the worker's own; `bindings` say how queues are bound
    /// whose exchange or key is not their own name.
    #[must_use]
    pub fn new(
        config: &Config,
        broker: Broker,
        desk: Arc<dyn Desk>,
        panel: Option<Arc<dyn Panel>>,
        events: Events,
        bindings: Vec<Binding>,
    ) -> Self {
        let node = desk.node();
        let commands = Commands {
            desk,
            panel,
            events,
            broker: stats::broker(&config.broker_url, &config.transport),
            conf: conf(config),
            bindings: Mutex::new(bindings.into_iter().map(|one| (one.queue.clone(), one)).collect()),
            rates: Mutex::new(BTreeMap::new()),
            samples: Mutex::new(Vec::new()),
        };
        Self {
            commands: Arc::new(commands),
            mailbox: Mailbox(broker),
            node,
            listening: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Completes when it hears what is asked.
    pub async fn listens(&self) {
        // The sender lives as long as we do.
        let _ = self.listening.subscribe().wait_for(|listening| *listening).await;
    }

    /// Listens and answers until `stop`, which is to come when the worker has ended.
    pub async fn run(&self, stop: CancellationToken) {
        let requests = self.mailbox.requests();
        let broker = &self.mailbox.0;
        let elections = channel(broker, &broker.transport().event_exchange, "worker.elect");
        let mut subscription = broker.client().subscribe(&[&requests, &elections], &[]);
        let mut bind = interval(BIND);
        bind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = JoinSet::new();
        let mut met = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = bind.tick() => self.bind().await,
                Some(_) = asked.join_next() => {}
                heard = subscription.next() => match heard {
                    Heard::Gap => {
                        self.bind().await;
                        self.listening.send_replace(true);
                        if !met {
                            met = true;
                            let control = self.clone();
                            asked.spawn(async move { control.mingle().await });
                        }
                    }
                    Heard::Message { channel, payload } if channel == elections => self.elect(&payload),
                    Heard::Message { payload, .. } => {
                        let Some(request) = self.read(&payload) else { continue };
                        if !self.is_applications(&request.method) {
                            self.handle(request).await;
                        } else if asked.len() < ASKED {
                            let control = self.clone();
                            asked.spawn(async move { control.handle(request).await });
                        } else {
                            let why = repr::exception("RuntimeError", "too many requests at once");
                            self.answer(&request, &Err(why)).await;
                        }
                    }
                },
            }
        }
        let _ = timeout(LAST, async { while asked.join_next().await.is_some() {} }).await;
        if let Err(error) = self.mailbox.unbind_node(&self.node).await {
            tracing::debug!(%error, "the worker's binding stays until it expires");
        }
    }

    /// A request for this node.
    fn read(&self, payload: &[u8]) -> Option<Request> {
        // Clients have no clock that is worth anything, so that it goes on by itself, too.
        self.commands.events.clock().adjust(0);
        let (headers, Value::Object(body)) = Notice::read(payload, LARGEST)? else { return None };
        self.commands.events.clock().adjust(clock(headers.get("clock")));
        match matcher::addressed(&body, &self.node) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::warn!(error, "a request of remote control names its workers in a way that cannot be used");
                return None;
            }
        }
        let request = Request::read(body, &headers);
        if request.is_none() {
            tracing::warn!("a request of remote control names no command");
        }
        request
    }

    /// Whether the application may have to be asked, which takes time.
    fn is_applications(&self, method: &str) -> bool {
        let asks =
            |command: &signature::Signature| matches!(command.name, "conf" | "objgraph" | "registered" | "report");
        self.commands.panel.is_some() && signature::find(method).is_none_or(asks)
    }

    async fn handle(&self, request: Request) {
        tracing::debug!(method = request.method, "remote control");
        let done = timeout(ANSWER, self.commands.run(&request.method, &request.arguments)).await;
        let (answer, effect) = match done {
            Ok(done) => (done.answer, done.effect),
            Err(_) => (Some(Err(repr::exception("TimeoutError", "the application does not answer"))), None),
        };
        if let Some(Err(error)) = &answer {
            tracing::warn!(method = request.method, error, "a request of remote control failed");
        }
        match effect {
            None => {}
            Some(Effect::Revoked(ids)) => self.revoked(&ids).await,
            Some(Effect::Bind(binding)) => {
                if let Err(error) = self.mailbox.bind_queue(&binding).await {
                    tracing::warn!(queue = binding.queue, %error, "a queue could not be bound");
                }
            }
        }
        if let Some(answer) = answer {
            self.answer(&request, &answer).await;
        }
    }

    async fn answer(&self, request: &Request, answer: &Answer) {
        let Some(to) = &request.to else { return };
        if request.is_late(now()) {
            tracing::debug!(method = request.method, "an answer of remote control came too late for its asker");
            return;
        }
        let answer = match answer {
            Ok(value) => value.clone(),
            Err(error) => json!({"error": error}),
        };
        let body = Value::Object(Map::from_iter([(self.node.to_string(), answer)]));
        let clock = self.commands.events.clock().forward();
        let headers = [("ticket".to_owned(), request.ticket.clone()), ("clock".to_owned(), clock.into())];
        if let Err(error) = self.mailbox.answer(to, headers.into_iter().collect(), &body).await {
            tracing::warn!(method = request.method, %error, "an answer of remote control could not be sent");
        }
    }

    async fn bind(&self) {
        if let Err(error) = self.mailbox.bind_node(&self.node).await
            && !error.is_unavailable()
        {
            tracing::warn!(%error, "the worker could not be bound to remote control");
        }
    }

    /// Asks the other workers what they know to be revoked: stock ones keep that for themselves. Celery waits for it
    /// before it works; here nothing does.
    async fn mingle(&self) {
        let remote = Remote::with_clock(self.mailbox.0.clone(), self.commands.events.clock().clone());
        let arguments = json!({"from_node": &*self.node, "revoked": self.commands.desk.revoked().await});
        let answers = match remote.call("hello", arguments, None, MINGLE).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "the other workers could not be asked for what is revoked");
                return;
            }
        };
        let mut ids = Vec::new();
        for answer in answers.values() {
            self.commands.events.clock().adjust(clock(answer.get("clock")));
            ids.extend(commands::identifiers(answer.get("revoked")));
        }
        self.revoked(&ids).await;
    }

    /// Others know these tasks to be revoked.
    async fn revoked(&self, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        if let Err(error) = self.mailbox.0.revoke(ids).await {
            tracing::warn!(tasks = ids.len(), %error, "what other workers have revoked could not be kept");
        }
    }

    /// An election is acknowledged, so that whoever holds one does not wait for this worker; it never stands for one.
    fn elect(&self, payload: &[u8]) {
        let Some((_, election)) = Notice::read(payload, LARGEST) else { return };
        self.commands.events.clock().adjust(clock(election.get("clock")));
        if let Some(id) = election.get("id") {
            self.commands.events.elect(id.clone());
        }
    }
}

fn clock(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or_default()
}

/// What `celery inspect conf` shows of a worker without an application.
fn conf(config: &Config) -> Value {
    let results = if config.result_url.is_empty() { &config.broker_url } else { &config.result_url };
    json!({
        "accept_content": ["json"],
        "broker_transport_options": stats::options(&config.transport),
        "broker_url": stats::masked(&config.broker_url),
        "control_exchange": config.transport.control_exchange,
        "enable_utc": true,
        "event_exchange": config.transport.event_exchange,
        "result_backend": stats::masked(results),
        "result_expires": config.result_expires.as_secs(),
        "task_default_queue": config.queues.first(),
        "task_time_limit": (!config.time_limit.is_zero()).then_some(config.time_limit.as_secs_f64()),
        "timezone": "UTC",
        "worker_concurrency": config.concurrency,
        "worker_send_task_events": config.events,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::testing::{Application, Fake, Server};
    use super::*;
    use crate::redis::{Value as Raw, integer, list, text};
    use crate::tasks::events::testing::envelope;
    use crate::tasks::{Event, Happening, Transport, Witness as _};

    const WITHIN: Duration = Duration::from_secs(5);

    struct Worker {
        control: Control,
        events: Events,
        desk: Arc<Fake>,
        stop: CancellationToken,
        running: Vec<JoinHandle<()>>,
    }

    impl Worker {
        async fn end(self) {
            self.stop.cancel();
            for task in self.running {
                task.await.unwrap();
            }
        }
    }

    fn config(server: &Server, prefix: &str) -> Config {
        let transport = Transport { global_keyprefix: prefix.into(), ..Transport::default() };
        Config { broker_url: server.url(), transport, ..Config::default() }
    }

    async fn broker(config: &Config) -> Broker {
        let broker = Broker::new(&config.broker_url, &config.transport).unwrap();
        tokio::spawn(broker.clone().keep());
        let until = Instant::now() + WITHIN;
        while !broker.is_connected() {
            assert!(Instant::now() < until, "no connection");
            sleep(Duration::from_millis(10)).await;
        }
        broker
    }

    async fn worker(config: &Config, node: &str) -> Worker {
        let broker = broker(config).await;
        let desk = Arc::new(Fake { node: node.into(), ..Fake::default() });
        let events = Events::new(node.into(), false);
        let control = Control::new(
            config,
            broker.clone(),
            Arc::clone(&desk) as Arc<dyn Desk>,
            Some(Arc::new(Application)),
            events.clone(),
            Vec::new(),
        );
        let stop = CancellationToken::new();
        let answering = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { control.run(stop).await }
        });
        let telling = tokio::spawn({
            let (events, desk, stop) = (events.clone(), Arc::clone(&desk), stop.clone());
            async move { events.run(&broker, &*desk, stop).await }
        });
        Worker { control, events, desk, stop, running: vec![answering, telling] }
    }

    async fn ask(broker: &Broker, command: &'static str, arguments: &[&str]) -> Raw {
        broker.client().command(command, arguments.iter().map(|one| Raw::from(*one)).collect(), WITHIN).await.unwrap()
    }

    async fn keys(broker: &Broker) -> BTreeSet<String> {
        list(ask(broker, "KEYS", &["*"]).await).into_iter().filter_map(text).collect()
    }

    async fn heard(remote: &Remote, by: i64) {
        let until = Instant::now() + WITHIN;
        while remote.cast("ping", json!({}), None).await.unwrap() < by {
            assert!(Instant::now() < until, "nobody listens");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn workers_answer_those_who_ask_and_nothing_stays_behind() {
        let server = Server::start();
        for prefix in ["", "{app}:"] {
            let config = config(&server, prefix);
            let one = worker(&config, "w1@host").await;
            let two = worker(&config, "w2@host").await;
            let own = one.control.mailbox.0.clone();
            let remote = Remote::new(own.clone());
            heard(&remote, 2).await;
            let call = async |method: &str, arguments: Value, nodes: Option<&[String]>| {
                remote.call(method, arguments, nodes, WITHIN).await.unwrap()
            };
            let all = call("ping", json!({}), None).await;
            assert_eq!(
                all.into_iter().collect::<Vec<_>>(),
                [("w1@host".into(), json!({"ok": "pong"})), ("w2@host".into(), json!({"ok": "pong"}))]
            );
            let only = ["w2@host".to_owned()];
            let named = call("double", json!({"n": 3}), Some(&only)).await;
            assert_eq!(named.into_iter().collect::<Vec<_>>(), [("w2@host".into(), json!({"ok": 6}))]);
            let unknown = call("nosuch", json!({}), Some(&only)).await;
            assert_eq!(unknown["w2@host"], json!({"error": "KeyError('nosuch')"}));
            assert_eq!(two.desk.was_told(), Vec::<String>::new());
            remote.cast("shutdown", json!({}), Some(&only)).await.unwrap();
            let until = Instant::now() + WITHIN;
            while two.desk.was_told() != ["shut down"] {
                assert!(Instant::now() < until);
                sleep(Duration::from_millis(10)).await;
            }
            assert!(one.desk.was_told().is_empty());
            let name = |name: &str| format!("{prefix}{name}");
            let bound = list(ask(&own, "SMEMBERS", &[&name("_kombu.binding.celery.pidbox")]).await);
            let bound: BTreeSet<_> = bound.into_iter().filter_map(text).collect();
            assert_eq!(
                bound,
                ["w1@host", "w2@host"].map(|node| format!("\u{6}\u{16}\u{6}\u{16}{node}.celery.pidbox")).into()
            );
            let deadlines = name("_kombu.binding_deadlines");
            assert!(text(ask(&own, "ZSCORE", &[&deadlines, "celery.pidbox"]).await).is_some());
            one.end().await;
            two.end().await;
            // Lists of answers go with who asked, bindings with their nodes; what is revoked is to stay.
            let another = broker(&config).await;
            let left = keys(&another).await.into_iter().filter(|key| !key.contains("revoked"));
            let left: BTreeSet<_> = left.collect();
            assert_eq!(left, BTreeSet::from([deadlines.clone()]));
            ask(&another, "DEL", &[&deadlines]).await;
        }
    }

    #[tokio::test]
    async fn an_answer_finds_a_list_of_any_name_and_is_never_left_for_ever() {
        let server = Server::start();
        let config = config(&server, "");
        let broker = broker(&config).await;
        let mailbox = Mailbox(broker.clone());
        let to = mailbox::To { exchange: "reply.celery.pidbox".into(), key: "oid1".into() };
        mailbox.answer(&to, Map::new(), &json!({})).await.unwrap();
        assert!(keys(&broker).await.is_empty(), "nobody is bound");
        let set = "_kombu.binding.reply.celery.pidbox";
        for (member, queue) in [
            ("oid1\u{6}\u{16}\u{6}\u{16}my.own.list", "my.own.list"),
            ("oid1\u{6}\u{16}\u{6}\u{16}oid1.reply.celery.pidbox", "oid1.reply.celery.pidbox"),
        ] {
            ask(&broker, "SADD", &[set, member, "oid2\u{6}\u{16}\u{6}\u{16}other", "garbage"]).await;
            let headers = Map::from_iter([("ticket".to_owned(), json!("t"))]);
            mailbox.answer(&to, headers.clone(), &json!({"w": 1})).await.unwrap();
            let raw = text(ask(&broker, "RPOP", &[queue]).await).unwrap();
            assert_eq!(Notice::read(raw.as_bytes(), LARGEST), Some((headers, json!({"w": 1}))));
            mailbox.answer(&to, Map::new(), &json!({})).await.unwrap();
            let millis = integer(&ask(&broker, "PTTL", &[queue]).await).unwrap();
            assert!((50_000..=60_000).contains(&millis), "{millis}");
            assert_eq!(keys(&broker).await, [set, queue].map(str::to_owned).into());
            ask(&broker, "DEL", &[set, queue]).await;
        }
    }

    #[tokio::test]
    async fn events_reach_who_follows_them() {
        let server = Server::start();
        let config = config(&server, "a*:");
        let own = broker(&config).await;
        let feed = crate::tasks::events::Feed::default();
        let mut followed = feed.follow();
        let stop = CancellationToken::new();
        let listening = tokio::spawn({
            let (feed, own, stop) = (feed.clone(), own.clone(), stop.clone());
            async move { feed.listen(&own, Some("w2@host"), stop).await }
        });
        let until = Instant::now() + WITHIN;
        while integer(&ask(&own, "PUBSUB", &["NUMPAT"]).await) != Some(1) {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(10)).await;
        }
        let (one, two) = (worker(&config, "w1@host").await, worker(&config, "w2@host").await);
        let remote = Remote::new(own.clone());
        heard(&remote, 2).await;
        remote.cast("enable_events", json!({}), None).await.unwrap();
        let until = Instant::now() + WITHIN;
        while !one.events.is_wanted() || !two.events.is_wanted() {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(10)).await;
        }
        for worker in [&one, &two] {
            let envelope = Arc::new(envelope("wapp.add", "1", "[[], {}, {}]"));
            worker.events.tell(&Event { envelope, queue: "celery".into(), at: 1.0, what: Happening::Received });
        }
        let elections = channel(&own, "celeryev", "worker.elect");
        let body = json!({"type": "worker-elect", "hostname": "s@h", "id": "e1", "clock": 70, "topic": "t", "cver": 1});
        let body = body.to_string();
        let election =
            Notice { body: &body, headers: Map::new(), exchange: "celeryev", routing_key: "worker.elect" }.message();
        let arguments = vec![Raw::from(elections), Raw::Bytes(election)];
        assert_eq!(integer(&own.client().command("PUBLISH", arguments, WITHIN).await.unwrap()), Some(3));
        let mut kinds = Vec::new();
        while !kinds.contains(&"worker-elect-ack".to_owned()) || !kinds.contains(&"task-received".to_owned()) {
            let told = tokio::time::timeout(WITHIN, followed.recv()).await.unwrap().unwrap();
            assert_ne!(&*told.node, "w2@host");
            kinds.push(told.kind.into_owned());
        }
        assert!(one.events.clock().value() > 70);
        one.end().await;
        two.end().await;
        let mut last = None;
        while let Ok(Ok(told)) = tokio::time::timeout(Duration::from_millis(500), followed.recv()).await {
            last = Some(told.kind);
        }
        assert_eq!(last.as_deref(), Some("worker-offline"));
        stop.cancel();
        listening.await.unwrap();
    }

    #[tokio::test]
    async fn what_others_have_revoked_is_known_soon_after_the_start() {
        let server = Server::start();
        let config = config(&server, "");
        let one = worker(&config, "w1@host").await;
        heard(&Remote::new(one.control.mailbox.0.clone()), 1).await;
        // Each fake worker has revoked one task; the second one asks the first one.
        let two = worker(&config, "w2@host").await;
        let until = Instant::now() + WITHIN;
        while two.control.mailbox.0.revoked().await.unwrap() != ["z1"] {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(20)).await;
        }
        one.end().await;
        two.end().await;
    }
}
