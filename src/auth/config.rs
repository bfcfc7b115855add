//! Configuration of the auth wall: the section `[wall]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::users::parse_hash;
use crate::error::Fault;
use crate::secret::Secret;

/// A password in front of everything (HTTP Basic), for a site that is not public yet.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Wall {
    /// "auto" (on when a username and a password are set, or users), or "off" in spite of them.
    pub mode: Mode,
    /// The user name; AUTH_WALL_USERNAME sets it too.
    pub username: String,
    /// The password; AUTH_WALL_PASSWORD sets it too.
    pub password: Secret,
    /// What the browser shows when it asks; AUTH_WALL_REALM sets it too.
    pub realm: String,
    /// More users: a name, and a hash that `beacon wall hash` or `argon2` makes ("$argon2id$...").
    pub users: BTreeMap<String, Secret>,
    /// Paths that pass without a password, with everything below them, as in "/webhooks".
    pub exempt: Vec<String>,
}

/// Whether the wall stands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On when somebody could pass it.
    #[default]
    Auto,
    /// Off in spite of users.
    Off,
}

impl Default for Wall {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            username: String::new(),
            password: Secret::default(),
            realm: "Development".into(),
            users: BTreeMap::new(),
            exempt: Vec::new(),
        }
    }
}

impl Wall {
    /// Whether the wall stands.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode == Mode::Auto && ((!self.username.is_empty() && !self.password.is_empty()) || !self.users.is_empty())
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.mode == Mode::Auto && self.username.is_empty() != self.password.is_empty() {
            let (set, unset) =
                if self.username.is_empty() { ("password", "username") } else { ("username", "password") };
            faults.push(Fault::new(
                unset,
                format!("is not set although wall.{set} is, so that the site would be open to everyone"),
                format!("Set wall.{unset} (AUTH_WALL_{}), or wall.mode = \"off\" on purpose.", unset.to_uppercase()),
            ));
        }
        if self.username.contains(':') {
            faults.push(Fault::new("username", "holds a colon, which ends a user name in HTTP Basic", NAME_FIX));
        }
        if self.realm.chars().any(char::is_control) {
            faults.push(Fault::new("realm", "holds a control character", "Write it on one line of plain text."));
        }
        for (name, hash) in &self.users {
            let key = format!("users.{name}");
            if name.is_empty() || name.contains(':') {
                faults.push(Fault::new(&key, "is a name that is empty or holds a colon", NAME_FIX));
            }
            if *name == self.username && !self.password.is_empty() {
                let fix = "Remove one of the two, so that it is clear which password is right.";
                faults.push(Fault::new(&key, "is the name in wall.username too", fix));
            }
            if let Err(problem) = parse_hash(hash.expose()) {
                faults.push(Fault::new(&key, format!("has no usable password hash: {problem}"), HASH_FIX));
            }
        }
        for path in &self.exempt {
            if let Some(problem) = exempt_problem(path) {
                faults.push(Fault::new("exempt", format!("\"{path}\" {problem}"), "Use \"/webhooks\"."));
            }
        }
        faults
    }
}

const NAME_FIX: &str = "Choose another name.";
const HASH_FIX: &str = "Make one with `beacon wall hash`; it starts with $argon2id$.";

/// Why a path would not exempt what it seems to: paths are compared as the ingress hands them on, decoded and tidy.
fn exempt_problem(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not start with /");
    }
    let inside = path.trim_end_matches('/');
    if inside.is_empty() {
        return Some("would open everything; wall.mode = \"off\" says so on purpose");
    }
    if inside.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Some("holds an empty segment, . or .., which no path has when it is compared");
    }
    if inside.contains(['?', '#', '*']) {
        return Some("holds ?, # or *; a path and everything below it is meant, there are no patterns");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(wall: &Wall) -> Vec<String> {
        wall.validate().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn half_a_user_is_a_fault_and_not_an_open_site() {
        let half = Wall { username: "ann".into(), ..Wall::default() };
        assert_eq!(keys(&half), ["password"]);
        assert_eq!(keys(&Wall { mode: Mode::Off, ..half }), Vec::<String>::new());
        assert_eq!(keys(&Wall { password: Secret::new("x"), ..Wall::default() }), ["username"]);
        assert!(Wall::default().validate().is_empty());
    }

    #[test]
    fn names_hashes_realms_and_paths_are_checked() {
        let wall = Wall {
            username: "a:b".into(),
            password: Secret::new("x"),
            realm: "two\nlines".into(),
            users: [("a:b".into(), Secret::new("$2y$10$abc"))].into(),
            exempt: ["hooks", "/", "/a/../b", "/a//b", "/a/*", "/good", "/good/"].map(String::from).into(),
            ..Wall::default()
        };
        let faults = keys(&wall);
        assert_eq!(faults[..5], ["username", "realm", "users.a:b", "users.a:b", "users.a:b"]);
        assert_eq!(faults[5..], ["exempt"; 5]);
    }
}
