//! The cookie that stands for the credentials after they were right once.
//!
//! A script in the browser that sends `Authorization: Bearer` to its API cannot send Basic in the same request; the
//! cookie lets it pass. It holds when it ends, who it is for, and a tag over both and the user's stamp, which
//! changes with the password. Over HTTPS its name has the prefix `__Host-`, with which a browser takes it from
//! nobody but this host (RFC 6265bis section 4.1.3.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::mac::{Key, Tag};
use super::users::Users;

const SECURE_NAME: &str = "__Host-beacon-wall";
const PLAIN_NAME: &str = "beacon-wall";
const LIFETIME: Duration = Duration::from_hours(12);
/// A client that sends many cookies of our name has so many of them looked at.
const TRIES: usize = 4;

/// Signs cookies and looks at them.
pub struct Cookies(Key);

/// A cookie that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the user.
    pub user: usize,
    /// Whether half of its time is over, so that a new one should be given.
    pub is_old: bool,
}

impl Cookies {
    /// Cookies under a key of their own.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self(key.derive("beacon wall cookie"))
    }

    /// The value of Set-Cookie for the user with this number; none if there is no such user.
    #[must_use]
    pub fn make(&self, users: &Users, user: usize, secure: bool, now: SystemTime) -> Option<HeaderValue> {
        let user = users.get(user)?;
        let end = seconds(now) + LIFETIME.as_secs();
        let tag = self.tag(&user.stamp, end);
        let (name, attribute) = if secure { (SECURE_NAME, "; Secure") } else { (PLAIN_NAME, "") };
        let value = format!(
            "{name}={end}.{}.{}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{attribute}",
            URL_SAFE_NO_PAD.encode(user.name.as_bytes()),
            URL_SAFE_NO_PAD.encode(tag.bytes()),
            LIFETIME.as_secs(),
        );
        HeaderValue::try_from(value).ok()
    }

    /// The good cookie among those that the request brings.
    #[must_use]
    pub fn find(&self, users: &Users, headers: &HeaderMap, secure: bool, now: SystemTime) -> Option<Found> {
        let ours = name(secure);
        let cookies = headers.get_all(COOKIE).iter().flat_map(|line| pairs(line.as_bytes()));
        cookies.filter_map(|pair| value(pair, ours)).take(TRIES).find_map(|value| self.check(users, value, now))
    }

    fn check(&self, users: &Users, value: &[u8], now: SystemTime) -> Option<Found> {
        let mut fields = str::from_utf8(value).ok()?.splitn(3, '.');
        let (end, user, claimed) = (fields.next()?, fields.next()?, fields.next()?);
        let end: u64 = end.parse().ok()?;
        let left = end.checked_sub(seconds(now)).filter(|left| (1..=LIFETIME.as_secs()).contains(left))?;
        let claimed = URL_SAFE_NO_PAD.decode(claimed).ok()?;
        let number = users.number(str::from_utf8(&URL_SAFE_NO_PAD.decode(user).ok()?).ok()?)?;
        let right = self.tag(&users.get(number)?.stamp, end).is(&claimed);
        right.then_some(Found { user: number, is_old: left < LIFETIME.as_secs() / 2 })
    }

    fn tag(&self, stamp: &Tag, end: u64) -> Tag {
        self.0.tag(&[stamp.bytes(), &end.to_be_bytes()])
    }
}

/// Takes our cookie out of the request, so that what is behind the wall never holds what opens it.
pub fn remove(headers: &mut HeaderMap, secure: bool) {
    let ours = name(secure);
    let is_ours = |line: &HeaderValue| pairs(line.as_bytes()).any(|pair| value(pair, ours).is_some());
    if !headers.get_all(COOKIE).iter().any(is_ours) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let kept: Vec<&[u8]> = pairs(line.as_bytes()).filter(|pair| value(pair, ours).is_none()).collect();
        if let (false, Ok(line)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(b"; ".as_slice()))) {
            headers.append(COOKIE, line);
        }
    }
}

fn name(secure: bool) -> &'static str {
    if secure { SECURE_NAME } else { PLAIN_NAME }
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Wall;
    use crate::secret::Secret;

    const NOW: SystemTime = UNIX_EPOCH;

    fn parts(password: &str, secret: u8) -> (Cookies, Users) {
        let config = Wall { username: "änn".into(), password: Secret::new(password), ..Wall::default() };
        let key = Key::new(&[secret; 32]);
        (Cookies::new(&key), Users::new(&config, &key).unwrap())
    }

    /// The request headers of a browser that was given `set`.
    fn sent(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::try_from(format!("theme=dark; {pair};other=1")).unwrap());
        headers
    }

    #[test]
    fn a_cookie_passes_for_twelve_hours() {
        let (cookies, users) = parts("secret", 1);
        let set = cookies.make(&users, 0, true, NOW).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.starts_with("__Host-beacon-wall=43200."), "{text}");
        assert!(text.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure"), "{text}");
        let at = |hours: u64| cookies.find(&users, &sent(&set), true, NOW + Duration::from_hours(hours));
        assert_eq!(at(1), Some(Found { user: 0, is_old: false }));
        assert_eq!(at(11), Some(Found { user: 0, is_old: true }));
        assert_eq!(at(12), None);
    }

    #[test]
    fn a_cookie_of_another_password_key_name_or_end_does_not_pass() {
        let (cookies, users) = parts("secret", 1);
        let set = cookies.make(&users, 0, true, NOW).unwrap();
        for (password, secret) in [("changed", 1), ("secret", 2)] {
            let (cookies, users) = parts(password, secret);
            assert_eq!(cookies.find(&users, &sent(&set), true, NOW), None);
        }
        assert_eq!(cookies.find(&users, &sent(&set), false, NOW), None, "over plain HTTP the name is another");
        let text = set.to_str().unwrap();
        let longer = HeaderValue::try_from(text.replace("=43200.", "=43199.")).unwrap();
        assert_eq!(cookies.find(&users, &sent(&longer), true, NOW), None);
        for bad in ["", "1", "..", "43200..", "43200.w6Rubg.", "43200.w6Rubg.AAAA", "99999999999999999999.a.b"] {
            let set = HeaderValue::try_from(format!("{SECURE_NAME}={bad}")).unwrap();
            assert_eq!(cookies.find(&users, &sent(&set), true, NOW), None, "{bad}");
        }
    }

    #[test]
    fn only_our_cookie_is_taken_out() {
        let (cookies, users) = parts("secret", 1);
        let mut headers = sent(&cookies.make(&users, 0, false, NOW).unwrap());
        headers.append(COOKIE, HeaderValue::from_static("x=y"));
        headers.append(COOKIE, HeaderValue::from_static("beacon-wall=old"));
        remove(&mut headers, false);
        let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(left, ["theme=dark; other=1", "x=y"]);
    }
}
