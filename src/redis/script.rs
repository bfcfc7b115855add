//! A script that runs in Redis, whole and alone.

use std::sync::OnceLock;

use sha1::{Digest as _, Sha1};

/// A Lua script, sent once and named by its SHA-1 from then on. Put it into a static.
pub struct Script {
    text: &'static str,
    name: OnceLock<String>,
}

impl Script {
    /// A script; it answers with a list of whole numbers.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self { text, name: OnceLock::new() }
    }

    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// What Redis knows it by.
    pub(super) fn name(&self) -> &str {
        self.name.get_or_init(|| {
            Sha1::digest(self.text).iter().fold(String::with_capacity(40), |mut name, byte| {
                let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
                name.extend([digit(byte >> 4), digit(byte & 15)]);
                name
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_as_redis_names_it() {
        // From the documentation of SCRIPT LOAD.
        assert_eq!(Script::new("return 'Immabe a cached script'").name(), "c664a3bf70bd1d45c4284ffebb65a6f2299bfc9f");
    }
}
