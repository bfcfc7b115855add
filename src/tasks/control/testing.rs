//! A worker that has some tasks and remembers what it was told, for the tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::Panel;
use crate::tasks::events::testing::envelope;
use crate::tasks::{Desk, Held, Pool, Spec};

/// The worker.
pub(in crate::tasks) struct Fake {
    pub(super) node: Arc<str>,
    pub(super) since: f64,
    pub(super) queues: Mutex<Vec<Arc<str>>>,
    /// What it was told, in its order.
    pub(super) told: Mutex<Vec<String>>,
}

impl Default for Fake {
    fn default() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        Self {
            node: "w1@host".into(),
            since: now - 7.2,
            queues: Mutex::new(vec!["celery".into(), "q2".into()]),
            told: Mutex::default(),
        }
    }
}

impl Fake {
    fn tell(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    pub(super) fn was_told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn held(task: &str, id: &str, started: Option<f64>, eta: Option<f64>) -> Held {
    let mut message = envelope(task, id, "[[20], {}, {}]");
    message.headers.argsrepr = Some("(20,)".into());
    message.headers.kwargsrepr = Some("{}".into());
    message.headers.stamps = vec![("mtask_id".into(), json!(["abc", "d"]))];
    Held {
        envelope: Arc::new(message),
        queue: "celery".into(),
        started,
        pid: started.map(|_| 30_614),
        acknowledged: started.is_some(),
        eta,
    }
}

impl Desk for Fake {
    fn node(&self) -> Arc<str> {
        Arc::clone(&self.node)
    }

    fn since(&self) -> f64 {
        self.since
    }

    fn active(&self) -> Vec<Held> {
        vec![held("wapp.sleeping", "a1", Some(1_795_573_092.25), None)]
    }

    fn reserved(&self) -> Vec<Held> {
        vec![held("wapp.add", "r1", None, None)]
    }

    fn scheduled(&self, most: usize) -> BoxFuture<'_, Vec<Held>> {
        let all = vec![held("wapp.add", "s1", None, Some(1_795_573_692.5)), held("wapp.add", "s2", None, Some(2e9))];
        async move { all.into_iter().take(most).collect() }.boxed()
    }

    fn totals(&self) -> BTreeMap<Arc<str>, u64> {
        BTreeMap::from([("wapp.add".into(), 3), ("wapp.sleeping".into(), 1)])
    }

    fn specs(&self) -> Vec<Arc<Spec>> {
        let lim = Spec { rate: Some(10.0 / 60.0), ..Spec::new("wapp.lim") };
        let slow = Spec { time_limit: Some(Duration::from_secs(5)), acks_late: true, ..Spec::new("wapp.slow") };
        let quiet = Spec { send_events: false, ..Spec::new("wapp.quiet") };
        [Spec::new("celery.chain"), Spec::new("wapp.add"), lim, slow, quiet].into_iter().map(Arc::new).collect()
    }

    fn queues(&self) -> Vec<Arc<str>> {
        self.queues.lock().unwrap().clone()
    }

    fn add_queue(&self, queue: &str) {
        self.queues.lock().unwrap().push(queue.into());
    }

    fn remove_queue(&self, queue: &str) -> bool {
        let mut queues = self.queues.lock().unwrap();
        let before = queues.len();
        queues.retain(|one| &**one != queue);
        queues.len() < before
    }

    fn pool(&self) -> Pool {
        Pool { places: 2, pids: vec![5, 6], max_tasks: 0, timeouts: (Some(9.0), None) }
    }

    fn resize(&self, by: isize) {
        self.tell(format!("resize {by}"));
    }

    fn set_rate(&self, task: &str, rate: Option<f64>) -> bool {
        self.tell(format!("rate {task} {rate:?}"));
        task != "nope"
    }

    fn set_time_limits(&self, task: &str, soft: Option<Duration>, hard: Option<Duration>) -> bool {
        self.tell(format!("limits {task} {soft:?} {hard:?}"));
        !matches!(task, "nope" | "")
    }

    fn revoke(&self, ids: Vec<String>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>> {
        self.tell(format!("revoke {ids:?} {signal:?}"));
        async move { ids.into_iter().filter(|id| id.starts_with('a')).collect() }.boxed()
    }

    fn revoke_stamped(&self, stamps: Vec<(String, Vec<String>)>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>> {
        self.tell(format!("stamped {stamps:?} {signal:?}"));
        async { Vec::new() }.boxed()
    }

    fn revoked(&self) -> BoxFuture<'_, Vec<String>> {
        async { vec!["z1".to_owned()] }.boxed()
    }

    fn shut_down(&self) {
        self.tell("shut down".into());
    }
}

/// An application with two commands.
pub(super) struct Application;

impl Panel for Application {
    fn call<'a>(&'a self, method: &'a str, arguments: &'a Value) -> BoxFuture<'a, Option<Result<Value, String>>> {
        let answer = match method {
            "double" => Some(arguments["n"].as_i64().map(|n| json!({"ok": n * 2})).ok_or("KeyError('n')".to_owned())),
            "conf" => Some(Ok(json!({"include": ["wapp"]}))),
            "registered" => Some(Ok(json!(["wapp.add [priority=3]"]))),
            _ => None,
        };
        async move { answer }.boxed()
    }

    fn report(&self) -> BoxFuture<'_, Option<String>> {
        async { Some("software -> celery:5.7.0".to_owned()) }.boxed()
    }
}

/// A Redis of one's own in a folder that goes with it, reached over a socket.
pub(in crate::tasks) struct Server {
    folder: tempfile::TempDir,
    child: std::process::Child,
}

impl Server {
    pub(in crate::tasks) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = std::process::Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no", "--logfile", "log"])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let server = Self { folder, child };
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(server.folder.path().join("socket")).is_err() {
            assert!(std::time::Instant::now() < until, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(in crate::tasks) fn url(&self) -> crate::secret::Secret {
        crate::secret::Secret::new(format!("unix://{}/socket?db=3", self.folder.path().display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
