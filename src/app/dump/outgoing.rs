//! Out: what the servers hold, for a backup.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use super::servers::{Servers, kept};
use super::{About, Error};
use crate::config::Config;
use crate::managed::{self, Programs, Snapshot};
use crate::process::{Program, Signal};

/// How much of a dump goes into one entry of the archive, in bytes: an entry says its length before its content, and the
/// length of the whole is not known before its end.
const PART: usize = 4 << 20;

/// What the servers hold, being taken.
pub struct Outgoing {
    /// The private Redis's content.
    pub redis: Option<Snapshot>,
    database: Option<(About, Dump)>,
    /// Stopped last.
    _servers: Servers,
}

/// A piece of a database: the name of its entry, and its content.
pub type Part = (String, Vec<u8>);

impl Outgoing {
    /// Begins: from here on, what they hold at this moment will be given. `database` is whether the database is asked
    /// for; the private Redis always is.
    ///
    /// # Errors
    /// A server that should have something does not answer, or PostgreSQL's programs are missing.
    pub fn begin(config: &Config, state: &Path, database: bool) -> Result<Self, Error> {
        let mut wanted = kept(config, state);
        wanted.postgres &= database;
        let servers = Servers::open(config, state, wanted)?;
        let named = !config.database.url.is_empty();
        let database = (database && (named || wanted.postgres)).then(|| dump(&servers, config)).transpose()?;
        let redis = servers.redis().filter(|_| wanted.redis).map(|socket| Snapshot::ask(&socket)).transpose();
        let redis = redis.map_err(|error| Error::Unavailable(format!("the private Redis: {error}")))?;
        Ok(Self { redis, database, _servers: servers })
    }

    /// Which database is taken; none if there is none.
    #[must_use]
    pub fn database(&self) -> Option<&About> {
        self.database.as_ref().map(|(about, _)| about)
    }

    /// Hands the database's pieces over, in order. The last one is the end: without it a dump is not whole.
    ///
    /// # Errors
    /// The dump fails, or `take` does.
    pub fn parts(&mut self, mut take: impl FnMut(Part) -> io::Result<()>) -> io::Result<()> {
        let Some((about, mut dump)) = self.database.take() else { return Ok(()) };
        take(("about.json".into(), serde_json::to_vec(&about)?))?;
        let mut count = 0u64;
        loop {
            let mut bytes = Vec::with_capacity(PART);
            dump.out.by_ref().take(PART as u64).read_to_end(&mut bytes)?;
            if bytes.is_empty() {
                break;
            }
            count += 1;
            take((format!("{count:08}"), bytes))?;
        }
        dump.finish()?;
        take(("end".into(), count.to_string().into_bytes()))
    }
}

/// pg_dump at work.
struct Dump {
    child: Child,
    out: std::process::ChildStdout,
    said: Option<JoinHandle<String>>,
}

fn dump(servers: &Servers, config: &Config) -> Result<(About, Dump), Error> {
    let database = servers.database()?;
    let owner = if config.database.url.is_empty() { managed::OWNER.to_owned() } else { String::new() };
    let (about, programs, variables) = servers.runtime.block_on(async {
        let client = database.elsewhere(database.name()).await?;
        let owner =
            if owner.is_empty() { client.query_one("select current_user::text", &[]).await?.get(0) } else { owner };
        let about = About::read(&client, &owner).await?;
        let programs = Programs::client(&config.managed.postgres_programs, about.version).await?;
        Ok::<_, Error>((about, programs, database.libpq().await?))
    })?;
    let mut program = Program::new(programs.program("pg_dump")).dies_with_us(Signal::TERM);
    // The archive is compressed as a whole, and better.
    program = program.args(["--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=60s"]);
    for (name, value) in variables {
        program = program.env(name, value);
    }
    let cannot = |error: io::Error| Error::Failed(format!("pg_dump cannot be started: {error}"));
    let mut command = program.into_command();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot)?;
    let out = child.stdout.take().ok_or_else(|| cannot(io::ErrorKind::BrokenPipe.into()))?;
    let said = child.stderr.take().map(listen);
    Ok((about, Dump { child, out, said }))
}

impl Dump {
    fn finish(&mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Err(io::Error::other(format!("pg_dump ended with {status}: {said}")))
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what a program says, in one line, and not more than a screen of it.
pub(super) fn listen(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = pipe.by_ref().take(4096).read_to_end(&mut said);
        // It must not stand still because nobody reads on.
        let _ = io::copy(&mut pipe, &mut io::sink());
        let text = String::from_utf8_lossy(&said).into_owned();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
    })
}
