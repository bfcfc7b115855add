//! The reference text: every option at its default, commented, as `beacon config default` prints it.

/// config/beacon.toml.
pub const REFERENCE: &str = include_str!("../../config/beacon.toml");
