//! Nothing is lost, counted: workers are killed, Redis is killed and started again, connections stall and are cut while
//! numbered tasks run, and afterwards each number must have run to its end.
//!
//! A task that runs twice is a duplicate. It is excused when the other run was on a worker that was killed, and was under
//! way then or had ended a moment before, so that its end was not yet told. Any other duplicate is a fault.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::journey::tail;
use crate::proxy::Proxy;
use crate::rig::{PYTHON, Program, Rig, Worker, celery};
use crate::support::Redis;

/// How long before the kill a run may have ended, in seconds: its acknowledgement is a round trip behind.
const MOMENT: f64 = 0.5;

/// What was answered outlives a crash of the server.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// How much happens.
struct Plan {
    task: &'static str,
    tasks: usize,
    /// How often the acts are gone through.
    rounds: usize,
    acts: &'static [Act],
    /// How long the sending takes, so that it goes on while things fail.
    sending: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// A worker's parent process gets SIGKILL, and another one starts in its place.
    KillWorker,
    /// A process that runs bodies gets SIGKILL.
    KillChild,
    /// Redis gets SIGKILL and starts again from its file.
    RestartRedis,
    /// No byte passes for two seconds.
    Stall,
    /// All connections end.
    Cut,
    /// All connections end, and none is taken for two seconds.
    Refuse,
}

/// One run of a body.
#[derive(Debug)]
struct Run {
    node: String,
    process: String,
    done: Option<f64>,
}

#[test]
fn tasks_survive_kills_restarts_stalls_and_cuts() {
    let acts = &[Act::KillWorker, Act::Cut, Act::RestartRedis, Act::KillWorker, Act::Stall, Act::Refuse];
    Plan { task: "proj.tasks.count", tasks: 2_000, rounds: 1, acts, sending: 8.0 }.carry_out();
}

#[test]
fn late_tasks_survive_the_loss_of_their_process() {
    let acts = &[Act::KillChild, Act::KillChild, Act::KillWorker, Act::KillChild];
    Plan { task: "proj.tasks.count_late", tasks: 800, rounds: 1, acts, sending: 4.0 }.carry_out();
}

#[test]
#[ignore = "takes minutes: run it with -- --ignored twenty_thousand"]
fn twenty_thousand_tasks_survive() {
    let acts = &[
        Act::KillWorker,
        Act::Cut,
        Act::KillWorker,
        Act::RestartRedis,
        Act::Stall,
        Act::KillWorker,
        Act::Refuse,
        Act::KillWorker,
    ];
    Plan { task: "proj.tasks.count", tasks: 20_000, rounds: 5, acts, sending: 60.0 }.carry_out();
}

/// The workers of a plan, each with a name of its own.
struct Crew {
    workers: Vec<Worker>,
    started: usize,
    /// When a node or a process was killed, in seconds since 1970.
    killed: HashMap<String, f64>,
    dice: u64,
}

impl Plan {
    fn carry_out(&self) {
        let mut rig = Rig::on(Redis::with(DURABLE));
        let proxy = Proxy::before(rig.redis.address());
        rig.broker = Some(Redis::url_at(proxy.address()));
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let mut crew = Crew { workers: Vec::new(), started: 0, killed: HashMap::new(), dice: u64::from(seed) | 1 };
        crew.start(&rig);
        crew.start(&rig);
        let mut producer = self.producer(&rig);
        let acts: Vec<Act> = (0..self.rounds).flat_map(|_| self.acts.iter().copied()).collect();
        let share = self.tasks / (acts.len() + 1);
        for (number, act) in acts.iter().enumerate() {
            wait_done(&rig, share * (number + 1));
            if *act == Act::RestartRedis {
                rig.redis.stop();
                std::thread::sleep(Duration::from_millis(500));
                rig.redis.start_again();
            } else {
                crew.suffer(&rig, *act, &proxy);
            }
        }
        wait_done(&rig, self.tasks);
        assert!(producer.wait().unwrap().success());
        wait_settled(&rig);
        self.judge(&rig, &crew, seed);
    }

    fn producer(&self, rig: &Rig) -> Child {
        let mut command = rig.program(&celery("5.7"));
        let (tasks, seconds) = (self.tasks.to_string(), self.sending.to_string());
        command.arg(Path::new(PYTHON).join("producer.py")).args([self.task, &tasks, &seconds]);
        // It has a way of its own: what fails on the worker's way is not its matter.
        command.env("PROJ_BROKER", rig.redis.url()).spawn().unwrap()
    }

    fn judge(&self, rig: &Rig, crew: &Crew, seed: u32) {
        let (runs, killed) = (runs(rig), &crew.killed);
        let excused = |run: &Run| {
            let at = killed.get(&run.node).or_else(|| killed.get(&run.process));
            at.is_some_and(|at| run.done.is_none_or(|done| done > at - MOMENT))
        };
        let ended = |number: &usize| runs.get(number).is_some_and(|runs| has_ended(runs));
        let missing: Vec<usize> = (0..self.tasks).filter(|number| !ended(number)).collect();
        let repeated = runs.iter().filter(|(_, runs)| runs.len() > 1);
        let duplicates: usize = repeated.clone().map(|(_, runs)| runs.len() - 1).sum();
        let unexcused: Vec<String> = repeated
            .filter(|(_, runs)| runs.iter().filter(|run| !excused(run)).count() > 1)
            .map(|(number, runs)| format!("{number}: {runs:?}"))
            .collect();
        let dead = rig.redis.ask(&["ZCARD", "beacon:dead"]);
        let summary = format!(
            "{} of {} ran; {} kills, {duplicates} duplicates of which {} not excused, {dead} dead letters",
            self.tasks - missing.len(),
            self.tasks,
            killed.len(),
            unexcused.len()
        );
        println!("{}: {} {summary} (seed {seed})", self.task, Program::tested().name());
        if Program::tested() == Program::Stock {
            // It loses what it has acknowledged early; the counting itself is what is tried.
            return;
        }
        let log: String = crew.workers.iter().map(|worker| tail(&worker.log())).collect();
        assert!(missing.is_empty(), "{summary}\nlost: {missing:?}\n{log}");
        assert!(unexcused.is_empty(), "{summary}\n{}\nkilled: {killed:?}\n{log}", unexcused.join("\n"));
        assert_eq!(dead, "0", "{summary}\n{log}");
    }
}

/// The runs of each number.
fn runs(rig: &Rig) -> BTreeMap<usize, Vec<Run>> {
    let mut runs: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for line in rig.traces("runs") {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, node, process, what, time] = words[..] else { panic!("not a trace: {line}") };
        let of_number = runs.entry(number.parse().unwrap()).or_default();
        if what == "begun" {
            of_number.push(Run { node: node.into(), process: process.into(), done: None });
        } else {
            let run = of_number.iter_mut().rev().find(|run| run.node == node && run.process == process);
            run.unwrap_or_else(|| panic!("an end without a start: {line}")).done = Some(time.parse().unwrap());
        }
    }
    runs
}

impl Crew {
    fn start(&mut self, rig: &Rig) {
        self.started += 1;
        let node = format!("w{}@test.example", self.started);
        self.workers.push(rig.launch(Program::tested(), &node, &["-c", "2"]));
    }

    /// A number below `limit`: xorshift, so that a seed gives the same course.
    fn roll(&mut self, limit: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % limit as u64) as usize
    }

    fn suffer(&mut self, rig: &Rig, act: Act, proxy: &Proxy) {
        let pause = || std::thread::sleep(Duration::from_secs(2));
        match act {
            Act::KillWorker => {
                let chosen = self.roll(self.workers.len());
                let worker = self.workers.swap_remove(chosen);
                self.killed.insert(worker.node.clone(), now());
                worker.kill();
                self.start(rig);
            }
            Act::KillChild => {
                // Those that run bodies have left a trace.
                let traced: HashSet<String> = runs(rig).into_values().flatten().map(|run| run.process).collect();
                let alive = |process: &String| self.workers.iter().any(|worker| worker.has_child(process));
                let children: Vec<String> = traced.into_iter().filter(alive).collect();
                assert!(!children.is_empty(), "no process of a worker has left a trace");
                let child = &children[self.roll(children.len())];
                self.killed.insert(child.clone(), now());
                assert!(Command::new("kill").args(["-KILL", child]).status().unwrap().success());
            }
            Act::Stall => {
                proxy.stall(true);
                pause();
                proxy.stall(false);
            }
            Act::Cut => {
                proxy.cut();
            }
            Act::Refuse => {
                proxy.refuse(true);
                pause();
                proxy.refuse(false);
            }
            Act::RestartRedis => unreachable!("done by the plan, which owns it"),
        }
    }
}

/// How long nothing may go on before the waiting is given up, in seconds.
fn patience() -> Duration {
    Duration::from_secs(if Program::tested() == Program::Stock { 15 } else { 60 })
}

/// Waits until so many tasks have run to their end, or until nothing goes on any more.
fn wait_done(rig: &Rig, wanted: usize) {
    let (mut seen, mut changed) = (0, Instant::now());
    while changed.elapsed() < patience() {
        let traces: usize = rig.effects.ask(&["LLEN", "runs"]).parse().unwrap();
        if traces >= 2 * wanted && runs(rig).values().filter(|runs| has_ended(runs)).count() >= wanted {
            return;
        }
        if traces != seen {
            (seen, changed) = (traces, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until no message waits or is held.
fn wait_settled(rig: &Rig) {
    let begun = Instant::now();
    while begun.elapsed() < patience() {
        if rig.waiting("celery") == 0 && rig.redis.ask(&["HLEN", "unacked"]) == "0" {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn has_ended(runs: &[Run]) -> bool {
    runs.iter().any(|run| run.done.is_some())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
