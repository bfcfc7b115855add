//! The private Redis, or Valkey: its start and its answer.

use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::place::{self, Place};
use super::{Config, memory, orphan};
use crate::process::{Fault, Program, Service, Signal, Step};
use crate::secret::Secret;

/// How often a server that is starting is asked.
const ASK: Duration = Duration::from_millis(25);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The programs, the better known one first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// The file with its number, in the data folder.
const PID: &str = "redis.pid";
const MIB: u64 = 1 << 20;

/// The file in the data folder that an empty Redis takes its content from: what a backup has. Redis 6 goes on with this
/// very file, Redis 7 moves it into its folder of append-only files, and both read a snapshot (RDB) at its front.
pub const SNAPSHOT: &str = "appendonly.aof";

/// The server, and what it needs to know.
pub(super) struct Redis {
    pub place: Place,
    pub config: Config,
}

/// The path of its socket.
pub(super) fn socket(sockets: &Path) -> PathBuf {
    sockets.join("redis.sock")
}

/// The URL by which it is reached.
pub(super) fn url(sockets: &Path) -> Secret {
    Secret::new(format!("unix://{}", socket(sockets).display()))
}

/// The program; `given` if that is not empty.
fn program(given: &Path) -> Result<PathBuf, Fault> {
    if !given.as_os_str().is_empty() {
        let text = || Fault(format!("managed.redis_program: there is no {}", given.display()));
        return given.is_file().then(|| given.to_owned()).ok_or_else(text);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from))
        .collect();
    let found = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Fault(
            "Redis is not installed. Install it: apt install redis-server. Or set redis.url (REDIS_URL) to another \
             server, or managed.redis to \"off\""
                .into(),
        )
    })
}

/// Its settings, as words of the command line.
fn settings(memory: u64, config: &Config) -> Vec<String> {
    let own = [
        ("port", "0".to_owned()),
        ("unixsocketperm", "700".into()),
        ("daemonize", "no".into()),
        ("supervised", "no".into()),
        ("logfile", String::new()),
        ("always-show-logo", "no".into()),
        // Each command is in the file at once, and on the disk within a second.
        ("appendonly", "yes".into()),
        ("appendfsync", "everysec".into()),
        ("save", String::new()),
        // A task that is accepted is kept: when the memory is full, new ones are refused.
        ("maxmemory-policy", "noeviction".into()),
        ("maxmemory", format!("{}mb", (memory / 4 / MIB).max(64))),
        ("tcp-keepalive", "60".into()),
    ];
    let given = config.redis_settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    own.into_iter().chain(given).flat_map(|(name, value)| [format!("--{name}"), value]).collect()
}

impl Service for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    async fn prepare(&self) -> Result<Program, Fault> {
        let data = self.place.data("redis");
        let path = program(&self.config.redis_program)?;
        let user = self.place.user(&data)?;
        place::folder(&data, user.as_ref()).map_err(|error| place::cannot(&data, &error))?;
        self.place.make_sockets(user.as_ref())?;
        if let Some(user) = &user {
            // A restore by root has put it there, and knows the account no more than the folder did.
            match chown(data.join(SNAPSHOT), Some(user.uid), Some(user.gid)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(place::cannot(&data, &error)),
                _ => {}
            }
        }
        orphan::wait(&data.join(PID), Signal::TERM, self.config.stop_grace).await?;
        let mut program = Program::new(path).user(user.clone()).dies_with_us(Signal::TERM);
        let reached = match &user {
            Some(_) => program.folder(&data).map_err(|error| place::cannot(&data, &error))?,
            None => data,
        };
        let program = program.args(settings(memory::total(), &self.config));
        let program = program.arg("--pidfile").arg(reached.join(PID));
        Ok(program.arg("--dir").arg(reached).arg("--unixsocket").arg(socket(&self.place.sockets)))
    }

    async fn ready(&self) -> Result<(), Fault> {
        loop {
            if let Ok(answer) = tokio::time::timeout(PATIENCE, ping(&socket(&self.place.sockets))).await
                && answer.is_ok_and(|answer| answer.starts_with(b"+PONG"))
            {
                return Ok(());
            }
            // Not there yet, or still loading its file.
            tokio::time::sleep(ASK).await;
        }
    }

    fn line(&self, line: &str) -> Option<String> {
        if troubled(line) {
            tracing::warn!(service = "Redis", "{line}");
        } else {
            tracing::debug!(service = "Redis", "{line}");
            if is_log(line) {
                return None;
            }
        }
        // What has not the form of its log is about its settings.
        Some(line.to_owned())
    }

    fn steps(&self) -> Vec<Step> {
        // TERM writes what is not on the disk yet.
        vec![(Signal::TERM, self.config.stop_grace)]
    }
}

async fn ping(socket: &Path) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = vec![0; 64];
    let length = stream.read(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// Whether a line has the form of Redis's log, as in "123:M 24 Nov 2026 10:00:00.000 * Ready".
fn is_log(line: &str) -> bool {
    line.split_once(':').is_some_and(|(pid, _)| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Redis marks more as a warning (#) than is one: its start, its version, its end. And what it says of the kernel's
/// settings is the host's affair, and `beacon doctor`'s.
fn troubled(line: &str) -> bool {
    let Some((_, text)) = line.split_once(" # ") else { return line.contains("FATAL") || line.contains("BUG REPORT") };
    let text = text.to_ascii_lowercase();
    let known = text.contains("overcommit") || text.contains("tcp backlog") || text.contains("transparent huge");
    !known
        && ["error", "fail", "can't", "cannot", "warning", "corrupt", "misconf", "bad file"]
            .iter()
            .any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_settings_are_durable_and_the_operator_s_come_last() {
        let mut config = Config::default();
        config.redis_settings.insert("maxmemory".into(), "1gb".into());
        let words = settings(4 << 30, &config).join(" ");
        for part in ["--port 0 ", "--appendonly yes", "--maxmemory-policy noeviction", "--maxmemory 1024mb"] {
            assert!(words.contains(part), "no {part} in {words}");
        }
        assert!(words.ends_with("--maxmemory 1gb"), "{words}");
    }

    #[test]
    fn only_troubles_are_told() {
        assert!(troubled("123:M 24 Nov 2026 10:00:00.000 # Error opening the append only file: No space left"));
        assert!(troubled("123:M 24 Nov 2026 10:00:00.000 # Can't save in background: fork: Cannot allocate memory"));
        assert!(!troubled("123:C 24 Nov 2026 10:00:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo"));
        assert!(!troubled("123:M 24 Nov 2026 10:00:00.000 # WARNING Memory overcommit must be enabled!"));
        assert!(!troubled("123:M 24 Nov 2026 10:00:00.000 * Ready to accept connections"));
        assert!(troubled("*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let Fault(text) = program(Path::new("/no/redis")).unwrap_err();
        assert!(text.contains("managed.redis_program"), "{text}");
    }
}
