//! HMAC-SHA-256 (RFC 2104) over several parts, and tags that are compared in constant time.
//!
//! Every secret of the wall is compared as a tag: the time then depends on lengths alone, and an attacker without
//! the key cannot steer the bytes that are compared. Parts are preceded by their length, so that moving a character
//! from one part to the next gives another tag.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const BLOCK: usize = 64;

/// A key whose two padded blocks are hashed already: a tag of a short message costs two compressions.
#[derive(Clone)]
pub struct Key {
    inner: Sha256,
    outer: Sha256,
}

/// What a key makes of a message. Equality takes the same time whatever the bytes are.
#[derive(Clone, Copy, Eq)]
pub struct Tag([u8; 32]);

impl Key {
    /// A key from 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let (mut inner, mut outer) = ([0x36_u8; BLOCK], [0x5c_u8; BLOCK]);
        for ((inner, outer), byte) in inner.iter_mut().zip(&mut outer).zip(secret) {
            *inner ^= byte;
            *outer ^= byte;
        }
        Self { inner: Sha256::new_with_prefix(inner), outer: Sha256::new_with_prefix(outer) }
    }

    /// A key for one purpose, from which neither this key nor that of another purpose follows.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self::new(&self.tag(&[purpose.as_bytes()]).0)
    }

    /// The tag of a list of parts.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        self.finish(inner)
    }

    fn finish(&self, inner: Sha256) -> Tag {
        Tag(self.outer.clone().chain_update(inner.finalize()).finalize().into())
    }
}

impl Tag {
    /// The 32 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A number that nobody without the key can choose.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Compares with bytes that somebody claims to be this tag.
    #[must_use]
    pub fn is(&self, claimed: &[u8]) -> bool {
        self.0.ct_eq(claimed).into()
    }
}

impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl std::hash::Hash for Tag {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1, whose key of 20 bytes is padded with zeros as HMAC pads it.
    #[test]
    fn it_is_hmac_sha_256() {
        let mut secret = [0; 32];
        secret[..20].fill(0x0b);
        let key = Key::new(&secret);
        let tag = key.finish(key.inner.clone().chain_update(b"Hi There"));
        let right = [0xb0344c61d8db38535ca8afceaf0bf12b_u128, 0x881dc200c9833da726e9376c2e32cff7];
        assert!(tag.is(right.map(u128::to_be_bytes).as_flattened()));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = Key::new(&[7; 32]);
        assert!(key.tag(&[b"ab", b"c"]) != key.tag(&[b"a", b"bc"]));
        assert!(key.tag(&[b"ab"]) == key.tag(&[b"ab"]));
        assert!(key.derive("one").tag(&[b"x"]) != key.derive("two").tag(&[b"x"]));
    }
}
