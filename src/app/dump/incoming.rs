//! In: a database from an archive, beside the one that is there, and then in its place.
//!
//! What a reader could get wrong: until `keep`, everything can be taken back, and is, when the value is dropped: also the
//! renaming, which has to come before the private server stops, while the state folder is exchanged after that.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::thread::JoinHandle;

use tokio_postgres::Client;

use super::outgoing::listen;
use super::servers::Servers;
use super::{About, Error, literal, quoted};
use crate::app::managed::wanted;
use crate::app::state;
use crate::config::Config;
use crate::db::Database;
use crate::managed::{OWNER, Programs, Wanted};
use crate::process::{Program, Signal};

/// The most that an archive may say about a database, in bytes.
const ABOUT: u64 = 16 << 20;
/// Databases that every server has, for those who must be in another one than that which is renamed.
const ELSEWHERE: [&str; 2] = ["postgres", "template1"];

/// What is to be done with a database in the archive.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Whether it is to be restored; undecided means: if it goes to the private server.
    pub database: Option<bool>,
    /// Ends the sessions that are in the way.
    pub force: bool,
    /// Names what is made and what is set aside.
    pub stamp: String,
}

/// A database that may come out of an archive.
pub struct Incoming<'a> {
    config: &'a Config,
    state: &'a Path,
    terms: Terms,
    open: Option<Open>,
    /// Why a database of the archive was left alone.
    left: Option<String>,
}

/// A restored database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Which, for messages.
    pub place: String,
    /// Under which name the former one is there still; none if there was none.
    pub before: Option<String>,
    /// What could not be made as it was.
    pub missed: Vec<String>,
}

struct Open {
    about: About,
    database: Database,
    name: String,
    new: String,
    before: Option<String>,
    restore: Option<Restore>,
    /// Pieces that came.
    parts: u64,
    missed: Vec<String>,
    stage: Stage,
    /// Stopped last.
    servers: Servers,
}

/// How far a restore has come, and so what has to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Stage {
    Made,
    Whole,
    Renamed,
    Kept,
}

/// pg_restore at work.
struct Restore {
    child: Child,
    input: Option<ChildStdin>,
    said: Option<JoinHandle<String>>,
}

impl<'a> Incoming<'a> {
    /// Nothing has come yet, and nothing is touched.
    #[must_use]
    pub fn new(config: &'a Config, state: &'a Path, terms: Terms) -> Self {
        Self { config, state, terms, open: None, left: None }
    }

    /// Takes one piece, in the order in which [`super::Outgoing`] gave them.
    ///
    /// # Errors
    /// It is none of them, or the database cannot be restored.
    pub fn take(&mut self, name: &str, mut content: impl Read) -> Result<(), Error> {
        let cut = |error: io::Error| Error::Failed(error.to_string());
        if name == "about.json" {
            let mut text = Vec::new();
            content.take(ABOUT).read_to_end(&mut text).map_err(cut)?;
            let about: About = serde_json::from_slice(&text)
                .map_err(|error| Error::Refused(format!("what it says of its database cannot be read: {error}")))?;
            if self.open.is_some() || self.left.is_some() {
                return Err(Error::Refused("it has two databases".into()));
            }
            if self.goes_in(&about)? {
                self.open = Some(Open::begin(self.config, self.state, &self.terms, about)?);
            }
            return Ok(());
        }
        let Some(open) = &mut self.open else {
            return if self.left.is_some() {
                Ok(())
            } else {
                Err(Error::Refused("its database has no beginning".into()))
            };
        };
        if name == "end" {
            let mut text = String::new();
            content.take(32).read_to_string(&mut text).map_err(cut)?;
            if text.trim().parse() != Ok(open.parts) || open.stage != Stage::Made {
                return Err(Error::Refused("pieces of its database are missing".into()));
            }
            return open.complete();
        }
        if name.parse() != Ok(open.parts + 1) {
            return Err(Error::Refused(format!("the piece {name} of its database is not in its place")));
        }
        open.parts += 1;
        open.restore.as_mut().map_or(Ok(()), |restore| restore.write(&mut content))
    }

    fn goes_in(&mut self, about: &About) -> Result<bool, Error> {
        let named = !self.config.database.url.is_empty();
        match self.terms.database {
            Some(false) => self.left = Some("the database in it was left out, as asked".into()),
            None if named => {
                self.left = Some(format!(
                    "the database \"{}\" in it was left out: the one that database.url (DATABASE_URL) names lives on its \
                     own. --with-database replaces that one by it",
                    about.database
                ));
            }
            _ if named || wanted(self.config).postgres => return Ok(true),
            _ => {
                return Err(Error::Refused(
                    "it has a database, and none is configured here: set DATABASE_URL or managed.postgres, or leave it out \
                     with --without-database"
                        .into(),
                ));
            }
        }
        Ok(false)
    }

    /// Puts the restored database in the place of the one that was there, and stops a server that was started for that.
    ///
    /// # Errors
    /// It is not whole, or the place cannot be taken.
    pub fn exchange(&mut self) -> Result<(), Error> {
        let Some(open) = &mut self.open else {
            if self.terms.database == Some(true) {
                return Err(Error::Refused("it has no database".into()));
            }
            return Ok(());
        };
        if open.stage != Stage::Whole {
            return Err(Error::Refused("its database is cut off".into()));
        }
        open.exchange(self.terms.force, &self.terms.stamp)?;
        open.servers.stop();
        Ok(())
    }

    /// Takes back what was done. (Dropping it does so too, but tells nobody when that fails.)
    ///
    /// # Errors
    /// The server does not answer any more; the text says what was left where.
    pub fn take_back(mut self) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let result = open.undo().map_err(|error| {
            let (new, before) =
                (&open.new, open.before.as_ref().map(|name| format!(", and what was there is \"{name}\"")));
            let before = before.filter(|_| open.stage == Stage::Renamed).unwrap_or_default();
            Error::Failed(format!("the database that was restored is left as \"{new}\"{before}: {error}"))
        });
        open.stage = Stage::Kept;
        result
    }

    /// From here on nothing is taken back. Gives what was restored, and what was left out and why.
    #[must_use]
    pub fn keep(mut self) -> (Option<Restored>, Option<String>) {
        let restored = self.open.as_mut().map(|open| {
            open.stage = Stage::Kept;
            Restored {
                place: open.database.place().to_owned(),
                before: open.before.clone(),
                missed: std::mem::take(&mut open.missed),
            }
        });
        (restored, self.left.take())
    }
}

impl Open {
    fn begin(config: &Config, state: &Path, terms: &Terms, about: About) -> Result<Self, Error> {
        let private = config.database.url.is_empty();
        if private {
            state::prepare(state)?;
        }
        let servers = Servers::open(config, state, Wanted { postgres: private, redis: false })?;
        let database = servers.database()?;
        let name = database.name().to_owned();
        let new = fitting(&name, "restoring", &terms.stamp);
        let force = terms.force;
        let begun = servers.runtime.block_on(async {
            let client = elsewhere(&database).await?;
            allowed(&client, &database, force).await?;
            let mut missed = about.make_roles(&client).await?;
            let owner: String =
                if private { OWNER.into() } else { client.query_one("select current_user::text", &[]).await?.get(0) };
            let same = about.owner == owner;
            if !same && !private {
                // For what is said in the name of the former owner, as its default privileges.
                let sql = format!("grant {} to {}", quoted(&about.owner), quoted(&owner));
                if let Err(error) = client.batch_execute(&sql).await {
                    missed.push(format!("{owner} is no member of {}: {}", about.owner, crate::error::chain(&error)));
                }
            }
            let sql =
                format!("create database {} owner {} template template0 encoding 'UTF8'", quoted(&new), quoted(&owner));
            client.batch_execute(&sql).await?;
            let version: i32 =
                client.query_one("select current_setting('server_version_num')::int / 10000", &[]).await?.get(0);
            let programs = Programs::client(&config.managed.postgres_programs, version as u32).await?;
            let mut program = Program::new(programs.program("pg_restore")).dies_with_us(Signal::TERM);
            program = program.args(["--exit-on-error", "--no-password", "--dbname", &new]);
            if !(private && same) {
                program = program.arg("--no-owner");
            }
            if private && !same {
                program = program.args(["--role", OWNER]);
            }
            for (name, value) in database.libpq().await? {
                program = program.env(name, value);
            }
            Ok::<_, Error>((program, missed))
        });
        let mut open = Self {
            about,
            database,
            name,
            new,
            before: None,
            restore: None,
            parts: 0,
            missed: Vec::new(),
            stage: Stage::Made,
            servers,
        };
        // From here on, what was made goes with the value.
        let (program, missed) = begun?;
        open.missed = missed;
        open.restore = Some(Restore::start(program)?);
        Ok(open)
    }

    /// The last piece has come.
    fn complete(&mut self) -> Result<(), Error> {
        if let Some(mut restore) = self.restore.take() {
            restore.finish()?;
        }
        self.servers.runtime.block_on(async {
            let new = self.database.elsewhere(&self.new).await?;
            let logins = logins(&self.database, &self.name).await;
            if new.query_one("select to_regclass('beacon.settings') is not null", &[]).await?.get(0) {
                let mut sql =
                    String::from("delete from beacon.settings where name in ('request_login', 'request_password');");
                for (name, value) in logins {
                    let (name, value) = (literal(&name), literal(&value));
                    let _ = write!(sql, "insert into beacon.settings (name, value) values ({name}, {value});");
                }
                new.batch_execute(&sql).await?;
            }
            // A dump has no statistics, without which plans are bad until the first automatic analysis.
            new.batch_execute("set statement_timeout = 0; analyze").await?;
            Ok::<_, Error>(())
        })?;
        self.stage = Stage::Whole;
        Ok(())
    }

    fn exchange(&mut self, force: bool, stamp: &str) -> Result<(), Error> {
        let before = fitting(&self.name, "before", stamp);
        let owner = self.servers.as_owner()?;
        let there = self.servers.runtime.block_on(async {
            let client = elsewhere(&self.database).await?;
            let there = allowed(&client, &self.database, force).await?;
            rename(&client, there.then_some((&self.name, &before)), (&self.new, &self.name)).await?;
            Ok::<_, Error>(there)
        })?;
        self.before = there.then_some(before);
        self.stage = Stage::Renamed;
        let missed = self.servers.runtime.block_on(async {
            let client = elsewhere(&self.database).await?;
            let missed = self.about.give_settings(&client, &self.name).await;
            // What a dump cannot have: the login of requests and its memberships; and migrations that are newer.
            let prepared = owner.prepare().await;
            owner.close();
            prepared?;
            Ok::<_, Error>(missed)
        })?;
        self.missed.extend(missed);
        Ok(())
    }

    /// Takes back what was done.
    fn undo(&mut self) -> Result<(), Error> {
        drop(self.restore.take());
        self.servers.start()?;
        self.servers.runtime.block_on(async {
            let client = elsewhere(&self.database).await?;
            if self.stage == Stage::Renamed {
                end_sessions(&client, &self.name).await?;
                rename(
                    &client,
                    Some((&self.name, &self.new)),
                    (self.before.as_ref().unwrap_or(&self.name), &self.name),
                )
                .await?;
            }
            client.batch_execute(&format!("drop database if exists {} with (force)", quoted(&self.new))).await?;
            Ok::<_, Error>(())
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.stage != Stage::Kept {
            // A failure of this was told by `take_back`, which every way but a panic goes through.
            let _ = self.undo();
        }
    }
}

/// A connection to another database than the one that is renamed.
async fn elsewhere(database: &Database) -> Result<Client, Error> {
    let mut last = None;
    for name in ELSEWHERE.into_iter().filter(|name| *name != database.name()) {
        match database.elsewhere(name).await {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| Error::Failed("there is no other database to be in".into()), Error::from))
}

/// Whether there is a database by that name. It must be one that may be renamed, and that nobody is in.
async fn allowed(client: &Client, database: &Database, force: bool) -> Result<bool, Error> {
    let name = database.name();
    let row = client
        .query_one("select rolsuper or rolcreatedb, current_user::text from pg_roles where rolname = current_user", &[])
        .await?;
    let (may, login): (bool, String) = (row.get(0), row.get(1));
    if !may {
        return Err(Error::Refused(format!(
            "the database is restored beside the one that is there, and \"{login}\" may not make one. Run once as a \
             superuser: alter role {} createdb",
            quoted(&login)
        )));
    }
    let found = client
        .query_opt("select pg_has_role(current_user, datdba, 'member') from pg_database where datname = $1", &[&name])
        .await?;
    let Some(owns) = found else { return Ok(false) };
    if !owns.get::<_, bool>(0) {
        return Err(Error::Refused(format!("the database {} is not \"{login}\"'s own", database.place())));
    }
    if force {
        end_sessions(client, name).await?;
    }
    let sessions: i64 = client
        .query_one(
            "select count(*) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()
             and coalesce(backend_type, 'client backend') = 'client backend'",
            &[&name],
        )
        .await?
        .get(0);
    if sessions > 0 && !force {
        return Err(Error::Refused(format!(
            "{sessions} sessions are open in the database {}: stop whatever uses it, also on other hosts, or use --force, \
             which ends them",
            database.place()
        )));
    }
    Ok(true)
}

async fn end_sessions(client: &Client, name: &str) -> Result<(), Error> {
    client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
            &[&name],
        )
        .await?;
    Ok(())
}

/// Renames both or none.
async fn rename(client: &Client, first: Option<(&String, &String)>, then: (&String, &String)) -> Result<(), Error> {
    let mut sql = String::from("begin;");
    for (from, to) in first.into_iter().chain([then]).filter(|(from, to)| from != to) {
        let _ = write!(sql, "alter database {} rename to {};", quoted(from), quoted(to));
    }
    sql += "commit";
    Ok(client.batch_execute(&sql).await?)
}

/// The login of requests of a database, which goes on with its password: the role belongs to the server.
async fn logins(database: &Database, name: &str) -> Vec<(String, String)> {
    let Ok(client) = database.elsewhere(name).await else { return Vec::new() };
    let sql = "select name, value from beacon.settings where name in ('request_login', 'request_password')";
    let rows = client.query(sql, &[]).await.unwrap_or_default();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A name made of another one; names of PostgreSQL end after 63 bytes.
fn fitting(name: &str, word: &str, stamp: &str) -> String {
    let ending = format!("_{word}_{stamp}");
    let mut end = name.len().min(63 - ending.len().min(62));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &name[..end])
}

impl Restore {
    fn start(program: Program) -> Result<Self, Error> {
        let mut command = program.into_command();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| Error::Failed(format!("pg_restore cannot be started: {error}")))?;
        let (input, said) = (child.stdin.take(), child.stderr.take().map(listen));
        Ok(Self { child, input, said })
    }

    fn write(&mut self, content: &mut impl Read) -> Result<(), Error> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = content.read(&mut bytes).map_err(|error| Error::Failed(error.to_string()))?;
            let Some(input) = self.input.as_mut().filter(|_| read > 0) else { return Ok(()) };
            match input.write_all(&bytes[..read]) {
                Ok(()) => {}
                // It reads no further: because it has all that it wants, or because it failed, which its end will tell.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.input = None;
                    if self.child.try_wait().ok().flatten().is_some_and(|status| !status.success()) {
                        return self.finish();
                    }
                    return Ok(());
                }
                Err(error) => return Err(Error::Failed(format!("pg_restore takes no more: {error}"))),
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.input = None;
        let status = self.child.wait().map_err(|error| Error::Failed(format!("pg_restore is lost: {error}")))?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Err(Error::Failed(format!("pg_restore ended with {status}: {said}")))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        assert_eq!(fitting("shop", "before", "20260101T000000.000000Z"), "shop_before_20260101T000000.000000Z");
        let long = fitting(&"é".repeat(40), "restoring", "20260101T000000.000000Z");
        assert!(long.len() <= 63 && long.ends_with("_restoring_20260101T000000.000000Z"), "{long}");
        assert_ne!(long, fitting(&"é".repeat(40), "before", "20260101T000000.000000Z"));
    }
}
