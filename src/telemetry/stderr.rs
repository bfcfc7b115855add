//! Standard error for log lines, which never waits for whoever reads it.
//!
//! A pipe that nobody empties would stop every request that logs something. A write happens only when poll(2) says
//! that there is room, which for a pipe is at least 4,096 bytes (pipe(7), PIPE_BUF); what does not fit is lost, and
//! how much is said when there is room again.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

/// What a pipe takes at once when poll says that it is writable.
const ROOM: usize = 4_096;

/// The writer behind the log's lines.
pub struct Stderr {
    state: Mutex<State>,
}

struct State {
    fd: Option<OwnedFd>,
    lost: u64,
}

impl Stderr {
    /// Standard error as it is now.
    #[must_use]
    pub fn new() -> Self {
        Self::of(io::stderr().as_fd().try_clone_to_owned().ok())
    }

    fn of(fd: Option<OwnedFd>) -> Self {
        Self { state: Mutex::new(State { fd, lost: 0 }) }
    }
}

impl State {
    fn put(&mut self, line: &[u8]) {
        let Some(fd) = &self.fd else { return };
        if self.lost > 0 {
            let notice = format!("{{\"level\":\"WARN\",\"message\":\"{} log lines were lost here\"}}\n", self.lost);
            if !put_some(fd, notice.as_bytes()) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        for (index, part) in line.chunks(ROOM).enumerate() {
            if !put_some(fd, part) {
                self.lost += 1;
                if index > 0 {
                    // Only begun: the notice must not be read as its end.
                    put_some(fd, b"\n");
                }
                return;
            }
        }
    }
}

/// Writes at most [`ROOM`] bytes if that needs no waiting.
fn put_some(fd: &OwnedFd, bytes: &[u8]) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if !matches!(poll(&mut polled, Some(&now)), Ok(1)) || !polled[0].revents().contains(PollFlags::OUT) {
        return false;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(length) if length > 0 => rest = &rest[length..],
            Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Stderr {
    /// Gets a whole line (the formatter buffers it) and always takes all of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn a_full_pipe_loses_lines_and_tells_how_many() {
        let (reader, writer) = io::pipe().unwrap();
        let stderr = Stderr::of(Some(writer.into()));
        let line = [b'x'; 99].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        let mut sent = 0;
        // Far more than a pipe holds (64 KiB); would hang if a write could block.
        for _ in 0..5_000 {
            (&stderr).write_all(&line).unwrap();
            sent += 1;
        }
        let lost = stderr.state.lock().unwrap().lost;
        assert!(lost > 4_000, "{lost}");
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..sent - lost {
            assert_eq!(lines.next().unwrap().unwrap().len(), 99);
        }
        (&stderr).write_all(b"after\n").unwrap();
        assert!(lines.next().unwrap().unwrap().contains(&format!("{lost} log lines were lost")));
        assert_eq!(lines.next().unwrap().unwrap(), "after");
    }

    #[test]
    fn a_closed_stream_is_passed_over() {
        (&Stderr::of(None)).write_all(b"line\n").unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        (&Stderr::of(Some(writer.into()))).write_all(b"line\n").unwrap();
    }
}
