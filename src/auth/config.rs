//! Configuration of the auth wall: the section `[wall]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
        for path in &self.exempt {
            if !path.starts_with('/') {
                faults.push(Fault::new("exempt", format!("\"{path}\" does not start with /"), "Use \"/webhooks\"."));
            }
        }
        faults
    }
}
