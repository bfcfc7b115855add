//! `beacon serve`

use clap::Args;

use super::Failure;
use crate::config::{Sources, load};

/// Serves until it is told to stop: the main job
///
/// Without any configuration it listens on https://localhost:8443, with a certificate of its own, and serves a welcome
/// page and the documentation. SIGTERM and SIGINT stop it after what has begun is finished; a second one hurries.
/// SIGHUP loads the configuration again, and keeps the old one if the new one is wrong.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon serve
  beacon serve --config ./beacon.toml --env-file ./.env.staging
  beacon serve --set mounts.site.site.root=/srv/www --set log.level=debug")]
pub(super) struct Serve {}

impl Serve {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self, sources: Sources) -> Result<(), Failure> {
        let loaded = load(&sources)?;
        Ok(crate::app::serve(loaded, sources)?)
    }
}
