//! The private PostgreSQL: its folder, its start, and its answer.
//!
//! What a reader could get wrong: PostgreSQL sees to a postmaster.pid of a dead server itself, but does not start beside a
//! living one. When Beacon was killed, its PostgreSQL is told by the kernel to stop, and may still be about it when the
//! next Beacon starts; so that one waits.

mod folder;
mod log;
mod programs;
mod roles;
mod settings;

pub use programs::Programs;
pub use roles::{DATABASE, OWNER, SUPERUSER};

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::place::{self, Place};
use super::{Config, orphan};
use crate::process::{Fault, Program, Service, Signal, Step, User};
use crate::secret::Secret;

/// How often a server that is starting is asked.
const ASK: Duration = Duration::from_millis(25);
/// How long PostgreSQL may take to stop at once, without writing anything.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The server, and what it needs to know.
pub(super) struct Postgres {
    pub place: Place,
    pub config: Config,
}

/// The URL by which its owner's role reaches the database.
pub(super) fn url(sockets: &Path) -> Secret {
    url_as(OWNER, sockets)
}

/// The URL by which a role reaches it.
pub(super) fn url_as(role: &str, sockets: &Path) -> Secret {
    Secret::new(format!("postgres://{role}@/{DATABASE}?host={}", escaped(sockets)))
}

/// A path for a URL's query.
fn escaped(path: &Path) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
    use std::os::unix::ffi::OsStrExt as _;
    const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encode(path.as_os_str().as_bytes(), PATH).to_string()
}

impl Postgres {
    fn data(&self) -> PathBuf {
        self.place.data("postgres")
    }
}

/// Opens a path in the program: by its number if it runs as somebody who may not pass the folders above.
fn reach(program: &mut Program, path: &Path, user: Option<&User>) -> Result<PathBuf, Fault> {
    if user.is_none() {
        return Ok(path.to_owned());
    }
    program.folder(path).map_err(|error| place::cannot(path, &error))
}

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    async fn prepare(&self) -> Result<Program, Fault> {
        let data = self.data();
        let user = self.place.user(&data)?;
        let version = folder::version(&data)?;
        let programs = Programs::find(&self.config.postgres_programs, version).await?;
        if version.is_none() {
            folder::make(&data, &programs, user.as_ref()).await?;
        }
        orphan::wait(&data.join("postmaster.pid"), Signal::INT, self.config.stop_grace).await?;
        self.place.make_sockets(user.as_ref())?;
        settings::write(&data, &self.config, &programs, user.as_ref())?;

        let mut program = Program::new(programs.program("postgres")).user(user.clone()).dies_with_us(Signal::INT);
        let reached = reach(&mut program, &data, user.as_ref())?;
        program = program.arg("-D").arg(reached);
        for setting in settings::fixed(&self.place.sockets) {
            program = program.args(["-c", &setting]);
        }
        Ok(program)
    }

    async fn ready(&self) -> Result<(), Fault> {
        loop {
            let mut config = tokio_postgres::Config::new();
            config.host_path(&self.place.sockets).user(SUPERUSER).dbname("postgres");
            config.application_name("beacon").connect_timeout(Duration::from_secs(5));
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let done = roles::ensure(&client).await;
                    drop(client);
                    let _ = connection.await;
                    return done
                        .map_err(|error| Fault(format!("its roles cannot be made: {}", crate::error::chain(&error))));
                }
                Err(error) if error.code().is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW) => {
                    tokio::time::sleep(ASK).await;
                }
                Err(error) => return Err(Fault(format!("it lets nobody in: {}", crate::error::chain(&error)))),
            }
        }
    }

    fn line(&self, line: &str) -> Option<String> {
        log::take(line)
    }

    fn steps(&self) -> Vec<Step> {
        // INT ends sessions and writes everything; QUIT leaves the rest to the next start's recovery.
        vec![(Signal::INT, self.config.stop_grace), (Signal::QUIT, AT_ONCE)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_sockets_stands_in_the_url() {
        assert_eq!(escaped(Path::new("/run/a-b_c.d~/x")), "/run/a-b_c.d~/x");
        assert_eq!(escaped(Path::new("/a b/c&d=é")), "/a%20b/c%26d%3D%C3%A9");
    }
}
