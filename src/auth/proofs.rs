//! Remembers which credentials were right lately, so that a page with fifty assets costs one argon2.
//!
//! An entry stands for credentials *from one origin*: who is behind an address that is held off gets in with what
//! worked from there before, and somebody elsewhere learns nothing from an entry. Only right credentials are
//! remembered, so that a stranger cannot fill the table.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::mac::Tag;

const LARGEST: usize = 1_024;
/// An entry that is not used for so long is forgotten.
const IDLE: Duration = Duration::from_mins(15);

/// Which credentials were right lately.
#[derive(Default)]
pub struct Proofs(Mutex<HashMap<Tag, Proof>>);

struct Proof {
    user: usize,
    used: Instant,
}

impl Proofs {
    /// The number of the user whom `tag` proved lately.
    #[must_use]
    pub fn find(&self, tag: &Tag, now: Instant) -> Option<usize> {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = proofs.get_mut(tag)?;
        if now.saturating_duration_since(proof.used) >= IDLE {
            proofs.remove(tag);
            return None;
        }
        proof.used = now;
        Some(proof.user)
    }

    /// Remembers that `tag` proves `user`. When the table is full the entry that was not used for longest goes.
    pub fn add(&self, tag: Tag, user: usize, now: Instant) {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= LARGEST && !proofs.contains_key(&tag) {
            let oldest = proofs.iter().min_by_key(|(_, proof)| proof.used).map(|(tag, _)| *tag);
            oldest.map(|tag| proofs.remove(&tag));
        }
        proofs.insert(tag, Proof { user, used: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::mac::Key;

    #[test]
    fn a_proof_lasts_while_it_is_used() {
        let (proofs, start, tag) = (Proofs::default(), Instant::now(), Key::new(&[1; 32]).tag(&[b"a"]));
        assert_eq!(proofs.find(&tag, start), None);
        proofs.add(tag, 3, start);
        assert_eq!(proofs.find(&tag, start + Duration::from_mins(14)), Some(3));
        assert_eq!(proofs.find(&tag, start + Duration::from_mins(28)), Some(3));
        assert_eq!(proofs.find(&tag, start + Duration::from_mins(43)), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (proofs, start, key) = (Proofs::default(), Instant::now(), Key::new(&[1; 32]));
        let tag = |number: usize| key.tag(&[&number.to_be_bytes()]);
        for number in 0..=LARGEST {
            proofs.add(tag(number), 0, start + Duration::from_millis(number as u64));
        }
        assert_eq!(proofs.0.lock().unwrap().len(), LARGEST);
        assert_eq!(proofs.find(&tag(0), start), None);
        assert_eq!(proofs.find(&tag(1), start), Some(0));
    }
}
