//! A process that runs.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{ChildStderr, ChildStdout};

use super::{Step, lines};

/// After a kill the kernel has work to do for a process that waits for a disk.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// A running process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
}

impl Child {
    pub(super) fn new(inner: tokio::process::Child) -> Self {
        Self { inner }
    }

    /// Its number; none when it has ended and was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.inner.id()
    }

    /// Hands each line that it writes to `take`, cut where it is unreasonably long. The reading ends with the pipes.
    pub fn lines(&mut self, take: impl Fn(&str) + Clone + Send + Sync + 'static) {
        let (out, err): (Option<ChildStdout>, Option<ChildStderr>) =
            (self.inner.stdout.take(), self.inner.stderr.take());
        if let Some(out) = out {
            tokio::spawn(lines::each(out, take.clone()));
        }
        if let Some(err) = err {
            tokio::spawn(lines::each(err, take));
        }
    }

    /// Sends a signal to its whole group; nothing happens when it has ended.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.inner.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits for its end. Safe to cancel.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.inner.wait().await
    }

    /// Sends it a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        // Until it was waited for, the number is nobody else's.
        if let Some(pid) = self.inner.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops it: each step's signal, and its time to end; then a kill of its whole group. Gives how it ended, and whether
    /// a step was enough.
    ///
    /// # Errors
    /// It cannot be waited for, or does not even die of the kill.
    pub async fn stop(&mut self, steps: &[Step]) -> io::Result<(ExitStatus, bool)> {
        for (signal, grace) in steps {
            self.signal(*signal);
            if let Ok(status) = tokio::time::timeout(*grace, self.wait()).await {
                return Ok((status?, true));
            }
        }
        if let Some(pid) = self.inner.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let status = tokio::time::timeout(AFTER_KILL, self.wait()).await.map_err(io::Error::other)??;
        Ok((status, false))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::super::Program;
    use super::*;

    async fn shell(script: &str) -> Child {
        let mut child = Program::new("/bin/sh").args(["-c", script]).start().await.unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        child.lines(move |line| drop(sender.send(line.to_owned())));
        assert_eq!(receiver.recv().await.as_deref(), Some("up"));
        child
    }

    const SOON: Duration = Duration::from_millis(200);
    const LATE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_process_ends_by_the_first_step_that_it_obeys() {
        let script = "trap 'exit 3' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done";
        let (status, enough) = shell(script).await.stop(&[(Signal::TERM, SOON), (Signal::USR1, LATE)]).await.unwrap();
        assert_eq!((status.code(), enough), (Some(3), true));
    }

    #[tokio::test]
    async fn a_process_that_obeys_no_step_is_killed() {
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let (status, enough) = shell(script).await.stop(&[(Signal::TERM, SOON)]).await.unwrap();
        assert_eq!((status.signal(), enough), (Some(9), false));
    }
}
