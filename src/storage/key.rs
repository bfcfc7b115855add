//! Names of objects in a store.

use std::fmt;
use std::sync::Arc;

/// The longest key in bytes: S3's limit.
pub const LONGEST: usize = 1_024;

/// The name of an object in a store: segments between single slashes. No segment is empty, `.` or `..`, and none has a
/// control character, so that a key means the same to S3, to a folder and in a URL. Below the store's prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// More than 1,024 bytes.
    #[error("is longer than {LONGEST} bytes")]
    Long,
    /// A segment is empty, `.` or `..`.
    #[error("has a segment that is empty, \".\" or \"..\"")]
    Segment,
    /// A control character.
    #[error("has a control character")]
    Control,
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > LONGEST {
            return Err(InvalidKey::Long);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidKey::Control);
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(InvalidKey::Segment);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_lead_elsewhere() {
        for good in ["a", "a/b.c", "media/ab/x y", "...", "a/.b", "ä/\u{1f600}", "a\\b", "%2e%2e/x"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(LONGEST + 1);
        for (bad, why) in [
            ("", InvalidKey::Empty),
            ("/a", InvalidKey::Segment),
            ("a/", InvalidKey::Segment),
            ("a//b", InvalidKey::Segment),
            ("../a", InvalidKey::Segment),
            ("a/./b", InvalidKey::Segment),
            ("a\0b", InvalidKey::Control),
            ("a\nb", InvalidKey::Control),
            ("\u{85}", InvalidKey::Control),
            (&long, InvalidKey::Long),
        ] {
            assert_eq!(Key::new(bad).unwrap_err(), why, "{bad:?}");
        }
    }
}
