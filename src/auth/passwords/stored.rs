//! A stored password hash: argon2 in PHC form, bcrypt, and the forms that Django writes.
//!
//! Whoever can write a hash (an import, an administrator, a seed script) decides what each attempt to sign in costs, so
//! the cost is bounded before anything is computed: about a second and 256 MiB.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Error, Verdict};
use crate::auth::users::parse_hash;

/// The longest password in bytes. Bcrypt looks at the first 72 alone, as everywhere.
pub const LONGEST: usize = 4096;

/// Memory of a new hash, in KiB; passes and lanes (OWASP's first choice).
pub(super) const MEMORY: u32 = 19 * 1024;
pub(super) const PASSES: u32 = 2;
pub(super) const LANES: u32 = 1;

/// Cost 14 is about a second.
const BCRYPT_COST: u32 = 14;
/// Django 5.2 makes a million; ten times that is two seconds.
const PBKDF2_ROUNDS: u32 = 10_000_000;
/// 128 N r bytes of memory, and N r p blocks of work.
const SCRYPT_MEMORY: u64 = 128 * 1024 * 1024;
const SCRYPT_WORK: u64 = 4 * 1024 * 1024;
const SALT: usize = 256;

/// A stored hash that is worth computing.
pub struct Stored(Form);

enum Form {
    /// A user who has no password: none is right.
    None,
    Argon2 {
        hash: Box<PasswordHash>,
        is_current: bool,
    },
    Bcrypt {
        hash: String,
        /// Django hashes with SHA-256 first, so that long passwords count whole.
        digested: bool,
    },
    Pbkdf2 {
        sha1: bool,
        rounds: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Scrypt {
        params: scrypt::Params,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl Stored {
    /// Reads a stored hash. The empty text, and what Django calls unusable (it starts with `!`), mean that no password
    /// is right.
    ///
    /// # Errors
    /// A kind that is not supported, a text that is no hash, or a hash that would cost too much.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.starts_with('!') {
            return Ok(Self(Form::None));
        }
        if !text.is_ascii() {
            return Err(Error::Malformed("it holds characters that no hash has"));
        }
        let (kind, rest) = text.split_once('$').ok_or(Error::Malformed("it has no $"))?;
        let form = match kind {
            "" => phc(text)?,
            "argon2" => argon2(&text[kind.len()..], true)?,
            "bcrypt" => bcrypt(rest, false)?,
            "bcrypt_sha256" => bcrypt(rest, true)?,
            "pbkdf2_sha256" => pbkdf2(rest, false)?,
            "pbkdf2_sha1" => pbkdf2(rest, true)?,
            "scrypt" => scrypt(rest)?,
            "md5" | "unsalted_md5" => return Err(Error::Unsupported("MD5")),
            "sha1" | "unsalted_sha1" => return Err(Error::Unsupported("plain SHA-1")),
            _ => return Err(Error::Unsupported("of an unknown kind")),
        };
        Ok(Self(form))
    }

    /// The hash of a user who has no password.
    pub(super) const fn none() -> Self {
        Self(Form::None)
    }

    /// Whether some password is right.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !matches!(self.0, Form::None)
    }

    /// What `password` is. Blocks for as long as the hash asks.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what shows only when it is computed.
    pub fn verify(&self, password: &str) -> Result<Verdict, Error> {
        let (right, is_current) = match &self.0 {
            Form::None => (false, true),
            Form::Argon2 { hash, is_current } => {
                (Argon2::default().verify_password(password.as_bytes(), &**hash).is_ok(), *is_current)
            }
            Form::Bcrypt { hash, digested } => (bcrypt_is(password, hash, *digested)?, false),
            Form::Pbkdf2 { sha1, rounds, salt, hash } => {
                let mut made = Zeroizing::new(vec![0; hash.len()]);
                if *sha1 {
                    pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt, *rounds, &mut made);
                } else {
                    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, *rounds, &mut made);
                }
                (made.ct_eq(hash).into(), false)
            }
            Form::Scrypt { params, salt, hash } => {
                let mut made = Zeroizing::new(vec![0; hash.len()]);
                scrypt::scrypt(password.as_bytes(), salt, params, &mut made)
                    .map_err(|_| Error::Malformed("its length is out of range"))?;
                (made.ct_eq(hash).into(), false)
            }
        };
        Ok(match (right, is_current) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButOld,
        })
    }

    /// A number that two hashes of about the same cost share.
    pub(super) fn cost(&self) -> u64 {
        match &self.0 {
            Form::None => 0,
            Form::Argon2 { hash, .. } => {
                let work = Params::try_from(&**hash).map_or(0, |params| params.m_cost() * params.t_cost());
                1 << 56 | u64::from(work)
            }
            Form::Bcrypt { hash, .. } => 2 << 56 | hash.get(4..6).and_then(|cost| cost.parse().ok()).unwrap_or(0),
            Form::Pbkdf2 { rounds, sha1, .. } => 3 << 56 | u64::from(*sha1) << 48 | u64::from(*rounds),
            Form::Scrypt { params, .. } => {
                let work = u64::from(params.r() * params.p()) << u32::from(params.log_n());
                4 << 56 | (work & ((1 << 56) - 1))
            }
        }
    }
}

fn phc(text: &str) -> Result<Form, Error> {
    let kind = text.split('$').nth(1).unwrap_or_default();
    match kind {
        "2a" | "2b" | "2y" | "2x" => bcrypt(text, false),
        "fbscrypt" => Err(Error::Unsupported("Firebase's scrypt")),
        _ if kind.starts_with("argon2") => argon2(text, false),
        "1" | "5" | "6" | "7" | "y" => Err(Error::Unsupported("crypt(3)'s")),
        _ => Err(Error::Unsupported("of an unknown kind")),
    }
}

fn argon2(text: &str, foreign: bool) -> Result<Form, Error> {
    let hash = parse_hash(text).map_err(Error::Malformed)?;
    let params = Params::try_from(&hash).map_err(|_| Error::Malformed("its parameters are out of range"))?;
    let strong = params.m_cost() >= MEMORY && params.t_cost() >= PASSES;
    let is_current = !foreign && strong && hash.algorithm.as_str() == "argon2id" && hash.version == Some(0x13);
    Ok(Form::Argon2 { hash: Box::new(hash), is_current })
}

fn bcrypt(text: &str, digested: bool) -> Result<Form, Error> {
    // "$2b$12$", 22 characters of salt, 31 of hash.
    let cost = text.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    let well_formed = text.len() == 60 && text.starts_with("$2") && text.get(6..7) == Some("$");
    match cost {
        Some(4..=BCRYPT_COST) if well_formed => Ok(Form::Bcrypt { hash: text.to_owned(), digested }),
        Some(_) if well_formed => Err(Error::Malformed("its cost is not between 4 and 14")),
        _ => Err(Error::Malformed("it is not a whole bcrypt hash")),
    }
}

fn bcrypt_is(password: &str, hash: &str, digested: bool) -> Result<bool, Error> {
    let right = if digested {
        bcrypt::verify(Zeroizing::new(hex(&Sha256::digest(password))).as_bytes(), hash)
    } else {
        bcrypt::verify(password, hash)
    };
    right.map_err(|_| Error::Malformed("it is not a whole bcrypt hash"))
}

fn pbkdf2(rest: &str, sha1: bool) -> Result<Form, Error> {
    let [rounds, salt, hash] = fields(rest)?;
    let rounds = number(rounds)?;
    let rounds = u32::try_from(rounds)
        .ok()
        .filter(|rounds| (1..=PBKDF2_ROUNDS).contains(rounds))
        .ok_or(Error::Malformed("it asks for no rounds or more than 10,000,000"))?;
    let hash = output(hash, if sha1 { 20 } else { 32 })?;
    Ok(Form::Pbkdf2 { sha1, rounds, salt: salt.as_bytes().to_vec(), hash })
}

fn scrypt(rest: &str) -> Result<Form, Error> {
    let [factor, salt, block, lanes, hash] = fields(rest)?;
    let (factor, block, lanes) = (number(factor)?, number(block)?, number(lanes)?);
    let work = factor.checked_mul(block).and_then(|work| work.checked_mul(lanes)).unwrap_or(u64::MAX);
    if !factor.is_power_of_two() || factor < 2 || work == 0 {
        return Err(Error::Malformed("its parameters are out of range"));
    }
    if work > SCRYPT_WORK || work / lanes * 128 > SCRYPT_MEMORY {
        return Err(Error::Malformed("it asks for more than 128 MiB or 4,194,304 blocks at each attempt"));
    }
    let params = scrypt::Params::new(factor.trailing_zeros() as u8, block as u32, lanes as u32)
        .map_err(|_| Error::Malformed("its parameters are out of range"))?;
    Ok(Form::Scrypt { params, salt: salt.as_bytes().to_vec(), hash: output(hash, 64)? })
}

fn fields<const N: usize>(rest: &str) -> Result<[&str; N], Error> {
    if rest.len() > SALT + 256 {
        return Err(Error::Malformed("it is too long"));
    }
    let parts: Vec<&str> = rest.split('$').collect();
    parts.try_into().map_err(|_| Error::Malformed("a part of it is missing"))
}

fn number(text: &str) -> Result<u64, Error> {
    let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Error::Malformed("one of its parameters is not a number"))
}

/// The hash itself, whole: the start of one is what the same function gives when less is asked of it.
fn output(text: &str, length: usize) -> Result<Vec<u8>, Error> {
    let hash = STANDARD.decode(text).map_err(|_| Error::Malformed("its last part is not base64"))?;
    if hash.len() == length { Ok(hash) } else { Err(Error::Malformed("its last part is cut off")) }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct hörse";

    /// Made by Django 5.2, bcrypt 4 and argon2-cffi, with little work.
    const KNOWN: [&str; 10] = [
        "pbkdf2_sha256$1000$saltsaltsalt$Mdq+Zp5sq7VwpdVUlViJLnp0vEGqA5bVte+uiggJQH4=",
        "pbkdf2_sha1$1000$saltsaltsalt$htd1pCJCB5Nj3Tq08fdsgwAmMuM=",
        "scrypt$1024$saltsalt$8$1$bfksBvqrzai7FM0tHC9L/KNz1Qqp52+2nubZ8Jh3lGWmGf8vOZpW6d6fKijbQXPD3wMj7jo+pelfJMvsUbvYTA==",
        "argon2$argon2id$v=19$m=64,t=2,p=2$c2FsdHNhbHRzYWx0$fBXmA9XauG5BXBICZmWx+kTxYnuNXHkM+9un/BbSZiU",
        "bcrypt$$2b$04$nzdR1zJW.1doh49S5P4CJ.MB6uHpxesxQstAORXF7LCTger20mqhS",
        "bcrypt_sha256$$2b$04$wEiEoLVbX6tUj3YkVP/zneOGMtH1SvhBcP5eYtozaXRaLSgQZUew.",
        "$2b$04$DmlkD7hMWjQj2zHLwY02d.IY4cOjWPeKW7j1xCX5xIuuK.5ml4fxq",
        "$2a$04$.323hyCeJGlZ.swAYPeE6uZYyfw7jM.PTk6S8hn8qNk1Woe9Up2Ja",
        "$2y$04$.323hyCeJGlZ.swAYPeE6uZYyfw7jM.PTk6S8hn8qNk1Woe9Up2Ja",
        "$argon2i$v=19$m=64,t=2,p=1$GTCxVZasbVEHwfQQKIt8eA$BdKnfPM5yQI62I/lN03qE27zJFwbasakBv8oe+iutUw",
    ];

    #[test]
    fn what_others_stored_is_right_for_its_password_alone_and_old() {
        for hash in KNOWN {
            let stored = Stored::parse(hash).unwrap();
            assert_eq!(stored.verify(PASSWORD).unwrap(), Verdict::RightButOld, "{hash}");
            for wrong in ["", "correct horse", "correct hörse ", "Correct hörse"] {
                assert_eq!(stored.verify(wrong).unwrap(), Verdict::Wrong, "{hash}: {wrong}");
            }
        }
    }

    #[test]
    fn a_hash_with_our_parameters_is_not_old_whoever_made_it() {
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$BPDV18UddqEwoxIEkYMTnA$ORB0T0V73fqeJ5trACyT+L9+3UyKdpuhEPJhjuqLM/M";
        assert_eq!(Stored::parse(hash).unwrap().verify(PASSWORD).unwrap(), Verdict::Right);
        let django = format!("argon2{hash}");
        assert_eq!(Stored::parse(&django).unwrap().verify(PASSWORD).unwrap(), Verdict::RightButOld);
    }

    #[test]
    fn no_password_is_right_where_there_is_none() {
        for hash in ["", "!", "!gZvw5tisZqtAf6MFjm5FNLmaBju0FSj16XScRkkM"] {
            let stored = Stored::parse(hash).unwrap();
            assert!(!stored.is_usable());
            assert_eq!(stored.verify("").unwrap(), Verdict::Wrong);
            assert_eq!(stored.verify(hash).unwrap(), Verdict::Wrong);
        }
    }

    #[test]
    fn a_hash_that_costs_too_much_or_is_cut_off_is_refused_before_it_is_computed() {
        for (hash, part) in [
            ("$2b$31$DmlkD7hMWjQj2zHLwY02d.IY4cOjWPeKW7j1xCX5xIuuK.5ml4fxq", "between 4 and 14"),
            ("$2b$15$DmlkD7hMWjQj2zHLwY02d.IY4cOjWPeKW7j1xCX5xIuuK.5ml4fxq", "between 4 and 14"),
            ("$2b$04$DmlkD7hMWjQj2zHLwY02d", "whole bcrypt"),
            ("pbkdf2_sha256$4294967295$s$Mdq+Zp5sq7VwpdVUlViJLnp0vEGqA5bVte+uiggJQH4=", "rounds"),
            ("pbkdf2_sha256$0$s$Mdq+Zp5sq7VwpdVUlViJLnp0vEGqA5bVte+uiggJQH4=", "rounds"),
            ("pbkdf2_sha256$+10$s$Mdq+Zp5sq7VwpdVUlViJLnp0vEGqA5bVte+uiggJQH4=", "number"),
            ("pbkdf2_sha256$1000$s$Mdq=", "base64"),
            ("pbkdf2_sha256$1000$s$AAAA", "cut off"),
            ("pbkdf2_sha256$1000$s$", "cut off"),
            ("pbkdf2_sha256$1000$s", "missing"),
            ("scrypt$1048576$s$8$1$bfksBvqrzai7FM0tHC9L/A==", "128 MiB"),
            ("scrypt$1024$s$9999999999$9999999999$bfksBvqrzai7FM0tHC9L/A==", "128 MiB"),
            ("scrypt$1000$s$8$1$bfksBvqrzai7FM0tHC9L/A==", "out of range"),
            ("scrypt$1024$s$8$0$bfksBvqrzai7FM0tHC9L/A==", "out of range"),
            ("$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", "256 MiB"),
            ("$2b$04$DmlkD7hMWjQj2zHLwY02d.IY4cOjWPeKW7j1xCX5xIuuK.5ml4fxé", "characters"),
            ("hunter2", "no $"),
        ] {
            let message = Stored::parse(hash).err().expect(hash).to_string();
            assert!(message.contains(part), "{hash}: {message}");
        }
        for hash in ["$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=aa==$c2FsdA==$aGFzaA==", "md5$a$b", "$6$salt$hash", "x$y"] {
            assert!(matches!(Stored::parse(hash), Err(Error::Unsupported(_))), "{hash}");
        }
    }

    #[test]
    fn no_cut_of_a_hash_panics_or_passes() {
        for hash in KNOWN {
            for end in 0..hash.len() {
                if let Ok(stored) = Stored::parse(&hash[..end]) {
                    let verdict = stored.verify(PASSWORD);
                    assert!(!matches!(verdict, Ok(Verdict::Right | Verdict::RightButOld)), "{}", &hash[..end]);
                }
            }
        }
    }
}
