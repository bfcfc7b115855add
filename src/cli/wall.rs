//! `beacon wall`: users of the auth wall.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use clap::{Args, Subcommand};

use super::{Failure, output, password};

/// Prepares users of the auth wall
#[derive(Args, Debug)]
pub(super) struct WallCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Hash(Hash),
}

/// Reads a password and prints its hash, for wall.users
///
/// The password is asked for without being shown, or read from standard input when that is no terminal; one newline at
/// its end is not part of it. The hash is Argon2id (RFC 9106) in PHC format.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon wall hash
  pass show staging | beacon wall hash

Put the result into a configuration file:
  [wall.users]
  alice = \"$argon2id$v=19$...\"")]
struct Hash {}

impl WallCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Hash(Hash {}) = self.command;
        let password = password::ask().map_err(Failure::Other)?;
        let hash = Argon2::default()
            .hash_password(password.expose().as_bytes())
            .map_err(|error| Failure::Other(format!("cannot hash the password: {error}")))?;
        Ok(output::print(&format!("{hash}\n"))?)
    }
}
