//! Tasks that run a program: JSON on its standard input, the result from its standard output, and lines about how far it is
//! on its standard error.
//!
//! The program never outlives its run: whoever drops the run's future kills the program's whole process group.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;

use super::call::{cut_short, over_time};
use super::config;
use crate::error::chain;
use crate::process::{Child, Program, Signal, User, each_line};
use crate::secret::Secret;
use crate::tasks::native::{Call, Failure, Handler, Progress};

/// The exit code that asks for another try (EX_TEMPFAIL of sysexits.h).
const TRY_AGAIN: i32 = 75;
/// How many of its last lines a failure tells.
const LAST_WORDS: usize = 10;
/// How many lines of a run are logged.
const LOGGED: usize = 1_000;
/// How long pipes are read after the program's end: somebody whom it started may hold them.
const LINGER: Duration = Duration::from_secs(1);

/// A task that runs a program.
pub(super) struct Tool {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, Secret)>,
    user: Option<User>,
    directory: PathBuf,
    memory: Option<u64>,
    output: usize,
    grace: Duration,
    /// The limit that the run is asked to end at, if that is to be taken for the hard one.
    time_limit: Option<Duration>,
}

/// A running program, which goes with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.signal_group(Signal::KILL);
    }
}

/// What a program wrote to standard error.
struct Notes<'a> {
    call: &'a Call,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    logged: usize,
    last: VecDeque<String>,
}

impl Tool {
    /// The task of a configuration that was validated. `time_limit` is the hard limit, where the run is asked to end by it
    /// and has its grace after it.
    ///
    /// # Errors
    /// There is no such user.
    pub(super) fn new(config: &config::Command, time_limit: Option<Duration>) -> Result<Self, String> {
        let user = match config.user.as_str() {
            "" => None,
            name => Some(User::named(name).ok_or_else(|| format!("there is no user {name} on this host"))?),
        };
        let mut run = config.run.iter();
        Ok(Self {
            path: run.next().ok_or("run names no program")?.into(),
            arguments: run.map(Into::into).collect(),
            environment: config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            user,
            directory: config.directory.clone(),
            memory: (config.memory_bytes > 0).then_some(config.memory_bytes),
            output: config.output_bytes,
            grace: config.grace,
            time_limit,
        })
    }

    fn program(&self) -> Program {
        let program = Program::new(&self.path)
            .args(&self.arguments)
            .user(self.user.clone())
            .memory(self.memory)
            .dies_with_us(Signal::TERM)
            .with_input();
        let program = if self.directory.as_os_str().is_empty() { program } else { program.directory(&self.directory) };
        self.environment.iter().fold(program, |program, (name, value)| program.env(name, value.expose()))
    }

    async fn perform(&self, call: &Call) -> Result<Value, Failure> {
        let mut running = Running(self.program().start().await.map_err(|error| self.unstarted(&error))?);
        let (input, output, errors) = running.0.pipes();
        let (Some(input), Some(output), Some(errors)) = (input, output, errors) else {
            return Err(Failure::permanent("CommandFailed", "the program has no pipes"));
        };
        let told = json!({
            "id": &*call.id,
            "task": &*call.task,
            "args": &call.args,
            "kwargs": &call.kwargs,
            "attempt": call.retries + 1,
        });
        let notes = Notes { call, kept: Mutex::default() };
        let written = Mutex::new(Vec::new());
        let pipes = async {
            // All three at once: a program may answer before it has read everything.
            let all = tokio::try_join!(
                feed(input, told.to_string()).map(Ok),
                collect(output, &written, self.output),
                each_line(errors, |line| notes.take(line)).map(Ok),
            );
            all.is_ok()
        };
        let ended = tokio::select! {
            ended = end(&mut running.0, pipes) => Some(ended),
            () = call.cancel.cancelled() => None,
        };
        let Some(ended) = ended else {
            let _ = running.0.stop_group(self.grace).await;
            return Err(self.time_limit.map_or_else(cut_short, over_time));
        };
        let Some(status) = ended.map_err(|error| Failure::passing("CommandFailed", error.to_string()))? else {
            let message = format!("the program wrote more than {} bytes", self.output);
            return Err(Failure::permanent("CommandFailed", message));
        };
        if status.success() {
            return Ok(value(&written.into_inner().unwrap_or_else(PoisonError::into_inner)));
        }
        Err(failed(status, &notes))
    }

    fn unstarted(&self, error: &io::Error) -> Failure {
        let message = format!("{} cannot be started: {}", self.path.display(), chain(error));
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory | io::ErrorKind::ResourceBusy => {
                Failure::passing("CommandUnstarted", message)
            }
            _ => Failure::permanent("CommandUnstarted", message),
        }
    }
}

impl Handler for Tool {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move { self.perform(&call).await }.boxed()
    }
}

impl Notes<'_> {
    fn take(&self, line: &str) {
        if let Some(progress) = progress(line) {
            let told: &Progress = &self.call.progress;
            told.tell(progress);
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.logged += 1;
        let (task, id) = (&*self.call.task, &*self.call.id);
        match kept.logged {
            ..=LOGGED => tracing::info!(task, id, "{line}"),
            n if n == LOGGED + 1 => tracing::warn!(task, id, "the program writes more than is logged"),
            _ => {}
        }
        if kept.last.len() == LAST_WORDS {
            kept.last.pop_front();
        }
        kept.last.push_back(line.to_owned());
    }

    fn last_words(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// What an exit code means for the task.
fn failed(status: ExitStatus, notes: &Notes<'_>) -> Failure {
    let mut message = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit code {code}"),
        (None, Some(signal)) => format!("the program was ended by signal {signal}"),
        (None, None) => "the program failed".to_owned(),
    };
    let words = notes.last_words();
    if !words.is_empty() {
        message.push_str(":\n");
        message.push_str(&words);
    }
    if status.code() == Some(TRY_AGAIN) {
        return Failure::passing("CommandFailed", message);
    }
    Failure::permanent("CommandFailed", message)
}

/// The end of a program, and that of its pipes, which say whether it kept to its limit: nothing if it did not.
async fn end(child: &mut Child, pipes: impl Future<Output = bool>) -> io::Result<Option<ExitStatus>> {
    tokio::pin!(pipes);
    let (whole, status) = tokio::select! {
        // What has closed its output may still have something to do.
        whole = &mut pipes => (whole, if whole { Some(child.wait().await?) } else { None }),
        status = child.wait() => (tokio::time::timeout(LINGER, &mut pipes).await.unwrap_or(true), Some(status?)),
    };
    Ok(status.filter(|_| whole))
}

/// The value of a line `{"progress": …}`.
fn progress(line: &str) -> Option<Value> {
    if !line.starts_with('{') {
        return None;
    }
    let Value::Object(mut line) = serde_json::from_str(line).ok()? else { return None };
    line.remove("progress").filter(|_| line.is_empty())
}

/// Writes what the program may read, as far as it wants to.
async fn feed(mut input: ChildStdin, text: String) {
    let _ = input.write_all(text.as_bytes()).await;
    let _ = input.shutdown().await;
}

/// The program wrote more than it may.
struct TooMuch;

/// Reads what the program writes, up to `limit`.
async fn collect(mut output: impl AsyncRead + Unpin, written: &Mutex<Vec<u8>>, limit: usize) -> Result<(), TooMuch> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(read) => {
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                if written.len() + read > limit {
                    return Err(TooMuch);
                }
                written.extend_from_slice(&buffer[..read]);
            }
        }
    }
}

/// What was written, as a value: JSON, else text; null if it is nothing.
fn value(written: &[u8]) -> Value {
    let text = String::from_utf8_lossy(written);
    let text = text.trim();
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::call::tests::call;
    use super::*;
    use crate::tasks::native::Again;

    fn shell(script: &str) -> config::Command {
        let run = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        config::Command { run, grace: Duration::from_millis(300), ..config::Command::default() }
    }

    async fn run(config: &config::Command, call: Call) -> Result<Value, Failure> {
        Tool::new(config, None).unwrap().run(call).await
    }

    async fn says(script: &str) -> Result<Value, Failure> {
        run(&shell(script), call(json!([1, "two"]), json!({"a": {"b": null}}))).await
    }

    #[tokio::test]
    async fn a_program_reads_the_task_and_writes_the_result() {
        let echoed = says("cat").await.unwrap();
        let whole = json!({"id": "0b0f6c55-2f5c-4c68-a4b7-a0b6c2d2a1de", "task": "test.task", "args": [1, "two"],
            "kwargs": {"a": {"b": null}}, "attempt": 1});
        assert_eq!(echoed, whole);
        assert_eq!(says("echo plain words").await.unwrap(), json!("plain words"));
        assert_eq!(says("true").await.unwrap(), Value::Null);
        assert_eq!(says("exec >&-; sleep 0.1").await.unwrap(), Value::Null);
    }

    #[tokio::test]
    async fn more_than_the_pipes_hold_goes_both_ways() {
        let long = "x".repeat(300_000);
        let value = run(&shell("cat"), call(json!([long]), json!({}))).await.unwrap();
        assert_eq!(value["args"][0].as_str().map(str::len), Some(300_000));
        // It does not read what it is told.
        let value = run(&shell("echo done"), call(json!([long]), json!({}))).await.unwrap();
        assert_eq!(value, json!("done"));
    }

    #[tokio::test]
    async fn the_environment_is_clean_but_for_what_is_set() {
        let mut config = shell("echo \"$OWN $HOME $CARGO_MANIFEST_DIR $PWD\"; id -u");
        config.env.insert("OWN".into(), Secret::new("value"));
        config.directory = "/tmp".into();
        let mut uid = rustix::process::geteuid().as_raw();
        if uid == 0 {
            // Only root may choose.
            config.user = "nobody".into();
            uid = User::named("nobody").unwrap().uid;
        }
        let value = run(&config, call(json!([]), json!({}))).await.unwrap();
        assert_eq!(value, json!(format!("value   /tmp\n{uid}")));
        config.user = "no such user".into();
        assert!(Tool::new(&config, None).is_err());
    }

    #[tokio::test]
    async fn exit_codes_decide_what_follows() {
        let failure = says("echo one >&2; echo two >&2; exit 3").await.unwrap_err();
        assert_eq!(failure.exception.message, "the program ended with exit code 3:\none\ntwo");
        assert_eq!(failure.again, Again::Never);
        assert_eq!(says("exit 75").await.unwrap_err().again, Again::Backoff);
        let failure = says("kill -SEGV $$").await.unwrap_err();
        assert!(failure.exception.message.starts_with("the program was ended by signal 11"), "{failure:?}");
        let missing = config::Command { run: vec!["/nowhere/at/all".into()], ..config::Command::default() };
        let failure = run(&missing, call(json!([]), json!({}))).await.unwrap_err();
        assert_eq!((failure.exception.class.as_str(), failure.again), ("CommandUnstarted", Again::Never));
    }

    #[tokio::test]
    async fn progress_is_told_and_only_progress() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut call = call(json!([]), json!({}));
        let kept = told.clone();
        call.progress = Progress::new(move |state, value| kept.lock().unwrap().push((state.to_owned(), value)));
        let script = "echo '{\"progress\": {\"done\": 1}}' >&2; echo '{\"other\": 1}' >&2; echo '{\"progress\": 0.5}' >&2; exit 1";
        let failure = run(&shell(script), call).await.unwrap_err();
        let told = told.lock().unwrap();
        assert_eq!(*told, [("PROGRESS".to_owned(), json!({"done": 1})), ("PROGRESS".to_owned(), json!(0.5))]);
        assert!(failure.exception.message.ends_with(":\n{\"other\": 1}"), "{failure:?}");
    }

    #[tokio::test]
    async fn output_and_memory_have_limits() {
        let config = config::Command { output_bytes: 100, ..shell("while :; do echo 0123456789; done") };
        let failure = run(&config, call(json!([]), json!({}))).await.unwrap_err();
        assert!(failure.exception.message.contains("more than 100 bytes"), "{failure:?}");
        let hungry = "x=0123456789abcdef; while :; do x=$x$x; done";
        let config = config::Command { memory_bytes: 64 << 20, ..shell(hungry) };
        let failure = run(&config, call(json!([]), json!({}))).await.unwrap_err();
        assert_eq!(failure.again, Again::Never, "{failure:?}");
    }

    #[tokio::test]
    async fn a_run_that_is_to_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("alive");
        let script = format!(
            "(trap '' TERM; while :; do date +%N > {0}; sleep 0.02; done) & trap '' TERM; wait; wait",
            alive.display()
        );
        for dropped in [false, true] {
            let call = call(json!([]), json!({}));
            let cancel = call.cancel.clone();
            let tool = Tool::new(&shell(&script), Some(Duration::from_secs(9))).unwrap();
            let mut run = tool.run(call);
            let begun = Instant::now();
            let up = async {
                while !alive.exists() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                ended = &mut run => panic!("{ended:?}"),
                () = up => {}
            }
            if dropped {
                drop(run);
            } else {
                cancel.cancel();
                let failure = run.await.unwrap_err();
                assert_eq!(failure.exception.class, "TimeLimitExceeded");
                assert_eq!(failure.exception.message, "9");
                assert!(begun.elapsed() < Duration::from_secs(20));
            }
            let gone = async {
                loop {
                    let before = std::fs::read(&alive).unwrap();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    if std::fs::read(&alive).unwrap() == before {
                        break;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
            std::fs::remove_file(&alive).unwrap();
        }
    }

    #[tokio::test]
    async fn somebody_else_s_hold_of_the_pipes_does_not_keep_the_run() {
        let begun = Instant::now();
        assert_eq!(says("sleep 30 & echo done").await.unwrap(), json!("done"));
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}
