//! A process that has been started, and the line to it.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::frame::{Reader, Said};
use super::launch::Launch;
use super::line::Lines;
use crate::process::{Child, Signal};

/// A process that is ready.
pub(super) struct Link {
    /// The process.
    pub child: Child,
    /// What it says.
    pub reader: Reader<OwnedReadHalf>,
    /// What it is told.
    pub writer: Writer,
    /// What it wrote.
    pub lines: Lines,
    /// The body of its first word: what the clerk exports.
    pub export: Bytes,
}

/// Frames for a process, in order; what is told after its end goes nowhere.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::UnboundedSender<(Bytes, Option<After>)>);

/// What follows when a frame has been written.
#[derive(Debug)]
struct After(oneshot::Sender<()>);

impl Writer {
    /// Tells it.
    pub(super) fn tell(&self, frame: Bytes) {
        let _ = self.0.send((frame, None));
    }

    /// Tells it; the future completes when it can read that.
    pub(super) fn tell_now(&self, frame: Bytes) -> oneshot::Receiver<()> {
        let (after, written) = oneshot::channel();
        let _ = self.0.send((frame, Some(After(after))));
        written
    }
}

/// Starts a process, and waits until it is ready.
pub(super) async fn start(launch: &Launch, role: &str, index: usize, timeout: Duration) -> Result<Link, Error> {
    let failed = |source| Error::Start { program: launch.python().to_owned(), source };
    let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let name = if role == "clerk" { role.to_owned() } else { format!("{role} {}", index + 1) };
    let lines = Lines::of(&name);
    let mut child = launch.program(role).input(theirs.into()).start().await.map_err(failed)?;
    let taken = lines.clone();
    child.lines(move |line| taken.take(line));
    let (reader, mut half) = ours.into_split();
    let (sender, mut frames) = mpsc::unbounded_channel::<(Bytes, Option<After>)>();
    tokio::spawn(async move {
        while let Some((frame, after)) = frames.recv().await {
            if half.write_all(&frame).await.is_err() {
                break;
            }
            if let Some(After(after)) = after {
                let _ = after.send(());
            }
        }
    });
    let writer = Writer(sender);
    writer.tell(launch.first(role, index));
    let mut reader = Reader::new(reader);
    let said = tokio::select! {
        said = tokio::time::timeout(timeout, reader.next()) => said,
        status = child.wait() => {
            // It may have said why.
            match tokio::time::timeout(Duration::from_millis(200), reader.next()).await {
                Ok(Ok(Some(said))) => Ok(Ok(Some(said))),
                _ => return Err(Error::Ended { status: status.map_or_else(|error| error.to_string(), |status| status.to_string()), last: lines.last() }),
            }
        }
    };
    match said {
        Ok(Ok(Some((Said::Ready {}, export)))) => Ok(Link { child, reader, writer, lines, export }),
        Ok(Ok(Some((Said::Unusable { why, trace }, _)))) => Err(Error::Unusable { why, trace }),
        Ok(Ok(Some((said, _)))) => Err(Error::Garbled(format!("{said:?}"))),
        Ok(Err(error)) => Err(Error::Garbled(error.to_string())),
        Ok(Ok(None)) => {
            let status = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
            let status =
                status.ok().and_then(Result::ok).map_or_else(|| "no exit yet".into(), |status| status.to_string());
            Err(Error::Ended { status, last: lines.last() })
        }
        Err(_) => {
            child.signal_group(Signal::KILL);
            Err(Error::Slow(timeout))
        }
    }
}

/// What a process's end is called: billiard's text.
pub(super) fn human(status: std::process::ExitStatus) -> Arc<str> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(number), _) => match signal_name(number) {
            Some(name) => format!("signal {number} ({name})").into(),
            None => format!("signal {number}").into(),
        },
        (None, code) => format!("exitcode {}", code.unwrap_or_default()).into(),
    }
}

/// "SIGKILL"
fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at)).copied()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn an_end_is_called_what_billiard_calls_it() {
        assert_eq!(&*human(ExitStatus::from_raw(9)), "signal 9 (SIGKILL)");
        assert_eq!(&*human(ExitStatus::from_raw(15)), "signal 15 (SIGTERM)");
        assert_eq!(&*human(ExitStatus::from_raw(3 << 8)), "exitcode 3");
    }
}
