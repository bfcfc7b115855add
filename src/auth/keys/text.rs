//! How an API key is written: its kind, 24 random characters (142 bits), an underscore, a checksum of 8.
//!
//! The checksum tells a key that was cut off or mistyped from one that was revoked, and lets scanners of source code
//! find leaked keys without asking anybody. A key from elsewhere may have none.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 24;
const CHECK: usize = 8;
/// The longest key that is looked at, in bytes.
const LONGEST: usize = 256;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Known to everybody who has the application: the rights of `anon`, unless another role is given.
    Publishable,
    /// Kept on servers: the rights of `service_role`, unless another role is given.
    Secret,
}

/// A key that was just made.
pub struct NewKey {
    /// The key itself. Of a secret key this is the only copy.
    pub text: Secret,
    /// Its start, by which people recognise it.
    pub prefix: String,
    /// What is stored.
    pub hash: [u8; 32],
}

impl Kind {
    /// The start of every key of this kind.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Publishable => "sb_publishable_",
            Self::Secret => "sb_secret_",
        }
    }

    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::Secret => "secret",
        }
    }

    /// The kind with this name in the database.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Publishable, Self::Secret].into_iter().find(|kind| kind.as_str() == name)
    }

    /// The role of a key that was given none.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Self::Publishable => "anon",
            Self::Secret => "service_role",
        }
    }
}

impl NewKey {
    /// A new key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate(kind: Kind) -> Result<Self, getrandom::Error> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(kind.prefix());
        let mut bytes = Zeroizing::new([0; 64]);
        let random = text.len() + RANDOM;
        while text.len() < random {
            getrandom::fill(&mut *bytes)?;
            // 248 is the largest multiple of 62 below 256: beyond it some characters would be likelier.
            let fair =
                bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
            let missing = random - text.len();
            text.extend(fair.take(missing));
        }
        let prefix = text[..kind.prefix().len() + 5].to_owned();
        let check = checksum(&text);
        text.push('_');
        text.push_str(&check);
        Ok(Self { prefix, hash: digest(&text), text: Secret::new(text.as_str()) })
    }
}

/// What is stored of a key.
#[must_use]
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Whether `text` is meant to be an API key and not a token.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.starts_with("sb_") && text.len() <= LONGEST
}

/// Whether the checksum is right.
#[must_use]
pub fn is_whole(key: &str) -> bool {
    key.rsplit_once('_').is_some_and(|(key, check)| checksum(key) == check)
}

fn checksum(key: &str) -> String {
    let hash = Sha256::new().chain_update(b"api key checksum\0").chain_update(key).finalize();
    hash.iter().take(CHECK).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_has_its_kind_randomness_and_a_checksum() {
        for kind in [Kind::Publishable, Kind::Secret] {
            let key = NewKey::generate(kind).unwrap();
            let text = key.text.expose();
            assert_eq!(text.len(), kind.prefix().len() + 24 + 1 + 8, "{text}");
            assert!(text.starts_with(kind.prefix()) && looks_like_key(text) && is_whole(text), "{text}");
            assert!(text.starts_with(&key.prefix) && key.prefix.len() == kind.prefix().len() + 5);
            assert_eq!(key.hash, digest(text));
            for at in 0..text.len() {
                let mut wrong = text.as_bytes().to_vec();
                wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_whole(str::from_utf8(&wrong).unwrap()), "{at}");
            }
            assert!(!is_whole(&text[..text.len() - 1]));
        }
    }

    #[test]
    fn keys_differ_and_use_all_characters() {
        let keys: Vec<NewKey> = (0..500).map(|_| NewKey::generate(Kind::Secret).unwrap()).collect();
        let hashes: HashSet<[u8; 32]> = keys.iter().map(|key| key.hash).collect();
        assert_eq!(hashes.len(), keys.len());
        let used: HashSet<char> = keys.iter().flat_map(|key| key.text.expose()[10..34].chars()).collect();
        assert_eq!(used.len(), 62);
    }

    #[test]
    fn names_and_kinds_go_both_ways() {
        for kind in [Kind::Publishable, Kind::Secret] {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::named("other"), None);
        for text in ["", "sb", "eyJhbGciOiJIUzI1NiJ9.e30.x", "SB_secret_x"] {
            assert!(!looks_like_key(text), "{text}");
        }
        assert!(!looks_like_key(&format!("sb_{}", "x".repeat(300))));
    }
}
