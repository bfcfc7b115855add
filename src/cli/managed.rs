//! `beacon managed`: what beacon-managed.service runs. Hidden, because nobody else has to.

use clap::Args;

use super::Failure;
use crate::config::{Sources, load};

/// Keeps the private PostgreSQL and Redis servers until it is told to stop
///
/// Under systemd they are a service of their own, so that a hand-over between the slots never touches them. On a terminal
/// `beacon serve` keeps them itself. Ends at once if the configuration asks for none.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(super) struct ManagedCommand {}

impl ManagedCommand {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        Ok(crate::app::keep_servers(&load(sources)?)?)
    }
}
