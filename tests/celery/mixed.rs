//! Stock workers and Beacon on one Redis, which is how one migrates: each finishes what the other one leaves behind, and
//! together they run everything once.

use std::collections::HashSet;
use std::time::Duration;

use crate::rig::{Program, Rig};
use crate::support::until;

/// The visibility timeout that the application has, in seconds: after it a stock worker takes what another one holds.
const VISIBILITY: u32 = 3;

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.visibility = VISIBILITY;
    rig
}

/// Sends six tasks that take a while, waits until some run, and says how many there are in all.
fn send_late(rig: &Rig) -> usize {
    rig.client("for n in range(6): tasks.mark_late.delay('late', n, 2)");
    rig.wait_traces("late:begun", 1);
    6
}

#[test]
fn what_a_killed_stock_worker_held_is_finished() {
    let rig = rig();
    let stock = rig.worker_of(Program::Stock, "stock@test.example", &["-c", "2"]);
    let sent = send_late(&rig);
    stock.kill();
    assert_ne!(rig.redis.ask(&["HLEN", "unacked"]), "0", "it held some of them");
    let _worker = take_over(&rig, Program::tested());
    finished(&rig, sent);
}

#[test]
fn what_a_killed_worker_held_is_finished_by_a_stock_one() {
    let rig = rig();
    let worker = rig.worker("w1@test.example");
    let sent = send_late(&rig);
    worker.kill();
    assert_ne!(rig.redis.ask(&["HLEN", "unacked"]), "0", "it held some of them");
    let _stock = take_over(&rig, Program::Stock);
    finished(&rig, sent);
}

/// Starts a worker beside those entries. A stock one looks once when it starts and then every hundred seconds only.
fn take_over(rig: &Rig, program: Program) -> crate::rig::Worker {
    if program == Program::Stock {
        std::thread::sleep(Duration::from_secs(u64::from(VISIBILITY) + 1));
    }
    rig.worker_of(program, "second@test.example", &["-c", "2"])
}

#[track_caller]
fn finished(rig: &Rig, sent: usize) {
    let found: HashSet<String> = until("each task's end", || {
        let found: HashSet<String> = rig.traces("late").into_iter().collect();
        (found.len() == sent).then_some(found)
    });
    assert_eq!(found.len(), sent);
    until("no entry in unacked", || (rig.redis.ask(&["HLEN", "unacked"]) == "0").then_some(()));
}

#[test]
fn both_work_side_by_side_and_run_everything_once() {
    let rig = rig();
    let stock = rig.worker_of(Program::Stock, "stock@test.example", &["-c", "1"]);
    let worker = rig.worker("w1@test.example");
    rig.client("for n in range(300): tasks.mark.delay('both', n, 0.01)");
    let found = rig.wait_traces("both", 300);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 300);
    until("no entry in unacked", || (rig.redis.ask(&["HLEN", "unacked"]) == "0").then_some(()));
    assert_eq!(rig.traces("both").len(), 300, "none ran twice");
    let nodes = rig.client("print(sorted(node for answer in app.control.ping(timeout=2) for node in answer))");
    assert_eq!(nodes, "['stock@test.example', 'w1@test.example']");
    // Both take part in one chord; its body runs once.
    let chord = "from celery import chord\n\
        print(chord((tasks.mark.s('header', n, 0.02) for n in range(40)), tasks.total.s())().get(timeout=20))";
    assert_eq!(rig.client(chord), (0..40).sum::<u32>().to_string());
    // Many at once: of single ones a stock worker that waits gets each, since Redis hands it over.
    let hosts = "sent = [tasks.request.delay() for _ in range(300)]\n\
        print(sorted({one.get(timeout=20)['hostname'] for one in sent}))";
    let hosts = rig.client(hosts);
    assert_eq!(hosts, nodes, "each of them runs some");
    assert!(worker.stop().success());
    assert!(stock.stop().success());
}

#[test]
fn a_lease_outlives_a_stock_workers_visibility_timeout() {
    if Program::tested() == Program::Stock {
        eprintln!("a stock worker has no lease: it runs such a task again");
        return;
    }
    let rig = rig();
    let worker = rig.worker_of(Program::tested(), "w1@test.example", &["-c", "2", "-Q", "long"]);
    rig.client(&format!("tasks.mark_late.apply_async(('lease', 1, {}), queue='long')", VISIBILITY * 3));
    rig.client(&format!("tasks.mark.apply_async(('parked', 1), queue='long', countdown={})", VISIBILITY * 2));
    rig.wait_traces("lease:begun", 1);
    std::thread::sleep(Duration::from_secs(u64::from(VISIBILITY) + 1));
    // It sweeps as soon as it starts.
    let _stock = rig.worker_of(Program::Stock, "stock@test.example", &["-c", "1", "-Q", "celery,long"]);
    rig.wait_traces("lease", 1);
    rig.wait_traces("parked", 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((rig.traces("lease:begun").len(), rig.traces("parked").len()), (1, 1), "once each");
    drop(worker);
}
