//! The command line: one file a command, all of them listed in `Command`.
//!
//! A command prints its result on standard output and nothing else there; what went wrong goes to standard error, and
//! the exit code says of which kind it was (see `failure`). Help, completions and man pages come from the definitions
//! here.

mod backup;
mod check;
mod completions;
mod config;
mod database;
mod doctor;
mod env;
mod failure;
mod handover;
mod keys;
mod man;
mod managed;
mod migrate;
mod nss;
mod output;
mod password;
mod reload;
mod restore;
mod serve;
mod status;
mod storage;
mod table;
mod tasks;
mod user;
mod version;
mod wall;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;
use failure::Failure;

/// One binary that is a team's whole server
#[derive(Debug, Parser)]
#[command(
    name = "beacon",
    version = version::short(),
    long_version = version::long(),
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
Examples:
  beacon serve                                    on https://localhost:8443, nothing to configure
  beacon serve --set listen.https='[\":443\"]'      one value from the command line
  beacon check --config ./beacon.toml             what is wrong, where, and how to mend it
  beacon config show --origins                    which file or variable each value came from

Exit codes: 0 done, 1 failed, 64 wrong command line, 69 a service does not answer, 78 wrong configuration.
The documentation is inside: `beacon serve` shows it at /docs/ as long as no mount is configured."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration comes from.
#[derive(Args, Debug)]
#[command(next_help_heading = "Configuration")]
struct Global {
    /// The configuration file [default: $BEACON_CONFIG, else /etc/beacon/beacon.toml if it exists]
    ///
    /// Files named *.toml in the folder conf.d beside it are read after it, in the order of their names.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// A file of variables in .env syntax [default: $BEACON_ENV_FILE, else ./.env if it exists]
    ///
    /// Without this option the first of these is read: the file that BEACON_ENV_FILE names, the systemd credential
    /// "env", ./.env, /etc/beacon/beacon.env.
    #[arg(long, value_name = "FILE", global = true)]
    env_file: Option<PathBuf>,

    /// Sets one value, over files and variables; may be repeated
    ///
    /// The value is TOML, or plain text where the key takes text: --set http.timeouts.idle=90s,
    /// --set http.redirect_to_https=false. Others on this machine can see a command line: give secrets in a file.
    #[arg(long, value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Worker(Box<worker::Worker>),
    Tasks(tasks::TasksCommand),
    Check(check::Check),
    Reload(reload::Reload),
    Handover(handover::Handover),
    Status(status::StatusCommand),
    Doctor(doctor::Doctor),
    Migrate(migrate::Migrate),
    Keys(keys::KeysCommand),
    User(user::UserCommand),
    Storage(storage::StorageCommand),
    Config(config::ConfigCommand),
    Env(env::EnvCommand),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Wall(wall::WallCommand),
    Version(version::Version),
    Completions(completions::Completions),
    Man(man::Man),
    Managed(managed::ManagedCommand),
}

impl Global {
    /// The sources of the configuration that the command line and the process's environment name.
    fn sources(self) -> Sources {
        Sources::of_process().with_config(self.config).with_env_file(self.env_file).with_sets(self.set)
    }
}

/// Runs the program: what `main` does.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything can look up a host or a user; see nss.
    nss::pin();
    // The allocator asks for huge pages, which round each of its regions up to 2 MiB and are cleared whole at the first
    // touch: a quiet server took 12 MiB of memory for 2, and 7 ms of its start for each. A kernel that does not know the
    // wish keeps its way.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let outcome = match Cli::try_parse_from(worker::arrange(std::env::args_os().collect())) {
        Ok(cli) => run(cli),
        Err(error) => Err(Failure::Arguments(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let sources = cli.global.sources();
    match cli.command {
        Command::Serve(command) => command.run(sources),
        Command::Worker(command) => command.run(&sources),
        Command::Tasks(command) => command.run(&sources),
        Command::Check(command) => command.run(&sources),
        Command::Reload(command) => command.run(&sources),
        Command::Handover(command) => command.run(),
        Command::Status(command) => command.run(&sources),
        Command::Doctor(command) => command.run(&sources),
        Command::Migrate(command) => command.run(&sources),
        Command::Keys(command) => command.run(&sources),
        Command::User(command) => command.run(&sources),
        Command::Storage(command) => command.run(&sources),
        Command::Config(command) => command.run(&sources),
        Command::Env(command) => command.run(&sources),
        Command::Backup(command) => command.run(&sources),
        Command::Restore(command) => command.run(&sources),
        Command::Wall(command) => command.run(),
        Command::Version(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Managed(command) => command.run(&sources),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
