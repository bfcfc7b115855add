//! Where access lines end up: standard output, a file that others may rotate, or the journal.
//!
//! Everything here runs on the writer's thread and may block it. A write that fails gives up its batch: lines that
//! wait for a disk to have room again would only be the first of many.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::error::Error;
use super::line::records;

/// The socket of journald.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// An output of access lines.
pub enum Sink {
    /// A stream that was open before us.
    Stream(Stream),
    /// A file of ours.
    File(Log),
    /// The journal.
    Journal(Journal),
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Lines that were not written.
    pub lost: u64,
    /// Why not.
    pub error: Option<io::Error>,
}

/// Standard output.
pub struct Stream {
    fd: OwnedFd,
    torn: bool,
}

/// A file, opened to append, so that truncating it ("copytruncate") is safe.
pub struct Log {
    path: PathBuf,
    file: File,
    torn: bool,
    /// The file could not be opened anew; said once.
    stuck: bool,
}

/// journald's socket.
pub struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Sink {
    /// Standard output.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn stdout() -> Result<Self, Error> {
        let fd = io::stdout().as_fd().try_clone_to_owned().map_err(Error::Stdout)?;
        Ok(Self::stream(fd))
    }

    /// Any stream.
    #[must_use]
    pub fn stream(fd: OwnedFd) -> Self {
        Self::Stream(Stream { fd, torn: false })
    }

    /// The file at `path`, made if it is not there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn file(path: &Path) -> Result<Self, Error> {
        let file = open(path).map_err(|source| Error::File { path: path.into(), source })?;
        Ok(Self::File(Log { path: path.into(), file, torn: false, stuck: false }))
    }

    /// The journal behind the socket at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn journal(path: &Path) -> Result<Self, Error> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            // journald passes over an empty datagram; it tells us whether somebody is there.
            socket.send_to(&[], path)?;
            Ok(socket)
        };
        let socket = connect().map_err(|source| Error::Journal { path: path.into(), source })?;
        Ok(Self::Journal(Journal { path: path.into(), socket }))
    }

    /// Writes a batch of whole lines or records.
    pub fn deliver(&mut self, batch: &[u8]) -> Outcome {
        match self {
            Self::Stream(stream) => write_lines(stream.fd.as_fd(), batch, &mut stream.torn),
            Self::File(log) => write_lines(log.file.as_fd(), batch, &mut log.torn),
            Self::Journal(journal) => {
                let mut outcome = Outcome::default();
                for record in records(batch) {
                    // Addressed each time: after a restart of journald its socket is another one.
                    if let Err(error) = journal.socket.send_to(record, &journal.path) {
                        outcome.lost += 1;
                        outcome.error = Some(error);
                    }
                }
                outcome
            }
        }
    }

    /// Whether [`Sink::look`] has something to look for.
    #[must_use]
    pub fn needs_looking(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Opens the file anew if its path names another file now, or none.
    pub fn look(&mut self) {
        if let Self::File(log) = self
            && !log.is_current()
        {
            log.reopen();
        }
    }

    /// Opens the file anew.
    pub fn reopen(&mut self) {
        if let Self::File(log) = self {
            log.reopen();
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => out.write_str("stdout"),
            Self::File(log) => log.path.display().fmt(out),
            Self::Journal(_) => out.write_str("journald"),
        }
    }
}

impl Log {
    fn is_current(&self) -> bool {
        let (Ok(named), Ok(open)) = (std::fs::metadata(&self.path), self.file.metadata()) else { return false };
        (named.dev(), named.ino()) == (open.dev(), open.ino())
    }

    /// Keeps the old file when the new one cannot be opened: better there than nowhere.
    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
                self.stuck = false;
            }
            Err(error) if !self.stuck => {
                self.stuck = true;
                tracing::error!(path = %self.path.display(), %error, "the access log cannot be opened anew");
            }
            Err(_) => {}
        }
    }
}

/// Not blocking, so that a named pipe without a reader is an error at once instead of a server that does not start.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
}

/// Writes `batch` to its end or to an error. `torn` remembers that a line was cut by an error, so that the next batch
/// begins on a line of its own.
fn write_lines(fd: BorrowedFd<'_>, batch: &[u8], torn: &mut bool) -> Outcome {
    if *torn {
        if let (_, Some(error)) = write_all(fd, b"\n") {
            return Outcome { lost: lines(batch), error: Some(error) };
        }
        *torn = false;
    }
    let (written, error) = write_all(fd, batch);
    *torn = written > 0 && batch[written - 1] != b'\n';
    Outcome { lost: lines(&batch[written..]), error }
}

fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(fd, &bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(length) => written += length,
            Err(rustix::io::Errno::INTR) => {}
            // Somebody who shares the stream made it non-blocking.
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
            }
            Err(error) => return (written, Some(error.into())),
        }
    }
    (written, None)
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    impl Sink {
        /// Takes everything and keeps nothing.
        pub fn discard() -> Self {
            Self::stream(OpenOptions::new().write(true).open("/dev/null").unwrap().into())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_so() {
        let mut sink = Sink::file(Path::new("/dev/full")).unwrap();
        let outcome = sink.deliver(b"one\ntwo\n");
        assert_eq!(outcome.lost, 2);
        assert_eq!(outcome.error.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = Sink::file(&path).unwrap();
        if let Sink::File(log) = &mut sink {
            std::fs::write(&path, "half a li").unwrap();
            log.torn = true;
        }
        assert_eq!(sink.deliver(b"next\n").lost, 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nnext\n");
    }

    #[test]
    fn a_file_is_private_and_follows_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut sink = Sink::file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o137, 0);
        sink.deliver(b"one\n");
        std::fs::rename(&path, &moved).unwrap();
        sink.look();
        sink.deliver(b"two\n");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(&path).unwrap();
        sink.look();
        sink.deliver(b"three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // copytruncate
        File::create(&path).unwrap();
        sink.look();
        sink.deliver(b"four\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    fn a_folder_that_went_away_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let mut sink = Sink::file(&inner.join("log")).unwrap();
        std::fs::rename(&inner, folder.path().join("old")).unwrap();
        sink.look();
        sink.deliver(b"kept\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("old/log")).unwrap(), "kept\n");
    }

    #[test]
    fn what_cannot_be_opened_is_told_with_its_path() {
        let Err(error) = Sink::file(Path::new("/nowhere/at/all.log")) else { panic!("opened") };
        assert!(error.to_string().contains("/nowhere/at/all.log"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Sink::journal(&folder.path().join("none")), Err(Error::Journal { .. })));
    }

    #[test]
    fn a_reader_that_left_is_an_error_and_a_slow_one_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut sink = Sink::stream(writer.into());
        let batch = vec![b'\n'; 1 << 20];
        let reading = std::thread::spawn(move || {
            let mut all = vec![0; 1 << 20];
            reader.read_exact(&mut all).unwrap();
        });
        assert_eq!(sink.deliver(&batch).lost, 0);
        reading.join().unwrap();
        let outcome = sink.deliver(b"one\n");
        assert_eq!(outcome.lost, 1);
        assert_eq!(outcome.error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }
}
