//! A server that an earlier Beacon left behind.
//!
//! When Beacon is killed, the kernel tells its servers to stop, and they may still be about it when the next Beacon
//! starts. PostgreSQL would refuse to start beside it; Redis would start, and then lose its socket, because the old one
//! removes the file of that name as the last thing that it does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::{Fault, Signal};
use rustix::process::{Pid, kill_process};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits, for at most `grace`, until the process that `file` names has gone, and tells it to go. The file is in the data
/// folder of the server.
///
/// # Errors
/// It does not go.
pub(super) async fn wait(file: &Path, signal: Signal, grace: Duration) -> Result<(), Fault> {
    let begun = Instant::now();
    let mut told = false;
    while let Some(pid) = holder(file) {
        let number = pid.as_raw_nonzero();
        if !told {
            tracing::info!(pid = number, file = %file.display(), "a server of an earlier Beacon is still there; it is stopped");
            let _ = kill_process(pid, signal);
            told = true;
        }
        if begun.elapsed() > grace {
            return Err(Fault(format!(
                "a server of an earlier Beacon (process {number}) does not stop: end it by hand"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The process that a file names, if it works in the folder of that file: numbers are given again.
fn holder(file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    let folder = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    (folder == file.parent()?.canonicalize().ok()?).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_works_in_the_folder_is_stopped_and_no_other_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.pid");
        let grace = Duration::from_secs(20);
        assert_eq!(wait(&file, Signal::TERM, grace).await, Ok(()));
        let start = |at: &Path| {
            let mut command = tokio::process::Command::new("sleep");
            let child = command.arg("1000").current_dir(at).kill_on_drop(true).spawn().unwrap();
            fs::write(&file, format!("{}\n/data\n", child.id().unwrap())).unwrap();
            child
        };
        let mut other = start(Path::new("/"));
        assert_eq!(wait(&file, Signal::TERM, grace).await, Ok(()));
        assert!(other.try_wait().unwrap().is_none(), "a process that has nothing to do with it was stopped");
        let mut server = start(folder.path());
        let (waited, _) = tokio::join!(wait(&file, Signal::TERM, grace), server.wait());
        assert_eq!(waited, Ok(()));
    }
}
