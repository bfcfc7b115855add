//! Keeps one process running: starts it, waits until it answers, starts it again when it ends, and stops it when asked.
//!
//! It never gives up: what is missing may be installed, a disk may be freed. A process that ends again and again is
//! started ever more seldom, and told once, with its last words.

use std::collections::VecDeque;
use std::future::Future;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Child, Program, Step};

/// How often what stands in the way of a start is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After so long a run, an end is the first failure again.
const LONG_RUN: Duration = Duration::from_mins(1);
/// How many lines of its last words are kept.
const LAST_WORDS: usize = 6;

/// How a supervised process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is being started, for the first time or again.
    Starting,
    /// It answers.
    Ready,
    /// It does not run, and why. For operators, and for clients that need it: no secrets.
    Down(Arc<str>),
}

/// Why it cannot be started, and what to do about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

/// What is supervised.
pub trait Service: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Sees to what a start needs, and gives the program.
    fn prepare(&self) -> impl Future<Output = Result<Program, Fault>> + Send;

    /// Waits until the process that was just started answers. Dropped when it ends before that.
    fn ready(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Takes a line that it wrote; gives what is worth repeating if the process ends.
    fn line(&self, line: &str) -> Option<String>;

    /// How it is stopped.
    fn steps(&self) -> Vec<Step>;
}

/// How one run of the process went.
enum Run {
    /// It was stopped because we were asked to.
    Stopped,
    /// It ended, or did not come to answer.
    Failed(String),
}

/// Supervises `service` until `stop`, and then stops it; `told` is kept informed.
pub async fn supervise<S: Service>(service: Arc<S>, told: watch::Sender<Condition>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut logged = String::new();
    let name = service.name();
    loop {
        let program = match stop.run_until_cancelled(service.prepare()).await {
            None => return,
            Some(Ok(program)) => program,
            Some(Err(Fault(reason))) => {
                if logged != reason {
                    tracing::warn!(service = name, "{reason}");
                    logged.clone_from(&reason);
                }
                tell(&told, Condition::Down(reason.into()));
                if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                    return;
                }
                continue;
            }
        };
        let begun = Instant::now();
        let reason = match run(&service, program, &told, &stop, &mut backoff).await {
            Run::Stopped => return,
            Run::Failed(reason) => reason,
        };
        if begun.elapsed() > LONG_RUN {
            backoff.succeeded();
        }
        let pause = backoff.failed();
        let text = if backoff.in_a_loop() {
            format!("{name} ends again and again: {reason}")
        } else {
            format!("{name} is being started again: {reason}")
        };
        if logged != text {
            tracing::error!(service = name, "{text}");
            logged.clone_from(&text);
        }
        tell(&told, Condition::Down(text.into()));
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// One run, from the start to the end.
async fn run<S: Service>(
    service: &Arc<S>,
    program: Program,
    told: &watch::Sender<Condition>,
    stop: &CancellationToken,
    backoff: &mut Backoff,
) -> Run {
    if !backoff.in_a_loop() {
        tell(told, Condition::Starting);
    }
    let begun = Instant::now();
    let mut child = match program.start().await {
        Ok(child) => child,
        Err(error) => return Run::Failed(format!("it cannot be started: {error}")),
    };
    let words = Arc::new(Mutex::new(VecDeque::with_capacity(LAST_WORDS)));
    let (listener, last) = (service.clone(), words.clone());
    child.lines(move |line| {
        let Some(word) = listener.line(line) else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(word);
    });
    let answered = tokio::select! {
        biased;
        () = stop.cancelled() => return end(service, child).await,
        status = child.wait() => return Run::Failed(ended(status, &words).await),
        answered = service.ready() => answered,
    };
    if let Err(Fault(reason)) = answered {
        let _ = end(service, child).await;
        return Run::Failed(reason);
    }
    let (pid, took) = (child.pid(), begun.elapsed().as_millis() as u64);
    tracing::info!(service = service.name(), pid, took_ms = took, "{} is ready", service.name());
    tell(told, Condition::Ready);
    tokio::select! {
        biased;
        () = stop.cancelled() => end(service, child).await,
        status = child.wait() => Run::Failed(ended(status, &words).await),
    }
}

async fn end<S: Service>(service: &Arc<S>, mut child: Child) -> Run {
    let name = service.name();
    match child.stop(&service.steps()).await {
        Ok((_, true)) => tracing::info!(service = name, "{name} has stopped"),
        Ok((_, false)) => tracing::error!(service = name, "{name} had to be killed, because it did not stop in time"),
        Err(error) => tracing::error!(service = name, %error, "{name} could not be stopped"),
    }
    Run::Stopped
}

/// How it ended, with its last words.
async fn ended(status: std::io::Result<ExitStatus>, words: &Mutex<VecDeque<String>>) -> String {
    // What it wrote last may still be on its way through the pipe.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
    let last: Vec<&str> = words.iter().map(String::as_str).collect();
    let status = match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    if last.is_empty() { format!("it ended ({status})") } else { format!("it ended ({status}). {}", last.join(" / ")) }
}

fn tell(told: &watch::Sender<Condition>, now: Condition) {
    told.send_if_modified(|before| {
        let changed = *before != now;
        *before = now;
        changed
    });
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::process::Signal;

    use super::*;

    /// A shell that says it is up by making a file.
    struct Shell {
        script: &'static str,
        folder: PathBuf,
    }

    impl Service for Shell {
        fn name(&self) -> &'static str {
            "shell"
        }

        async fn prepare(&self) -> Result<Program, Fault> {
            if self.folder.join("missing").exists() {
                return Err(Fault("something is missing".into()));
            }
            let _ = std::fs::remove_file(self.folder.join("up"));
            Ok(Program::new("/bin/sh").args(["-c", self.script]).arg(&self.folder))
        }

        async fn ready(&self) -> Result<(), Fault> {
            while !self.folder.join("up").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }

        fn line(&self, line: &str) -> Option<String> {
            Some(line.to_owned())
        }

        fn steps(&self) -> Vec<Step> {
            vec![(Signal::TERM, Duration::from_secs(10))]
        }
    }

    struct Supervised {
        folder: tempfile::TempDir,
        heard: watch::Receiver<Condition>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Supervised {
        fn start(script: &'static str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (told, heard) = watch::channel(Condition::Starting);
            let stop = CancellationToken::new();
            let service = Arc::new(Shell { script, folder: folder.path().to_owned() });
            let task = tokio::spawn(supervise(service, told, stop.clone()));
            Self { folder, heard, stop, task }
        }

        async fn until(&mut self, fits: impl FnMut(&Condition) -> bool) -> Condition {
            let wait = self.heard.wait_for(fits);
            tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap().clone()
        }
    }

    const SERVES: &str = "trap 'echo bye >\"$0/bye\"; exit' TERM; echo $$ >\"$0/pid\"; : >\"$0/up\"; \
                          while :; do sleep 0.02; done";

    #[tokio::test]
    async fn a_process_that_is_killed_comes_back_and_one_that_is_stopped_does_not() {
        let mut shell = Supervised::start(SERVES);
        shell.until(|condition| *condition == Condition::Ready).await;
        let pid = || std::fs::read_to_string(shell.folder.path().join("pid")).unwrap().trim().parse::<i32>().unwrap();
        let first = pid();
        let number = rustix::process::Pid::from_raw(first).unwrap();
        rustix::process::kill_process(number, Signal::KILL).unwrap();
        let down = shell.until(|condition| matches!(condition, Condition::Down(_))).await;
        assert!(matches!(&down, Condition::Down(reason) if reason.contains("signal: 9")), "{down:?}");
        shell.until(|condition| *condition == Condition::Ready).await;
        let pid = std::fs::read_to_string(shell.folder.path().join("pid")).unwrap();
        assert_ne!(pid.trim(), first.to_string());
        shell.stop.cancel();
        shell.task.await.unwrap();
        assert!(shell.folder.path().join("bye").exists(), "it was not stopped by a signal that it can handle");
        assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
    }

    #[tokio::test]
    async fn a_crash_loop_is_told_with_the_last_words() {
        let mut shell = Supervised::start("echo the disk is full >&2; exit 7");
        let down = shell.until(|it| matches!(it, Condition::Down(reason) if reason.contains("again and again"))).await;
        let Condition::Down(reason) = down else { unreachable!() };
        assert!(reason.contains("exit status: 7") && reason.contains("the disk is full"), "{reason}");
        shell.stop.cancel();
        shell.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_may_come_later() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("missing"), "").unwrap();
        let (told, mut heard) = watch::channel(Condition::Starting);
        let stop = CancellationToken::new();
        let service = Arc::new(Shell { script: SERVES, folder: folder.path().to_owned() });
        let task = tokio::spawn(supervise(service, told, stop.clone()));
        let down = Condition::Down("something is missing".into());
        heard.wait_for(|condition| *condition == down).await.unwrap();
        std::fs::remove_file(folder.path().join("missing")).unwrap();
        tokio::time::resume();
        heard.wait_for(|condition| *condition == Condition::Ready).await.unwrap();
        stop.cancel();
        task.await.unwrap();
    }
}
