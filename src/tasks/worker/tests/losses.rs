//! What becomes of tasks when their worker stops or is lost, or Redis is.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_loses_nothing() {
    let rig = Rig::new().await;
    let first = rig.start(rig.options("one@here", registry(), 4));
    rig.send(task("sleep", "l1", &[json!(2)])).await;
    until("it runs", || first.worker.active().len() == 1).await;
    let id = first.worker.id().to_owned();
    first.kill();
    // As if it had been silent for as long as it takes.
    let long_ago = ((wire::now() - 60.0) * 1e3).to_string();
    let second = rig.start(rig.options("two@here", registry(), 4));
    // The first one's beat may be on its way.
    until("it is silent", || true).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    ask(rig.broker.client(), "ZADD", &["beacon:workers", &long_ago, &id]).await;
    until("the other one has it", || second.worker.active().len() == 1).await;
    let held = &second.worker.active()[0];
    assert!(held.envelope.redelivered);
    assert_eq!(rig.result("l1").await.result, json!("slept"));
    rig.settled().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_and_then_gives_back() {
    let rig = Rig::new().await;
    let first = rig.start(rig.options("one@here", registry(), 4));
    rig.send(task("sleep", "short", &[json!(0.2)])).await;
    rig.send(task("sleep", "long", &[json!(60)])).await;
    until("both run", || first.worker.active().len() == 2).await;
    first.stop().await;
    assert_eq!(rig.result("short").await.status, "SUCCESS");
    assert!(rig.results.get("long").await.unwrap().is_none(), "what is given back has no end");
    rig.settled().await;
    assert_eq!(ask(rig.broker.client(), "LLEN", &["celery"]).await, "1");
    assert!(!rig.log.of("long").contains(&"Revoked".to_owned()));
    let message = ask(rig.broker.client(), "LRANGE", &["celery", "0", "-1"]).await;
    assert!(message.contains("\"redelivered\": true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_go_and_come_back() {
    let mut rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("sleep", "away", &[json!(0.5)])).await;
    until("it runs", || working.worker.active().len() == 1).await;
    rig.server.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.server.start_again();
    assert_eq!(rig.result_after(&rig.server, "away").await.result, json!("slept"));
    rig.settled().await;
    rig.send(task("add", "again", &[json!(1)])).await;
    assert_eq!(rig.result("again").await.result, json!(1));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_its_worker_down_becomes_a_dead_letter() {
    let rig = Rig::new().await;
    ask(rig.broker.client(), "SET", &["beacon:attempts:d1", "3"]).await;
    let raw = task("add", "d1", &[json!(1)]).message();
    rig.put("celery", wire::redelivered(&raw, "another-tag").unwrap()).await;
    let working = rig.work(registry());
    assert_eq!(failure(&rig.result("d1").await).0, "WorkerLostError");
    rig.settled().await;
    assert_eq!(rig.broker.dead_count().await.unwrap(), 1);
    assert_eq!(rig.broker.dead(0, 10).await.unwrap()[0].id.as_deref(), Some("d1"));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_goes_back_while_the_worker_lives() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("sleep", "long", &[json!(4)])).await;
    until("it runs", || working.worker.active().len() == 1).await;
    rig.send(Task { routing_key: "elsewhere", ..task("add", "lost", &[json!(1)]) }).await;
    // In this worker's name, as by a call that was cut off after the script had run.
    let lists = rig.broker.lists("elsewhere");
    assert_eq!(rig.broker.claim(working.worker.id(), &lists, 1).await.unwrap().len(), 1);
    rig.settled_but(2).await;
    working.worker.add_queue("elsewhere");
    assert_eq!(rig.result("lost").await.result, json!(1));
    assert_eq!(rig.result("long").await.result, json!("slept"));
    assert_eq!(working.worker.totals()["sleep"], 1, "what is held stays");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_bring_nothing_are_made_anew_and_running_tasks_go_on() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("sleep", "long", &[json!(1)])).await;
    until("it runs", || working.worker.active().len() == 1).await;
    let connection = || ask(rig.broker.client(), "CLIENT", &["ID"]);
    let before = connection().await;
    working.worker.connect_anew().await;
    until("it is connected", || rig.broker.is_connected()).await;
    assert_ne!(connection().await, before);
    rig.send(task("add", "next", &[json!(1)])).await;
    assert_eq!(rig.result("next").await.result, json!(1));
    assert_eq!(rig.result("long").await.result, json!("slept"));
    rig.settled().await;
    assert_eq!(rig.log.of("long").iter().filter(|what| *what == "Started").count(), 1);
    working.stop().await;
}
