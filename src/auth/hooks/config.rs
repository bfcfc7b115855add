//! Configuration of hooks: the section `[auth.hooks]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::signature;
use crate::clock::duration;
use crate::error::Fault;
use crate::http::Destination;
use crate::secret::Secret;

/// Who is asked, and when.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Asked before an access token is signed; may change its claims.
    pub custom_access_token: Hook,
    /// Told of a mail instead of sending it, while the client already has its answer: it can fail, and not refuse.
    pub send_email: Hook,
    /// Asked before a user is made.
    pub before_user_created: Hook,
}

/// Who is asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Hook {
    /// A function in the database that takes and returns jsonb, as in "pg-functions://postgres/public/my_hook" or
    /// "public.my_hook", or the address of a program, as in `"https://hooks.example.org/token"`; "" is nobody.
    pub uri: String,
    /// What requests to a program are signed with (standardwebhooks.com): "v1,whsec_" and at least 24 bytes in base 64.
    /// Several are separated by |, so that a secret can be replaced without a gap.
    pub secret: Secret,
    /// How long the hook may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// Where a hook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A function in the database.
    Function {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A program behind HTTP.
    Program(Destination),
}

impl Default for Hook {
    fn default() -> Self {
        Self { uri: String::new(), secret: Secret::default(), timeout: Duration::from_secs(5) }
    }
}

impl Hook {
    /// Where the hook is; none when nobody is asked.
    pub(super) fn place(&self) -> Option<Result<Place, &'static str>> {
        let uri = self.uri.as_str();
        if uri.is_empty() {
            return None;
        }
        if uri.contains("://") && !uri.starts_with("pg-functions://") {
            return Some(Destination::parse(uri).map(Place::Program));
        }
        let parts = match uri.strip_prefix("pg-functions://") {
            Some(rest) => rest.strip_prefix("postgres/").and_then(|path| path.split_once('/')),
            None => uri.split_once('.'),
        };
        Some(match parts {
            Some((schema, name)) if is_name(schema) && is_name(name) => {
                Ok(Place::Function { schema: schema.to_owned(), name: name.to_owned() })
            }
            _ => Err("names no function"),
        })
    }

    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let place = self.place();
        if let Some(Err(problem)) = &place {
            let fix = "Use \"https://hooks.example.org/path\" or \"pg-functions://postgres/schema/function\".";
            faults.push(Fault::new("uri", *problem, fix));
        }
        let fix = "Use \"v1,whsec_\" followed by the output of `openssl rand -base64 32`.";
        match (&place, signature::keys(&self.secret)) {
            (Some(Ok(Place::Program(_))), _) if self.secret.is_empty() => {
                let problem = "is not set: the program could not tell Beacon from others";
                faults.push(Fault::new("secret", problem, fix));
            }
            (Some(Ok(Place::Function { .. })) | None, _) if !self.secret.is_empty() => {
                faults.push(Fault::new("secret", "is set, and no program is asked", "Remove it."));
            }
            (_, Err(problem)) => faults.push(Fault::new("secret", problem, fix)),
            _ => {}
        }
        if self.timeout < Duration::from_millis(100) || self.timeout > Duration::from_secs(30) {
            faults.push(Fault::new("timeout", "is not between 100ms and 30s", "Use \"5s\"."));
        }
        faults
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        [
            ("custom_access_token", &self.custom_access_token),
            ("send_email", &self.send_email),
            ("before_user_created", &self.before_user_created),
        ]
        .into_iter()
        .flat_map(|(name, hook)| hook.validate().into_iter().map(move |fault| fault.within(name)))
        .collect()
    }
}

/// A plain identifier, as long as PostgreSQL lets it be. Case counts.
fn is_name(text: &str) -> bool {
    (1..64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|ch: char| ch.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(uri: &str) -> Hook {
        Hook { uri: uri.into(), ..Hook::default() }
    }

    #[test]
    fn a_hook_is_a_function_or_a_program() {
        for uri in ["pg-functions://postgres/public/my_hook", "public.my_hook"] {
            let place = Place::Function { schema: "public".into(), name: "my_hook".into() };
            assert_eq!(hook(uri).place(), Some(Ok(place)), "{uri}");
        }
        assert!(matches!(hook("https://hooks.example.org/x").place(), Some(Ok(Place::Program(_)))));
        assert_eq!(hook("").place(), None);
        for bad in [
            "my_hook",
            "a.b.c",
            "public.x\";drop table users;--",
            "pg-functions://other/public/x",
            "pg-functions://postgres/public",
            "pg-functions://postgres/public/x/y",
            "pg-functions://postgres/1/x",
            "http://hooks.example.org/",
            "ftp://hooks.example.org/",
        ] {
            assert!(matches!(hook(bad).place(), Some(Err(_))), "{bad}");
        }
    }

    #[test]
    fn a_program_needs_a_secret_and_a_function_none() {
        let good = Secret::new("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let keys = |hook: Hook| {
            let config = Config { send_email: hook, ..Config::default() };
            config.validate().into_iter().map(|fault| fault.key).collect::<Vec<_>>()
        };
        assert!(keys(Hook { secret: good.clone(), ..hook("https://x.example/") }).is_empty());
        assert_eq!(keys(hook("https://x.example/")), ["send_email.secret"]);
        assert_eq!(keys(Hook { secret: Secret::new("whsec_x"), ..hook("https://x.example/") }), ["send_email.secret"]);
        assert_eq!(keys(Hook { secret: good.clone(), ..hook("public.x") }), ["send_email.secret"]);
        assert_eq!(keys(Hook { secret: good, ..hook("") }), ["send_email.secret"]);
        assert!(keys(hook("public.x")).is_empty() && keys(hook("")).is_empty());
        assert_eq!(keys(Hook { timeout: Duration::ZERO, ..hook("public.x") }), ["send_email.timeout"]);
        assert_eq!(keys(hook("nonsense")), ["send_email.uri"]);
    }
}
