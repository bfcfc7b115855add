//! `beacon keys`: API keys, and the keys that sign access tokens.

use std::time::SystemTime;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::table::table;
use super::{Failure, database, output};
use crate::auth::jwt;
use crate::auth::keys::{Kind, store};
use crate::clock;
use crate::config::Sources;
use crate::db::Database;
use crate::error::chain;

/// Makes, lists and revokes API keys; rotates the keys that sign access tokens
///
/// Every running Beacon on the database knows of a change within moments.
#[derive(Args, Debug)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Revoke(Revoke),
    RotateJwt(RotateJwt),
}

/// Makes an API key and prints it
///
/// A secret key is for servers: it has the rights of service_role, which row-level security does not hold back. It is
/// shown once and stored nowhere. A publishable key is for browsers and phones, and has the rights of anon.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("kind").required(true), after_help = "\
Examples:
  beacon keys create --secret billing
  beacon keys create --secret reports --role report_reader
  beacon keys create --publishable web --json")]
struct Create {
    /// Makes a key for servers
    #[arg(long, group = "kind")]
    secret: bool,
    /// Makes a key for what everybody has
    #[arg(long, group = "kind")]
    publishable: bool,
    /// What people call the key
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// The database role whose rights the key gives [default: service_role, or anon for a publishable key]
    ///
    /// The login that requests run with must be a member of it.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Lists API keys; secret ones by their start
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon keys list
  beacon keys list --all
  beacon keys list --json | jq -r '.[] | select(.kind == \"publishable\").key'")]
struct List {
    /// Lists revoked ones too
    #[arg(long)]
    all: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Revokes an API key: it is refused from now on
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon keys revoke billing")]
struct Revoke {
    /// The key's name or identifier
    #[arg(value_name = "NAME")]
    name: String,
}

/// Lets the next key sign access tokens
///
/// The next key was published when the current one began to sign, so that everybody who keeps a copy of the public keys
/// knows it. What the old key signed stays good until it ends. With auth.signing = "hs256" tokens are signed with the
/// shared secret, and this changes nothing for them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon keys rotate-jwt
  beacon keys rotate-jwt --revoke      a private key may have been stolen")]
struct RotateJwt {
    /// Makes void what was signed before, and the next key too: all clients must fetch a new token
    #[arg(long)]
    revoke: bool,
}

/// The longest name, in characters.
const LONGEST: usize = 64;

impl KeysCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (database, runtime) = database::open(sources)?;
        match self.command {
            Action::Create(command) => runtime.block_on(command.run(&database)),
            Action::List(command) => runtime.block_on(command.run(&database)),
            Action::Revoke(command) => runtime.block_on(command.run(&database)),
            Action::RotateJwt(command) => runtime.block_on(command.run(&database)),
        }
    }
}

impl Create {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let kind = if self.secret { Kind::Secret } else { Kind::Publishable };
        let role = self.role.as_deref().unwrap_or(kind.role());
        let made = store::create(database.owner(), &self.name, kind, role);
        let made = made.await.map_err(|error| failed(database, &error))?;
        if self.json {
            let shown = json!({"name": self.name, "kind": kind.as_str(), "role": role, "key": made.text.expose()});
            output::print(&format!("{shown}\n"))?;
        } else {
            output::print(&format!("{}\n", made.text.expose()))?;
        }
        if kind == Kind::Secret {
            output::warn("a secret key is shown this once; keep it where only your servers can read it.");
        }
        Ok(())
    }
}

impl List {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let keys = store::list(database.owner()).await.map_err(|error| failed(database, &error))?;
        let keys: Vec<_> = keys.into_iter().filter(|key| self.all || key.revoked_at.is_none()).collect();
        if self.json {
            let list: Vec<Value> = keys
                .iter()
                .map(|key| {
                    json!({
                        "id": key.id,
                        "name": key.name,
                        "kind": key.kind.as_str(),
                        "prefix": key.prefix,
                        "key": key.value,
                        "role": key.role,
                        "created_at": exact(key.created_at),
                        "last_used_at": key.last_used_at.map(exact),
                        "revoked_at": key.revoked_at.map(exact),
                    })
                })
                .collect();
            let text = serde_json::to_string_pretty(&list).map_err(std::io::Error::from)?;
            return Ok(output::print(&format!("{text}\n"))?);
        }
        if keys.is_empty() {
            return Ok(output::print("There is no API key.\n")?);
        }
        let rows: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let used = match (key.revoked_at, key.last_used_at) {
                    (Some(at), _) => format!("revoked {}", minute(at)),
                    (None, Some(at)) => minute(at),
                    (None, None) => "never".into(),
                };
                let shown = key.value.unwrap_or_else(|| format!("{}…", key.prefix));
                [key.name, key.kind.as_str().into(), key.role, minute(key.created_at), used, shown]
            })
            .collect();
        Ok(output::print(&table(["name", "kind", "role", "created", "last used", "key"], &rows))?)
    }
}

impl Revoke {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let done = store::revoke(database.owner(), &self.name).await.map_err(|error| failed(database, &error))?;
        if !done {
            let hint = "`beacon keys list` shows which there are";
            return Err(Failure::Refused(format!("there is no API key called {:?}; {hint}.", self.name)));
        }
        Ok(output::print(&format!("The key {} is refused from now on.\n", self.name))?)
    }
}

impl RotateJwt {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let id = jwt::store::rotate(database.owner(), self.revoke).await.map_err(|error| match &error {
            jwt::store::StoreError::Database(error) => database::failed(database, error),
            jwt::store::StoreError::Key(_) => Failure::Other(format!("{}.", chain(&error))),
        })?;
        let before = if self.revoke {
            "Every access token signed before is void, and keys that were made as tokens too."
        } else {
            "Tokens signed before stay good until they end."
        };
        Ok(output::print(&format!("The key {id} signs access tokens now. {before}\n"))?)
    }
}

/// What to tell of an error of the keys.
fn failed(database: &Database, error: &store::Error) -> Failure {
    match error {
        store::Error::Database(error) => database::failed(database, error),
        store::Error::Taken(_) | store::Error::NoRole(_) => Failure::Refused(format!("{error}.")),
        store::Error::Generate(_) => Failure::Other(format!("{}.", chain(error))),
    }
}

/// A name that fits on a line and that can be typed.
fn name(text: &str) -> Result<String, String> {
    let fits = (1..=LONGEST).contains(&text.chars().count())
        && text.trim() == text
        && !text.starts_with("sb_")
        && !text.chars().any(char::is_control)
        && uuid::Uuid::try_parse(text).is_err();
    let rule =
        "a name has 1 to 64 characters, no spaces at its ends, and looks neither like a key nor like an identifier";
    if fits { Ok(text.to_owned()) } else { Err(rule.into()) }
}

/// RFC 3339, in UTC.
fn exact(time: OffsetDateTime) -> String {
    let mut text = String::new();
    clock::write_rfc3339(&mut text, SystemTime::from(time));
    text
}

/// To the minute, in UTC.
fn minute(time: OffsetDateTime) -> String {
    exact(time).chars().take(16).map(|ch| if ch == 'T' { ' ' } else { ch }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_a_key_nor_an_identifier() {
        for good in ["billing", "web (new)", "Büro", &"x".repeat(64)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", " x", "x ", "a\nb", "sb_secret_x", "5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_for_people_and_for_programs() {
        let time = OffsetDateTime::from_unix_timestamp(1_795_471_123).unwrap();
        assert_eq!(minute(time), "2026-11-23 21:58");
        assert_eq!(exact(time), "2026-11-23T21:58:43.000000Z");
    }
}
