//! One process that runs bodies: what it has been given, and what has become of it.
//!
//! It runs what it is given in order, so that the first of its line is the one that runs. Coroutines run beside that.

use std::collections::{HashMap, VecDeque};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::frame::{self, Done, Reader, Run, Said};
use super::link::{Link, Writer};
use crate::process::{Child, Signal};

/// A task that takes longer is not short: nothing is put behind it.
pub(super) const SHORT: Duration = Duration::from_millis(25);
/// How many short tasks may be in a process's line.
const DEPTH: usize = 16;

/// What the one who waits for a run is told.
#[derive(Debug)]
pub(super) enum Told {
    /// It begins.
    Begun,
    /// It has ended, with the value to be stored.
    Done(Box<Done>, Bytes),
    /// It has not begun, and will not here.
    Dropped,
    /// The process ended while it ran.
    Lost(ExitStatus),
}

/// When a process is to be replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wear {
    /// Runs; 0 is never.
    pub runs: u32,
    /// Bytes of memory after a run; 0 is never.
    pub memory: u64,
    /// Age after a run; zero is never.
    pub age: Duration,
}

/// Tells that there may be room again.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The one that fetches tasks; told later if it does not listen now.
    pub fetcher: Notify,
    /// Jobs that wait for a process.
    pub jobs: Notify,
}

impl Room {
    /// There may be room.
    pub(super) fn tell(&self) {
        self.fetcher.notify_one();
        self.jobs.notify_waiters();
    }
}

/// A process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Body(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: u32,
    writer: Writer,
    state: Mutex<State>,
    wear: Wear,
    born: Instant,
    /// Something happened that may matter to its place.
    changed: Notify,
    /// It is no more.
    gone: CancellationToken,
    /// Asked to be ended by force: with the group (hard time limit), or only the process (terminate).
    force: mpsc::UnboundedSender<Force>,
}

#[derive(Debug, Default)]
struct State {
    line: VecDeque<Waiting>,
    beside: HashMap<u64, mpsc::UnboundedSender<Told>>,
    /// When the first of the line began.
    since: Option<Instant>,
    /// Runs that were handed to it.
    handed: u32,
    /// Mean run time of the last ones, in seconds.
    mean: Option<f64>,
    /// Takes no more: it is to be replaced.
    worn: bool,
    /// Takes no more: it has ended, or is being ended.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    told: mpsc::UnboundedSender<Told>,
}

#[derive(Debug)]
enum Force {
    Group,
    Process(Signal),
    /// Nothing: it may be time to go.
    Look,
}

impl Body {
    /// Takes a process over that is ready.
    pub(super) fn new(link: Link, wear: Wear, room: Arc<Room>, silence: Duration) -> Self {
        let Link { child, reader, writer, .. } = link;
        let (force, asked) = mpsc::unbounded_channel();
        let body = Self(Arc::new(Inner {
            pid: child.pid().unwrap_or_default(),
            writer,
            state: Mutex::default(),
            wear,
            born: Instant::now(),
            changed: Notify::new(),
            gone: CancellationToken::new(),
            force,
        }));
        tokio::spawn(body.clone().attend(child, reader, asked, room, silence));
        body
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more it would take in its line at this moment, and how many are in it.
    pub(super) fn room(&self) -> (usize, usize) {
        let state = self.state();
        let have = state.line.len();
        if state.closed || state.worn {
            return (0, have);
        }
        let short = state.mean.is_some_and(|mean| mean < SHORT.as_secs_f64() / 5.0)
            && state.since.is_none_or(|since| since.elapsed() < SHORT);
        let depth = if short { DEPTH } else { 1 };
        let left = match self.0.wear.runs {
            0 => usize::MAX,
            runs => runs.saturating_sub(state.handed) as usize,
        };
        (depth.saturating_sub(have).min(left), have)
    }

    /// How many coroutines it has; `None` if it takes none.
    pub(super) fn coroutines(&self) -> Option<usize> {
        let state = self.state();
        let spent = self.0.wear.runs > 0 && state.handed >= self.0.wear.runs;
        (!state.closed && !state.worn && !spent).then(|| state.beside.len())
    }

    /// Hands it a message; `None` if it takes none any more.
    pub(super) fn give(
        &self,
        number: u64,
        raw: &[u8],
        redelivered: bool,
        beside: bool,
    ) -> Option<mpsc::UnboundedReceiver<Told>> {
        let (told, receiver) = mpsc::unbounded_channel();
        let run = Run { t: "run", n: number, redelivered, beside };
        let frame = frame::encode(&run, raw);
        let mut state = self.state();
        if state.closed || state.worn {
            return None;
        }
        state.handed += 1;
        if beside {
            state.beside.insert(number, told);
        } else {
            if state.line.is_empty() {
                let _ = told.send(Told::Begun);
                state.since = Some(Instant::now());
            }
            state.line.push_back(Waiting { number, told });
        }
        // In the order of the line: still under the lock.
        if beside {
            self.tell_now(frame);
        } else {
            self.0.writer.tell(frame);
        }
        Some(receiver)
    }

    /// Asks for a run back that has not begun; the answer comes to the one who waits for it.
    pub(super) fn take_back(&self, number: u64) {
        self.tell_now(frame::encode(&json!({"t": "drop", "n": [number]}), b""));
    }

    /// The soft time limit of a run is over.
    pub(super) fn soft(&self, number: u64) {
        self.tell_now(frame::encode(&json!({"t": "soft", "n": number}), b""));
    }

    /// Ends a coroutine.
    pub(super) fn stop_coroutine(&self, number: u64) {
        self.tell_now(frame::encode(&json!({"t": "stop", "n": number}), b""));
    }

    /// Tells it, and makes it look while a body runs: the signal must not come before the frame.
    fn tell_now(&self, frame: Bytes) {
        let (written, force) = (self.0.writer.tell_now(frame), self.0.force.clone());
        tokio::spawn(async move {
            if written.await.is_ok() {
                let _ = force.send(Force::Process(Signal::URG));
            }
        });
    }

    /// Ends it with all that it has started: TERM, a tenth of a second, KILL.
    pub(super) fn end_group(&self) {
        self.close();
        let _ = self.0.force.send(Force::Group);
    }

    /// Sends it a signal that is meant to end it.
    pub(super) fn terminate(&self, signal: Signal) {
        self.close();
        let _ = self.0.force.send(Force::Process(signal));
    }

    fn close(&self) {
        self.state().closed = true;
    }

    /// It takes no more, and ends when it has nothing to do.
    pub(super) fn retire(&self) {
        self.state().worn = true;
        let _ = self.0.force.send(Force::Look);
    }

    /// Whether it should be replaced, and whether it still takes something until then.
    pub(super) fn worn(&self) -> (bool, bool) {
        let state = self.state();
        let Wear { runs, age, .. } = self.0.wear;
        let spent = runs > 0 && state.handed >= runs;
        let near = runs > 0 && state.handed + (runs / 10).max(1) >= runs;
        let old = !age.is_zero() && self.0.born.elapsed() >= age;
        (near || old || state.worn || state.closed, !(spent || state.worn || state.closed))
    }

    /// Waits for something that may matter to its place.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Whether it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.0.gone.is_cancelled()
    }

    /// Waits for its end.
    pub(super) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }

    async fn attend(
        self,
        mut child: Child,
        mut reader: Reader<OwnedReadHalf>,
        mut asked: mpsc::UnboundedReceiver<Force>,
        room: Arc<Room>,
        silence: Duration,
    ) {
        let mut leaving = None;
        let mut heard = Instant::now();
        let mut pinged = false;
        let status = loop {
            let idle = self.state().line.is_empty();
            if leaving.is_none() && self.is_done() {
                self.0.writer.tell(frame::encode(&json!({"t": "exit"}), b""));
                leaving = Some(Instant::now());
            }
            let quiet = if pinged { silence } else { silence / 2 };
            tokio::select! {
                biased;
                Some(force) = asked.recv() => match force {
                    Force::Look => {}
                    Force::Process(signal) => child.signal(signal),
                    Force::Group => {
                        child.signal_group(Signal::TERM);
                        if tokio::time::timeout(Duration::from_millis(100), child.wait()).await.is_err() {
                            child.signal_group(Signal::KILL);
                        }
                    }
                },
                said = reader.next() => match said {
                    Ok(Some((said, value))) => {
                        (heard, pinged) = (Instant::now(), false);
                        if self.hear(said, value) {
                            room.tell();
                        }
                    }
                    // Its end of the line is closed: it ends, or has lost its mind.
                    Ok(None) => break child.stop(&[(Signal::CONT, Duration::from_secs(2))]).await.map(|(status, _)| status),
                    Err(error) => {
                        tracing::error!(pid = self.pid(), %error, "a process of the application cannot be understood");
                        child.signal_group(Signal::KILL);
                        break child.wait().await;
                    }
                },
                status = child.wait() => {
                    // What it said before it ended still counts.
                    while let Ok(Ok(Some((said, value)))) = tokio::time::timeout(Duration::from_millis(50), reader.next()).await {
                        self.hear(said, value);
                    }
                    break status;
                }
                () = tokio::time::sleep_until((heard + quiet).into()), if idle && leaving.is_none() && !silence.is_zero() => {
                    if pinged {
                        tracing::error!(pid = self.pid(), "a process of the application does not answer; it is ended");
                        self.close();
                        child.signal_group(Signal::KILL);
                        break child.wait().await;
                    }
                    self.0.writer.tell(frame::encode(&json!({"t": "ping", "n": 0}), b""));
                    (heard, pinged) = (Instant::now(), true);
                }
                () = tokio::time::sleep(Duration::from_secs(5)), if leaving.is_some() => {
                    tracing::warn!(pid = self.pid(), "a process of the application did not end when it was asked to");
                    break child.stop(&[(Signal::TERM, Duration::from_secs(1))]).await.map(|(status, _)| status);
                }
            }
        };
        let status = status.unwrap_or_default();
        let mut state = self.state();
        state.closed = true;
        let began = state.since.take().is_some();
        for (place, waiting) in std::mem::take(&mut state.line).into_iter().enumerate() {
            let _ = waiting.told.send(if place == 0 && began { Told::Lost(status) } else { Told::Dropped });
        }
        for (_, told) in state.beside.drain() {
            let _ = told.send(Told::Lost(status));
        }
        drop(state);
        self.0.gone.cancel();
        room.tell();
    }

    fn is_done(&self) -> bool {
        let state = self.state();
        let spent = self.0.wear.runs > 0 && state.handed >= self.0.wear.runs;
        (state.worn || spent) && state.line.is_empty() && state.beside.is_empty()
    }

    /// Takes what it says; true if there may be room now.
    fn hear(&self, said: Said, value: Bytes) -> bool {
        let mut state = self.state();
        match said {
            Said::Begun { n } => {
                if let Some(told) = state.beside.get(&n) {
                    let _ = told.send(Told::Begun);
                }
                false
            }
            Said::Done(done) => {
                let number = done.n;
                if done.last {
                    state.worn = true;
                }
                if let Some(told) = state.beside.remove(&number) {
                    let _ = told.send(Told::Done(done, value));
                } else if let Some(place) = state.line.iter().position(|waiting| waiting.number == number) {
                    let mean = state.mean.unwrap_or(done.runtime);
                    state.mean = Some(mean.mul_add(0.8, done.runtime * 0.2));
                    // By SystemExit: what is behind it will not begin.
                    let leaves = done.end == "lost";
                    if let Some(waiting) = state.line.remove(place) {
                        let _ = waiting.told.send(Told::Done(done, value));
                    }
                    if leaves {
                        (state.closed, state.since) = (true, None);
                    } else {
                        next_begins(&mut state);
                    }
                }
                if self.0.wear.memory > 0 && resident(self.0.pid) > self.0.wear.memory {
                    state.worn = true;
                }
                self.0.changed.notify_waiters();
                true
            }
            Said::Dropped { n } => {
                let (dropped, kept) =
                    std::mem::take(&mut state.line).into_iter().partition(|one| n.contains(&one.number));
                state.line = kept;
                let dropped: VecDeque<Waiting> = dropped;
                state.handed = state.handed.saturating_sub(dropped.len() as u32);
                for waiting in dropped {
                    let _ = waiting.told.send(Told::Dropped);
                }
                true
            }
            Said::Ready {} | Said::Unusable { .. } | Said::Pong {} | Said::Answer(_) => false,
        }
    }
}

/// The first of the line begins.
fn next_begins(state: &mut State) {
    state.since = state.line.front().map(|next| {
        let _ = next.told.send(Told::Begun);
        Instant::now()
    });
}

/// Bytes of a process's memory that are in RAM.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}
