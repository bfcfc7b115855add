//! The shim in a real interpreter with a real Celery: set BEACON_TEST_CELERY to the interpreter and TEST_REDIS to the
//! address of a Redis that may be written to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Application, Config, Options};
use crate::tasks::wire::{Envelope, Headers};
use crate::tasks::{Cancel, Exception, Finished, Job, Outcome, Recorded, Runner, Start, Stored};

fn envelope(task: &str, args: &Value, headers: &Value, embed: &Value) -> Arc<Envelope> {
    let id = format!("id-{}", uuid::Uuid::new_v4());
    let body = json!([args, {}, embed]).to_string();
    let mut all = json!({"lang": "py", "task": task, "id": id, "root_id": id, "parent_id": null, "group": null,
        "retries": 0, "timelimit": [null, null], "argsrepr": "()", "kwargsrepr": "{}", "origin": "test",
        "eta": null, "expires": null, "ignore_result": false});
    for (name, value) in headers.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let raw = json!({"body": base64::engine::general_purpose::STANDARD.encode(&body), "content-encoding": "utf-8",
        "content-type": "application/json", "headers": all, "properties": {"correlation_id": id, "reply_to": "r",
        "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0,
        "body_encoding": "base64", "delivery_tag": "t"}});
    Arc::new(Envelope {
        raw: raw.to_string().into(),
        headers: Headers { task: task.into(), id, ..Headers::default() },
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        correlation_id: None,
        reply_to: None,
        delivery_tag: "t".into(),
        exchange: String::new(),
        routing_key: "celery".into(),
        priority: 0,
        redelivered: false,
        body: body.into(),
    })
}

fn job(application: &Application, task: &str, args: &Value) -> Job {
    let spec = application.spec(task).unwrap_or_else(|| panic!("no {task}"));
    Job {
        envelope: envelope(task, args, &json!({}), &json!({})),
        time_limit: spec.time_limit,
        soft_time_limit: spec.soft_time_limit,
        track_started: spec.track_started,
        spec,
        queue: "celery".into(),
        hostname: "w@test".into(),
        attempt: 1,
        redelivered: false,
        start: Start::new(|_| {}),
        cancel: Cancel::default(),
    }
}

/// An application, and the folder that it lies in.
async fn start(config: Config) -> (Application, tempfile::TempDir) {
    let python = std::env::var_os("BEACON_TEST_CELERY").expect("BEACON_TEST_CELERY: an interpreter that has Celery");
    let redis = std::env::var("TEST_REDIS").expect("TEST_REDIS: the address of a Redis for tests");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wapp.py"), include_str!("fixture.py")).unwrap();
    let mut env = config.env.clone();
    env.insert("TEST_REDIS".to_owned(), redis);
    let derived = env.contains_key("DERIVED");
    let config =
        Config { celery_app: "wapp".into(), python: python.into(), directory: folder.path().into(), env, ..config };
    let options = Options { node: "w@test".into(), hand_over: true, ..Options::default() };
    let (application, exported) = Application::start(&config, &options).await.unwrap();
    let kind = if derived { "other" } else { "redis" };
    assert_eq!((&*exported.result.kind, &*exported.queues[0].name), (kind, "celery"));
    assert_eq!(exported.schedules[0].timing, super::Timing::Interval { seconds: 30.0, relative: false });
    while application.free() == 0 {
        assert_eq!(application.trouble(), None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (application, folder)
}

/// Runs it; again while there is no process for it, as a worker would.
async fn run(application: &Application, job: Job) -> Finished {
    loop {
        let finished = application.run(job.clone()).await;
        if finished.outcome != Outcome::NotBegun {
            return finished;
        }
    }
}

fn value(finished: &Finished) -> Value {
    match &finished.stored {
        Stored::Meta { value, .. } => serde_json::from_slice(value).unwrap(),
        Stored::Nothing => Value::Null,
    }
}

fn failure(finished: &Finished) -> (&str, &str) {
    match &finished.outcome {
        Outcome::Failed(exception)
        | Outcome::Lost(exception)
        | Outcome::Retried(exception)
        | Outcome::TimedOut(exception) => (&exception.class, &exception.repr),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn bodies_end_as_in_celery() {
    let (application, _folder) = start(Config { processes: 2, ..Config::default() }).await;
    let run = async |task: &str, args: Value| run(&application, job(&application, task, &args)).await;

    let finished = run("wapp.add", json!([2, 3])).await;
    assert_eq!(finished.outcome, Outcome::Succeeded("5".into()));
    let meta = value(&finished);
    assert_eq!((&meta["status"], &meta["result"], &meta["children"]), (&json!("SUCCESS"), &json!(5), &json!([])));
    let finished = run("wapp.who", json!([])).await;
    let who = value(&finished)["result"].clone();
    assert_eq!((&who[1], &who[2]["routing_key"], &who[4]), (&json!("w@test"), &json!("celery"), &json!("wapp.who")));

    let finished = run("wapp.boom", json!(["bad"])).await;
    assert_eq!(failure(&finished), ("ValueError", "ValueError('bad')"));
    assert_eq!(
        value(&finished)["result"],
        json!({"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"})
    );
    assert_eq!(failure(&run("wapp.add", json!([1])).await).0, "TypeError");
    let finished = run("wapp.add", json!({"no": "list"})).await;
    assert_eq!((failure(&finished).0, &value(&finished)["status"]), ("InvalidTaskError", &json!("FAILURE")));

    let finished = run("wapp.again", json!([])).await;
    assert_eq!((failure(&finished), &finished.stored), (("KeyError", "KeyError('no')"), &Stored::Nothing));
    assert_eq!(run("wapp.refuse", json!([true])).await.outcome, Outcome::Rejected { requeue: true });
    let finished = run("wapp.refuse", json!([false])).await;
    assert_eq!((failure(&finished).0, &value(&finished)["result"]["exc_type"]), ("Reject", &json!("Reject")));
    assert_eq!(run("wapp.ignore", json!([])).await.outcome, Outcome::Ignored);
    assert_eq!(run("wapp.replace", json!([])).await.outcome, Outcome::Replaced);
    assert_eq!(value(&run("wapp.progress", json!([])).await)["status"], "SUCCESS");
    let finished = run("wapp.quiet", json!([])).await;
    assert!(matches!(finished.outcome, Outcome::Succeeded(_)));

    let text = "WorkerLostError('Worker exited prematurely: exitcode 3 Job: 1.')";
    assert_eq!(failure(&run("wapp.leave", json!([3])).await), ("WorkerLostError", text));
    let text = "WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 1.')";
    assert_eq!(failure(&run("wapp.die", json!([9])).await), ("WorkerLostError", text));
    let seen = value(&run("wapp.seen", json!([])).await)["result"].clone();
    let signals = json!([["celeryd_init", "w@test", "Worker"], ["worker_init", "w@test"], ["worker_process_init"]]);
    assert_eq!(seen, signals);
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn limits_and_signals_reach_the_body() {
    let (application, folder) = start(Config { processes: 1, ..Config::default() }).await;
    let run = async |task: &str, args: Value, soft: Option<f64>, hard: Option<f64>| {
        let job = Job {
            soft_time_limit: soft.map(Duration::from_secs_f64),
            time_limit: hard.map(Duration::from_secs_f64),
            ..job(&application, task, &args)
        };
        let begun = Instant::now();
        let finished = super::tests::run(&application, job).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{finished:?}");
        finished
    };
    let finished = run("wapp.stubborn", json!([30]), Some(0.2), None).await;
    assert_eq!(finished.outcome, Outcome::Succeeded("'soft'".into()));
    assert_eq!(failure(&run("wapp.nap", json!([30]), Some(0.2), Some(3.0)).await).0, "SoftTimeLimitExceeded");
    let finished = run("wapp.nap", json!([30]), None, Some(1.0)).await;
    assert_eq!(failure(&finished), ("TimeLimitExceeded", "TimeLimitExceeded(1)"));
    let finished = run("wapp.anap", json!([30]), Some(0.2), None).await;
    assert!(matches!(&finished.outcome, Outcome::Succeeded(text) if text.starts_with("'soft id-")), "{finished:?}");
    assert_eq!(failure(&run("wapp.anap", json!([30]), None, Some(0.2)).await).0, "TimeLimitExceeded");

    let path = folder.path().join("tidied");
    for (task, args) in [("wapp.tidy", json!([path])), ("wapp.anap", json!([30]))] {
        let begins = Arc::new(tokio::sync::Notify::new());
        let begun = begins.clone();
        let one = Job { start: Start::new(move |_| begun.notify_one()), ..job(&application, task, &args) };
        let cancel = one.cancel.clone();
        let ended = async {
            begins.notified().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.signal.store(15, std::sync::atomic::Ordering::Relaxed);
            cancel.token.cancel();
        };
        let (finished, ()) = tokio::join!(super::tests::run(&application, one), ended);
        assert_eq!(finished.outcome, Outcome::Terminated(15));
    }
    assert!(path.exists(), "the body's `finally` ran");
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn coroutines_run_beside_each_other_and_know_their_request() {
    let (application, _folder) = start(Config { processes: 1, ..Config::default() }).await;
    let begun = Instant::now();
    let all = (0..50).map(|number| {
        let job = job(&application, "wapp.aadd", &json!([number, 0, 0.5]));
        let (id, application) = (job.envelope.headers.id.clone(), application.clone());
        async move { (number, id, application.run(job).await) }
    });
    for (number, id, finished) in futures_util::future::join_all(all).await {
        assert_eq!(value(&finished)["result"], json!([number, id, "wapp.aadd"]));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let finished = application.run(job(&application, "wapp.aboom", &json!([]))).await;
    assert_eq!(failure(&finished), ("ValueError", "ValueError('async')"));
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn what_waits_behind_a_long_task_comes_back() {
    let (application, _folder) = start(Config { processes: 1, ..Config::default() }).await;
    for _ in 0..5 {
        application.run(job(&application, "wapp.noop", &json!([]))).await;
    }
    assert!(application.free() > 1, "short tasks are taken ahead");
    let (long, behind) = (job(&application, "wapp.nap", &json!([2])), job(&application, "wapp.noop", &json!([])));
    let later = async {
        let begun = Instant::now();
        (application.run(behind).await.outcome, begun.elapsed())
    };
    let (finished, (outcome, waited)) = tokio::join!(application.run(long), later);
    assert_eq!(finished.outcome, Outcome::Succeeded("2".into()));
    assert_eq!(outcome, Outcome::NotBegun);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn processes_are_replaced_by_count_without_losing_a_task() {
    let (application, _folder) = start(Config { processes: 2, max_tasks: 3, ..Config::default() }).await;
    let mut pids = std::collections::BTreeMap::new();
    for _ in 0..14 {
        let finished = run(&application, job(&application, "wapp.who", &json!([]))).await;
        *pids.entry(value(&finished)["result"][5].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert!(pids.len() >= 5 && pids.values().all(|count| *count <= 3), "{pids:?}");
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn the_clerk_answers_commands_and_records_ends() {
    let (application, _folder) = start(Config { processes: 1, ..Config::default() }).await;
    let control = async |method: &str, arguments: Value| application.control(method, &arguments).await;
    let raised = json!({"ok": "prefetch count incremented"});
    assert_eq!(control("bump", json!({"n": 3})).await, Some(Ok(raised)));
    assert_eq!(control("current", json!({})).await, Some(Ok(json!({"host": "w@test", "prefetch_count": 4}))));
    assert_eq!(control("addcancel", json!({"queue": "q"})).await, Some(Ok(json!({"scheduled": "q"}))));
    assert_eq!(control("pending", json!({})).await, Some(Ok(json!(0))));
    assert_eq!(control("fails", json!({})).await, Some(Err("RuntimeError('bad')".into())));
    assert_eq!(control("ping", json!({})).await, None, "Celery's own are answered elsewhere");
    let settings = control("conf", json!({})).await.unwrap().unwrap();
    assert_eq!(settings["beat_schedule"]["each"]["task"], "wapp.add", "the settings are the application's");
    let mut wishes = application.wishes().unwrap();
    assert_eq!(wishes.try_recv().unwrap()["wish"], "add_queue");
    assert_eq!(wishes.try_recv().unwrap()["wish"], "cancel_queue");
    assert!(application.report().await.unwrap().contains("software -> celery:"));

    let message = envelope("wapp.add", &json!([1, 2]), &json!({}), &json!({}));
    assert!(application.record(message, Recorded::Revoked("revoked")).await);
    let lost = Exception {
        class: "WorkerLostError".into(),
        module: "billiard.exceptions".into(),
        message: "x".into(),
        ..Exception::default()
    };
    for task in ["wapp.add", "no.such"] {
        let message = envelope(task, &json!([1, 2]), &json!({}), &json!({}));
        assert!(application.record(message, Recorded::Failed(lost.clone())).await);
    }
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn an_end_is_left_to_others_soon_when_the_clerk_is_not_there() {
    let (application, folder) = start(Config { processes: 1, ..Config::default() }).await;
    let record = async || {
        let begun = Instant::now();
        let message = envelope("wapp.add", &json!([1, 2]), &json!({}), &json!({}));
        (application.record(message, Recorded::Revoked("revoked")).await, begun.elapsed())
    };
    // It is busy with a command of the application's, and must not record later what others have recorded.
    let seconds = json!({"seconds": 8});
    let busy = application.control("hang", &seconds);
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        record().await
    };
    let (_, (recorded, waited)) = tokio::join!(busy, late);
    assert!(!recorded && waited < Duration::from_secs(7), "{recorded} {waited:?}");
    assert!(record().await.0, "it is there again");

    let here = |pid: &String| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder.path());
    let bodies: Vec<String> = application.pids().iter().map(u32::to_string).collect();
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let clerk = all.filter(|pid| here(pid) && !bodies.contains(pid)).collect::<Vec<_>>();
    assert_eq!(clerk.len(), 1, "{clerk:?}");
    assert!(std::process::Command::new("kill").args(["-KILL", &clerk[0]]).status().unwrap().success());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (recorded, waited) = record().await;
    assert!(!recorded && waited < Duration::from_millis(500), "{recorded} {waited:?}");
    let begun = Instant::now();
    while !record().await.0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is started again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn a_body_that_wants_more_memory_than_it_may_have_fails_and_its_process_goes() {
    let limit = 512 << 20;
    let config = Config { processes: 1, memory_limit_bytes: limit, ..Config::default() };
    let (application, _folder) = start(config).await;
    let before = application.pids();
    let finished = run(&application, job(&application, "wapp.eat", &json!([limit]))).await;
    assert_eq!(failure(&finished).0, "MemoryError");
    let finished = run(&application, job(&application, "wapp.eat", &json!([1000]))).await;
    assert_eq!(finished.outcome, Outcome::Succeeded("1000".into()));
    assert_ne!(application.pids(), before);
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis"]
async fn a_backend_of_the_applications_own_writes_its_results_itself() {
    let env = [("DERIVED".to_owned(), "1".to_owned())].into();
    let (application, _folder) = start(Config { processes: 1, env, ..Config::default() }).await;
    let finished = run(&application, job(&application, "wapp.add", &json!([2, 3]))).await;
    assert_eq!((finished.outcome, finished.stored), (Outcome::Succeeded("5".into()), Stored::Nothing));
    application.close().await;
}

#[tokio::test]
#[ignore = "needs an interpreter with Celery, and a Redis; prints a measurement"]
async fn short_tasks_are_fast() {
    let (application, _folder) = start(Config { processes: 2, ..Config::default() }).await;
    for (task, count) in [("wapp.noop", 2000), ("wapp.noop", 4000), ("wapp.quiet", 4000)] {
        let begun = Instant::now();
        let slots = Arc::new(tokio::sync::Semaphore::new(32));
        let mut all = Vec::new();
        for _ in 0..count {
            let permit = slots.clone().acquire_owned().await.unwrap();
            let (application, job) = (application.clone(), job(&application, task, &json!([])));
            all.push(tokio::spawn(async move {
                let finished = application.run(job).await;
                drop(permit);
                assert!(matches!(finished.outcome, Outcome::Succeeded(_)), "{finished:?}");
            }));
        }
        for one in all {
            one.await.unwrap();
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!("{task}: {rate:.0}/s");
        assert!(rate > 500.0);
    }
    application.close().await;
}
