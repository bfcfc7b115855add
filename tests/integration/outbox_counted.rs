//! Tasks from SQL, counted: PostgreSQL, Redis and the Beacons that move them are killed by SIGKILL while transactions
//! enqueue them. What was committed is sent once, what was rolled back or cut off never.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::schedules::{body, messages};
use crate::support::{Beacon, Database, Launch, Postgres, Redis, until};

/// What was answered outlives a crash of the server.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
/// Numbers that one writer takes, from its own first one.
const SHARE: usize = 100_000;
/// Tasks in a transaction.
const TOGETHER: usize = 5;
/// How often each of them is killed.
const ROUNDS: usize = 4;

/// A Beacon that moves tasks from this database to this Redis.
fn relay(database: &Database<'_>, redis: &Redis) -> Beacon {
    let toml = format!("redis.url = {:?}\n", redis.url());
    Launch::new().env("DATABASE_URL", &database.url()).with(&toml).start()
}

/// Enqueues numbers in transactions until it is told to end, a fourth of them rolled back. Gives how many were tried.
fn write(database: &Database<'_>, first: usize, ended: &AtomicBool) -> usize {
    let mut next = first;
    while !ended.load(Ordering::Relaxed) {
        let end = if next / TOGETHER % 4 == 3 { "rollback" } else { "commit" };
        let last = next + TOGETHER - 1;
        // What the truth is, the transaction's own table tells: after a kill nobody knows whether the commit was done.
        let done = database.attempt(&format!(
            "begin; insert into public.written select n from generate_series({next}, {last}) as n;
             select beacon.enqueue('t', jsonb_build_array(n), queue => 'counted') from generate_series({next}, {last}) as n;
             {end}"
        ));
        next += TOGETHER;
        if !done {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    next - first
}

#[test]
fn committed_tasks_are_sent_once_whatever_is_killed() {
    let (server, mut redis) = (Postgres::start(&[]), Redis::with(DURABLE));
    let database = server.database();
    let mut beacons = vec![relay(&database, &redis), relay(&database, &redis)];
    database.execute("create table public.written (n bigint primary key)");
    let ended = AtomicBool::new(false);
    let tried: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (database, ended) = (&database, &ended);
                scope.spawn(move || write(database, writer * SHARE, ended))
            })
            .collect();
        for round in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(700));
            server.kill();
            std::thread::sleep(Duration::from_millis(200));
            server.start_again();
            std::thread::sleep(Duration::from_millis(700));
            // Whichever of them is at work.
            for beacon in beacons.drain(round % 2..) {
                beacon.signal("KILL");
            }
            while beacons.len() < 2 {
                beacons.push(relay(&database, &redis));
            }
            if round % 2 == 1 {
                redis.stop();
                redis.start_again();
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        ended.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let begun = Instant::now();
    until("an empty outbox", || (database.value("select count(*) from beacon.outbox") == "0").then_some(()));
    let written: Vec<i64> = database
        .rows("select n from public.written order by n")
        .into_iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    let mut sent: BTreeMap<i64, usize> = BTreeMap::new();
    let mut order: [Vec<i64>; 2] = Default::default();
    for message in messages(&redis, "counted") {
        let number = body(&message)[0][0].as_i64().unwrap();
        *sent.entry(number).or_default() += 1;
        order[number as usize / SHARE].push(number);
    }
    let lost: Vec<_> = written.iter().filter(|number| !sent.contains_key(number)).collect();
    let invented: Vec<_> = sent.keys().filter(|number| written.binary_search(number).is_err()).collect();
    let twice: Vec<_> = sent.iter().filter(|(_, times)| **times > 1).collect();
    println!(
        "{tried} tried, {} committed, {} sent, {} lost, {} twice, {} never committed; settled in {:?}",
        written.len(),
        sent.values().sum::<usize>(),
        lost.len(),
        twice.len(),
        invented.len(),
        begun.elapsed()
    );
    assert!(written.len() > 200 && written.len() < tried, "{} of {tried} committed", written.len());
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(invented.is_empty(), "never committed: {invented:?}");
    assert!(twice.is_empty(), "twice: {twice:?}");
    assert!(
        order.iter().all(|numbers| numbers.is_sorted()),
        "each writer's tasks are sent in the order of their commits"
    );
    assert_eq!(database.value("select count(*) from beacon.outbox_failed"), "0");
}
