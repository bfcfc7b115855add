//! The access log: one line for each request that has ended.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use super::config::{Access, AccessFormat};
use super::error::Error;
use super::line::{AccessLine, Layout, Scratch};
use super::queue::{LIMIT, Queue};
use super::sink::{JOURNAL, Sink};

/// Takes access lines and never makes its caller wait. Clones share one output; when the last one goes, what is left
/// is written in the background (call [`AccessLog::flush`] before the process ends).
#[derive(Clone)]
pub struct AccessLog {
    /// `None` is a log that is off.
    open: Option<Arc<Open>>,
}

struct Open {
    layout: Layout,
    queue: Arc<Queue>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

impl AccessLog {
    /// Opens the output and starts its writer.
    ///
    /// # Errors
    /// The output cannot be opened, or no thread can be started.
    pub fn open(config: &Access) -> Result<Self, Error> {
        let sink = match config.output.as_str() {
            "off" => return Ok(Self::off()),
            "stdout" => Sink::stdout()?,
            "journald" => Sink::journal(Path::new(JOURNAL))?,
            path if path.starts_with('/') => Sink::file(Path::new(path))?,
            other => return Err(Error::Output { output: other.into() }),
        };
        let layout = match (&sink, config.format) {
            (Sink::Journal(_), _) => Layout::Journal,
            (_, AccessFormat::Combined) => Layout::Combined,
            (Sink::Stream(_), AccessFormat::Auto) if std::io::stdout().is_terminal() => Layout::Combined,
            (_, AccessFormat::Json | AccessFormat::Auto) => Layout::Json,
        };
        Self::start(sink, layout, LIMIT)
    }

    /// A log that takes lines and keeps none.
    #[must_use]
    pub fn off() -> Self {
        Self { open: None }
    }

    fn start(sink: Sink, layout: Layout, limit: usize) -> Result<Self, Error> {
        let queue = Arc::new(Queue::new(limit));
        let writer = queue.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.drain(sink))
            .map_err(Error::Thread)?;
        Ok(Self { open: Some(Arc::new(Open { layout, queue })) })
    }

    /// Takes a line. It is written within about 100 ms, or dropped and counted when the output is too slow.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Some(open) = &self.open else { return };
        // Put together outside of the lock, which is then held for one copy only. A thread that is ending has no
        // buffer any more; nothing serves requests that late.
        let _ = SCRATCH.try_with(|scratch| {
            if let Ok(mut scratch) = scratch.try_borrow_mut() {
                open.queue.push(scratch.format(open.layout, line));
            }
        });
    }

    /// Opens the file anew (SIGHUP). A file that was moved or deleted is noticed without it.
    pub fn reopen(&self) {
        if let Some(open) = &self.open {
            open.queue.reopen();
        }
    }

    /// Lines that were not written, since the log was opened.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.queue.dropped())
    }

    /// Waits until the lines so far are written, for at most 2 s. Blocks its thread.
    pub fn flush(&self) {
        if let Some(open) = &self.open {
            open.queue.flush();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{IpAddr, Ipv4Addr};
    use std::os::unix::net::UnixDatagram;
    use std::time::{Duration, Instant, SystemTime};

    fn line(status: u16) -> AccessLine<'static> {
        AccessLine {
            time: SystemTime::now(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            method: "GET",
            host: "localhost",
            target: "/",
            version: ::http::Version::HTTP_11,
            status,
            bytes: 5,
            duration: Duration::from_millis(1),
            request_id: "id",
            user: None,
            referer: None,
            user_agent: None,
            mount: "/",
            secure: true,
            complete: true,
        }
    }

    fn file(path: &Path, format: AccessFormat) -> AccessLog {
        AccessLog::open(&Access { output: path.to_str().unwrap().into(), format }).unwrap()
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn lines_of_many_threads_arrive_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = file(&path, AccessFormat::Auto);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| log.write(&line(200))));
            }
        });
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2_000);
        for line in text.lines() {
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["status"], 200);
        }
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_line_is_written_without_a_flush_and_when_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = file(&path, AccessFormat::Combined);
        log.write(&line(200));
        until("the line is written", || std::fs::read_to_string(&path).unwrap().lines().count() == 1);
        log.write(&line(404));
        drop(log);
        until("the last line is written", || std::fs::read_to_string(&path).unwrap().lines().count() == 2);
    }

    #[test]
    fn a_rotated_file_is_noticed_while_lines_come_and_while_none_do() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = file(&path, AccessFormat::Json);
        log.write(&line(200));
        log.flush();
        std::fs::rename(&path, &moved).unwrap();
        until("a new file is made", || path.exists());
        log.write(&line(201));
        log.flush();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"status\":201"));
        std::fs::remove_file(&path).unwrap();
        until("lines come in a new file", || {
            log.write(&line(202));
            path.exists()
        });
        assert_eq!(std::fs::read_to_string(&moved).unwrap().lines().count(), 1);
    }

    #[test]
    fn reopen_does_not_wait_for_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = file(&path, AccessFormat::Json);
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.write(&line(200));
        log.flush();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_full_disk_is_survived_and_counted() {
        let log = file(Path::new("/dev/full"), AccessFormat::Json);
        for _ in 0..100 {
            log.write(&line(200));
        }
        log.flush();
        assert_eq!(log.dropped(), 100);
    }

    #[test]
    fn a_blocked_output_never_blocks_a_request() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = AccessLog::start(Sink::stream(writer.into()), Layout::Json, 256 << 10).unwrap();
        let start = Instant::now();
        let written = 20_000;
        for _ in 0..written {
            log.write(&line(200));
        }
        assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
        assert!(log.dropped() > 1_000, "{}", log.dropped());
        log.flush();
        assert!(start.elapsed() < Duration::from_secs(10), "a flush is bounded");
        // The reader comes back: everything that was not dropped arrives whole, and so does what follows.
        let kept = written - log.dropped();
        let reading = std::thread::spawn(move || {
            let mut lines = BufReader::new(&mut reader).lines();
            for _ in 0..kept {
                serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
            }
            let last = lines.next().unwrap().unwrap();
            assert!(last.contains("\"status\":299"), "{last}");
        });
        log.flush();
        log.write(&line(299));
        reading.join().unwrap();
    }

    #[test]
    fn a_reader_that_left_is_survived() {
        let (reader, writer) = std::io::pipe().unwrap();
        let log = AccessLog::start(Sink::stream(writer.into()), Layout::Combined, LIMIT).unwrap();
        drop(reader);
        log.write(&line(200));
        log.flush();
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn the_journal_gets_a_datagram_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let log = AccessLog::start(Sink::journal(&path).unwrap(), Layout::Journal, LIMIT).unwrap();
        log.write(&line(200));
        log.write(&line(404));
        let mut bytes = [0; 4_096];
        assert_eq!(journal.recv(&mut bytes).unwrap(), 0, "the greeting");
        for status in ["200", "404"] {
            let length = journal.recv(&mut bytes).unwrap();
            let record = std::str::from_utf8(&bytes[..length]).unwrap();
            assert!(record.contains(&format!("\nSTATUS={status}\n")), "{record}");
        }
        // journald restarts: lines are lost meanwhile, and those after arrive.
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        log.write(&line(500));
        log.flush();
        assert_eq!(log.dropped(), 1);
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        log.write(&line(201));
        let length = journal.recv(&mut bytes).unwrap();
        assert!(std::str::from_utf8(&bytes[..length]).unwrap().contains("\nSTATUS=201\n"));
    }

    #[test]
    fn a_log_that_is_off_takes_lines_and_an_unknown_output_is_refused() {
        let log = AccessLog::open(&Access { output: "off".into(), format: AccessFormat::Auto }).unwrap();
        log.write(&line(200));
        log.flush();
        log.reopen();
        assert_eq!(log.dropped(), 0);
        let Err(error) = AccessLog::open(&Access { output: "syslog".into(), format: AccessFormat::Auto }) else {
            panic!("opened")
        };
        assert!(error.to_string().contains("\"syslog\""));
    }
}
