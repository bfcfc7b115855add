//! How messages end: results, failures, revocations, dead letters, times.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_and_its_result_and_events_are_told() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("add", "i1", &[json!(2), json!(3)])).await;
    let meta = rig.result("i1").await;
    assert_eq!((meta.status.as_str(), &meta.result, &meta.children), ("SUCCESS", &json!(5), &json!([])));
    rig.settled().await;
    until("it is told", || rig.log.of("i1").len() == 3).await;
    assert_eq!(rig.log.of("i1"), ["Received", "Started", "Succeeded"]);
    assert_eq!(working.worker.totals().get("add"), Some(&1));
    let id = working.worker.id().to_owned();
    working.stop().await;
    assert_eq!(ask(rig.broker.client(), "ZSCORE", &["beacon:workers", &id]).await, "nil");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_answered_each_in_its_way() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("fail", "f1", &[])).await;
    rig.send(task("panic", "f2", &[])).await;
    rig.send(task("add", "f3", &[json!("x")])).await;
    rig.send(task("no.such", "f4", &[])).await;
    let one = rig.result("f1").await;
    assert_eq!(failure(&one), ("Broken", &json!("it is broken")));
    assert_eq!(failure(&rig.result("f2").await), ("Panic", &json!("out of cheese")));
    assert_eq!(failure(&rig.result("f3").await), ("TypeError", &json!("numbers only")));
    let unknown = rig.result("f4").await;
    assert_eq!(failure(&unknown), ("NotRegistered", &json!("no.such")));
    assert_eq!(unknown.result["exc_module"], "celery.exceptions");
    rig.settled().await;
    let recent = rig.broker.recent(0, 10).await.unwrap();
    let mut told: Vec<_> = recent.iter().map(|one| (one["id"].as_str().unwrap(), one)).collect();
    told.sort_unstable_by_key(|(id, _)| *id);
    let first = told[0].1;
    assert_eq!((&first["id"], &first["task"], &first["queue"]), (&json!("f1"), &json!("fail"), &json!("celery")));
    assert_eq!((&first["state"], &first["node"]), (&json!("FAILURE"), &json!("w@here")));
    assert_eq!(first["exception"], "Broken('it is broken')");
    assert!((wire::now() - first["at"].as_f64().unwrap()).abs() < 10.0 && first["runtime"].as_f64().unwrap() < 10.0);
    assert_eq!((told.len(), told[3].1["runtime"].is_null()), (4, true), "what was refused has not run");
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_become_dead_letters_or_failures_and_stop_nothing() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.put("celery", "no json".into()).await;
    rig.put("celery", "\u{ff}{".into()).await;
    rig.put("celery", r#"{"headers": {"id": "b1"}, "body": "", "properties": {}}"#.into()).await;
    let text = String::from_utf8(task("add", "b2", &[]).message().to_vec()).unwrap();
    rig.put("celery", text.replace("application/json", "application/x-python-serialize").into()).await;
    let huge = "x".repeat(2 << 20);
    rig.send(task("add", "b3", &[json!(huge)])).await;
    rig.send(task("add", "good", &[json!(1)])).await;
    assert_eq!(rig.result("good").await.result, json!(1));
    assert_eq!(failure(&rig.result("b1").await).0, "DecodeError");
    assert_eq!(failure(&rig.result("b2").await).0, "ContentDisallowed");
    assert_eq!(failure(&rig.result("b3").await).0, "DecodeError");
    rig.settled().await;
    assert_eq!(rig.broker.dead_count().await.unwrap(), 4);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_waits_in_redis_and_what_is_too_late_is_revoked() {
    let rig = Rig::new().await;
    let now = wire::now();
    rig.send(Task { eta: Some(now + 0.4), ..task("add", "later", &[json!(1)]) }).await;
    rig.send(Task { expires: Some(now - 1.0), ..task("add", "late", &[json!(1)]) }).await;
    rig.send(Task { eta: Some(now + 60.0), expires: Some(now + 0.5), ..task("add", "both", &[]) }).await;
    let working = rig.work(registry());
    assert_eq!(rig.result("late").await.status, "REVOKED");
    until("both wait", || working.worker.0.held.len() == 0 && rig.log.of("both").len() == 1).await;
    rig.settled().await;
    assert_eq!(working.worker.scheduled(10).await.len(), 2);
    assert_eq!(rig.result("later").await.result, json!(1));
    assert!(wire::now() >= now + 0.4, "it ran before its time");
    assert_eq!(rig.result("both").await.status, "REVOKED");
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_tried_again_with_the_same_identifier() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let flaky = body(move |call: Call| {
        let tries = counted.clone();
        async move {
            let before = tries.fetch_add(1, Ordering::SeqCst);
            assert_eq!(call.retries as usize, before);
            if before < 2 { Err(Failure::passing("Busy", "not now")) } else { Ok(json!(before)) }
        }
    });
    let settings = Settings { retries: 2, retry_delay: Duration::from_millis(20), ..Settings::default() };
    tasks.register("flaky", flaky, settings.clone());
    tasks.register("hopeless", body(|_| async { Err(Failure::passing("Busy", "never")) }), settings);
    let working = rig.work(tasks);
    rig.send(task("flaky", "r1", &[])).await;
    rig.send(task("hopeless", "r2", &[])).await;
    assert_eq!(rig.result("r1").await.result, json!(2));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(failure(&rig.result("r2").await), ("Busy", &json!("never")));
    until("it is told", || rig.log.of("r1").iter().any(|what| what == "Succeeded")).await;
    assert_eq!(rig.log.of("r1").iter().filter(|what| *what == "Retried").count(), 2);
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_time_end_a_body() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let polite = body(|call: Call| async move {
        call.cancel.cancelled().await;
        Err(Failure::permanent("SoftTimeLimitExceeded", "asked to end"))
    });
    tasks.register("polite", polite, Settings { soft_time_limit: Duration::from_millis(50), ..Settings::default() });
    let working = rig.work(tasks);
    rig.send(Task { limits: (Some(0.1), None), ..task("sleep", "t1", &[json!(60)]) }).await;
    rig.send(task("polite", "t2", &[])).await;
    let hard = rig.result("t1").await;
    assert_eq!(failure(&hard), ("TimeLimitExceeded", &json!(0.1)));
    assert_eq!(failure(&rig.result("t2").await).0, "SoftTimeLimitExceeded");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_own_limits_hold_for_tasks_that_have_none() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let polite = body(|call: Call| async move {
        call.cancel.cancelled().await;
        Err(Failure::permanent("SoftTimeLimitExceeded", "asked to end"))
    });
    tasks.register("polite", polite, Settings::default());
    let options = rig.options("w@here", tasks, 10);
    let limits = (Duration::from_millis(50), Duration::from_millis(400));
    let working = rig.start(Options { soft_time_limit: limits.0, time_limit: limits.1, ..options });
    rig.send(task("polite", "s1", &[])).await;
    rig.send(task("sleep", "s2", &[json!(60)])).await;
    // What the message says goes before.
    rig.send(Task { limits: (None, Some(30.0)), ..task("polite", "s3", &[]) }).await;
    assert_eq!(failure(&rig.result("s1").await).0, "SoftTimeLimitExceeded");
    assert_eq!(failure(&rig.result("s2").await), ("TimeLimitExceeded", &json!(0.4)));
    assert_eq!(failure(&rig.result("s3").await).0, "TimeLimitExceeded");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_end_what_runs_waits_and_comes() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let desk = working.worker.clone();
    rig.send(task("sleep", "v1", &[json!(60)])).await;
    rig.send(Task { eta: Some(wire::now() + 60.0), ..task("add", "v2", &[]) }).await;
    until("one runs and one waits", || desk.active().len() == 1 && rig.log.of("v2").len() == 1).await;
    rig.settled_but(1).await;
    let ran = desk.revoke(vec!["v1".into(), "v2".into(), "v3".into()], Some(15)).await;
    assert_eq!(ran, ["v1"]);
    for id in ["v1", "v2", "v3"] {
        let meta = rig.result(id).await;
        let reason = if id == "v1" { "terminated" } else { "revoked" };
        assert_eq!((meta.status.as_str(), &meta.result["exc_message"][0]), ("REVOKED", &json!(reason)), "{id}");
    }
    assert_eq!(rig.broker.parked_count().await.unwrap(), 0);
    rig.send(task("add", "v3", &[json!(1)])).await;
    until("it is dropped", || rig.log.of("v3").contains(&"Revoked".to_owned())).await;
    rig.settled().await;
    let mut revoked = desk.revoked().await;
    revoked.sort();
    assert_eq!(revoked, ["v1", "v2", "v3"]);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, in release"]
async fn throughput() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    tasks.register("noop", body(|_| async { Ok(Value::Null) }), Settings::default());
    let count = 50_000;
    for chunk in 0..count / 500 {
        let raws: Vec<bytes::Bytes> = (0..500)
            .map(|id| {
                let id = format!("t{chunk}-{id}");
                Task { routing_key: "celery", origin: "test", ..task("noop", &id, &[]) }.message()
            })
            .collect();
        let all: Vec<Publish<'_>> =
            raws.into_iter().map(|raw| Publish { queue: "celery", priority: 0, raw, queue_expires: None }).collect();
        rig.broker.publish(&all).await.unwrap();
    }
    let began = Instant::now();
    let working = rig.start(rig.options("w@here", tasks, 64));
    let end = began + Duration::from_mins(2);
    while lock(&working.worker.0.totals).get("noop").copied().unwrap_or(0) < count || working.worker.0.held.len() > 0 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{count} tasks in {seconds:.2} s: {:.0}/s", count as f64 / seconds);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_holds_and_has_not_begun_is_revoked_without_a_signal() {
    let rig = Rig::new().await;
    let mut options = rig.options("w@here", registry(), 4);
    options.runners.insert(0, Arc::new(Full(AtomicUsize::new(1))));
    let working = rig.start(options);
    rig.send(task("in line", "l1", &[])).await;
    rig.send(task("sleep", "l2", &[json!(0.6)])).await;
    let desk = working.worker.clone();
    until("both are here", || desk.reserved().len() == 1 && desk.active().len() == 1).await;
    assert_eq!(desk.revoke(vec!["l1".into(), "l2".into()], None).await, ["l2"]);
    let meta = rig.result("l1").await;
    assert_eq!((meta.status.as_str(), &meta.result["exc_message"][0]), ("REVOKED", &json!("revoked")));
    assert_eq!(rig.result("l2").await.status, "SUCCESS", "what runs is left alone");
    until("it is told", || rig.log.of("l1").len() == 2).await;
    assert_eq!(rig.log.of("l1"), ["Received", "Revoked"]);
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn started_comes_before_the_end_and_results_say_more_when_they_are_to() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let fails = body(|_| async { Err(Failure::permanent("Broken", "at once")) });
    tasks.register("tracked", fails, Settings { track_started: true, ..Settings::default() });
    let wait = body(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(json!(1))
    });
    tasks.register("slow", wait, Settings { track_started: true, ..Settings::default() });
    let mut options = rig.options("w@here", Registry::default(), 4);
    options.canvas = options.canvas.extended(true);
    options.runners = vec![Arc::new(Native::new(options.canvas.clone(), tasks, 8))];
    let working = rig.start(options);
    let ids: Vec<String> = (0..40).map(|id| format!("s{id}")).collect();
    for id in &ids {
        rig.send(task("tracked", id, &[json!(7)])).await;
    }
    rig.send(task("slow", "slow", &[json!(7)])).await;
    let started = loop {
        if let Some(meta) = rig.results.get("slow").await.unwrap() {
            break meta;
        }
    };
    assert_eq!((started.status.as_str(), &started.result["hostname"]), ("STARTED", &json!("w@here")));
    assert_eq!((&started.all["args"], &started.all["worker"]), (&json!([7]), &json!("w@here")));
    rig.result("slow").await;
    rig.settled().await;
    for id in &ids {
        let meta = rig.results.get(id).await.unwrap().unwrap();
        assert_eq!(failure(&meta).0, "Broken", "{id} must not end as STARTED");
        assert_eq!((&meta.all["name"], &meta.all["args"]), (&json!("tracked"), &json!([7])));
    }
    working.stop().await;
}
