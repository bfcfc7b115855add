//! `beacon user`: accounts.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::table::table;
use super::{Failure, database, output, password};
use crate::auth::directory::django::{self, Import};
use crate::auth::directory::{self, NewUser};
use crate::auth::passwords::{Error as PasswordError, Hasher, Limits};
use crate::config::Sources;
use crate::db::Database;
use crate::error::{chain, exit};

/// Makes, lists, disables, enables and imports users of the application
#[derive(Args, Debug)]
pub(super) struct UserCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Disable(Disable),
    Enable(Enable),
    ImportDjango(ImportDjango),
}

/// Makes a user and prints the identifier
///
/// The password is asked for without being shown, or read from standard input when that is no terminal; one newline at
/// its end is not part of it. Nothing is sent to the address.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon user create ann@example.org
  pass show ann | beacon user create ann@example.org
  beacon user create ann@example.org --no-password")]
struct Create {
    /// The address to sign in with
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Makes the user without a password: it signs in by e-mail, or sets one by \"forgot password\"
    #[arg(long)]
    no_password: bool,
    /// Leaves the address to be confirmed by e-mail before the user may sign in
    #[arg(long)]
    unconfirmed: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Lists users, the latest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon user list
  beacon user list @example.org --limit 1000
  beacon user list --json | jq -r '.[] | select(.disabled).email'")]
struct List {
    /// Lists those whose address, telephone number or identifier contains this
    #[arg(value_name = "PART", default_value = "", hide_default_value = true)]
    part: String,
    /// Lists at most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Keeps a user from signing in, and ends the sessions
///
/// Access tokens that were given out stay good until they end, an hour at the most unless configured otherwise.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon user disable ann@example.org")]
struct Disable {
    /// The user's address or identifier
    #[arg(value_name = "USER")]
    who: String,
}

/// Lets a user sign in again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon user enable ann@example.org")]
struct Enable {
    /// The user's address or identifier
    #[arg(value_name = "USER")]
    who: String,
}

/// Takes over the users of a Django application from its table in the same database
///
/// Passwords keep their hashes, which are replaced at the next sign-in. Names go to user_metadata, Django's identifier
/// to app_metadata.django_id; inactive users are disabled; being staff or superuser gives nothing here. It works in
/// batches of 1,000 and may be run again at any time: who was taken over before is left alone. Nothing is written to
/// Django's table. The exit code is 1 if somebody was left out.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon user import-django --dry-run
  beacon user import-django
  beacon user import-django --table shop.accounts_user --unconfirmed")]
struct ImportDjango {
    /// The table of Django's users
    #[arg(long, value_name = "TABLE", default_value = "public.auth_user")]
    table: String,
    /// Leaves addresses to be confirmed by e-mail before their users may sign in with them
    #[arg(long)]
    unconfirmed: bool,
    /// Says what would happen, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

impl UserCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (database, runtime) = database::open(sources)?;
        match self.command {
            Action::Create(command) => runtime.block_on(command.run(&database)),
            Action::List(command) => runtime.block_on(command.run(&database)),
            Action::ImportDjango(command) => runtime.block_on(command.run(&database)),
            Action::Disable(Disable { who }) => {
                let id = runtime.block_on(directory::disable(database.owner(), &who));
                let id = id.map_err(|error| failed(&database, &error))?;
                Ok(output::print(&format!("The user {id} cannot sign in any more; the sessions have ended.\n"))?)
            }
            Action::Enable(Enable { who }) => {
                let id = runtime.block_on(directory::enable(database.owner(), &who));
                let id = id.map_err(|error| failed(&database, &error))?;
                Ok(output::print(&format!("The user {id} may sign in again.\n"))?)
            }
        }
    }
}

impl Create {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let hash = if self.no_password {
            None
        } else {
            let password = password::ask().map_err(Failure::Other)?;
            let hash = Hasher::new(Limits::default()).hash(password.expose()).await;
            Some(hash.map_err(|error| match error {
                PasswordError::TooLong => Failure::Refused(format!("{error}.")),
                _ => Failure::Other(format!("{}.", chain(&error))),
            })?)
        };
        let new = NewUser { email: &self.email, hash: hash.as_deref(), confirmed: !self.unconfirmed };
        let id = directory::create(database.owner(), &new).await.map_err(|error| failed(database, &error))?;
        let text =
            if self.json { json!({"id": id, "email": self.email.to_lowercase()}).to_string() } else { id.to_string() };
        Ok(output::print(&format!("{text}\n"))?)
    }
}

impl List {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        // One more, to know whether there are more.
        let users = directory::list(database.owner(), &self.part, self.limit.saturating_add(1)).await;
        let mut users = users.map_err(|error| failed(database, &error))?;
        let more = users.len() > self.limit as usize;
        users.truncate(self.limit as usize);
        if self.json {
            let list: Vec<Value> = users
                .iter()
                .map(|user| {
                    json!({
                        "id": user.id,
                        "email": user.email,
                        "phone": user.phone,
                        "role": user.role,
                        "confirmed": user.confirmed,
                        "disabled": user.disabled,
                        "created_at": user.created_at,
                        "last_sign_in_at": user.last_sign_in_at,
                    })
                })
                .collect();
            let text = serde_json::to_string_pretty(&list).map_err(std::io::Error::from)?;
            output::print(&format!("{text}\n"))?;
        } else if users.is_empty() {
            output::print("There is no such user.\n")?;
        } else {
            let minute = |time: Option<String>, none: &str| {
                time.and_then(|time| Some(time.get(..16)?.replace('T', " "))).unwrap_or_else(|| none.into())
            };
            let rows: Vec<_> = users
                .into_iter()
                .map(|user| {
                    let state = match (user.disabled, user.confirmed) {
                        (true, _) => "disabled",
                        (false, true) => "active",
                        (false, false) => "unconfirmed",
                    };
                    let address = user.email.or(user.phone).unwrap_or_else(|| "-".into());
                    let (made, seen) = (minute(user.created_at, "-"), minute(user.last_sign_in_at, "never"));
                    [user.id.to_string(), address, state.into(), made, seen]
                })
                .collect();
            output::print(&table(["id", "address", "state", "created", "last sign-in"], &rows))?;
        }
        if more {
            output::warn(&format!("there are more than {}; see --limit.", self.limit));
        }
        Ok(())
    }
}

impl ImportDjango {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let import = Import { table: &self.table, confirmed: !self.unconfirmed, dry_run: self.dry_run };
        let report = django::import(database.owner(), &import, |told| {
            let username = told.username.replace(char::is_control, "\u{fffd}");
            output::warn(&format!("user {} ({username}) {}.", told.id, told.what));
        });
        let report = report.await.map_err(|error| failed(database, &error))?;
        let verb = if self.dry_run { "would be taken over" } else { "taken over" };
        output::print(&format!(
            "{} {verb}, {} of them in need of a new password; {} were there already; {} left out.\n",
            report.made, report.without_password, report.known, report.left_out
        ))?;
        if report.left_out > 0 { Err(Failure::Told(exit::FAILURE)) } else { Ok(()) }
    }
}

/// What to tell of an error of the accounts.
fn failed(database: &Database, error: &directory::Error) -> Failure {
    match error {
        directory::Error::Database(error) => database::failed(database, error),
        _ => Failure::Refused(format!("{error}.")),
    }
}
