//! A Redis URL, taken apart: the forms of redis-py and Celery, which applications have in their settings already.
//!
//! It is not left to the client's library, which reads other forms, drops what it does not know, and quotes in errors.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::Error;
use crate::secret::Secret;

/// Where Redis is, and who we are there.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) place: Place,
    /// Whether the connection is encrypted and the server's certificate verified.
    pub(super) tls: bool,
    /// The authorities; empty for the usual ones.
    pub(super) authorities: PathBuf,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u8,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    pub(super) fn parse(url: &Secret) -> Result<Self, Error> {
        let (scheme, rest) = url.expose().split_once("://").ok_or_else(|| bad("is not a Redis URL"))?;
        let (tls, socket) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "unix" | "redis+socket" => (false, true),
            _ => return Err(bad("is not a Redis URL")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (main, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = main.split_at(main.find('/').unwrap_or(main.len()));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (user, password) = (decoded(user)?, decoded(password)?);
        let mut address = Self {
            place: if socket { unix(host, path)? } else { tcp(host)? },
            tls,
            authorities: PathBuf::new(),
            user: (!user.is_empty()).then_some(user),
            password: (!password.is_empty()).then(|| Secret::new(password)),
            database: 0,
        };
        if !socket && !path.trim_matches('/').is_empty() {
            address.database = database(path.trim_matches('/'))?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| bad("has a parameter without a value"))?;
            address.set(key, &decoded(value)?, socket)?;
        }
        if address.user.is_some() && address.password.is_none() {
            return Err(bad("names a user without a password; \"redis://:password@host\" needs no user"));
        }
        Ok(address)
    }

    /// A parameter, by the names that redis-py and Celery have for it.
    fn set(&mut self, key: &str, value: &str, socket: bool) -> Result<(), Error> {
        match key {
            "db" => self.database = database(value)?,
            "virtual_host" if socket => self.database = database(value)?,
            "ssl_cert_reqs" if self.tls => match value {
                "required" | "CERT_REQUIRED" => {}
                _ => {
                    return Err(bad("has an ssl_cert_reqs other than required: Beacon verifies Redis's certificate; \
                                    name its authority with ssl_ca_certs=/path"));
                }
            },
            "ssl_ca_certs" if self.tls => self.authorities = PathBuf::from(value),
            "username" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(Secret::new(value)),
            // A name is no secret; anything else in the URL may be.
            _ if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && key.len() <= 32 => {
                return Err(Error::Url(format!("has the parameter {key}, which has no meaning here: remove it")));
            }
            _ => return Err(bad("has a parameter that has no meaning here: remove it")),
        }
        Ok(())
    }

    /// Which Redis it is, for messages.
    pub(super) fn shown(&self) -> String {
        let database = self.database;
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}/{database}"),
            Place::Tcp { host, port } => format!("{host}:{port}/{database}"),
            Place::Unix(path) => format!("{} (database {database})", path.display()),
        }
    }
}

fn bad(why: &str) -> Error {
    Error::Url(why.to_owned())
}

fn decoded(text: &str) -> Result<String, Error> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| bad("has %-encoded bytes that are no text"))?;
    Ok(text.into_owned())
}

fn database(text: &str) -> Result<u8, Error> {
    text.parse().map_err(|_| bad("has a database that is no number from 0 to 255"))
}

fn unix(host: &str, path: &str) -> Result<Place, Error> {
    let path = PathBuf::from(decoded(path)?);
    if !host.is_empty() || path.parent().is_none() {
        return Err(bad("names no absolute path: a socket's URL has three slashes, as in unix:///run/redis.sock"));
    }
    Ok(Place::Unix(path))
}

fn tcp(host: &str) -> Result<Place, Error> {
    let (host, port) = if let Some(rest) = host.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or_else(|| bad("has a bracket that is not closed"))?;
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| bad("has no IPv6 address between its brackets"))?;
        (inside, after.strip_prefix(':').or((after.is_empty()).then_some("")).ok_or_else(|| bad("has no port"))?)
    } else {
        host.split_once(':').unwrap_or((host, ""))
    };
    let port = match port {
        "" => 6379,
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            bad("has a port that is no number: a special character in the password must be %-encoded")
        })?,
    };
    let host = if host.is_empty() { "localhost".to_owned() } else { decoded(host)? };
    if host.chars().any(|ch| ch.is_whitespace() || ch.is_control()) {
        return Err(bad("has a host that is no name"));
    }
    Ok(Place::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, Error> {
        Address::parse(&Secret::new(url))
    }

    #[test]
    fn every_form_of_redis_py_and_celery_is_read() {
        for (url, shown, tls, user, password) in [
            ("redis://", "localhost:6379/0", false, None, None),
            ("redis://cache", "cache:6379/0", false, None, None),
            ("redis://cache:6380/3", "cache:6380/3", false, None, None),
            ("redis://:p%40ss%2F@cache/", "cache:6379/0", false, None, Some("p@ss/")),
            (
                "rediss://me:secret@cache:6379/1?ssl_cert_reqs=CERT_REQUIRED",
                "cache:6379/1",
                true,
                Some("me"),
                Some("secret"),
            ),
            ("redis://[::1]:7000?db=2", "[::1]:7000/2", false, None, None),
            ("redis://[::1]", "[::1]:6379/0", false, None, None),
            ("unix:///run/redis.sock?db=4", "/run/redis.sock (database 4)", false, None, None),
            ("unix://:pw@/run/a%20b.sock", "/run/a b.sock (database 0)", false, None, Some("pw")),
            (
                "redis+socket:///run/redis.sock?virtual_host=5&password=x",
                "/run/redis.sock (database 5)",
                false,
                None,
                Some("x"),
            ),
        ] {
            let address = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.shown(), shown, "{url}");
            assert_eq!(address.tls, tls, "{url}");
            assert_eq!(address.user.as_deref(), user, "{url}");
            assert_eq!(address.password.as_ref().map(Secret::expose), password, "{url}");
        }
        let own = parse("rediss://h?ssl_ca_certs=/etc/ca.pem").unwrap();
        assert_eq!(own.authorities, PathBuf::from("/etc/ca.pem"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_no_error_quotes_a_secret() {
        for (url, says) in [
            ("hunter2", "is not a Redis URL"),
            ("http://hunter2", "is not a Redis URL"),
            ("redis-sentinel://hunter2", "is not a Redis URL"),
            ("redis://:a:hunter2@h:x/0", "port"),
            ("redis://:pa/hunter2@h", "port"),
            ("redis://h:0", "port"),
            ("redis://h/hunter2", "database"),
            ("redis://h/256", "database"),
            ("redis://h/-1", "database"),
            ("redis://hunter2@h", "without a password"),
            ("redis://[::1", "bracket"),
            ("redis://[hunter2]", "IPv6"),
            ("redis://h?hunter2", "without a value"),
            ("redis://h?socket_timeout=5", "socket_timeout"),
            ("redis://h?HUNTER2=hunter2", "no meaning"),
            ("redis://h?ssl_ca_certs=/x", "no meaning"),
            ("rediss://h?ssl_cert_reqs=none", "verifies"),
            ("unix://run/redis.sock", "three slashes"),
            ("unix:///", "three slashes"),
            ("redis://:%ff@h", "no text"),
        ] {
            let error = parse(url).map(|address| address.shown()).expect_err(url).to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
