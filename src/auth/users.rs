//! Who may pass the wall: one user with a plain password, and any number with argon2 hashes.
//!
//! A wrong password and an unknown name take the same time: without a hash of its own, a name is tried against the
//! hash that the key picks for it, and the result is thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier as _};

use super::credentials::Reading;
use super::mac::{Key, Tag};
use super::{Error, Wall};

/// A hash that needs more would let each attempt take it: 256 MiB, in KiB.
const LARGEST_MEMORY: u32 = 256 * 1024;
/// Passes over the memory, times its KiB: about a second of one core.
const LARGEST_WORK: u64 = 2 * 1024 * 1024;

/// Everybody who may pass.
pub struct Users {
    key: Key,
    list: Vec<User>,
    numbers: BTreeMap<Arc<str>, usize>,
    /// Where the users with hashes begin: 1 if there is one with a plain password, else 0.
    hashed: usize,
}

/// One who may pass.
pub struct User {
    /// The name.
    pub name: Arc<str>,
    /// Changes with the password, so that what was signed with it stops being good.
    pub stamp: Tag,
    proof: Proof,
}

enum Proof {
    /// The tag of the name and the password.
    Plain(Tag),
    Hash(Box<PasswordHash>),
}

impl Users {
    /// The users of `config`.
    ///
    /// # Errors
    /// A hash that is none, or that asks for more than the wall gives.
    pub fn new(config: &Wall, key: &Key) -> Result<Self, Error> {
        let key = key.derive("beacon wall users");
        let mut list = Vec::new();
        if !config.username.is_empty() && !config.password.is_empty() {
            let tag = key.tag(&[config.username.as_bytes(), config.password.expose().as_bytes()]);
            list.push(User { name: config.username.as_str().into(), stamp: tag, proof: Proof::Plain(tag) });
        }
        let hashed = list.len();
        for (name, hash) in &config.users {
            let parsed = parse_hash(hash.expose())
                .map_err(|problem| Error::Hash { user: name.clone(), problem: problem.to_owned() })?;
            let stamp = key.tag(&[b"hash", name.as_bytes(), hash.expose().as_bytes()]);
            list.push(User { name: name.as_str().into(), stamp, proof: Proof::Hash(Box::new(parsed)) });
        }
        let numbers = list.iter().enumerate().map(|(number, user)| (user.name.clone(), number)).collect();
        Ok(Self { key, list, numbers, hashed })
    }

    /// The user with a number that one of the other functions gave.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&User> {
        self.list.get(number)
    }

    /// The number of the user called `name`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// Whether there are users with hashes.
    #[must_use]
    pub fn need_hashing(&self) -> bool {
        self.hashed < self.list.len()
    }

    /// The number of the user with a plain password, if that is who `reading` is. Takes about a microsecond.
    #[must_use]
    pub fn match_plain(&self, reading: &Reading<'_>) -> Option<usize> {
        let tag = self.key.tag(&[reading.user.as_bytes(), reading.password.as_bytes()]);
        self.list
            .iter()
            .take(self.hashed)
            .position(|user| matches!(user.proof, Proof::Plain(ref right) if *right == tag))
    }

    /// The number of the user with a hash, if that is who `reading` is. Takes the time and the memory that the hash
    /// asks for, whether the user is known or not: call it on a thread that may block.
    #[must_use]
    pub fn match_hash(&self, reading: &Reading<'_>) -> Option<usize> {
        let hashed = self.list.get(self.hashed..).filter(|hashed| !hashed.is_empty())?;
        let known = self.number(&reading.user).filter(|number| *number >= self.hashed);
        let decoy = self.key.tag(&[reading.user.as_bytes()]).number() % hashed.len() as u64;
        let number = known.unwrap_or(self.hashed + decoy as usize);
        let Proof::Hash(hash) = &self.list.get(number)?.proof else { return None };
        let right = Argon2::default().verify_password(reading.password.as_bytes(), &**hash).is_ok();
        known.filter(|_| right)
    }
}

/// Reads and judges a hash in PHC form; the error says what is wrong with it without a part of it.
pub fn parse_hash(text: &str) -> Result<PasswordHash, &'static str> {
    if !text.starts_with("$argon2") {
        return Err("it does not start with $argon2id$; no other kind is supported (also $argon2i$, $argon2d$)");
    }
    let hash = PasswordHash::new(text).map_err(|_| "it is cut off or holds a character that does not belong there")?;
    if !matches!(hash.algorithm.as_str(), "argon2id" | "argon2i" | "argon2d") {
        return Err("its kind is unknown; $argon2id$, $argon2i$ and $argon2d$ are supported");
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("its salt or its last part is missing");
    }
    if !matches!(hash.version, None | Some(0x10 | 0x13)) {
        return Err("its version is unknown; v=19 and v=16 are supported");
    }
    let params = Params::try_from(&hash).map_err(|_| "its parameters m, t and p are out of range")?;
    if params.m_cost() > LARGEST_MEMORY {
        return Err("it asks for more than 256 MiB of memory (m=262144) at each attempt");
    }
    if u64::from(params.m_cost()) * u64::from(params.t_cost()) > LARGEST_WORK {
        return Err("it asks for more work (m times t) than 2097152 at each attempt");
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;
    use zeroize::Zeroizing;

    use super::*;
    use crate::secret::Secret;

    fn reading<'a>(user: &'a str, password: &str) -> Reading<'a> {
        Reading { user: user.into(), password: Zeroizing::new(password.into()) }
    }

    /// A hash that costs next to nothing.
    fn cheap(password: &str) -> Secret {
        let params = Params::new(8, 1, 1, None).unwrap();
        Secret::new(Argon2::from(params).hash_password(password.as_bytes()).unwrap().to_string())
    }

    fn users() -> Users {
        let config = Wall {
            username: "ann".into(),
            password: Secret::new("main"),
            users: [("ben".into(), cheap("bens")), ("cid".into(), cheap("cids"))].into(),
            ..Wall::default()
        };
        Users::new(&config, &Key::new(&[5; 32])).unwrap()
    }

    #[test]
    fn each_user_passes_with_the_own_password_alone() {
        let users = users();
        assert_eq!(users.match_plain(&reading("ann", "main")), users.number("ann"));
        assert_eq!(users.match_hash(&reading("ben", "bens")), users.number("ben"));
        for (user, password) in
            [("ann", "bens"), ("ben", "main"), ("ben", "cids"), ("dan", "bens"), ("dan", "cids"), ("", "")]
        {
            assert_eq!(users.match_plain(&reading(user, password)), None, "{user} {password}");
            assert_eq!(users.match_hash(&reading(user, password)), None, "{user} {password}");
        }
    }

    #[test]
    fn an_unusable_hash_names_its_user_and_not_itself() {
        for (hash, part) in [
            ("hunter2", "does not start with"),
            ("$2y$10$abcdefghijklmnopqrstuv", "does not start with"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", "missing"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$not base64!", "character"),
            ("$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", "256 MiB"),
            ("$argon2id$v=19$m=65536,t=99,p=1$c2FsdHNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", "work"),
        ] {
            let config = Wall { users: [("eve".into(), Secret::new(hash))].into(), ..Wall::default() };
            let message = Users::new(&config, &Key::new(&[5; 32])).err().unwrap().to_string();
            assert!(message.contains("wall.users.eve") && message.contains(part), "{message}");
            assert!(!message.contains(hash), "{message}");
        }
    }

    #[test]
    fn a_hash_with_the_parameters_of_beacon_wall_hash_is_usable() {
        let hash = Argon2::default().hash_password(b"open sesame").unwrap().to_string();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let config = Wall { users: [("ali".into(), Secret::new(hash))].into(), ..Wall::default() };
        let users = Users::new(&config, &Key::new(&[5; 32])).unwrap();
        assert_eq!(users.match_hash(&reading("ali", "open sesame")), Some(0));
        assert_eq!(users.match_hash(&reading("ali", "open sesam")), None);
    }

    #[test]
    fn a_stamp_changes_with_the_password() {
        let stamp = |password: &str| {
            let config = Wall { username: "ann".into(), password: Secret::new(password), ..Wall::default() };
            Users::new(&config, &Key::new(&[5; 32])).unwrap().get(0).unwrap().stamp
        };
        assert!(stamp("one") == stamp("one") && stamp("one") != stamp("two"));
    }
}
