//! Every script against a real Redis: what is where after each step, and after a crash between two of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::*;
use crate::redis::Value;
use crate::tasks::results::Write;
use crate::tasks::server::{Server, ask, until};
use crate::tasks::wire::{self, Envelope, Limits};

fn message(id: &str) -> Bytes {
    wire::Task { task: "t", id, origin: "test", routing_key: "celery", ..wire::Task::default() }.message()
}

async fn put(broker: &Broker, queue: &str, priority: u8, id: &str) {
    broker.publish(&[Publish { queue, priority, raw: message(id), queue_expires: None }]).await.unwrap();
}

fn ids(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|one| wire::id_of(&one.raw).unwrap_or_default()).collect()
}

fn settled(claim: &Claimed, fate: Fate) -> Settled {
    Settled { claim: claim.claim.clone(), stored: None, fate }
}

fn requeue(claim: &Claimed, head: bool) -> Settled {
    let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
    settled(claim, Fate::Requeue { raw, queue, priority: 0, head, redelivered: true, lost: None })
}

fn park(claim: &Claimed, id: &str, until_ms: i64) -> Settled {
    let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
    let fate = Fate::Park { raw, queue, priority: 0, id: id.into(), until_ms, node: "w@h".into(), why: Why::Eta };
    settled(claim, fate)
}

/// Nothing of any claim is left.
async fn assert_no_claims(broker: &Broker, worker: &str) {
    for name in ["unacked", "unacked_index", &format!("beacon:claims:{worker}")] {
        assert_eq!(ask(broker.client(), "EXISTS", &[&broker.key(name)]).await, "0", "{name}");
    }
}

/// Makes a worker look as if it had been silent for so long.
async fn silence(broker: &Broker, worker: &str, ms: i64) {
    let now = (wire::now() * 1e3) as i64 - ms;
    ask(broker.client(), "ZADD", &["beacon:workers", &now.to_string(), worker]).await;
}

#[tokio::test]
async fn a_message_is_claimed_in_order_and_acknowledged_with_its_result() {
    let server = Server::start();
    let (broker, results) = (server.broker().await, server.results().await);
    for (priority, id) in [(0, "a"), (9, "low"), (0, "b"), (5, "middle")] {
        put(&broker, "celery", priority, id).await;
    }
    assert_eq!(ask(broker.client(), "LLEN", &["celery\u{6}\u{16}3"]).await, "1");
    assert_eq!(
        ask(broker.client(), "SMEMBERS", &["_kombu.binding.celery"]).await,
        "celery\u{6}\u{16}\u{6}\u{16}celery"
    );
    assert_eq!(ask(broker.client(), "SCARD", &["_kombu.binding_permanent.celery"]).await, "1");
    let lists = broker.lists("celery");
    let claimed = broker.claim("w", &lists, 3).await.unwrap();
    assert_eq!(ids(&claimed), ["a", "b", "middle"]);
    // As kombu has it, so that a stock worker can restore it.
    let field = claimed[0].claim.as_str();
    let value = ask(broker.client(), "HGET", &["unacked", field]).await;
    let value: Json = serde_json::from_str(&value).unwrap();
    assert_eq!((&value[0]["headers"]["id"], &value[1], &value[2]), (&json!("a"), &json!(""), &json!("celery")));
    let score: f64 = ask(broker.client(), "ZSCORE", &["unacked_index", field]).await.parse().unwrap();
    assert!((wire::now() - score).abs() < 5.0, "{score}");
    assert_eq!(ask(broker.client(), "SCARD", &["beacon:claims:w"]).await, "3");
    let mut heard = results.client().subscribe(&["celery-task-meta-a"], &[]);
    assert_eq!(heard.next().await, redis::Heard::Gap);
    while ask(broker.client(), "PUBSUB", &["NUMSUB", "celery-task-meta-a"]).await.ends_with(",0") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let value = Bytes::from_static(br#"{"status": "SUCCESS", "result": 5}"#);
    let mut ends: Vec<Settled> = claimed.iter().map(|one| settled(one, Fate::Ack)).collect();
    ends[0].stored = Some(Write { id: "a".into(), value: value.clone() });
    assert_eq!(broker.settle("w", Some(&results), &ends).await.unwrap(), [true; 3]);
    assert_no_claims(&broker, "w").await;
    assert_eq!(results.raw("a").await.unwrap().as_ref(), Some(&value));
    let message = redis::Heard::Message { channel: "celery-task-meta-a".into(), payload: value };
    assert_eq!(heard.next().await, message);
    let ttl: i64 = ask(broker.client(), "TTL", &["celery-task-meta-a"]).await.parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
    // A success stays, a second settlement says that the claim is no longer there.
    ends[0].stored = Some(Write { id: "a".into(), value: r#"{"status": "FAILURE"}"#.into() });
    assert_eq!(broker.settle("w", Some(&results), &ends).await.unwrap(), [false; 3]);
    assert_eq!(results.get("a").await.unwrap().unwrap().status, "SUCCESS");
}

#[tokio::test]
async fn nothing_that_lies_on_a_list_or_beside_it_stops_a_claim() {
    let server = Server::start();
    let broker = server.broker().await;
    for junk in ["no json", "", "[1]", "{\"a\": ", "\"x\", \"\", \"y\"]"] {
        ask(broker.client(), "LPUSH", &["q", junk]).await;
    }
    let binary = vec![Value::from("q"), Value::Bytes(Bytes::from_static(b"\xff\x00"))];
    broker.client().command("LPUSH", binary, CALL).await.unwrap();
    ask(broker.client(), "SET", &["other", "no list"]).await;
    put(&broker, "q", 0, "good").await;
    let lists = [broker.lists("other"), broker.lists("q")].concat();
    let claimed = broker.claim("w", &lists, 100).await.unwrap();
    assert_eq!(claimed.len(), 7);
    assert_eq!(&claimed[5].raw[..], b"\xff\x00");
    assert_eq!(ids(&claimed)[6], "good");
    // The worker dies: all of it comes back as it was, the message alone with marks.
    silence(&broker, "w", 7_000).await;
    let back = broker.bury().await.unwrap();
    assert_eq!(back.len(), 7);
    assert_eq!(back.iter().filter(|one| one.id.as_deref() == Some("good") && one.attempts == 1).count(), 1);
    assert_no_claims(&broker, "w").await;
    let again = broker.claim("v", &lists, 100).await.unwrap();
    let raws = |claimed: &[Claimed]| claimed.iter().map(|one| one.raw.clone()).take(6).collect::<Vec<_>>();
    assert_eq!(raws(&again), raws(&claimed));
    assert_eq!((again[6].attempts_before, again[0].attempts_before), (1, 0));
    let envelope = Envelope::parse(again[6].raw.clone(), &Limits::new(10_000)).unwrap();
    let old = Envelope::parse(claimed[6].raw.clone(), &Limits::new(10_000)).unwrap();
    assert!(envelope.redelivered && envelope.delivery_tag != old.delivery_tag && envelope.body == old.body);
    // Dead letters keep bytes of any kind.
    let ends: Vec<Settled> = again
        .iter()
        .map(|one| {
            let (raw, queue) = (one.raw.clone(), one.queue.clone());
            settled(one, Fate::Dead { raw, queue, reason: "no message".into(), id: None, task: None })
        })
        .collect();
    assert_eq!(broker.settle("v", None, &ends).await.unwrap(), [true; 7]);
    assert_no_claims(&broker, "v").await;
    let dead = broker.dead(0, 100).await.unwrap();
    assert_eq!((dead.len(), broker.dead_count().await.unwrap()), (7, 7));
    assert!(dead.iter().any(|letter| &letter.raw[..] == b"\xff\x00" && letter.reason == "no message"));
    assert!((dead[0].at - wire::now()).abs() < 5.0);
    let names: Vec<String> = dead.iter().map(|letter| letter.key.clone()).collect();
    assert_eq!(broker.replay(&names[..2]).await.unwrap(), 2);
    assert_eq!(broker.drop_dead(&names).await.unwrap(), 5);
    assert_eq!(broker.lengths(&["q"]).await.unwrap()[0].total(), 2);
    assert_eq!(ask(broker.client(), "EXISTS", &["beacon:dead", "beacon:dead:messages"]).await, "0");
}

#[tokio::test]
async fn two_bury_at_once_and_everything_comes_back_once_and_in_order() {
    let server = Server::start();
    let (one, two) = (server.broker().await, server.broker().await);
    for number in 0..700 {
        put(&one, "q", 0, &number.to_string()).await;
    }
    let lists = one.lists("q");
    for _ in 0..7 {
        assert_eq!(one.claim("dead", &lists, 100).await.unwrap().len(), 100);
    }
    // Alive: nothing happens.
    assert_eq!(two.bury().await.unwrap().len(), 0);
    silence(&one, "dead", 6_500).await;
    let (first, second) = tokio::join!(one.bury(), two.bury());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.len() + second.len(), 700);
    assert_no_claims(&one, "dead").await;
    assert_eq!(ask(one.client(), "EXISTS", &["beacon:workers"]).await, "0");
    let mut seen = Vec::new();
    while seen.len() < 700 {
        let claimed = one.claim("w", &lists, 500).await.unwrap();
        assert!(!claimed.is_empty(), "{}", seen.len());
        assert!(claimed.iter().all(|claimed| claimed.attempts_before == 1));
        seen.extend(ids(&claimed));
    }
    seen.sort_by_key(|id| id.parse::<u32>().unwrap());
    seen.dedup();
    assert_eq!(seen.len(), 700);
}

#[tokio::test]
async fn what_comes_back_runs_next_and_in_the_order_of_its_claims() {
    let server = Server::start();
    let broker = server.broker().await;
    for id in ["a", "b", "c", "d"] {
        put(&broker, "q", 0, id).await;
    }
    let lists = broker.lists("q");
    assert_eq!(ids(&broker.claim("w", &lists, 3).await.unwrap()), ["a", "b", "c"]);
    assert_eq!(broker.leave("w").await.unwrap(), 3);
    assert_eq!(ask(broker.client(), "EXISTS", &["beacon:workers", "beacon:worker:w"]).await, "0");
    let claimed = broker.claim("v", &lists, 9).await.unwrap();
    assert_eq!(ids(&claimed), ["a", "b", "c", "d"]);
    // A clean stop is no loss.
    assert!(claimed.iter().all(|one| one.attempts_before == 0));
    // Requeued at the head, at the end, and without marks.
    let (raw, queue) = (claimed[2].raw.clone(), claimed[2].queue.clone());
    let plain = Fate::Requeue { raw, queue, priority: 0, head: true, redelivered: false, lost: None };
    let ends = [
        requeue(&claimed[0], false),
        requeue(&claimed[1], true),
        settled(&claimed[2], plain),
        settled(&claimed[3], Fate::Ack),
    ];
    assert_eq!(broker.settle("v", None, &ends).await.unwrap(), [true; 4]);
    let again = broker.claim("v", &lists, 9).await.unwrap();
    assert_eq!(ids(&again), ["c", "b", "a"]);
    assert_eq!(again[0].raw, claimed[2].raw);
    assert_ne!(again[1].raw, claimed[1].raw);
}

#[tokio::test]
async fn a_worker_that_was_buried_alive_cannot_end_what_another_has() {
    let server = Server::start();
    let broker = server.broker().await;
    put(&broker, "q", 0, "a").await;
    let lists = broker.lists("q");
    let first = broker.claim("slow", &lists, 1).await.unwrap();
    silence(&broker, "slow", 60_000).await;
    assert_eq!(broker.bury().await.unwrap().len(), 1);
    let second = broker.claim("quick", &lists, 1).await.unwrap();
    assert_eq!(ids(&second), ["a"]);
    // The slow one wakes up: whatever it does with its claim, the quick one's stays.
    assert_eq!(broker.renew("slow", "{}").await.unwrap(), 0);
    for end in [settled(&first[0], Fate::Ack), requeue(&first[0], true), park(&first[0], "a", 0)] {
        assert_eq!(broker.settle("slow", None, &[end]).await.unwrap(), [false]);
    }
    assert_eq!(ask(broker.client(), "LLEN", &["q"]).await, "0");
    assert_eq!(ask(broker.client(), "ZCARD", &["unacked_index"]).await, "1");
    assert_eq!(broker.settle("quick", None, &[settled(&second[0], Fate::Ack)]).await.unwrap(), [true]);
    assert_no_claims(&broker, "quick").await;
}

#[tokio::test]
async fn a_sign_of_life_keeps_claims_and_a_claim_is_one_itself() {
    let server = Server::start();
    let broker = server.broker().await;
    put(&broker, "q", 0, "a").await;
    let claimed = broker.claim("w", &broker.lists("q"), 1).await.unwrap();
    let claim = claimed[0].claim.as_str();
    assert!(broker.workers().await.unwrap()[0].alive);
    ask(broker.client(), "ZADD", &["unacked_index", "5", claim]).await;
    silence(&broker, "w", 5_000).await;
    assert_eq!(broker.renew("w", r#"{"node": "w@h"}"#).await.unwrap(), 1);
    let score: f64 = ask(broker.client(), "ZSCORE", &["unacked_index", claim]).await.parse().unwrap();
    assert!((wire::now() - score).abs() < 5.0);
    let workers = broker.workers().await.unwrap();
    assert_eq!((workers.len(), workers[0].id.as_str(), &workers[0].info), (1, "w", &json!({"node": "w@h"})));
    assert!(workers[0].alive);
    // What a stock worker has restored is not brought back to the index.
    ask(broker.client(), "ZREM", &["unacked_index", claim]).await;
    broker.renew("w", "{}").await.unwrap();
    assert_eq!(ask(broker.client(), "ZSCORE", &["unacked_index", claim]).await, "nil");
    assert_eq!(broker.settle("w", None, &[settled(&claimed[0], Fate::Ack)]).await.unwrap(), [false]);
}

#[tokio::test]
async fn messages_wait_for_their_time_and_the_first_of_them_runs_first() {
    let server = Server::start();
    let broker = server.broker().await;
    for id in ["late", "soon", "sooner", "copy", "copy", "far"] {
        put(&broker, "q", 0, id).await;
    }
    let lists = broker.lists("q");
    let claimed = broker.claim("w", &lists, 9).await.unwrap();
    let now = (wire::now() * 1e3) as i64;
    let times = [60_000, -10, -20, 70_000, 70_000, 400];
    let ends: Vec<Settled> =
        claimed.iter().zip(times).map(|(one, time)| park(one, &wire::id_of(&one.raw).unwrap(), now + time)).collect();
    broker.settle("w", None, &ends).await.unwrap();
    assert_no_claims(&broker, "w").await;
    assert_eq!(broker.parked_count().await.unwrap(), 6);
    let parked = broker.parked(2).await.unwrap();
    assert_eq!((parked.len(), parked[0].id.as_str(), parked[0].until_ms), (2, "sooner", now - 20));
    assert_eq!((&*parked[1].queue, &*parked[1].node, parked[1].why), ("q", "w@h", Why::Eta));
    let next = broker.release_due().await.unwrap().unwrap();
    assert!(next <= Duration::from_millis(400), "{next:?}");
    assert_eq!(ids(&broker.claim("w", &lists, 9).await.unwrap()), ["sooner", "soon"]);
    tokio::time::sleep(next).await;
    let next = broker.release_due().await.unwrap().unwrap();
    assert!(next > Duration::from_secs(50), "{next:?}");
    assert_eq!(ids(&broker.claim("w", &lists, 9).await.unwrap()), ["far"]);
    // Two of one task are found by its identifier.
    assert_eq!(broker.forget_parked(&["copy".into(), "none".into()]).await.unwrap().len(), 2);
    assert_eq!(broker.unpark(&["late".into()]).await.unwrap(), 1);
    assert_eq!(ids(&broker.claim("w", &lists, 9).await.unwrap()), ["late"]);
    assert_eq!(broker.release_due().await.unwrap(), None);
    assert_eq!(ask(broker.client(), "EXISTS", &["beacon:eta", "beacon:eta:messages"]).await, "0");
}

#[tokio::test]
async fn losses_are_counted_until_the_task_ends() {
    let server = Server::start();
    let broker = server.broker().await;
    put(&broker, "q", 0, "a").await;
    let lists = broker.lists("q");
    for attempts in 0..3_u32 {
        let worker = format!("w{attempts}");
        let claimed = broker.claim(&worker, &lists, 1).await.unwrap();
        assert_eq!(claimed[0].attempts_before, attempts);
        if attempts == 1 {
            // The child that ran it was lost, not the worker.
            let (raw, queue) = (claimed[0].raw.clone(), claimed[0].queue.clone());
            let lost = Some("a".to_owned());
            let fate = Fate::Requeue { raw, queue, priority: 0, head: false, redelivered: true, lost };
            broker.settle(&worker, None, &[settled(&claimed[0], fate)]).await.unwrap();
        } else {
            silence(&broker, &worker, 10_000).await;
            assert_eq!(broker.bury().await.unwrap()[0].attempts, attempts + 1);
        }
    }
    let claimed = broker.claim("w", &lists, 1).await.unwrap();
    assert_eq!(claimed[0].attempts_before, 3);
    broker.settle("w", None, &[settled(&claimed[0], Fate::Ack)]).await.unwrap();
    assert_eq!(ask(broker.client(), "EXISTS", &["beacon:attempts:a"]).await, "0");
}

#[tokio::test]
async fn what_a_silent_stock_worker_had_is_restored_and_what_it_still_has_is_not() {
    let server = Server::start();
    let transport = Transport { visibility_timeout: Duration::from_secs(100), ..Transport::default() };
    let broker = server.broker_with(&transport).await;
    let now = wire::now();
    let sep = "\u{6}\u{16}";
    ask(broker.client(), "SADD", &["_kombu.binding.ex", &format!("rk{sep}{sep}bound")]).await;
    for (tag, age, exchange, key) in
        [("t1", 200.0, "", "plain"), ("t2", 150.0, "ex", "rk"), ("t3", 50.0, "", "plain"), ("t4", 120.0, "", "plain")]
    {
        let value = format!(r#"[{}, "{exchange}", "{key}"]"#, std::str::from_utf8(&message(tag)).unwrap());
        ask(broker.client(), "HSET", &["unacked", tag, if tag == "t4" { "broken" } else { &value }]).await;
        ask(broker.client(), "ZADD", &["unacked_index", &(now - age).to_string(), tag]).await;
    }
    ask(broker.client(), "ZADD", &["unacked_index", "1", "without-value"]).await;
    let back = broker.bury().await.unwrap();
    let mut found: Vec<_> = back.iter().map(|one| (one.id.as_deref().unwrap(), one.queue.as_str())).collect();
    found.sort_unstable();
    assert_eq!(found, [("t1", "plain"), ("t2", "bound")]);
    assert_eq!(ask(broker.client(), "ZRANGE", &["unacked_index", "0", "-1"]).await, "t3");
    assert_eq!(ask(broker.client(), "HKEYS", &["unacked"]).await, "t3");
    assert_eq!(ask(broker.client(), "EXISTS", &["unacked_mutex"]).await, "0");
    let claimed = broker.claim("w", &broker.lists("bound"), 1).await.unwrap();
    assert!(Envelope::parse(claimed[0].raw.clone(), &Limits::new(10_000)).unwrap().redelivered);
    // Somebody else is at it: nothing happens.
    let other = server.broker_with(&transport).await;
    ask(broker.client(), "SET", &["unacked_mutex", "theirs"]).await;
    ask(broker.client(), "ZADD", &["unacked_index", "1", "t3"]).await;
    assert_eq!(other.bury().await.unwrap(), []);
    assert_eq!(ask(broker.client(), "GET", &["unacked_mutex"]).await, "theirs");
}

#[tokio::test]
async fn a_waiter_wakes_at_once_and_takes_nothing() {
    let server = Server::start();
    let broker = server.broker().await;
    let wait = broker.wait(&["q".into(), "r".into()]);
    // Connected, and idle.
    let began = Instant::now();
    wait.next().await;
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    let mut slowest = Duration::ZERO;
    for (number, (queue, priority)) in [("q", 0), ("r", 9), ("q", 3), ("r", 0)].into_iter().enumerate() {
        let waiting = async {
            wait.next().await;
            Instant::now()
        };
        let putting = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let at = Instant::now();
            put(&broker, queue, priority, &number.to_string()).await;
            at
        };
        let (woken, at) = tokio::join!(waiting, putting);
        slowest = slowest.max(woken.saturating_duration_since(at));
        let lists = [broker.lists("q"), broker.lists("r")].concat();
        let claimed = broker.claim("w", &lists, 10).await.unwrap();
        assert_eq!(ids(&claimed), [number.to_string()]);
    }
    assert!(slowest < Duration::from_millis(300), "{slowest:?}");
}

#[tokio::test]
async fn a_paused_queue_is_left_alone_and_queues_can_be_looked_at() {
    let server = Server::start();
    let broker = server.broker().await;
    for (priority, id) in [(3, "third"), (0, "first"), (0, "second")] {
        put(&broker, "q", priority, id).await;
    }
    put(&broker, "other", 0, "x").await;
    broker.pause("q").await.unwrap();
    let lists = [broker.lists("q"), broker.lists("other")].concat();
    assert_eq!(ids(&broker.claim("w", &lists, 9).await.unwrap()), ["x"]);
    assert_eq!(broker.paused().await.unwrap(), ["q"]);
    let lengths = broker.lengths(&["q", "other"]).await.unwrap();
    assert_eq!((lengths[0].total(), lengths[0].paused, &lengths[0].steps[..2]), (3, true, &[(0, 2), (3, 1)][..]));
    assert_eq!(wire::id_of(lengths[0].head.as_ref().unwrap()).as_deref(), Some("first"));
    assert_eq!((lengths[1].total(), lengths[1].paused, lengths[1].head.is_none()), (0, false, true));
    let peek = |from, most| {
        let broker = broker.clone();
        async move {
            let found = broker.peek("q", from, most).await.unwrap();
            found.into_iter().map(|envelope| envelope.headers.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(peek(0, 9).await, ["first", "second", "third"]);
    assert_eq!(peek(1, 1).await, ["second"]);
    assert_eq!(peek(1, 2).await, ["second", "third"]);
    assert_eq!(peek(2, 5).await, ["third"]);
    assert_eq!(broker.known_queues().await.unwrap(), ["other", "q"]);
    assert!(broker.resume("q").await.unwrap() && !broker.resume("q").await.unwrap());
    assert_eq!(broker.purge("q").await.unwrap(), 3);
    assert_eq!(broker.claim("w", &lists, 9).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_prefix_is_in_front_of_every_name_and_in_no_value() {
    let server = Server::start();
    let transport = Transport { global_keyprefix: "{app}:".into(), ..Transport::default() };
    let broker = server.broker_with(&transport).await;
    put(&broker, "q", 9, "a").await;
    let claimed = broker.claim("w", &broker.lists("q"), 1).await.unwrap();
    broker.renew("w", "{}").await.unwrap();
    put(&broker, "q", 0, "b").await;
    broker.pause("z").await.unwrap();
    broker.revoke(&["r".into()]).await.unwrap();
    broker.settle("w", None, &[park(&claimed[0], "a", 0)]).await.unwrap();
    let keys = ask(broker.client(), "KEYS", &["*"]).await;
    assert!(keys.split(',').all(|key| key.starts_with("{app}:")), "{keys}");
    assert_eq!(broker.parked(1).await.unwrap()[0].queue, "q");
    broker.release_due().await.unwrap();
    assert_eq!(broker.lengths(&["q"]).await.unwrap()[0].total(), 2);
    assert_eq!(broker.known_queues().await.unwrap(), ["q"]);
}

#[tokio::test]
async fn revocations_are_remembered_and_told() {
    let server = Server::start();
    let broker = server.broker().await;
    let mut told = broker.client().subscribe(&[&broker.revoked_channel()], &[]);
    assert_eq!(told.next().await, redis::Heard::Gap);
    while ask(broker.client(), "PUBSUB", &["NUMSUB", "beacon:revoked"]).await.ends_with(",0") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    broker.revoke(&["a".into(), "b".into()]).await.unwrap();
    assert!(matches!(told.next().await, redis::Heard::Message { .. }));
    assert_eq!(broker.is_revoked(&["a", "c", "b"]).await.unwrap(), [true, false, true]);
    broker.unrevoke(&["a".into()]).await.unwrap();
    assert_eq!(broker.revoked().await.unwrap(), ["b"]);
    broker.revoke_stamps(&[("tenant".into(), "7\n8".into()), ("tenant".into(), "9".into())]).await.unwrap();
    assert_eq!(broker.revoked_stamps().await.unwrap()["tenant"], ["7\n8", "9"]);
    let many: Vec<String> = (0..51_000).map(|number| number.to_string()).collect();
    broker.revoke(&many).await.unwrap();
    assert_eq!(ask(broker.client(), "ZCARD", &["beacon:revoked"]).await, "50000");
}

#[tokio::test]
async fn a_shared_limit_holds_messages_unless_a_place_has_become_free() {
    let server = Server::start();
    let broker = server.broker().await;
    for id in ["a", "b"] {
        put(&broker, "q", 0, id).await;
    }
    let lists = broker.lists("q");
    let claimed = broker.claim("w", &lists, 2).await.unwrap();
    let hold = |one: &Claimed| {
        let (raw, queue) = (one.raw.clone(), one.queue.clone());
        settled(one, Fate::Hold { raw, queue, priority: 0, key: "k".into(), most: 1 })
    };
    let later = ((wire::now() + 60.0) * 1e3).to_string();
    ask(broker.client(), "ZADD", &["beacon:limit:k", &later, "holder"]).await;
    broker.settle("w", None, &[hold(&claimed[0])]).await.unwrap();
    assert_eq!(ask(broker.client(), "LLEN", &["beacon:hold:k"]).await, "1");
    assert_eq!(ask(broker.client(), "SMEMBERS", &["beacon:holds"]).await, "k");
    // The holder's time is over.
    ask(broker.client(), "ZADD", &["beacon:limit:k", "1", "holder"]).await;
    broker.settle("w", None, &[hold(&claimed[1])]).await.unwrap();
    assert_eq!(ids(&broker.claim("w", &lists, 2).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn claims_outlive_a_restart_of_redis_and_the_connection_comes_back() {
    let mut server = Server::start();
    let broker = server.broker().await;
    put(&broker, "q", 0, "a").await;
    put(&broker, "q", 0, "b").await;
    let claimed = broker.claim("w", &broker.lists("q"), 1).await.unwrap();
    let wait = broker.wait(&["q".into()]);
    server.stop();
    until("the loss is noticed", || !broker.is_connected()).await;
    let began = Instant::now();
    assert!(broker.settle("w", None, &[settled(&claimed[0], Fate::Ack)]).await.unwrap_err().is_unavailable());
    assert!(began.elapsed() < Duration::from_secs(1), "a call without a connection must not wait");
    wait.next().await;
    server.start_again();
    until("the connection is there again", || broker.is_connected()).await;
    assert_eq!(broker.settle("w", None, &[settled(&claimed[0], Fate::Ack)]).await.unwrap(), [true]);
    let began = Instant::now();
    wait.next().await;
    assert!(began.elapsed() < Duration::from_millis(1_100));
    assert_eq!(ids(&broker.claim("w", &broker.lists("q"), 9).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn a_connection_on_which_nobody_answers_is_given_up_and_opened_again() {
    let server = Server::start();
    let broker = server.broker().await;
    put(&broker, "q", 0, "a").await;
    server.stall(true);
    let began = Instant::now();
    let error = broker.claim("w", &broker.lists("q"), 1).await.unwrap_err();
    assert!(error.is_unavailable() && began.elapsed() < Duration::from_secs(7), "{error} {:?}", began.elapsed());
    until("the connection is given up", || !broker.is_connected()).await;
    server.stall(false);
    until("there is a new connection", || broker.is_connected()).await;
    // What was asked is done by now, or will be: the claim is there and nobody knows of it. A sign of life brings it back.
    let end = Instant::now() + Duration::from_secs(10);
    let claimed = loop {
        assert!(Instant::now() < end, "the message is not there");
        broker.renew("w", "{}").await.unwrap();
        let claimed = broker.claim("w", &broker.lists("q"), 1).await.unwrap();
        if !claimed.is_empty() {
            break claimed;
        }
    };
    assert_eq!((ids(&claimed), claimed[0].attempts_before), (vec!["a".to_owned()], 0));
    // What is answered is not given back.
    assert_eq!(broker.renew("w", "{}").await.unwrap(), 1);
    assert!(broker.workers().await.unwrap()[0].alive);
    // A call that nobody waits for any more.
    put(&broker, "q", 0, "b").await;
    let lists = broker.lists("q");
    let mut call = Box::pin(broker.claim("w", &lists, 1));
    assert!(futures_util::future::poll_immediate(&mut call).await.is_none());
    drop(call);
    while broker.lengths(&["q"]).await.unwrap()[0].total() == 1 {
        assert!(Instant::now() < end, "the call was never made");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(broker.renew("w", "{}").await.unwrap(), 2);
    assert_eq!(ids(&broker.claim("w", &lists, 1).await.unwrap()), ["b"]);
}

/// Figures: `cargo test --release --lib broker::tests::speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    const COUNT: usize = 100_000;
    let server = Server::start();
    let (broker, results) = (server.broker().await, server.results().await);
    let args = vec![json!(2), json!(3)];
    let began = Instant::now();
    for part in 0..COUNT / 500 {
        let raws: Vec<Bytes> = (0..500)
            .map(|number| {
                let id = format!("{part:08}-{number:04}-4000-8000-000000000000");
                let routing_key = "celery";
                wire::Task {
                    task: "app.add",
                    id: &id,
                    args: &args,
                    origin: "gen1@h",
                    routing_key,
                    ..wire::Task::default()
                }
                .message()
            })
            .collect();
        let all: Vec<Publish<'_>> = raws
            .iter()
            .map(|raw| Publish { queue: "celery", priority: 0, raw: raw.clone(), queue_expires: None })
            .collect();
        broker.publish(&all).await.unwrap();
    }
    let rate = |began: Instant| COUNT as f64 / began.elapsed().as_secs_f64();
    eprintln!("publish, 500 a call: {:.0}/s", rate(began));
    let lists: Vec<Arc<List>> = broker.lists("celery");
    let (mut claiming, mut settling, mut parsing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut done = 0;
    while done < COUNT {
        let began = Instant::now();
        let claimed = broker.claim("worker@host#uuid", &lists, 64).await.unwrap();
        claiming += began.elapsed();
        let began = Instant::now();
        let envelopes: Vec<Envelope> =
            claimed.iter().map(|one| Envelope::parse(one.raw.clone(), &Limits::new(1 << 20)).unwrap()).collect();
        parsing += began.elapsed();
        let ends: Vec<Settled> = claimed
            .iter()
            .zip(&envelopes)
            .map(|(one, envelope)| {
                let value = wire::Result::Success(json!(5)).meta(envelope, &json!([]), None);
                let stored = Some(Write { id: envelope.headers.id.clone(), value });
                Settled { claim: one.claim.clone(), stored, fate: Fate::Ack }
            })
            .collect();
        let began = Instant::now();
        broker.settle("worker@host#uuid", Some(&results), &ends).await.unwrap();
        settling += began.elapsed();
        done += claimed.len();
    }
    // What Redis itself took, whatever else the machine had to do.
    let stats = ask(broker.client(), "INFO", &["commandstats"]).await;
    eprintln!("{}", stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap());
    for (what, took) in [("claim", claiming), ("parse", parsing), ("settle with a result", settling)] {
        eprintln!("{what}, 64 a call: {:.0}/s", COUNT as f64 / took.as_secs_f64());
    }
}
