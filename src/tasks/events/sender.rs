//! Sends what waits: heartbeats in time, events of tasks in lists, and the farewell last.
//!
//! Redis may be slow or away. What waits then is bounded by number and size; what does not fit is dropped, and the
//! worker never waits for any of it.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::body::{DEAD, OfTask, OfWorker, Origin, State, kind, name};
use super::{Call, Events, Inner, Told, Waiting, zone};
use crate::tasks::wire::now;
use crate::tasks::{Desk, Event};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(2);
/// What a heartbeat that was asked for says of the time to the next one, in seconds, as in Celery.
const ASKED: f64 = 5.0;
/// How long an event waits for others, to be sent in one message with them.
const LINGER: Duration = Duration::from_millis(20);
/// So many events go into one message, and so many bytes at most.
const MESSAGE: (usize, usize) = (100, 256 * 1024);
/// So many messages wait for a Redis that is away.
const MESSAGES: usize = 100;
/// How often types of tasks are looked through for those that want no events, in heartbeats.
const LOOK: u32 = 15;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is out.
    Sent,
    /// It was not sent, and can be later.
    Later,
    /// Nobody knows, or it cannot be sent.
    Lost,
}

/// Where events go.
pub(super) trait Outlet: Send + Sync {
    /// Whether anything can be sent.
    fn is_there(&self) -> bool;
    /// Publishes a body under a key.
    fn publish<'a>(&'a self, key: &'a str, body: &'a str) -> BoxFuture<'a, Fate>;
}

/// Events that wait, as a list in JSON that has no end yet.
#[derive(Default)]
struct Message {
    body: String,
    count: usize,
}

pub(super) struct Sender<'a> {
    inner: &'a Inner,
    outlet: &'a dyn Outlet,
    desk: &'a dyn Desk,
    origin: Origin,
    waiting: VecDeque<Message>,
    /// Types of tasks that want no events.
    silent: HashSet<Arc<str>>,
}

impl Events {
    /// Sends until `stop`, which is to come when the worker has ended: then what waits, and the farewell. Only the first
    /// call does anything.
    pub(super) async fn send(&self, outlet: &dyn Outlet, desk: &dyn Desk, stop: CancellationToken) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(waiting) = waiting else { return };
        let mut sender = Sender {
            inner: &self.0,
            outlet,
            desk,
            origin: Origin { west: zone::hours_west(), ..self.0.origin.clone() },
            waiting: VecDeque::new(),
            silent: HashSet::new(),
        };
        sender.run(waiting, stop).await;
    }
}

impl Sender<'_> {
    async fn run(&mut self, mut from: Waiting, stop: CancellationToken) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0_u32;
        let mut known = false;
        let mut batch: Vec<Event> = Vec::with_capacity(MESSAGE.0);
        let mut flush = Instant::now();
        loop {
            let idle = self.waiting.is_empty();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = beat.tick() => {
                    if beats.is_multiple_of(LOOK) {
                        self.look();
                    }
                    beats = beats.wrapping_add(1);
                    self.origin.west = zone::hours_west();
                    if !self.outlet.is_there() {
                        known = false;
                        continue;
                    }
                    // After Redis was away nobody knows of this worker.
                    let kind = if known { "worker-heartbeat" } else { "worker-online" };
                    known = self.tell(kind, BEAT.as_secs_f64()).await;
                    self.flush().await;
                }
                Some(call) = from.calls.recv() => match call {
                    Call::Beat => {
                        self.worker("worker-heartbeat", Some(ASKED), None, None).await;
                    }
                    Call::Elect(id) => {
                        self.worker("worker-elect-ack", None, None, Some(&id)).await;
                    }
                },
                _ = from.tasks.recv_many(&mut batch, MESSAGE.0) => {
                    if idle {
                        flush = Instant::now() + LINGER;
                    }
                    let many = batch.len() == MESSAGE.0;
                    batch.drain(..).for_each(|event| self.take(&event));
                    if many {
                        self.flush().await;
                    }
                }
                () = sleep_until(flush), if !idle && self.outlet.is_there() => self.flush().await,
            }
        }
        while let Ok(event) = from.tasks.try_recv() {
            self.take(&event);
        }
        self.flush().await;
        self.tell("worker-offline", BEAT.as_secs_f64()).await;
    }

    fn look(&mut self) {
        let silent = self.desk.specs().into_iter().filter(|spec| !spec.send_events);
        self.silent = silent.map(|spec| Arc::clone(&spec.name)).collect();
    }

    /// An event of a task goes to who looks on here, and into the message that waits.
    fn take(&mut self, event: &Event) {
        let feed = &self.inner.feed;
        if feed.is_followed() {
            let body = OfTask { origin: &self.origin, clock: self.inner.clock.value(), event, full: true };
            if let Ok(json) = serde_json::to_vec(&body) {
                let node = Arc::clone(&self.origin.node);
                feed.tell(Told { kind: kind(&event.what).into(), node, json: json.into() });
            }
        }
        let wanted = self.inner.wanted.load(Ordering::Relaxed);
        if !wanted || kind(&event.what) == DEAD || self.silent.contains(&*event.envelope.headers.task) {
            return;
        }
        let full = |message: &Message| message.count >= MESSAGE.0 || message.body.len() >= MESSAGE.1;
        if self.waiting.back().is_none_or(full) {
            if self.waiting.len() >= MESSAGES {
                self.inner.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.waiting.push_back(Message::default());
        }
        let Some(message) = self.waiting.back_mut() else { return };
        let body = OfTask { origin: &self.origin, clock: self.inner.clock.forward(), event, full: false };
        match serde_json::to_string(&body) {
            Ok(body) => {
                message.body.push(if message.count == 0 { '[' } else { ',' });
                message.body.push_str(&body);
                message.count += 1;
            }
            Err(error) => tracing::error!(task = name(&event.envelope), %error, "an event could not be written"),
        }
    }

    /// Sends the lists that wait, in their order, until one stays.
    async fn flush(&mut self) {
        while let Some(mut message) = self.waiting.pop_front() {
            if !self.outlet.is_there() {
                self.waiting.push_front(message);
                return;
            }
            if message.count == 0 {
                continue;
            }
            message.body.push(']');
            match self.outlet.publish("task.multi", &message.body).await {
                Fate::Sent => {}
                Fate::Lost => {
                    self.inner.dropped.fetch_add(message.count as u64, Ordering::Relaxed);
                }
                Fate::Later => {
                    message.body.pop();
                    self.waiting.push_front(message);
                    return;
                }
            }
        }
    }

    /// An event with the worker's state; false if it was not sent.
    async fn tell(&self, kind: &'static str, every: f64) -> bool {
        let state =
            State { active: self.desk.active().len(), processed: self.desk.totals().values().sum(), load: load() };
        self.worker(kind, Some(every), Some(state), None).await
    }

    async fn worker(
        &self,
        kind: &'static str,
        every: Option<f64>,
        state: Option<State>,
        election: Option<&serde_json::Value>,
    ) -> bool {
        let clock = self.inner.clock.forward();
        let body = OfWorker { origin: &self.origin, clock, kind, at: now(), every, state, election };
        let Ok(body) = serde_json::to_string(&body) else { return false };
        let sent = self.outlet.publish(&kind.replace('-', "."), &body).await == Fate::Sent;
        let node = Arc::clone(&self.origin.node);
        self.inner.feed.tell(Told { kind: kind.into(), node, json: Bytes::from(body) });
        sent
    }
}

/// Load averages of 1, 5 and 15 minutes, rounded up to hundredths.
fn load() -> [f64; 3] {
    // Fixed point numbers with 16 bits after the point.
    rustix::system::sysinfo().loads.map(|load| (load as f64 / 65_536.0 * 100.0).ceil() / 100.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use futures_util::FutureExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::tasks::control::testing::Fake;
    use crate::tasks::events::testing::envelope;
    use crate::tasks::{Happening, Witness as _};

    /// Keeps what was published; is away or slow at wish.
    #[derive(Default)]
    struct Kept {
        all: Mutex<Vec<(String, Value)>>,
        away: AtomicBool,
        millis: AtomicU64,
        lost: AtomicBool,
    }

    impl Outlet for Kept {
        fn is_there(&self) -> bool {
            !self.away.load(Ordering::Relaxed)
        }

        fn publish<'a>(&'a self, key: &'a str, body: &'a str) -> BoxFuture<'a, Fate> {
            async move {
                tokio::time::sleep(Duration::from_millis(self.millis.load(Ordering::Relaxed))).await;
                if !self.is_there() {
                    return Fate::Later;
                }
                if self.lost.load(Ordering::Relaxed) {
                    return Fate::Lost;
                }
                self.all.lock().unwrap().push((key.to_owned(), serde_json::from_str(body).unwrap()));
                Fate::Sent
            }
            .boxed()
        }
    }

    impl Kept {
        fn keys(&self) -> Vec<String> {
            self.all.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
        }

        /// How many events of tasks there are, and in how many messages.
        fn tasks(&self) -> (usize, usize) {
            let all = self.all.lock().unwrap();
            let lists: Vec<_> = all.iter().filter(|(key, _)| key == "task.multi").collect();
            (lists.iter().map(|(_, list)| list.as_array().unwrap().len()).sum(), lists.len())
        }
    }

    fn event(task: &str, number: usize) -> Event {
        let envelope = Arc::new(envelope(task, &number.to_string(), "[[], {}, {}]"));
        Event { envelope, queue: "celery".into(), at: number as f64, what: Happening::Started(None) }
    }

    struct Running {
        events: Events,
        kept: Arc<Kept>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(wanted: bool) -> Running {
        let events = Events::new("w1@host".into(), wanted);
        let (kept, stop) = (Arc::new(Kept::default()), CancellationToken::new());
        let task = tokio::spawn({
            let (events, kept, stop) = (events.clone(), Arc::clone(&kept), stop.clone());
            async move { events.send(&*kept, &Fake::default(), stop).await }
        });
        Running { events, kept, stop, task }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_word_is_online_and_the_last_one_offline() {
        let Running { events, kept, stop, task } = start(true);
        tokio::time::sleep(Duration::from_millis(4_100)).await;
        events.beat();
        events.elect(json!("e1"));
        tokio::time::sleep(Duration::from_millis(10)).await;
        events.tell(&event("wapp.add", 1));
        stop.cancel();
        task.await.unwrap();
        // Another run has nothing to send.
        events.send(&Kept::default(), &Fake::default(), CancellationToken::new()).await;
        let heartbeat = "worker.heartbeat";
        assert_eq!(
            kept.keys(),
            ["worker.online", heartbeat, heartbeat, heartbeat, "worker.elect.ack", "task.multi", "worker.offline"]
        );
        let all = kept.all.lock().unwrap();
        assert_eq!(
            (&all[0].1["active"], &all[0].1["processed"], &all[0].1["freq"]),
            (&json!(1), &json!(4), &json!(2.0))
        );
        assert_eq!((&all[3].1["freq"], &all[3].1["active"]), (&json!(5.0), &Value::Null));
        let clocks: Vec<u64> = all.iter().filter_map(|(_, body)| body.get("clock").and_then(Value::as_u64)).collect();
        assert!(clocks.is_sorted_by(|one, two| one < two), "{clocks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn events_of_tasks_go_out_in_lists_while_they_are_wanted() {
        let Running { events, kept, stop, task } = start(false);
        tokio::time::sleep(Duration::from_millis(5)).await;
        events.tell(&event("wapp.add", 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(kept.tasks(), (0, 0), "nobody wants them");
        assert!(events.enable(true));
        for number in 0..3 {
            events.tell(&event("wapp.add", number));
            events.tell(&event("wapp.quiet", number));
            events.tell(&Event { what: Happening::Dead("x".into()), ..event("wapp.add", number) });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(kept.tasks(), (3, 1), "one message; none of the quiet type, none that Celery does not know");
        for number in 0..1_000 {
            events.tell(&event("wapp.add", number));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (count, messages) = kept.tasks();
        assert_eq!(count, 1_003);
        assert!((11..=13).contains(&messages), "{messages}");
        assert!(events.enable(false) && !events.enable(false));
        stop.cancel();
        task.await.unwrap();
        assert_eq!(events.dropped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_is_away_costs_bounded_memory_and_gets_the_rest_later() {
        let Running { events, kept, stop, task } = start(true);
        tokio::time::sleep(Duration::from_millis(5)).await;
        kept.away.store(true, Ordering::Relaxed);
        for number in 0..12_000 {
            events.tell(&event("wapp.add", number));
            if number % 500 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(kept.tasks(), (0, 0));
        assert_eq!(events.dropped(), 2_000);
        kept.away.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(kept.tasks(), (10_000, 100));
        let keys = kept.keys();
        assert_eq!(keys.iter().filter(|key| *key == "worker.online").count(), 2, "it tells again that it is there");
        let first = kept.all.lock().unwrap().iter().find(|(key, _)| key == "task.multi").unwrap().1[0].clone();
        assert_eq!(first["uuid"], "0", "in their order");
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_redis_holds_nobody_up() {
        let Running { events, kept, stop, task } = start(true);
        tokio::time::sleep(Duration::from_millis(5)).await;
        kept.millis.store(4_000, Ordering::Relaxed);
        for number in 0..40_000 {
            events.tell(&event("wapp.add", number));
            if number % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(events.dropped() > 10_000, "{}", events.dropped());
        kept.lost.store(true, Ordering::Relaxed);
        kept.millis.store(0, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (sent, _) = kept.tasks();
        assert_eq!(events.dropped() + sent as u64, 40_000, "each is sent or counted");
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_on_here_sees_all_of_it() {
        let Running { events, kept, stop, task } = start(false);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut feed = events.feed().follow();
        events.tell(&event("wapp.quiet", 1));
        events.tell(&Event { what: Happening::Dead("poison".into()), ..event("wapp.add", 2) });
        let (one, two) = (feed.recv().await.unwrap(), feed.recv().await.unwrap());
        assert_eq!((&*one.kind, &*one.node, &one.fields()["queue"]), ("task-started", "w1@host", &json!("celery")));
        assert_eq!(
            (&*two.kind, &two.fields()["reason"], &two.fields()["name"]),
            ("task-dead", &json!("poison"), &json!("wapp.add"))
        );
        assert_eq!(kept.tasks(), (0, 0));
        stop.cancel();
        task.await.unwrap();
        assert_eq!(feed.recv().await.unwrap().kind, "worker-offline");
        drop(feed);
        assert!(!events.feed().is_followed());
    }
}
