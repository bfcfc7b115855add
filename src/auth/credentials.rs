//! The Authorization header as django-auth-wall 0.3.0 reads it, except that nothing in it can be an error.
//!
//! That package splits at white space, takes the second word, and decodes it as Python's `base64.b64decode` does,
//! which skips characters outside the alphabet and stops at complete padding. Then it reads Latin-1. Browsers send
//! UTF-8 (RFC 7617 section 2.1), so both readings are tried here.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

/// The longest encoded credentials that are looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// What the Authorization header holds.
pub enum Authorization {
    /// Nothing, or a scheme other than Basic.
    Other,
    /// The Basic scheme with something that is no credentials, or several headers.
    Malformed,
    /// A user name and a password.
    Basic(Credentials),
}

/// A user name and a password as bytes, wiped on drop.
pub struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

/// One way to read the bytes as text.
pub struct Reading<'a> {
    /// The user name.
    pub user: Cow<'a, str>,
    /// The password.
    pub password: Zeroizing<String>,
}

impl Authorization {
    /// Reads the header.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Other };
        if values.next().is_some() {
            return Self::Malformed;
        }
        let mut words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if !words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic")) {
            return Self::Other;
        }
        let Some(mut user) = words.next().filter(|word| word.len() <= LONGEST).and_then(decode) else {
            return Self::Malformed;
        };
        let password = match memchr::memchr(b':', &user) {
            Some(colon) => {
                let password = Zeroizing::new(user.get(colon + 1..).unwrap_or_default().to_vec());
                user.truncate(colon);
                password
            }
            None => Zeroizing::default(),
        };
        Self::Basic(Credentials { user, password })
    }
}

impl Credentials {
    /// The readings of the bytes: one if they are ASCII or cannot be UTF-8, else UTF-8 and then Latin-1.
    pub fn readings(&self) -> impl Iterator<Item = Reading<'_>> {
        let utf8 = match (str::from_utf8(&self.user), str::from_utf8(&self.password)) {
            (Ok(user), Ok(password)) => Some(Reading { user: user.into(), password: Zeroizing::new(password.into()) }),
            _ => None,
        };
        let latin1 = (!self.user.is_ascii() || !self.password.is_ascii())
            .then(|| Reading { user: latin1(&self.user).into(), password: Zeroizing::new(latin1(&self.password)) });
        utf8.into_iter().chain(latin1)
    }
}

/// Every byte is the character of the same number.
fn latin1(bytes: &[u8]) -> String {
    // Twice the length holds any result, so that no half-written copy of a password stays behind in freed memory.
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().map(|byte| char::from(*byte)));
    text
}

/// Decodes Base64 as `binascii.a2b_base64` of CPython does when it is not strict.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    let (mut place, mut pads, mut left) = (0_u8, 0_u8, 0_u8);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                if place >= 2 {
                    pads += 1;
                    if place + pads >= 4 {
                        return Some(out);
                    }
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        match place {
            0 => {}
            1 => out.push(left << 2 | value >> 4),
            2 => out.push(left << 4 | value >> 2),
            _ => out.push(left << 6 | value),
        }
        // The bits above those that the next character needs fall out of the byte when it is shifted.
        left = value;
        place = (place + 1) % 4;
    }
    (place == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &[u8]) -> Option<Vec<(String, String)>> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, http::HeaderValue::from_bytes(value).unwrap());
        match Authorization::of(&headers) {
            Authorization::Basic(credentials) => Some(
                credentials
                    .readings()
                    .map(|reading| (reading.user.into_owned(), reading.password.to_string()))
                    .collect(),
            ),
            _ => None,
        }
    }

    fn pair(user: &str, password: &str) -> (String, String) {
        (user.into(), password.into())
    }

    #[test]
    fn credentials_are_split_at_the_first_colon() {
        assert_eq!(read(b"Basic dXNlcjpwYTpzcw==").unwrap(), [pair("user", "pa:ss")]);
        assert_eq!(read(b"bAsIc \t dXNlcjpwYXNz trailing").unwrap(), [pair("user", "pass")]);
        assert_eq!(read(b"Basic dXNlcg==").unwrap(), [pair("user", "")]);
    }

    #[test]
    fn base64_is_as_lenient_as_pythons() {
        // Each of these was tried with base64.b64decode of CPython 3.11.
        for lenient in ["dXNl-cjpwYXNz", "=dXNlcjpwYXNz", "dXNlcjpw.YXNz", "dXNlcjpwYXNz="] {
            assert_eq!(read(format!("Basic {lenient}").as_bytes()).unwrap(), [pair("user", "pass")], "{lenient}");
        }
        assert_eq!(read(b"Basic dXNlcjpwYQ==dXNl").unwrap(), [pair("user", "pa")]);
        for bad in ["dXNlcjpwYQ", "dXNlcjpwYQ=", "d", ""] {
            assert!(read(format!("Basic {bad}").as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn other_schemes_and_two_headers_are_no_credentials() {
        assert!(read(b"Bearer dXNlcjpwYXNz").is_none());
        assert!(read(b"Basic").is_none());
        assert!(read(&[b"Basic ".as_slice(), &vec![b'A'; LONGEST + 4]].concat()).is_none());
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append(AUTHORIZATION, http::HeaderValue::from_static("Basic dXNlcjpwYXNz"));
        }
        assert!(matches!(Authorization::of(&headers), Authorization::Malformed));
    }

    #[test]
    fn text_beyond_ascii_is_read_as_utf_8_and_as_latin_1() {
        // "user:pä" in UTF-8, then in Latin-1.
        assert_eq!(read(b"Basic dXNlcjpww6Q=").unwrap(), [pair("user", "pä"), pair("user", "pÃ¤")]);
        assert_eq!(read(b"Basic dXNlcjpw5A==").unwrap(), [pair("user", "pä")]);
    }
}
