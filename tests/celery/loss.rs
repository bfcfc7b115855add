//! Nothing is lost, counted: workers are killed, Redis is killed and started again, connections stall and are cut while
//! numbered tasks run, and afterwards each number must have run to its end.
//!
//! A task that runs twice is a duplicate. It is excused when the other run was on a worker that was killed, and was under
//! way then or had ended a moment before, so that its end was not yet told. Any other duplicate is a fault.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
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
    body: Body,
    tasks: usize,
    /// How often the acts are gone through.
    rounds: usize,
    acts: &'static [Act],
    /// How long the sending takes, so that it goes on while things fail.
    sending: f64,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// A task of the application.
    Python,
    /// The same, acknowledged late and rejected when its process is lost.
    Late,
    /// A handler that runs a program, beside the application.
    Program,
    /// A handler that calls an address, in a worker without Python.
    Call,
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
    Plan { body: Body::Python, tasks: 2_000, rounds: 1, acts, sending: 8.0 }.carry_out();
}

#[test]
fn late_tasks_survive_the_loss_of_their_process() {
    let acts = &[Act::KillChild, Act::KillChild, Act::KillWorker, Act::KillChild];
    Plan { body: Body::Late, tasks: 800, rounds: 1, acts, sending: 4.0 }.carry_out();
}

#[test]
fn native_calls_survive_kills_restarts_stalls_and_cuts() {
    let acts = &[Act::KillWorker, Act::RestartRedis, Act::Cut, Act::KillWorker, Act::Refuse, Act::Stall];
    Plan { body: Body::Call, tasks: 2_000, rounds: 1, acts, sending: 8.0 }.carry_out();
}

#[test]
fn native_programs_survive_kills_restarts_stalls_and_cuts() {
    let acts = &[Act::Cut, Act::KillWorker, Act::Stall, Act::RestartRedis, Act::KillWorker];
    Plan { body: Body::Program, tasks: 600, rounds: 1, acts, sending: 8.0 }.carry_out();
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
    for body in [Body::Python, Body::Call] {
        Plan { body, tasks: 20_000, rounds: 5, acts, sending: 60.0 }.carry_out();
    }
}

/// The workers of a plan, each with a name of its own.
struct Crew {
    workers: Vec<Worker>,
    started: usize,
    /// When a node or a process was killed, in seconds since 1970.
    killed: HashMap<String, f64>,
    dice: u64,
}

/// Leaves the traces of a run as the application's bodies do: the number is in the task on standard input.
const PROGRAM: &str = r#"
trace() { redis-cli --no-auth-warning -u "$EFFECTS" rpush runs "$number $WHO $$ $1 $EPOCHREALTIME"; }
read -r task || [ -n "$task" ] || exit 1
[[ $task =~ \"args\":\[([0-9]+)\] ]] || exit 2
number=${BASH_REMATCH[1]}
trace begun >/dev/null && trace done >/dev/null
"#;

impl Body {
    fn task(self) -> &'static str {
        match self {
            Self::Python => "proj.tasks.count",
            Self::Late => "proj.tasks.count_late",
            Self::Program | Self::Call => "native.count",
        }
    }

    /// Tells the workers of a rig of it.
    fn prepare(self, rig: &mut Rig) {
        match self {
            Self::Python | Self::Late => {}
            Self::Program => {
                rig.configuration = format!(
                    "[handlers.count]\ntask = \"native.count\"\nignore_result = true\n\
                     [handlers.count.command]\nrun = [\"/bin/bash\", \"-c\", {PROGRAM:?}]\n\
                     env = {{ EFFECTS = {:?}, WHO = \"NODE\" }}\n",
                    // redis-cli takes a password with a name only.
                    rig.effects.url().replace("://:", "://default:")
                );
            }
            Self::Call => {
                rig.application = false;
                rig.configuration = format!(
                    "[handlers.count]\ntask = \"native.count\"\n\
                     [handlers.count.http]\nurl = \"http://{}/NODE/{{args.0}}\"\nallow_http = true\n\
                     networks = [\"127.0.0.1/32\"]\n",
                    called(&rig.effects)
                );
            }
        }
    }
}

/// A server that leaves the traces of a run for each request to /NODE/NUMBER; its threads end with the test process.
fn called(effects: &Redis) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (server, user) = (effects.address(), effects.url());
    let password = user.split([':', '@']).nth(2).unwrap().to_owned();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let password = percent_encoding::percent_decode_str(&password).decode_utf8().unwrap().into_owned();
            std::thread::spawn(move || {
                let mut traces = TcpStream::connect(server).unwrap();
                traces.write_all(format!("AUTH {password}\r\nSELECT 3\r\n").as_bytes()).unwrap();
                let mut answers = BufReader::new(traces.try_clone().unwrap()).lines();
                assert!(answers.by_ref().take(2).all(|line| line.unwrap() == "+OK"));
                let mut trace = |text: String| {
                    traces.write_all(format!("RPUSH runs \"{text}\"\r\n").as_bytes()).unwrap();
                    assert!(answers.next().unwrap().unwrap().starts_with(':'));
                };
                // A worker that is killed closes in the middle of anything.
                let _ = answer(&stream.unwrap(), number, &mut trace);
            });
        }
    });
    address
}

/// Answers the requests of a connection, which has that number.
fn answer(mut stream: &TcpStream, connection: usize, trace: &mut dyn FnMut(String)) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let path: Vec<&str> = first.split(['/', ' ']).collect();
        let [_, _, node, number, ..] = path[..] else { panic!("not a call: {first}") };
        trace(format!("{number} {node} call-{connection} begun {:.3}", now()));
        std::thread::sleep(Duration::from_millis(2));
        trace(format!("{number} {node} call-{connection} done {:.3}", now()));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

impl Plan {
    fn carry_out(&self) {
        let mut rig = Rig::on(Redis::with(DURABLE));
        let proxy = Proxy::before(rig.redis.address());
        rig.broker = Some(Redis::url_at(proxy.address()));
        self.body.prepare(&mut rig);
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
        command.arg(Path::new(PYTHON).join("producer.py")).args([self.body.task(), &tasks, &seconds]);
        // It has a way of its own: what fails on the worker's way is not its matter.
        command.env("PROJ_BROKER", rig.redis.url()).spawn().unwrap()
    }

    fn judge(&self, rig: &Rig, crew: &Crew, seed: u32) {
        let (runs, killed) = (runs(rig), &crew.killed);
        let excused = |run: &Run| {
            // A worker may be killed long after a process of its.
            let mut at = [&run.node, &run.process].into_iter().filter_map(|name| killed.get(name));
            at.any(|at| run.done.is_none_or(|done| done > at - MOMENT))
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
        println!("{}: {} {summary} (seed {seed})", self.body.task(), Program::tested().name());
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
