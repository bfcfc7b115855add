//! `beacon storage`: the store of uploads and static content, by hand.

mod check;

use clap::{Args, Subcommand};
use tokio::runtime::Runtime;

use super::Failure;
use crate::app;
use crate::config::{Sources, load};
use crate::error::chain;
use crate::storage::{self, Store};

/// Looks into the store of uploads and static content, and tries whether it does what Beacon needs
#[derive(Args, Debug)]
pub(super) struct StorageCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(check::Check),
}

impl StorageCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Action::Check(command) => command.run(sources),
        }
    }
}

/// The store of the configuration, and what runs the work on it.
fn open(sources: &Sources) -> Result<(Store, Runtime), Failure> {
    let loaded = load(sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let state = app::state_dir(&loaded.config.server.state_dir, |name| std::env::var_os(name)).map_err(Failure::App)?;
    let opened = storage::open(&loaded.config.storage, &state);
    let store = opened.map_err(|error| Failure::Refused(format!("storage: {}", chain(&error))))?;
    Ok((store, runtime))
}
