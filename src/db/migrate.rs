//! Migrations: Beacon's own, embedded in the binary, and the application's, from a folder of plain SQL. Both go forward
//! only, one after the other, under one advisory lock, and are remembered with a checksum.
//!
//! A file runs in a transaction, unless its first line is `-- beacon: no transaction` (for CREATE INDEX CONCURRENTLY);
//! such a file is sent statement by statement, so it must be safe to run again when it stops in the middle.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use super::Error;

/// One advisory lock for all Beacons on a database: "beacon" in ASCII.
const LOCK: i64 = 0x6265_6163_6f6e;

const NO_TRANSACTION: &str = "-- beacon: no transaction";

/// Where a set of migrations is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Beacon's own.
    Own,
    /// The application's.
    Application,
}

impl Set {
    fn table(self) -> &'static str {
        match self {
            Self::Own => "beacon.migrations",
            Self::Application => "beacon.application_migrations",
        }
    }
}

/// A migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The number that its name begins with.
    pub version: i64,
    /// The file's name.
    pub name: String,
    /// The SQL.
    pub sql: String,
}

/// A migration, and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The file's name.
    pub name: String,
    /// When it was applied, in RFC 3339; `None` when it is pending.
    pub applied_at: Option<String>,
    /// Whether the file has changed since, or is gone.
    pub fault: Option<&'static str>,
}

/// The migrations of a folder, in the order of their numbers.
///
/// # Errors
/// A folder or file that cannot be read, a name without a number, a number twice.
pub fn read_folder(folder: &Path) -> Result<Vec<Migration>, Error> {
    let failed = |path: &Path, source| Error::File { path: path.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if Path::new(name).extension().is_some_and(|kind| kind.eq_ignore_ascii_case("sql")) {
            let sql = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            found.push(Migration { version: version(name)?, name: name.to_owned(), sql });
        }
    }
    in_order(found)
}

/// The number at the front of a name, as in "0042_users.sql" or "20260101120000_users.sql".
pub(super) fn version(name: &str) -> Result<i64, Error> {
    let digits = name.len() - name.trim_start_matches(|ch: char| ch.is_ascii_digit()).len();
    name[..digits].parse().map_err(|_| {
        Error::History(format!("the migration {name} does not begin with a number, as in \"0001_users.sql\""))
    })
}

/// Sorted by number, each number once.
pub(super) fn in_order(mut migrations: Vec<Migration>) -> Result<Vec<Migration>, Error> {
    migrations.sort_by(|one, other| (one.version, &one.name).cmp(&(other.version, &other.name)));
    for pair in migrations.windows(2) {
        if pair[0].version == pair[1].version {
            return Err(Error::History(format!(
                "the migrations {} and {} have the same number: give one of them another",
                pair[0].name, pair[1].name
            )));
        }
    }
    Ok(migrations)
}

/// Takes the lock, or waits for whoever has it.
pub(super) async fn lock(client: &Client) -> Result<(), Error> {
    // Waiting here is waiting for another Beacon's migrations, which may take longer than a statement usually may.
    client.batch_execute("set statement_timeout = 0; set lock_timeout = 0").await?;
    client.query("select pg_advisory_lock($1)", &[&LOCK]).await?;
    Ok(())
}

/// Gives the lock back, and the connection its usual limits.
pub(super) async fn unlock(client: &Client) -> Result<(), Error> {
    client.query("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    client.batch_execute("reset statement_timeout; reset lock_timeout").await?;
    Ok(())
}

/// Refuses a database in which another account server has its tables, before anything is changed.
pub(super) async fn refuse_foreign(client: &Client) -> Result<(), Error> {
    let sql = "select to_regclass('auth.users') is not null and to_regclass('beacon.migrations') is null";
    if client.query_one(sql, &[]).await?.get::<_, bool>(0) {
        return Err(Error::History(
            "the database has a table auth.users of another account server: give Beacon a database of its own, and load \
             the accounts into it (the documentation has a page on moving)"
                .into(),
        ));
    }
    Ok(())
}

/// Makes the tables in which migrations are remembered.
pub(super) async fn prepare(client: &Client) -> Result<(), Error> {
    let there = client.query_opt("select 1 from pg_namespace where nspname = 'beacon'", &[]).await?.is_some();
    if !there {
        client.batch_execute("create schema beacon").await?;
    }
    for set in [Set::Own, Set::Application] {
        client
            .batch_execute(&format!(
                "create table if not exists {} (
                    version bigint primary key, name text not null, checksum text not null,
                    applied_at timestamptz not null default now(), milliseconds bigint not null)",
                set.table()
            ))
            .await?;
    }
    Ok(())
}

struct Applied {
    version: i64,
    name: String,
    checksum: String,
    at: String,
}

async fn applied(client: &Client, set: Set) -> Result<Vec<Applied>, Error> {
    let there = client.query_one("select to_regclass($1) is not null", &[&set.table()]).await?.get::<_, bool>(0);
    if !there {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select version, name, checksum, to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
         from {} order by version",
        set.table()
    );
    let rows = client.query(&sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| Applied { version: row.get(0), name: row.get(1), checksum: row.get(2), at: row.get(3) })
        .collect())
}

/// Which of `migrations` the database has.
pub(super) async fn progress(client: &Client, set: Set, migrations: &[Migration]) -> Result<Vec<Progress>, Error> {
    let applied = applied(client, set).await?;
    let mut all: Vec<(i64, Progress)> = Vec::new();
    for migration in migrations {
        let found = applied.iter().find(|applied| applied.version == migration.version);
        let changed = found.is_some_and(|applied| applied.checksum != checksum(&migration.sql));
        all.push((
            migration.version,
            Progress {
                name: migration.name.clone(),
                applied_at: found.map(|applied| applied.at.clone()),
                fault: changed.then_some("the file has changed since it was applied"),
            },
        ));
    }
    for gone in applied.iter().filter(|applied| !migrations.iter().any(|known| known.version == applied.version)) {
        let fault = Some("it was applied, and its file is gone");
        all.push((gone.version, Progress { name: gone.name.clone(), applied_at: Some(gone.at.clone()), fault }));
    }
    all.sort_by_key(|(version, _)| *version);
    Ok(all.into_iter().map(|(_, progress)| progress).collect())
}

/// Applies what is missing, and gives the names. The lock is the caller's.
pub(super) async fn up(client: &Client, set: Set, migrations: &[Migration]) -> Result<Vec<String>, Error> {
    let applied = applied(client, set).await?;
    for migration in migrations {
        if let Some(known) = applied.iter().find(|known| known.version == migration.version)
            && known.checksum != checksum(&migration.sql)
        {
            return Err(Error::History(format!(
                "the migration {} has changed since it was applied at {}: undo the change and write a new migration",
                migration.name, known.at
            )));
        }
    }
    let newest = applied.iter().map(|applied| applied.version).max();
    if set == Set::Own
        && let Some(newest) = newest
        && migrations.last().is_none_or(|last| last.version < newest)
    {
        return Err(Error::History(format!(
            "the database was prepared by a newer Beacon (migration {newest}): install that version or a later one"
        )));
    }
    let mut done = Vec::new();
    for migration in migrations {
        if applied.iter().any(|known| known.version == migration.version) {
            continue;
        }
        if newest.is_some_and(|newest| migration.version < newest) {
            return Err(Error::History(format!(
                "the migration {} is older than one that was applied already: give it a number above {}",
                migration.name,
                newest.unwrap_or_default()
            )));
        }
        apply(client, set, migration).await?;
        done.push(migration.name.clone());
    }
    Ok(done)
}

async fn apply(client: &Client, set: Set, migration: &Migration) -> Result<(), Error> {
    let failed = |source| Error::Migration { name: migration.name.clone(), source };
    let start = std::time::Instant::now();
    let bare = migration.sql.lines().next().is_some_and(|line| line.trim() == NO_TRANSACTION);
    if bare {
        for statement in statements(&migration.sql) {
            client.batch_execute(statement).await.map_err(failed)?;
        }
    } else {
        client.batch_execute("begin").await?;
        if let Err(error) = client.batch_execute(&migration.sql).await {
            client.batch_execute("rollback").await?;
            return Err(failed(error));
        }
    }
    let sql = format!("insert into {} (version, name, checksum, milliseconds) values ($1, $2, $3, $4)", set.table());
    let took = start.elapsed().as_millis() as i64;
    client
        .execute(&sql, &[&migration.version, &migration.name, &checksum(&migration.sql), &took])
        .await
        .map_err(failed)?;
    if !bare {
        client.batch_execute("commit").await.map_err(failed)?;
    }
    tracing::info!(migration = migration.name, milliseconds = took, "a migration was applied");
    Ok(())
}

/// The statements of a file, for those that must not run together: split at semicolons outside of quotes, dollar quotes
/// and comments.
fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        at = match bytes[at] {
            b'\'' | b'"' => end_of(sql, at + 1, &sql[at..=at]),
            b'-' if bytes[at..].starts_with(b"--") => end_of(sql, at, "\n"),
            b'/' if bytes[at..].starts_with(b"/*") => end_of(sql, at + 2, "*/"),
            b'$' => match dollar_tag(&sql[at..]) {
                Some(tag) => end_of(sql, at + tag.len(), tag),
                None => at + 1,
            },
            b';' => {
                found.push(&sql[start..at]);
                start = at + 1;
                at + 1
            }
            _ => at + 1,
        };
    }
    found.push(&sql[start..]);
    found.retain(|text| !text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with("--")));
    found
}

fn end_of(sql: &str, from: usize, mark: &str) -> usize {
    sql.get(from..).and_then(|rest| rest.find(mark)).map_or(sql.len(), |found| from + found + mark.len())
}

/// `$tag$` at the front of a text.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[..end];
    let inner = &tag[1..end - 1];
    let fits =
        inner.chars().all(|ch| ch.is_alphanumeric() || ch == '_') && !inner.starts_with(|ch: char| ch.is_ascii_digit());
    fits.then_some(tag)
}

/// SHA-256 of the SQL in hexadecimal, line ends made equal, so that a checkout on another system changes nothing.
fn checksum(sql: &str) -> String {
    Sha256::digest(sql.replace("\r\n", "\n")).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_by_number_and_a_number_stands_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10_b.sql", "9_a.sql", "README.md"] {
            std::fs::write(folder.path().join(name), "select 1").unwrap();
        }
        let names: Vec<String> = read_folder(folder.path()).unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["9_a.sql", "10_b.sql"]);
        std::fs::write(folder.path().join("09_c.sql"), "").unwrap();
        assert!(read_folder(folder.path()).unwrap_err().to_string().contains("same number"));
        std::fs::remove_file(folder.path().join("09_c.sql")).unwrap();
        std::fs::write(folder.path().join("users.sql"), "").unwrap();
        assert!(read_folder(folder.path()).unwrap_err().to_string().contains("users.sql"));
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_quoted() {
        let sql = "-- beacon: no transaction\nselect 'a;b'; create function f() as $x$ a; b $x$; /* ; */ select \"c;\";\n-- ;\n";
        let found: Vec<&str> = statements(sql).into_iter().map(str::trim).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("select 'a;b'"));
        assert_eq!(found[1], "create function f() as $x$ a; b $x$");
        assert_eq!(statements("select $1; select 2").len(), 2);
    }

    #[test]
    fn a_checksum_does_not_depend_on_line_ends() {
        assert_eq!(checksum("a\r\nb"), checksum("a\nb"));
        assert_ne!(checksum("a"), checksum("b"));
    }
}
