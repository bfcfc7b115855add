//! What the unit says of this process: which of the two slots it is, and where its runtime folder is.

use std::path::PathBuf;

/// The names of the two slots of beacon@.service, the first of them the one that starts with the machine.
pub const SLOTS: [&str; 2] = ["a", "b"];

/// The slot that this process runs in (`Environment=BEACON_SLOT=%i` in the unit).
#[must_use]
pub fn slot() -> Option<String> {
    std::env::var("BEACON_SLOT").ok().filter(|slot| SLOTS.contains(&slot.as_str()))
}

/// The unit's runtime folder (`RuntimeDirectory=`); the first, if there are several.
#[must_use]
pub fn runtime_dir() -> Option<PathBuf> {
    let list = std::env::var("RUNTIME_DIRECTORY").ok()?;
    list.split(':').next().filter(|path| path.starts_with('/')).map(PathBuf::from)
}
