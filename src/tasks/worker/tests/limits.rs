//! Places and rates: of a task, over all workers, of a runner that is full.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_spreads_runs_and_can_be_lifted() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let note = body(move |_| {
        lock(&noted).push(Instant::now());
        async { Ok(Value::Null) }
    });
    tasks.register("note", note, Settings { rate: Some(5.0), ..Settings::default() });
    let working = rig.work(tasks);
    for id in ["n1", "n2", "n3"] {
        rig.send(task("note", id, &[])).await;
    }
    for id in ["n1", "n2", "n3"] {
        rig.result(id).await;
    }
    let mut all = lock(&times).clone();
    all.sort();
    assert!(all[2] - all[0] >= Duration::from_millis(340), "{:?}", all[2] - all[0]);
    assert!(working.worker.set_rate("note", Some(0.001)) && !working.worker.set_rate("none", None));
    for id in ["n4", "n5"] {
        rig.send(task("note", id, &[])).await;
    }
    rig.result("n4").await;
    until("it waits", || working.worker.0.held.len() == 0).await;
    rig.settled().await;
    working.worker.set_rate("note", None);
    rig.result("n5").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_task_are_never_exceeded() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = |now: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>| {
        let (now, most) = (now.clone(), most.clone());
        body(move |_| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(30)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Value::Null)
            }
        })
    };
    tasks.register("two", counted(&now, &most), Settings { concurrency: 2, ..Settings::default() });
    let working = rig.work(tasks);
    let ids: Vec<String> = (0..10).map(|id| format!("p{id}")).collect();
    for id in &ids {
        rig.send(task("two", id, &[])).await;
    }
    for id in &ids {
        rig.result(id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_limits_hold_over_all_workers() {
    let rig = Rig::new().await;
    let places: Arc<Mutex<HashMap<String, (usize, usize)>>> = Arc::default();
    let tasks = || {
        let mut tasks = registry();
        let places = places.clone();
        let run = body(move |call: Call| {
            let places = places.clone();
            async move {
                let tenant = call.kwargs["tenant"].as_str().unwrap().to_owned();
                {
                    let mut places = lock(&places);
                    let (now, most) = places.entry(tenant.clone()).or_default();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
                lock(&places).get_mut(&tenant).unwrap().0 -= 1;
                Ok(Value::Null)
            }
        });
        let shared = Shared { key: "tenant:{kwargs.tenant}".into(), concurrency: Some(1), rate: None };
        tasks.register("one", run, Settings { shared: Some(shared), ..Settings::default() });
        tasks
    };
    let (one, two) = (rig.start(rig.options("one@here", tasks(), 10)), rig.start(rig.options("two@here", tasks(), 10)));
    let began = Instant::now();
    for id in 0..12 {
        let tenant = if id % 2 == 0 { "a" } else { "b" };
        let kwargs = Map::from_iter([("tenant".to_owned(), json!(tenant))]);
        rig.send(Task { kwargs, ..task("one", &format!("s{id}"), &[]) }).await;
    }
    for id in 0..12 {
        rig.result(&format!("s{id}")).await;
    }
    let most: Vec<usize> = lock(&places).values().map(|(_, most)| *most).collect();
    assert_eq!(most, [1, 1]);
    // Six of 40 ms one after the other, and both tenants beside each other: no clock waits in between.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rig.settled().await;
    assert_eq!(ask(rig.broker.client(), "EXISTS", &["beacon:holds", "beacon:limit:tenant:a"]).await, "0");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_runner_leaves_its_messages_in_their_order_and_holds_up_no_other_queue() {
    let rig = Rig::new().await;
    let full = Arc::new(Full(AtomicUsize::new(0)));
    let mut options = rig.options("w@here", registry(), 4);
    options.queues.push("native".into());
    options.runners.insert(0, full.clone());
    let working = rig.start(options);
    rig.send(task("python", "q1", &[])).await;
    rig.send(task("python", "q2", &[])).await;
    until("it was looked at", || working.worker.0.queues.any_waits()).await;
    for id in ["n1", "n2", "n3"] {
        rig.send(Task { routing_key: "native", ..task("add", id, &[json!(1)]) }).await;
        assert_eq!(rig.result(id).await.status, "SUCCESS");
    }
    assert!(rig.log.of("q1").is_empty());
    rig.settled().await;
    let waiting = ask(rig.broker.client(), "LRANGE", &["celery", "0", "-1"]).await;
    assert!(waiting.find("\"q2\"").unwrap() < waiting.find("\"q1\"").unwrap(), "the head is on the right");
    full.0.store(1, Ordering::SeqCst);
    rig.result("q1").await;
    rig.result("q2").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_are_taken_ahead_and_never_run_beyond_the_places() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, at_once) = (now.clone(), most.clone());
    let short = body(move |_| {
        let (now, most) = (running.clone(), at_once.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_micros(200)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(Value::Null)
        }
    });
    tasks.register("short", short, Settings::default());
    let mut options = rig.options("w@here", Registry::default(), 2);
    let native = Arc::new(Native::new(options.canvas.clone(), tasks, 2));
    options.runners = vec![native.clone()];
    let working = rig.start(options);
    assert_eq!(native.free(), 2, "nothing is known of them yet");
    let ids: Vec<String> = (0..300).map(|id| format!("p{id}")).collect();
    for id in &ids {
        rig.send(task("short", id, &[])).await;
    }
    for id in &ids {
        rig.result(id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    until("all are settled", || working.worker.0.held.len() == 0).await;
    assert!(native.free() > 2, "they are short, and {} would be taken", native.free());
    // Two that are not, and one behind them: it goes back instead of waiting here.
    for (id, seconds) in [("l1", 0.5), ("l2", 0.5), ("l3", 0.0)] {
        rig.send(task("sleep", id, &[json!(seconds)])).await;
    }
    until("two run, and nothing waits", || {
        native.free() == 0 && working.worker.active().len() == 2 && working.worker.reserved().is_empty()
    })
    .await;
    assert_eq!(ask(rig.broker.client(), "LLEN", &["celery"]).await, "1");
    assert_eq!(rig.result("l3").await.status, "SUCCESS");
    // Places can be more and fewer.
    native.resize(3);
    native.resize(-4);
    assert_eq!(native.places(), 1);
    rig.send(task("short", "last", &[])).await;
    assert_eq!(rig.result("last").await.status, "SUCCESS");
    rig.settled().await;
    working.stop().await;
}
