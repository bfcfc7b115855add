//! The bounded buffer between requests and the thread that writes the access log.
//!
//! A request appends its line and goes on; the thread takes the whole buffer every 100 ms, or when 64 KiB have come,
//! and writes it with one call. When the output is slower than that, the buffer fills to its limit, and lines beyond
//! it are dropped and counted: requests never wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

use super::sink::Sink;

/// Bytes that may wait, those being written included.
pub const LIMIT: usize = 4 << 20;
/// Bytes after which the writer does not wait for more.
const BATCH: usize = 64 << 10;
/// How long a line waits for company.
const GATHER: Duration = Duration::from_millis(100);
/// How often the writer looks after its file, and reports what was dropped.
const LOOK: Duration = Duration::from_millis(500);
/// How long a flush waits.
const FLUSH: Duration = Duration::from_secs(2);

/// See the module.
pub struct Queue {
    state: Mutex<State>,
    /// Something for the writer to do.
    work: Condvar,
    /// A batch is settled.
    settled: Condvar,
    dropped: AtomicU64,
    reported: AtomicU64,
    /// When drops were last reported, as [`clock::millis`].
    reported_at: AtomicU64,
    limit: usize,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    in_flight: usize,
    /// Bytes ever added, and those of them that were written or given up.
    added: u64,
    settled: u64,
    flush: bool,
    reopen: bool,
    closed: bool,
    /// The writer sleeps until somebody wakes it.
    idle: bool,
}

impl Queue {
    /// An empty queue of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State { buffer: Vec::with_capacity(BATCH), ..State::default() }),
            work: Condvar::new(),
            settled: Condvar::new(),
            dropped: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            reported_at: AtomicU64::new(0),
            limit,
        }
    }

    /// Appends a line, or drops it when there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let before = state.buffer.len();
        if before + state.in_flight + line.len() > self.limit {
            drop(state);
            self.lost(1);
            self.report();
            return;
        }
        state.buffer.extend_from_slice(line);
        state.added += line.len() as u64;
        let wake = state.idle || (before < BATCH && state.buffer.len() >= BATCH);
        state.idle = false;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Waits until everything that was pushed before is written or given up, for at most 2 s.
    pub fn flush(&self) {
        let mut state = self.lock();
        let target = state.added;
        if state.settled >= target {
            return;
        }
        state.flush = true;
        self.work.notify_one();
        drop(self.settled.wait_timeout_while(state, FLUSH, |state| state.settled < target));
    }

    /// Has the writer open its file anew.
    pub fn reopen(&self) {
        self.lock().reopen = true;
        self.work.notify_one();
    }

    /// Has the writer finish what is there and end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The writer: runs until the queue is closed and empty.
    pub fn drain(&self, mut sink: Sink) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut looked = Instant::now();
        let mut failing = false;
        loop {
            let closed = self.take(&mut batch, &mut sink);
            if looked.elapsed() >= LOOK {
                sink.look();
                looked = Instant::now();
            }
            if !batch.is_empty() {
                let outcome = sink.deliver(&batch);
                self.lost(outcome.lost);
                match outcome.error {
                    Some(error) if !failing => {
                        failing = true;
                        tracing::error!(
                            output = %sink, %error,
                            "the access log cannot be written: its lines are dropped and counted until it can"
                        );
                    }
                    None if failing => {
                        failing = false;
                        tracing::info!(output = %sink, dropped = self.dropped(), "the access log is written again");
                    }
                    _ => {}
                }
                self.settle(&mut batch);
            }
            if !failing {
                self.report();
            }
            if closed && self.lock().buffer.is_empty() {
                return;
            }
        }
    }

    /// Waits for work and swaps what has gathered into `batch`; true when the queue is closed. An empty batch is the
    /// occasion to look after the file.
    fn take(&self, batch: &mut Vec<u8>, sink: &mut Sink) -> bool {
        let mut state = self.lock();
        let mut deadline = None;
        loop {
            if state.closed || state.flush || state.reopen || state.buffer.len() >= BATCH {
                break;
            }
            let now = Instant::now();
            let wait = if state.buffer.is_empty() {
                state.idle = true;
                if sink.needs_looking() || self.unreported() > 0 { LOOK } else { Duration::from_hours(1) }
            } else {
                state.idle = false;
                (*deadline.get_or_insert(now + GATHER)).saturating_duration_since(now)
            };
            if wait.is_zero() {
                break;
            }
            let (guard, timeout) = self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() {
                break;
            }
        }
        state.idle = false;
        state.flush = false;
        std::mem::swap(&mut state.buffer, batch);
        state.in_flight = batch.len();
        let (closed, reopen) = (state.closed, std::mem::take(&mut state.reopen));
        drop(state);
        if reopen {
            sink.reopen();
        }
        closed
    }

    fn settle(&self, batch: &mut Vec<u8>) {
        let mut state = self.lock();
        state.settled += batch.len() as u64;
        state.in_flight = 0;
        drop(state);
        self.settled.notify_all();
        batch.clear();
        // What a burst took is given back.
        batch.shrink_to(4 * BATCH);
    }

    fn lost(&self, lines: u64) {
        if lines > 0 {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    fn unreported(&self) -> u64 {
        self.dropped().saturating_sub(self.reported.load(Ordering::Relaxed))
    }

    /// Logs how many lines were dropped since the last time, at most once a second. Called by requests too: a writer
    /// that is stuck in its output cannot say so.
    fn report(&self) {
        let lines = self.unreported();
        if lines == 0 {
            return;
        }
        let (last, now) = (self.reported_at.load(Ordering::Relaxed), clock::millis());
        if last != 0 && now.saturating_sub(last) < 1_000 {
            return;
        }
        if self.reported_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.reported.fetch_add(lines, Ordering::Relaxed);
            tracing::warn!(lines, "access lines were dropped because their output does not take them fast enough");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_lines_are_dropped_and_counted() {
        let queue = Queue::new(10);
        queue.push(b"123456\n");
        queue.push(b"123\n");
        queue.push(b"12\n");
        assert_eq!(queue.dropped(), 1);
        assert_eq!(queue.lock().buffer, b"123456\n12\n");
    }

    #[test]
    fn what_is_being_written_counts_towards_the_limit() {
        let queue = Queue::new(10);
        queue.push(b"123456\n");
        let (mut batch, mut sink) = (Vec::new(), Sink::discard());
        queue.close();
        assert!(queue.take(&mut batch, &mut sink));
        queue.push(b"1234\n");
        assert_eq!(queue.dropped(), 1);
        queue.settle(&mut batch);
        queue.push(b"1234\n");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_flush_without_a_writer_ends_after_its_bound() {
        let queue = Queue::new(100);
        queue.push(b"line\n");
        let start = Instant::now();
        queue.flush();
        assert!(start.elapsed() >= FLUSH && start.elapsed() < FLUSH * 5);
    }
}
