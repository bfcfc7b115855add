//! Queues: waiting for them and for a time, pauses, names, revocations, limits.

use super::*;

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
