//! The worker as a program: the flags that unit files have, the signals that systemd sends, and what is left of a task then.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::{Program, Rig, Worker};
use crate::support::until;

/// What `celery inspect` says of a node.
fn inspect(rig: &Rig, node: &str, method: &str) -> serde_json::Value {
    let code = format!(
        "import json; print(json.dumps((app.control.inspect(destination=['{node}'], timeout=5).{method}() or {{}}).get('{node}')))"
    );
    serde_json::from_str(&rig.client(&code)).unwrap()
}

#[test]
fn a_unit_files_line_is_taken_as_it_stands() {
    let rig = Rig::new();
    let host = String::from_utf8(Command::new("hostname").output().unwrap().stdout).unwrap();
    let node = format!("mail@{}", host.trim());
    let (pid, log) = (rig.path().join("worker.pid"), rig.path().join("worker.log"));
    let mut command = rig.command(Program::tested());
    command
        .args(["-A", "proj", "worker", "-n", "mail@%h", "-Q", "mail,slow", "-c", "1", "-l", "INFO", "-E", "-O", "fair"])
        .args(["--prefetch-multiplier=1", "--max-tasks-per-child=3", "--time-limit=3", "--soft-time-limit=2"])
        .args(["--without-gossip", "--without-mingle", "--pidfile"])
        .arg(&pid)
        .arg("--logfile")
        .arg(&log);
    let worker = rig.spawn(&mut command, "out");
    until("the worker", || (!inspect(&rig, &node, "ping").is_null()).then_some(()));
    assert_eq!(fs::read_to_string(&pid).unwrap().trim(), worker.pid().to_string());
    assert!(!fs::read_to_string(&log).unwrap().is_empty(), "the log is in its file");

    // Its queues, and no other.
    let queues = inspect(&rig, &node, "active_queues");
    let names: Vec<&str> = queues.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap()).collect();
    assert_eq!((names.contains(&"mail"), names.contains(&"slow"), names.len()), (true, true, 2));
    rig.client("tasks.mark.delay('default', 1); print(tasks.add.apply_async((1, 1), queue='mail').get(timeout=20))");
    assert_eq!(rig.traces("default").len(), 0);
    assert_eq!(rig.waiting("celery"), 1);

    // One process, replaced after three tasks.
    let pids = "print(len({(tasks.process.apply_async(queue='slow').get(timeout=20)) for _ in range(7)}))";
    assert!((2..=4).contains(&rig.client(pids).parse::<i32>().unwrap()), "a process runs three tasks at most");
    assert_eq!(inspect(&rig, &node, "stats")["pool"]["max-concurrency"], 1);

    // Limits for every task.
    assert_eq!(rig.client("print(tasks.guarded.apply_async((20,), queue='slow').get(timeout=20))"), "asked to end");
    let hard = "print(type(tasks.deaf.apply_async((20,), queue='slow').get(timeout=20, propagate=False)).__name__)";
    assert_eq!(rig.client(hard), "TimeLimitExceeded");

    assert!(worker.stop().success());
    assert!(!pid.exists(), "the file goes with the process");
}

#[test]
fn a_stop_waits_for_what_runs_and_leaves_the_rest() {
    let rig = Rig::new();
    let mut worker = rig.worker("w1@test.example");
    rig.client("for n in range(6): tasks.sleep.delay(3, 'stop')");
    until("two that run", || (rig.traces("stop").len() == 2).then_some(()));
    worker.signal("TERM");
    assert!(worker.wait_end().success());
    let traces = rig.traces("stop");
    let done = traces.iter().filter(|trace| *trace == "done").count();
    assert_eq!(traces.len() - done, done, "what began has ended: {traces:?}");
    assert!((2..6).contains(&done), "the rest has not begun: {traces:?}");
    assert_eq!(rig.waiting("celery"), 6 - done, "the rest is in its queue");
    assert_eq!(rig.redis.ask(&["HLEN", "unacked"]), "0");
    assert!(rig.traces("signals").contains(&"worker_shutting_down".to_owned()), "{:?}", rig.traces("signals"));
    // Another one has them at once.
    let next = rig.worker("w2@test.example");
    rig.wait_traces("stop", 12);
    assert!(next.stop().success());
}

#[test]
fn a_second_signal_hurries_and_gives_back_what_runs() {
    let rig = Rig::new();
    let mut worker = rig.worker("w1@test.example");
    rig.client("tasks.mark_late.delay('hurry', 1, 8)");
    rig.wait_traces("hurry:begun", 1);
    let begun = Instant::now();
    let quick = if Program::tested() == Program::Stock { "QUIT" } else { "TERM" };
    worker.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    worker.signal(quick);
    worker.wait_end();
    assert!(begun.elapsed() < Duration::from_secs(7), "it does not wait for the task");
    until("the message in its queue", || (rig.waiting("celery") == 1).then_some(()));
    let next = rig.worker("w2@test.example");
    rig.wait_traces("hurry", 1);
    assert_eq!(rig.traces("hurry:begun").len(), 2);
    drop(next);
}

#[test]
fn redis_may_come_after_the_worker_and_go_away_under_it() {
    let mut rig = Rig::new();
    rig.redis.stop();
    let worker: Worker = rig.launch(Program::tested(), "w1@test.example", &["-c", "2"]);
    std::thread::sleep(Duration::from_secs(2));
    rig.redis.start_again();
    assert_eq!(rig.client("print(tasks.add.delay(1, 1).get(timeout=20))"), "2");
    // A task that runs while there is no Redis keeps its result until there is one.
    rig.client("tasks.mark.apply_async(('away', 1, 3), task_id='away')");
    std::thread::sleep(Duration::from_secs(1));
    rig.redis.stop();
    rig.wait_traces("away", 1);
    rig.redis.start_again();
    assert_eq!(rig.client("print(tasks.add.delay(1, 1).get(timeout=20))"), "2");
    if Program::tested() == Program::Beacon {
        assert_eq!(rig.client("print(app.AsyncResult('away').get(timeout=20))"), "1");
    }
    assert!(worker.stop().success());
}

#[test]
fn purge_empties_the_queue_first() {
    let rig = Rig::new();
    rig.client("for n in range(5): tasks.mark.delay('purged', n)");
    assert_eq!(rig.waiting("celery"), 5);
    let worker = rig.worker_of(Program::tested(), "w1@test.example", &["-c", "1", "--purge"]);
    assert_eq!(rig.client("print(tasks.add.delay(1, 1).get(timeout=20))"), "2");
    assert!(rig.traces("purged").is_empty());
    assert!(worker.stop().success());
}
