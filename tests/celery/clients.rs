//! Celery's client, its command line and Flower, each as its users have it.

use crate::journey;
use crate::rig::{Program, Rig, celery};

/// The most memory that a worker's parent may have after bad messages, in KiB (an unoptimised build, with room to spare).
const MOST_MEMORY: u64 = 300 * 1024;

/// A file of cases against a worker with two places.
#[track_caller]
fn journey(version: &str, file: &str, flags: &[&str]) {
    let rig = Rig::new();
    let worker = rig.worker_of(Program::tested(), "w1@test.example", flags);
    journey::run(&rig, &worker, &celery(version), file);
    assert!(worker.stop().success(), "the worker ends in good order");
}

#[test]
fn celery_5_7_calls_tasks() {
    journey("5.7", "calls.py", &["-c", "2"]);
}

#[test]
fn celery_5_7_composes_tasks() {
    journey("5.7", "canvas.py", &["-c", "2"]);
}

#[test]
fn celery_5_7_controls_and_inspects() {
    journey("5.7", "control.py", &["-c", "2"]);
}

#[test]
fn flower_2_2_shows_workers_and_tasks() {
    journey("5.7", "flower_pages.py", &["-c", "2", "-E"]);
}

#[test]
fn celery_5_6_does_the_basics() {
    journey("5.6", "basics.py", &["-c", "2"]);
}

#[test]
fn celery_5_5_does_the_basics() {
    journey("5.5", "basics.py", &["-c", "2"]);
}

#[test]
fn celery_5_4_does_the_basics() {
    journey("5.4", "basics.py", &["-c", "2"]);
}

#[test]
fn bad_messages_get_an_answer_and_never_stop_the_queue() {
    let mut rig = Rig::new();
    rig.configuration = "tasks.max_message_bytes = 20000000\n".into();
    let mut worker = rig.worker("w1@test.example");
    let pid = worker.pid();
    journey::run(&rig, &worker, &celery("5.7"), "bad.py");
    assert!(worker.runs(), "{}", worker.log());
    assert_eq!(worker.pid(), pid);
    assert!(!worker.log().contains("panicked"), "{}", worker.log());
    assert!(worker.memory() < MOST_MEMORY, "memory grew to {} KiB", worker.memory());
}
