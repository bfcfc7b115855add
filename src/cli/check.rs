//! `beacon check`

use clap::Args;

use super::{Failure, output};
use crate::app;
use crate::config::{Sources, load};

/// Says what is wrong with the configuration, where, and how to mend it
///
/// Everything is built as for `serve`, but no address is bound, nothing is started and nothing is written. All faults
/// are told at once. The exit code is 78 if there are any.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon check
  beacon check --config ./beacon.toml --env-file ./.env.staging")]
pub(super) struct Check {}

impl Check {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let loaded = load(sources)?;
        let mut warnings = loaded.warnings;
        warnings.extend(app::check(&loaded.config)?);
        for warning in &warnings {
            output::warn(warning);
        }
        let summary = match warnings.len() {
            0 => "The configuration is good.\n",
            _ => "The configuration can be used; see the warnings.\n",
        };
        Ok(output::print(summary)?)
    }
}
