//! Request identifiers: made here, or taken from a trusted proxy when they are well formed.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The longest identifier accepted from a proxy, in bytes.
pub const MAX_LEN: usize = 64;

/// An identifier of one request, at most [`MAX_LEN`] visible ASCII characters, kept inline.
#[derive(Clone, Copy)]
pub struct RequestId {
    len: u8,
    bytes: [u8; MAX_LEN],
}

impl RequestId {
    /// No identifier yet.
    pub const NONE: Self = Self { len: 0, bytes: [0; MAX_LEN] };

    /// A new identifier of 26 characters that sorts by time of making (48 bits of milliseconds, 80 random bits,
    /// Crockford's base 32, as a ULID).
    #[must_use]
    pub fn new() -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        // As fine as the kernel's tick; the exact time costs five times as much.
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let millis = now.tv_sec as u128 * 1_000 + now.tv_nsec as u128 / 1_000_000;
        let mut value = (millis << 80) | (random() & ((1 << 80) - 1));
        let mut bytes = [0; MAX_LEN];
        for slot in bytes[..26].iter_mut().rev() {
            *slot = ALPHABET[(value & 31) as usize];
            value >>= 5;
        }
        Self { len: 26, bytes }
    }

    /// Takes an identifier that somebody else made, if it is 1 to [`MAX_LEN`] letters, digits, `-`, `_`, `.`, `=`, `:`
    /// or `/`: what common proxies send, and nothing that could break a log line.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fits = (1..=MAX_LEN).contains(&text.len())
            && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=:/".contains(byte));
        fits.then(|| {
            let mut bytes = [0; MAX_LEN];
            bytes[..text.len()].copy_from_slice(text);
            Self { len: text.len() as u8, bytes }
        })
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// 128 bits from a generator per thread (two xorshift64* streams seeded by the kernel). Identifiers need to be unique,
/// not unguessable: never use this for a key or a token.
fn random() -> u128 {
    thread_local! {
        static STATE: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    }
    STATE.with(|state| {
        let mut pair = state.get();
        if pair == [0; 2] {
            pair = seed();
        }
        let mut out = 0u128;
        for word in &mut pair {
            *word ^= *word >> 12;
            *word ^= *word << 25;
            *word ^= *word >> 27;
            out = (out << 64) | u128::from(word.wrapping_mul(0x2545_F491_4F6C_DD1D));
        }
        state.set(pair);
        out
    })
}

fn seed() -> [u64; 2] {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Only before the kernel's pool is ready; uniqueness within the host is still had from the address and clock.
        let here = std::ptr::from_ref(&bytes) as u64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |age| age.as_nanos() as u64);
        bytes[..8].copy_from_slice(&here.to_le_bytes());
        bytes[8..].copy_from_slice(&now.to_le_bytes());
    }
    let value = u128::from_le_bytes(bytes);
    [(value as u64) | 1, ((value >> 64) as u64) | 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_distinct_and_sort_by_time() {
        let first = RequestId::new();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = RequestId::new();
        assert_eq!(first.as_str().len(), 26);
        assert!(first.as_str() < second.as_str());
        let many: std::collections::HashSet<String> = (0..10_000).map(|_| RequestId::new().to_string()).collect();
        assert_eq!(many.len(), 10_000);
    }

    #[test]
    fn a_foreign_identifier_must_be_harmless() {
        assert_eq!(RequestId::parse(b"Root=1-67891233-abcdef").unwrap().as_str(), "Root=1-67891233-abcdef");
        for bad in [&b""[..], b"a b", b"a\r\nb", b"a\"b", &[b'x'; 65], "é".as_bytes()] {
            assert!(RequestId::parse(bad).is_none(), "{bad:?}");
        }
    }
}
