//! The private servers while a command works with them: those that somebody keeps, or our own for that time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Error;
use crate::app::{database, managed};
use crate::config::Config;
use crate::db::Database;
use crate::managed::{Managed, Record, Told, Wanted, Watch, running};

/// How often it is looked whether they are ready.
const LOOK: Duration = Duration::from_millis(50);

/// The servers, and the runtime in which their connections work.
pub(super) struct Servers {
    pub runtime: Runtime,
    config: Config,
    state: PathBuf,
    wanted: Wanted,
    managed: Option<Managed>,
    record: Option<Record>,
}

impl Servers {
    /// Waits until the wanted ones answer, and starts them if nobody keeps them.
    pub(super) fn open(config: &Config, state: &Path, wanted: Wanted) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| Error::Failed(format!("cannot start: {error}"));
        // The main thread reads and writes the archive, and waits for programs.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(cannot)?;
        let (config, state) = (config.clone(), state.to_owned());
        let mut servers = Self { runtime, config, state, wanted, managed: None, record: None };
        servers.start()?;
        Ok(servers)
    }

    /// Starts what is wanted and not there.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        if self.wanted == Wanted::default() {
            return Ok(());
        }
        if running(&self.state).is_none() {
            let _entered = self.runtime.enter();
            self.managed = Some(Managed::start(&self.config.managed, &self.state, self.wanted));
        }
        loop {
            if let Some(record) = running(&self.state) {
                let all = [
                    ("PostgreSQL", self.wanted.postgres, &record.postgres),
                    ("Redis", self.wanted.redis, &record.redis),
                ];
                let mut waits = false;
                for (name, wanted, told) in all {
                    match told {
                        Some(Told::Down(reason)) if wanted => {
                            let text = format!("the private {name} does not run: {reason}");
                            self.stop();
                            return Err(Error::Unavailable(text));
                        }
                        None if wanted => {
                            self.stop();
                            return Err(Error::Unavailable(format!("process {} keeps no {name}", record.pid)));
                        }
                        Some(Told::Starting) if wanted => waits = true,
                        _ => {}
                    }
                }
                if !waits {
                    self.record = Some(record);
                    return Ok(());
                }
            } else if let Some(trouble) = self.managed.as_ref().and_then(Managed::postgres).as_ref().and_then(lasting) {
                self.stop();
                return Err(Error::Unavailable(format!("the private PostgreSQL does not run: {trouble}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Stops what was started here.
    pub(super) fn stop(&mut self) {
        self.record = None;
        if let Some(managed) = self.managed.take() {
            self.runtime.block_on(managed.stop());
        }
    }

    /// The private Redis's socket.
    pub(super) fn redis(&self) -> Option<PathBuf> {
        self.record.as_ref().and_then(Record::redis_socket)
    }

    /// The database for one who may do everything with it: the superuser of the private one, else the owner.
    pub(super) fn database(&self) -> Result<Database, Error> {
        self.at(Record::administration_url)
    }

    /// The database as its owner sees it.
    pub(super) fn as_owner(&self) -> Result<Database, Error> {
        self.at(Record::database_url)
    }

    fn at(&self, private: impl Fn(&Record) -> Option<crate::secret::Secret>) -> Result<Database, Error> {
        if self.config.database.url.is_empty() {
            let url = self.record.as_ref().and_then(private).ok_or(crate::app::Error::Asleep)?;
            let mut config = self.config.clone();
            // Those are of another server.
            config.database.password_command.clear();
            return Ok(database::open(&config, &url)?);
        }
        Ok(database::open(&self.config, &self.config.database.url)?)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lasting(watch: &Watch) -> Option<String> {
    match watch.now() {
        crate::process::Condition::Down(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Which private servers have data in a state folder, of those that the configuration wants.
pub(super) fn kept(config: &Config, state: &Path) -> Wanted {
    let wanted = managed::wanted(config);
    Wanted {
        postgres: wanted.postgres && state.join("postgres/PG_VERSION").exists(),
        redis: wanted.redis && state.join("redis").exists(),
    }
}
