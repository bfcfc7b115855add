//! Claims: taken, kept, ended, and what becomes of them when their worker or Redis is lost.

use super::*;

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
    ends[1].line = Some(r#"{"id": "b"}"#.into());
    ends[2].line = Some(r#"{"id": "middle"}"#.into());
    assert_eq!(broker.settle("w", Some(&results), &ends).await.unwrap(), [true; 3]);
    assert_eq!(broker.recent(0, 9).await.unwrap(), [json!({"id": "middle"}), json!({"id": "b"})]);
    assert_no_claims(&broker, "w").await;
    assert_eq!(results.raw("a").await.unwrap().as_ref(), Some(&value));
    let message = redis::Heard::Message { channel: "celery-task-meta-a".into(), payload: value };
    assert_eq!(heard.next().await, message);
    let ttl: i64 = ask(broker.client(), "TTL", &["celery-task-meta-a"]).await.parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
    // A success stays, a second settlement says that the claim is no longer there.
    ends[0].stored = Some(Write { id: "a".into(), value: r#"{"status": "FAILURE"}"#.into() });
    assert_eq!(broker.settle("w", Some(&results), &ends).await.unwrap(), [false; 3]);
    assert_eq!(broker.recent(0, 9).await.unwrap().len(), 2, "what another worker has is its to tell");
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
    assert_eq!(broker.renew("w", "{}").await.unwrap(), 1);
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
                Settled { claim: one.claim.clone(), stored, fate: Fate::Ack, line: None }
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

#[tokio::test]
async fn claims_that_nobody_here_holds_go_back_and_the_others_stay() {
    let server = Server::start();
    let broker = server.broker().await;
    for id in ["a", "b", "c", "d"] {
        put(&broker, "q", 0, id).await;
    }
    let lists = broker.lists("q");
    let held = broker.claim("w", &lists, 1).await.unwrap();
    // The answer is lost: Redis has claims that nobody was told of.
    drop(broker.claim("w", &lists, 2).await.unwrap());
    let other = broker.claim("v", &lists, 1).await.unwrap();
    // While Redis may yet answer nobody knows whose they are.
    let asking = broker.asking(2);
    assert_eq!(broker.give_strays_back("w").await.unwrap(), 0);
    drop(asking);
    assert_eq!(broker.give_strays_back("w").await.unwrap(), 2);
    assert_eq!(broker.give_strays_back("w").await.unwrap(), 0);
    assert_eq!(broker.renew("w", "{}").await.unwrap(), 1);
    let again = broker.claim("w", &lists, 9).await.unwrap();
    assert_eq!(ids(&again), ["b", "c"]);
    assert!(again.iter().all(|one| one.attempts_before == 0), "nothing has begun them");
    // Who holds a copy of the claim alone holds it as well.
    let ends: Vec<Settled> = held.iter().chain(&again).map(|one| settled(one, Fate::Ack)).collect();
    drop((held, again));
    assert_eq!(broker.give_strays_back("w").await.unwrap(), 0);
    assert_eq!(broker.settle("w", None, &ends).await.unwrap(), [true; 3]);
    broker.settle("v", None, &[settled(&other[0], Fate::Ack)]).await.unwrap();
    assert_no_claims(&broker, "w").await;
}
