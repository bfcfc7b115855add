//! `beacon version`

use std::sync::LazyLock;

use clap::Args;

use super::{Failure, output};

/// Prints the version, what it was built for, and its TLS provider
#[derive(Args, Debug)]
pub(super) struct Version {}

impl Version {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(super) fn run(self) -> Result<(), Failure> {
        Ok(output::print(&format!("beacon {}\n", long()))?)
    }
}

/// The version's number.
pub(super) fn short() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The version with what it was built for and how.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        format!(
            "{}\ntarget:  {}-unknown-{}-{libc}, {linked}\ntls:     rustls with aws-lc-rs\nprofile: {profile}",
            short(),
            std::env::consts::ARCH,
            std::env::consts::OS,
        )
    });
    &TEXT
}
