//! Tasks at set times over a real Redis: once each, by however many Beacons, over restarts and changes of entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use beacon::db;
use beacon::secret::Secret;
use beacon::tasks::Transport;
use beacon::tasks::broker::Broker;
use beacon::tasks::python::{Schedule, Timing};
use beacon::tasks::results::Results;
use beacon::tasks::schedule::{Entry, Error, Scheduler, Source, Sources, Status, Store};
use beacon::tasks::{Client, Defaults};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Postgres, Redis};

/// A client of this Redis.
pub fn client(redis: &Redis) -> Client {
    let (url, transport) = (Secret::new(redis.url()), Transport::default());
    let broker = Broker::new(&url, &transport).unwrap();
    let results = Results::new(&url, &transport, Duration::from_hours(1)).unwrap();
    let defaults = Defaults { queue: "celery".into(), origin: "test@here".into(), bytes: 64 << 20 };
    Client::new(broker, results, defaults)
}

/// The messages of a list, the oldest first.
pub fn messages(redis: &Redis, list: &str) -> Vec<Value> {
    let text = redis.ask(&["LRANGE", list, "0", "-1"]);
    text.lines().rev().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The arguments, the named ones, and the rest.
pub fn body(message: &Value) -> Value {
    let text = message["body"].as_str().unwrap();
    let decoded = match message["properties"]["body_encoding"].as_str() {
        Some("base64") => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        _ => text.as_bytes().to_vec(),
    };
    serde_json::from_slice(&decoded).unwrap()
}

/// Waits for a state, at most thirty seconds.
pub async fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    for _ in 0..1_500 {
        if is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// A Beacon that sends tasks at set times.
struct Host {
    scheduler: Scheduler,
    exported: watch::Sender<Arc<[Schedule]>>,
    stop: CancellationToken,
    running: AbortOnDropHandle<()>,
    _keeping: AbortOnDropHandle<()>,
}

async fn host(redis: &Redis, entries: &[(&str, Entry)], store: Option<Store>) -> Host {
    let client = client(redis);
    let broker = client.broker().clone();
    let keeping = AbortOnDropHandle::new(tokio::spawn(broker.clone().keep()));
    wait_for("a connection to Redis", || broker.is_connected()).await;
    let (exported, receiver) = watch::channel(Arc::from([]));
    let entries: BTreeMap<String, Entry> =
        entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
    let scheduler = Scheduler::new(client, Sources { entries, store, exported: receiver });
    let stop = CancellationToken::new();
    let running = {
        let (scheduler, stop) = (scheduler.clone(), stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { scheduler.run(stop).await }))
    };
    Host { scheduler, exported, stop, running, _keeping: keeping }
}

fn every_second() -> Entry {
    Entry { task: "app.tick".into(), every: Duration::from_secs(1), args: "[1]".into(), ..Entry::default() }
}

/// Comes once a day, so many minutes before now.
fn minutes_ago(minutes: i64) -> Entry {
    let at = jiff::Timestamp::now() - jiff::Span::new().minutes(minutes);
    let at = jiff::tz::TimeZone::UTC.to_datetime(at);
    Entry { task: "app.daily".into(), cron: format!("{} {} * * *", at.minute(), at.hour()), ..Entry::default() }
}

fn field(redis: &Redis, name: &str, field: &str) -> i64 {
    redis.ask(&["HGET", &format!("beacon:schedule:{name}"), field]).parse().unwrap_or(0)
}

/// Since when an entry's times are known to Redis.
fn since(redis: &Redis, name: &str) -> (String, i64) {
    let all = redis.ask(&["HGETALL", &format!("beacon:schedule:{name}")]);
    let lines: Vec<&str> = all.lines().collect();
    let place = lines.iter().position(|line| line.starts_with("since:")).expect("it is known");
    (lines[place].to_owned(), lines[place + 1].parse().unwrap())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn status(host: &Host, name: &str) -> Status {
    let all = host.scheduler.list().await.unwrap();
    all.into_iter().find(|status| status.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_time_is_sent_once_by_however_many_beacons_that_come_and_go() {
    let redis = Redis::start();
    let entries = [("tick", every_second())];
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(host(&redis, &entries, None).await);
    }
    // Each is ended in the middle of something, and another takes its place.
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(170)).await;
        hosts.remove(0);
        hosts.push(host(&redis, &entries, None).await);
    }
    drop(hosts);
    let sent = messages(&redis, "celery");
    let (_, since) = since(&redis, "tick");
    let times = (field(&redis, "tick", "slot") - since) / 1_000;
    assert!(times >= 4, "{times}");
    assert_eq!((field(&redis, "tick", "sent"), field(&redis, "tick", "missed")), (times, 0));
    assert_eq!(sent.len() as i64, times);
    assert_eq!(sent[0]["headers"]["task"], "app.tick");
    assert_eq!(sent[0]["headers"]["celery_beat_task"], true);
    assert_eq!(body(&sent[0])[0], json!([1]));
    let ids: std::collections::BTreeSet<String> = sent.iter().map(|one| one["headers"]["id"].to_string()).collect();
    assert_eq!(ids.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_made_up_for_once_and_within_its_grace() {
    let redis = Redis::start();
    let within = Entry { grace: Duration::from_hours(1), ..minutes_ago(30) };
    let beyond = Entry { grace: Duration::from_mins(10), ..minutes_ago(30) };
    let entries = [("within", within), ("beyond", beyond), ("tick", every_second())];
    let first = host(&redis, &entries, None).await;
    wait_for("a first tick", || field(&redis, "tick", "sent") == 1).await;
    assert_eq!(field(&redis, "within", "sent"), 0, "a new entry makes up for nothing");
    first.stop.cancel();
    wait_for("it ends", || first.running.is_finished()).await;
    drop(first);
    // As if they had been known for hours, and no Beacon had run for one and for twenty seconds.
    for name in ["within", "beyond"] {
        let (field, _) = since(&redis, name);
        let long_ago = (now() - 2 * 3_600_000).to_string();
        redis.ask(&["HSET", &format!("beacon:schedule:{name}"), &field, &long_ago]);
    }
    let (field_, at) = since(&redis, "tick");
    redis.ask(&["HSET", "beacon:schedule:tick", &field_, &(at - 20_000).to_string()]);
    let slot = field(&redis, "tick", "slot");
    redis.ask(&["HSET", "beacon:schedule:tick", "slot", &(slot - 20_000).to_string()]);
    let second = host(&redis, &entries, None).await;
    wait_for("it is made up for", || field(&redis, "within", "sent") == 1).await;
    wait_for("it is passed over", || field(&redis, "beyond", "missed") == 1).await;
    wait_for("it ticks", || field(&redis, "tick", "sent") >= 3).await;
    assert_eq!((field(&redis, "within", "missed"), field(&redis, "beyond", "sent")), (0, 0));
    let missed = field(&redis, "tick", "missed");
    assert!((19..=25).contains(&missed), "{missed}");
    let known = status(&second, "within").await;
    assert_eq!((known.source, known.sent, known.enabled), (Source::Configuration, 1, true));
    let next = known.next.unwrap();
    assert!((now() + 23 * 3_600_000..now() + 24 * 3_600_000).contains(&next), "{next}");
    assert!(known.last.unwrap() < now() - 29 * 60_000 && known.sent_at.unwrap() > now() - 30_000);
    assert!(known.task_id.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_back_sends_nothing_twice() {
    let redis = Redis::start();
    let entries = [("tick", every_second())];
    let one = host(&redis, &entries, None).await;
    wait_for("a first tick", || field(&redis, "tick", "sent") >= 1).await;
    drop(one);
    // Redis's own clock cannot be set; its last time can.
    redis.ask(&["HSET", "beacon:schedule:tick", "slot", &(now() + 3_600_000).to_string()]);
    let sent = field(&redis, "tick", "sent");
    let two = host(&redis, &entries, None).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(field(&redis, "tick", "sent"), sent);
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_begins_anew_and_one_out_of_force_rests() {
    let redis = Redis::start();
    let early = [("daily", Entry { grace: Duration::from_hours(2), ..minutes_ago(60) })];
    let one = host(&redis, &early, None).await;
    wait_for("it is known", || redis.ask(&["EXISTS", "beacon:schedule:daily"]) == "1").await;
    drop(one);
    let (name, _) = since(&redis, "daily");
    redis.ask(&["HSET", "beacon:schedule:daily", &name, &(now() - 86_400_000).to_string()]);
    // Its time is another one now, and that was half an hour ago: before it was known.
    let late = [("daily", Entry { grace: Duration::from_hours(2), ..minutes_ago(30) }), ("tick", every_second())];
    let two = host(&redis, &late, None).await;
    wait_for("a tick", || field(&redis, "tick", "sent") >= 1).await;
    assert_eq!(field(&redis, "daily", "sent"), 0);
    drop(two);
    let off = [("daily", Entry { enabled: false, ..minutes_ago(60) }), ("tick", every_second())];
    let three = host(&redis, &off, None).await;
    let before = field(&redis, "tick", "sent");
    wait_for("a tick", || field(&redis, "tick", "sent") > before).await;
    assert_eq!(field(&redis, "daily", "sent"), 0);
    let known = status(&three, "daily").await;
    assert_eq!((known.enabled, known.next), (false, None));
    // By hand it is sent all the same.
    let id = three.scheduler.run_now("daily").await.unwrap();
    assert!(messages(&redis, "celery").iter().any(|message| message["headers"]["id"] == json!(id)));
    assert_eq!(status(&three, "daily").await.task_id, Some(id));
    assert!(matches!(three.scheduler.run_now("nothing").await, Err(Error::Unknown(_))));
    drop(three);
    let on = [("daily", Entry { grace: Duration::from_hours(2), ..minutes_ago(60) }), ("tick", every_second())];
    let four = host(&redis, &on, None).await;
    let before = field(&redis, "tick", "sent");
    wait_for("two ticks", || field(&redis, "tick", "sent") > before + 1).await;
    assert_eq!(field(&redis, "daily", "sent"), 1, "only by hand");
    drop(four);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_the_database_count_at_once() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let open = || {
        let own = beacon::assets::folder("migrations").unwrap();
        db::Database::new(&db::Config::default(), &Secret::new(database.url()), own, Vec::new()).unwrap()
    };
    let ours = open();
    ours.prepare().await.unwrap();
    let host = host(&redis, &[("file", every_second())], Some(Store::new(ours))).await;
    let scheduler = &host.scheduler;
    let entry = Entry {
        kwargs: "{\"a\": [1.5, null]}".into(),
        queue: "slow".into(),
        priority: 3,
        expires: Duration::from_mins(5),
        ..every_second()
    };
    scheduler.put("row", &entry).await.unwrap();
    let list = "slow\u{6}\u{16}3";
    wait_for("it is sent", || redis.ask(&["LLEN", list]) != "0").await;
    let message = &messages(&redis, list)[0];
    assert_eq!(body(message)[1], json!({"a": [1.5, null]}));
    assert!(!message["headers"]["expires"].is_null());
    let listed = Store::new(open()).list().await.unwrap();
    assert_eq!(listed, [("row".to_owned(), entry.clone())]);
    assert_eq!(status(&host, "row").await.source, Source::Database);

    scheduler.enable("row", false).await.unwrap();
    wait_for("it rests", || since_is_forgotten(&redis, "row")).await;
    let sent = redis.ask(&["LLEN", list]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(redis.ask(&["LLEN", list]), sent);

    // Rows that people write by hand may make no sense.
    database.execute("insert into beacon.schedules (name, task, cron) values ('odd', 'app.odd', '61 * * * *')");
    let mut odd = None;
    for _ in 0..100 {
        odd = scheduler.list().await.unwrap().into_iter().find(|status| status.name == "odd");
        if odd.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(odd.unwrap().problem.unwrap().contains("minute"));
    let wrong = Entry { cron: "x".into(), ..entry.clone() };
    assert!(scheduler.put("row", &wrong).await.is_err());
    assert!(matches!(scheduler.put("file", &entry).await, Err(Error::Elsewhere(_))));
    assert!(matches!(scheduler.delete("file").await, Err(Error::Elsewhere(_))));
    assert!(matches!(scheduler.delete("nothing").await, Err(Error::Unknown(_))));
    scheduler.delete("row").await.unwrap();
    assert_eq!(redis.ask(&["EXISTS", "beacon:schedule:row"]), "0");
    assert!(Store::new(open()).get("row").await.unwrap().is_none());
}

fn since_is_forgotten(redis: &Redis, name: &str) -> bool {
    !redis.ask(&["HKEYS", &format!("beacon:schedule:{name}")]).contains("since:")
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_celery_application_are_sent_unless_the_configuration_has_them() {
    let redis = Redis::start();
    let host = host(&redis, &[("both", Entry { enabled: false, ..every_second() })], None).await;
    let exported = |name: &str, lazy: bool| Schedule {
        name: name.into(),
        task: "app.periodic".into(),
        args: vec![json!({"__type__": "date", "__value__": "2026-01-01"})],
        kwargs: Map::new(),
        options: Map::from_iter([("queue".to_owned(), json!("celery")), ("headers".to_owned(), json!({"x": 1}))]),
        lazy,
        timing: Timing::Interval { seconds: 1.0, relative: false },
    };
    host.exported.send_replace(Arc::from([
        exported("both", false),
        exported("app.periodic() every 1s", false),
        exported("computed", true),
    ]));
    wait_for("it is sent", || redis.ask(&["LLEN", "celery"]) != "0").await;
    let message = &messages(&redis, "celery")[0];
    assert_eq!((&message["headers"]["x"], &message["headers"]["celery_beat_task"]), (&json!(1), &json!(true)));
    assert_eq!(body(message)[0][0]["__type__"], "date");
    assert_eq!(field(&redis, "both", "sent"), 0);
    let all = host.scheduler.list().await.unwrap();
    let names: Vec<(&str, Source)> = all.iter().map(|status| (status.name.as_str(), status.source)).collect();
    assert_eq!(
        names,
        [
            ("app.periodic() every 1s", Source::Application),
            ("both", Source::Configuration),
            ("computed", Source::Application)
        ]
    );
    assert!(all[2].problem.as_deref().unwrap().contains("BeatLazyFunc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_go_on_after_redis_was_away() {
    let mut redis = Redis::start();
    let host = host(&redis, &[("tick", every_second())], None).await;
    wait_for("a tick", || field(&redis, "tick", "sent") >= 1).await;
    redis.stop();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    redis.start_again();
    // The new server knows nothing of before.
    wait_for("a tick", || field(&redis, "tick", "sent") >= 1).await;
    redis.stall(true);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    redis.stall(false);
    let before = field(&redis, "tick", "sent");
    wait_for("a tick", || field(&redis, "tick", "sent") > before).await;
    let (_, since) = since(&redis, "tick");
    let times = (field(&redis, "tick", "slot") - since) / 1_000;
    assert_eq!(field(&redis, "tick", "sent") + field(&redis, "tick", "missed"), times);
    assert_eq!(redis.ask(&["LLEN", "celery"]).parse::<i64>().unwrap(), field(&redis, "tick", "sent"));
    drop(host);
}
