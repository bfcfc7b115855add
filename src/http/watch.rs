//! What a connection is doing, and until when it may: deadlines that hyper does not have or joins together.
//!
//! hyper's one header timer also limits the idle time between requests, has no say while a response is taken slowly, and
//! nothing at all bounds an HTTP/2 connection. Here the I/O wrapper and the request's life note what happens in a few
//! atomics, and the connection's one timer compares them with the configured deadlines.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use futures_util::task::AtomicWaker;
use http::StatusCode;

use super::Timeouts;
use crate::clock;

/// How long a client that goes on sending may take to see the last answer, in milliseconds.
const LINGER: u64 = 2_000;

/// What one connection is doing. Times are [`clock::millis`]; 0 is "not".
pub struct Watch {
    /// When the head that is coming in began.
    head_since: AtomicU64,
    /// Requests begun and not ended.
    in_flight: AtomicU32,
    /// Requests begun since the connection opened.
    served: AtomicU64,
    /// When the last request ended, or the connection opened.
    idle_since: AtomicU64,
    /// Since when the client is asked for progress in taking data, and how many bytes it took since.
    write_window: AtomicU64,
    written: AtomicU64,
    /// Whether the last write had to wait.
    blocked: AtomicBool,
    /// Bodies of responses that have more for the client than it has taken.
    owed: AtomicU32,
    /// HTTP/2: whether there is output that waits for a flush, and whether a flush is to be one.
    unflushed: AtomicBool,
    flushing: AtomicBool,
    /// Since when the connection only waits for the client to see the last answer.
    lingering: AtomicU64,
    /// Whether the connection is read while requests are served, as in HTTP/2.
    reads_on: AtomicBool,
    /// Whether the connection was upgraded: then it has its own rules.
    upgraded: AtomicBool,
    /// The answer with which the connection is to be closed, as an [`Expiry`].
    ending: AtomicU8,
    /// The status with which the connection was refused before there was a request; 0 is none.
    refused: AtomicU16,
    /// Which stage of a stop has reached the connection.
    pub stage: AtomicU8,
    /// Wakes the connection's task.
    pub waker: AtomicWaker,
}

/// Why a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Expiry {
    /// A request's head did not end in time.
    Head = 1,
    /// No request came.
    Idle = 2,
    /// The client takes the response too slowly.
    SlowRead = 3,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            head_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            served: AtomicU64::new(0),
            idle_since: AtomicU64::new(clock::millis()),
            write_window: AtomicU64::new(0),
            written: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            owed: AtomicU32::new(0),
            unflushed: AtomicBool::new(false),
            flushing: AtomicBool::new(false),
            lingering: AtomicU64::new(0),
            reads_on: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            ending: AtomicU8::new(0),
            refused: AtomicU16::new(0),
            stage: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        }
    }
}

impl Watch {
    /// Notes whether a head has begun and not ended.
    pub fn head(&self, partial: bool) {
        if partial {
            if self.head_since.load(Relaxed) == 0 {
                self.head_since.store(clock::millis(), Relaxed);
            }
        } else if self.head_since.load(Relaxed) != 0 {
            self.head_since.store(0, Relaxed);
        }
    }

    /// A request has begun.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed);
    }

    /// A request has ended: its response's body was handed over whole, or dropped.
    pub fn end(&self) {
        let now = clock::millis();
        self.idle_since.store(now, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
        // HTTP/1.1 reads again only now: a head that had begun was not waited for.
        if self.head_since.load(Relaxed) != 0 && !self.reads_on.load(Relaxed) {
            self.head_since.store(now, Relaxed);
        }
    }

    /// Notes that output waits for a flush.
    pub fn flush_later(&self) {
        self.unflushed.store(true, Relaxed);
    }

    /// Whether output waits for a flush; it does no longer once this was asked, and flushes are real until
    /// [`Self::flush_ended`].
    pub fn flush_begins(&self) -> bool {
        let waits = self.unflushed.load(Relaxed);
        if waits {
            self.unflushed.store(false, Relaxed);
            self.flushing.store(true, Relaxed);
        }
        waits
    }

    /// Flushes are put off again.
    pub fn flush_ended(&self) {
        self.flushing.store(false, Relaxed);
    }

    /// Whether a flush is to be one.
    pub fn flushes_now(&self) -> bool {
        self.flushing.load(Relaxed)
    }

    /// Notes that all is said, and the client only has to see it.
    pub fn linger(&self) {
        if self.lingering.load(Relaxed) == 0 {
            self.lingering.store(clock::millis(), Relaxed);
        }
    }

    /// Says whether the connection is read while requests are served.
    pub fn reads_on(&self, reads_on: bool) {
        self.reads_on.store(reads_on, Relaxed);
    }

    /// Notes that a response's body has more for the client, or no longer.
    pub fn owes(&self, more: bool) {
        if more {
            self.owed.fetch_add(1, Relaxed);
        } else {
            self.owed.fetch_sub(1, Relaxed);
        }
    }

    /// How many requests have begun since the connection opened.
    pub fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    /// Whether no request is being served.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    /// Whether no request is being served and no written data waits for the client.
    pub fn is_quiet(&self) -> bool {
        self.is_idle() && !self.blocked.load(Relaxed)
    }

    /// Since when nothing at all goes on.
    pub fn quiet_since(&self) -> Option<u64> {
        let quiet = self.is_quiet()
            && self.head_since.load(Relaxed) == 0
            && self.lingering.load(Relaxed) == 0
            && self.ending().is_none()
            && !self.is_upgraded();
        quiet.then(|| self.idle_since.load(Relaxed))
    }

    /// Notes that a write had to wait for the client.
    pub fn write_waits(&self) {
        self.blocked.store(true, Relaxed);
        if self.write_window.load(Relaxed) == 0 {
            self.written.store(0, Relaxed);
            self.write_window.store(clock::millis(), Relaxed);
        }
    }

    /// Notes that the client took `bytes`.
    pub fn wrote(&self, bytes: usize) {
        // What is still on its way after the last request ended is no idling; answers to pings are no progress.
        if bytes > 64 && self.is_idle() {
            self.idle_since.store(clock::millis(), Relaxed);
        }
        if self.write_window.load(Relaxed) != 0 {
            self.blocked.store(false, Relaxed);
            self.written.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// Notes that all that was written has been taken.
    pub fn flushed(&self) {
        if self.write_window.load(Relaxed) != 0 {
            self.blocked.store(false, Relaxed);
            if self.is_idle() {
                self.write_window.store(0, Relaxed);
                self.idle_since.store(clock::millis(), Relaxed);
            }
        }
    }

    /// Notes that the connection speaks another protocol from here.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    /// Whether the connection speaks another protocol by now.
    pub fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// Asks for the connection to be closed, with an answer if one fits.
    pub fn end_with(&self, why: Expiry) {
        self.ending.store(why as u8, Relaxed);
    }

    /// Notes the answer to what was refused before it was a request.
    pub fn refuse(&self, status: StatusCode) {
        self.refused.store(status.as_u16(), Relaxed);
    }

    /// The answer to what was refused before it was a request, if something was.
    pub fn refused(&self) -> Option<u16> {
        Some(self.refused.load(Relaxed)).filter(|status| *status != 0)
    }

    /// Why the connection is to be closed, if it is.
    pub fn ending(&self) -> Option<Expiry> {
        match self.ending.load(Relaxed) {
            1 => Some(Expiry::Head),
            2 => Some(Expiry::Idle),
            3 => Some(Expiry::SlowRead),
            _ => None,
        }
    }

    /// When to look again, or which deadline has passed at `now`.
    pub fn due(&self, now: u64, waits: &Timeouts) -> Result<u64, Expiry> {
        let millis = |wait: std::time::Duration| wait.as_millis() as u64;
        let lingering = self.lingering.load(Relaxed);
        if lingering != 0 {
            let at = lingering + LINGER;
            return if at <= now { Err(Expiry::Idle) } else { Ok(at) };
        }
        let mut next = now + millis(waits.idle);
        let waits_for_head = self.reads_on.load(Relaxed) || self.is_idle();
        let head = if waits_for_head { self.head_since.load(Relaxed) } else { 0 };
        if head != 0 {
            let at = head + millis(waits.header);
            if at <= now {
                return Err(Expiry::Head);
            }
            next = next.min(at);
        } else if self.is_quiet() && !self.is_upgraded() {
            let wait = if self.served.load(Relaxed) == 0 { waits.first_byte } else { waits.idle };
            let at = self.idle_since.load(Relaxed) + millis(wait);
            if at <= now {
                return Err(Expiry::Idle);
            }
            next = next.min(at);
        }
        // The client is waited for by the socket, or by HTTP/2's flow control, where the socket has nothing to write.
        let waits_for_client = self.blocked.load(Relaxed) || (self.owed.load(Relaxed) > 0 && !self.is_upgraded());
        if !waits_for_client {
            // It has caught up; the next wait is measured by itself.
            self.write_window.store(0, Relaxed);
            return Ok(next);
        }
        let mut window = self.write_window.load(Relaxed);
        if window != 0 && now >= window + millis(waits.stall) {
            let least = u64::from(waits.min_rate) * (now - window) / 1_000;
            if self.written.load(Relaxed) < least.max(1) {
                return Err(Expiry::SlowRead);
            }
            window = 0;
        }
        if window == 0 {
            window = now;
            self.written.store(0, Relaxed);
            self.write_window.store(now, Relaxed);
        }
        next = next.min(window + millis(waits.stall));
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waits() -> Timeouts {
        Timeouts {
            header: Duration::from_secs(2),
            first_byte: Duration::from_secs(3),
            idle: Duration::from_secs(9),
            stall: Duration::from_secs(5),
            min_rate: 100,
            ..Timeouts::default()
        }
    }

    #[test]
    fn a_silent_connection_expires_after_its_first_byte_deadline_and_later_after_idle() {
        let watch = Watch::default();
        let start = watch.idle_since.load(Relaxed);
        assert_eq!(watch.due(start, &waits()), Ok(start + 3_000));
        assert_eq!(watch.due(start + 3_000, &waits()), Err(Expiry::Idle));
        watch.begin();
        assert!(watch.due(start + 60_000, &waits()).is_ok(), "a request in flight has no idle deadline");
        watch.end();
        let ended = watch.idle_since.load(Relaxed);
        assert_eq!(watch.due(ended + 8_999, &waits()), Ok(ended + 9_000));
        assert_eq!(watch.due(ended + 9_000, &waits()), Err(Expiry::Idle));
    }

    #[test]
    fn a_head_that_does_not_end_expires_even_beside_other_requests() {
        let watch = Watch::default();
        watch.reads_on(true);
        watch.begin();
        watch.head(true);
        let since = watch.head_since.load(Relaxed);
        assert_eq!(watch.due(since + 2_000, &waits()), Err(Expiry::Head));
        watch.head(false);
        assert!(watch.due(since + 2_000, &waits()).is_ok());
    }

    #[test]
    fn a_head_behind_a_request_is_waited_for_once_it_is_read() {
        let watch = Watch::default();
        watch.begin();
        watch.head(true);
        let since = watch.head_since.load(Relaxed);
        assert!(watch.due(since + 60_000, &waits()).is_ok(), "HTTP/1.1 does not read it yet");
        watch.end();
        let since = watch.head_since.load(Relaxed);
        assert_eq!(watch.due(since + 2_000, &waits()), Err(Expiry::Head));
    }

    #[test]
    fn a_client_that_opens_no_window_expires_though_nothing_is_written() {
        let watch = Watch::default();
        watch.begin();
        watch.owes(true);
        let start = clock::millis();
        assert!(watch.due(start, &waits()).is_ok());
        assert_eq!(watch.due(start + 5_000, &waits()), Err(Expiry::SlowRead));
        watch.owes(false);
        assert!(watch.due(start + 10_000, &waits()).is_ok(), "a source that is slow is not the client's fault");
    }

    #[test]
    fn what_is_written_after_the_last_request_is_no_idling() {
        let watch = Watch::default();
        watch.begin();
        watch.write_waits();
        watch.end();
        let ended = watch.idle_since.load(Relaxed);
        watch.wrote(5_000);
        watch.write_waits();
        assert!(watch.due(ended + 4_999, &waits()).is_ok());
        assert_ne!(watch.due(ended + 9_000, &waits()), Err(Expiry::Idle));
    }

    #[test]
    fn a_slow_reader_expires_and_a_steady_one_does_not() {
        let watch = Watch::default();
        watch.begin();
        watch.write_waits();
        let since = watch.write_window.load(Relaxed);
        watch.wrote(499);
        watch.write_waits();
        assert_eq!(watch.due(since + 5_000, &waits()), Err(Expiry::SlowRead));
        watch.wrote(1);
        watch.write_waits();
        assert!(watch.due(since + 5_000, &waits()).is_ok());
        assert_eq!(watch.due(since + 10_000, &waits()), Err(Expiry::SlowRead), "each period counts by itself");
    }
}
