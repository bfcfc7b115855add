//! What is to be run, and as whom.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;

use super::{Child, User, before_exec, spawner};

/// Where children look for programs when we were not told.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A program with its arguments. Its environment has PATH, LC_ALL=C.UTF-8, TZ=UTC and what is added to it, and nothing of ours.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    user: Option<User>,
    death: Option<Signal>,
    kept: Vec<Arc<OwnedFd>>,
    input: Option<Arc<OwnedFd>>,
    bare: bool,
    directory: Option<PathBuf>,
    memory: Option<u64>,
    piped: bool,
}

impl Program {
    /// The program at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            death: None,
            kept: Vec::new(),
            input: None,
            bare: false,
            directory: None,
            memory: None,
            piped: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as somebody else, without supplementary groups. Only root may.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// The signal that it gets when Beacon dies without stopping it.
    #[must_use]
    pub fn dies_with_us(mut self, signal: Signal) -> Self {
        self.death = Some(signal);
        self
    }

    /// Its standard input, instead of none.
    #[must_use]
    pub fn input(mut self, input: OwnedFd) -> Self {
        self.input = Some(Arc::new(input));
        self
    }

    /// Leaves its language and time zone to the variables that are added, for a program that must find what its user has.
    #[must_use]
    pub fn without_defaults(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The folder that it runs in, instead of /.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// So many bytes of addresses are all that it and each of its children may have (RLIMIT_AS).
    #[must_use]
    pub fn memory(mut self, bytes: Option<u64>) -> Self {
        self.memory = bytes;
        self
    }

    /// Gives it a pipe to read from: see [`Child::pipes`].
    #[must_use]
    pub fn with_input(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Gives it a folder that it could not reach by its path, because it may not enter one of the folders above; gives
    /// the path by which it can. The folder itself must be one that its user may enter.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn folder(&mut self, path: &Path) -> io::Result<PathBuf> {
        let folder = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // The number is the same in the child, and in every process that it forks.
        let by_number = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        self.kept.push(Arc::new(folder));
        Ok(by_number)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()));
        if !self.bare {
            command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        }
        // A duplicate, because the program can be started more than once.
        let input = self.input.as_ref().and_then(|input| input.try_clone().ok());
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.as_deref().unwrap_or(Path::new("/")))
            .process_group(0)
            .stdin(match input {
                Some(input) => Stdio::from(input),
                None if self.piped => Stdio::piped(),
                None => Stdio::null(),
            });
        if let Some(user) = &self.user {
            // The standard library takes the supplementary groups away with it.
            command.uid(user.uid).gid(user.gid);
        }
        before_exec::prepare(&mut command, self.death, self.kept.clone(), self.memory);
        command
    }

    /// As a command of the standard library, for one who waits for it in the foreground and gives it pipes of his own.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command()
    }

    /// Starts it, with pipes for what it writes.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(self) -> io::Result<Child> {
        let child = spawner::run(move || {
            let mut command = tokio::process::Command::from(self.command());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
        });
        child.await.map(Child::new)
    }

    /// Runs it to its end; gives how it ended and what it wrote. For programs that write little.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn output(self) -> io::Result<std::process::Output> {
        let child = spawner::run(move || {
            let mut command = tokio::process::Command::from(self.command());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
        });
        child.await?.wait_with_output().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn says(program: Program) -> String {
        String::from_utf8(program.output().await.unwrap().stdout).unwrap()
    }

    #[tokio::test]
    async fn a_child_has_a_clean_environment_and_a_group_of_its_own() {
        let shell = Program::new("/bin/sh").env("OWN", "1").args(["-c", "env; ps -o pgid= -p $$; echo $$; pwd"]);
        let text = says(shell).await;
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.retain(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"));
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "OWN", "PATH", "TZ"], "{text}");
        let rest: Vec<&str> = text.lines().filter(|line| !line.contains('=')).map(str::trim).collect();
        assert_eq!(rest[0], rest[1], "its group is its own");
        assert_eq!(rest[2], "/");
    }

    #[tokio::test]
    async fn a_child_has_its_huge_pages_back() {
        let _ = rustix::thread::disable_transparent_huge_pages(true);
        let text = says(Program::new("/bin/cat").arg("/proc/self/status")).await;
        let _ = rustix::thread::disable_transparent_huge_pages(false);
        let line = text.lines().find(|line| line.starts_with("THP_enabled:"));
        // The line is there since Linux 5.0.
        assert!(line.is_none_or(|line| line.ends_with('1')), "{line:?}");
    }

    #[tokio::test]
    async fn a_child_reads_the_input_that_it_was_given() {
        use std::io::Write as _;
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(b"said").unwrap();
        drop(ours);
        assert_eq!(says(Program::new("/bin/cat").input(theirs.into())).await, "said");
        let shell = Program::new("/bin/sh").without_defaults().args(["-c", "echo \"$LC_ALL:$TZ\""]);
        assert_eq!(says(shell).await.trim(), ":");
    }

    #[tokio::test]
    async fn a_folder_is_reached_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "content").unwrap();
        let mut program = Program::new("/bin/sh").args(["-c", "cat \"$0/file\"; sh -c 'cat \"$0/file\"' \"$0\""]);
        let path = program.folder(folder.path()).unwrap();
        assert_eq!(says(program.arg(path)).await, "contentcontent");
    }

    #[tokio::test]
    async fn root_gives_up_its_rights() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let nobody = User::named("nobody").unwrap();
        let text = says(Program::new("/usr/bin/id").user(Some(nobody.clone())).arg("-u")).await;
        assert_eq!(text.trim(), nobody.uid.to_string());
        let groups = says(Program::new("/usr/bin/id").user(Some(nobody.clone())).arg("-G")).await;
        assert_eq!(groups.trim(), nobody.gid.to_string());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let error = Program::new("/no/such/program").start().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
