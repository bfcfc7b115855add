//! Configuration of the private servers: the section `[managed]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;

/// Private PostgreSQL and Redis servers from the system's packages, in the state folder, on Unix sockets.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "auto": a private PostgreSQL as long as database.url is empty. "on": the same, and Beacon is not ready without
    /// it. "off": none.
    pub postgres: Mode,
    /// "auto", "on" or "off", for Redis and redis.url.
    pub redis: Mode,
    /// The folder that has PostgreSQL's programs (postgres, initdb, pg_dump); "" looks in PATH and in
    /// /usr/lib/postgresql.
    pub postgres_programs: PathBuf,
    /// The Redis server's program; "" looks for redis-server and valkey-server in PATH.
    pub redis_program: PathBuf,
    /// Settings of PostgreSQL, over those that Beacon chooses from the memory of the host, as in
    /// shared_buffers = "1GB". Taken over by the next start.
    pub postgres_settings: BTreeMap<String, String>,
    /// Settings of Redis, over those that Beacon chooses, as in maxmemory = "512mb". Taken over by the next start.
    pub redis_settings: BTreeMap<String, String>,
    /// How long PostgreSQL may take to stop cleanly before it is stopped at once, and has to recover at its next start.
    #[serde(with = "duration")]
    pub stop_grace: Duration,
}

/// Whether there is a private server.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// If no other is named.
    #[default]
    Auto,
    /// Yes, and nothing goes without it.
    On,
    /// No.
    Off,
}

/// What decides who reaches the servers and where they keep what they have is not for settings.
const POSTGRES_OWN: [&str; 9] = [
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_permissions",
];
const REDIS_OWN: [&str; 10] =
    ["bind", "daemonize", "dir", "include", "logfile", "pidfile", "port", "supervised", "unixsocket", "unixsocketperm"];

impl Default for Config {
    fn default() -> Self {
        Self {
            postgres: Mode::default(),
            redis: Mode::default(),
            postgres_programs: PathBuf::new(),
            redis_program: PathBuf::new(),
            postgres_settings: BTreeMap::new(),
            redis_settings: BTreeMap::new(),
            stop_grace: Duration::from_mins(1),
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, path) in [("postgres_programs", &self.postgres_programs), ("redis_program", &self.redis_program)] {
            if !path.as_os_str().is_empty() && !path.is_absolute() {
                let problem = format!("\"{}\" is not an absolute path", path.display());
                faults.push(Fault::new(key, problem, "Give the path from /."));
            }
        }
        for (key, settings, own) in [
            ("postgres_settings", &self.postgres_settings, &POSTGRES_OWN[..]),
            ("redis_settings", &self.redis_settings, &REDIS_OWN[..]),
        ] {
            for (name, value) in settings {
                let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
                if name.is_empty() || !name.chars().all(plain) || value.contains(['\n', '\r', '\0']) {
                    faults.push(Fault::new(
                        format!("{key}.{name}"),
                        "is no setting",
                        "A name has letters, digits, _, . and -; a value is one line.",
                    ));
                } else if own.contains(&name.to_ascii_lowercase().as_str()) {
                    faults.push(Fault::new(
                        format!("{key}.{name}"),
                        "is chosen by Beacon, which reaches the server over its own socket",
                        "Remove it. For a server of your own, set database.url or redis.url instead.",
                    ));
                }
            }
        }
        if self.stop_grace < Duration::from_secs(1) {
            faults.push(Fault::new("stop_grace", "leaves no time to stop cleanly", "Use 1s or more."));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_open_or_move_a_server_are_refused() {
        let mut config = Config::default();
        assert_eq!(config.validate(), []);
        config.postgres_settings.insert("work_mem".into(), "16MB".into());
        config.redis_settings.insert("maxmemory".into(), "1gb".into());
        assert_eq!(config.validate(), []);
        config.postgres_settings.insert("Listen_Addresses".into(), "*".into());
        config.postgres_settings.insert("work_mem".into(), "1MB'\nlisten_addresses='*".into());
        config.redis_settings.insert("port".into(), "6379".into());
        config.redis_settings.insert("save\nport".into(), "1".into());
        config.redis_program = "redis-server".into();
        let keys: Vec<String> = config.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(
            keys,
            [
                "redis_program",
                "postgres_settings.Listen_Addresses",
                "postgres_settings.work_mem",
                "redis_settings.port",
                "redis_settings.save\nport"
            ]
        );
    }
}
