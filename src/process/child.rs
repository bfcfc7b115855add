//! A process that runs.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::{Step, lines};

/// After a kill the kernel has work to do for a process that waits for a disk.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// How often a process that is being stopped is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Its ends of pipes: what it reads, if it was given something to read from, and the two that it writes to.
pub type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

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

    /// Its pipes, for one who reads them himself; they are given once.
    pub fn pipes(&mut self) -> Pipes {
        (self.inner.stdin.take(), self.inner.stdout.take(), self.inner.stderr.take())
    }

    /// Sends a signal to it and everything that it has started in its group.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.inner.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether it has ended, without taking note of it: its number, and that of its group, stay its own until
    /// [`Child::wait`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let Some(pid) = self.inner.id().and_then(|id| Pid::from_raw(id as i32)) else { return true };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
    }

    /// Stops it and everything in its group: TERM, so much time for it to end, and a kill of what is left. Gives how it
    /// ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop_group(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal_group(Signal::TERM);
        let deadline = tokio::time::Instant::now() + grace;
        while !self.has_ended() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.signal_group(Signal::KILL);
        tokio::time::timeout(AFTER_KILL, self.wait()).await.map_err(io::Error::other)?
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
        self.signal_group(Signal::KILL);
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

    #[tokio::test]
    async fn a_group_is_stopped_with_what_its_leader_leaves_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        // The leader ends at once; its child does not care.
        let script = format!(
            "(trap '' TERM; sh -c 'echo $PPID' > {0}; echo up; while :; do sleep 0.05; done) & trap 'exit 4' TERM; wait",
            file.display()
        );
        let mut child = shell(&script).await;
        let pid = || std::fs::read_to_string(&file).unwrap().trim().parse::<i32>().unwrap();
        let pid = Pid::from_raw(pid()).unwrap();
        assert!(!child.has_ended());
        assert_eq!(child.stop_group(LATE).await.unwrap().code(), Some(4));
        let gone = async {
            while std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
                .is_ok_and(|stat| !stat.contains(") Z "))
            {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LATE, gone).await.unwrap();
        assert!(child.has_ended());
    }
}
