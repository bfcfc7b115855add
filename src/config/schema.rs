//! The known keys, taken from an example configuration in which everything is set, so that no list of keys has to be
//! kept beside the structs.
//!
//! The example must be complete: a field of type `Secret` filled, an `Option` set, a map with the entry [`ANY`]. The
//! test of `reference` reads the structs' sources and fails when one is forgotten here.

use std::collections::BTreeMap;

use figment::value::Value;

use super::{Config, Mount, Redirect};
use crate::secret::{MASK, Secret};
use crate::{auth, docs, jobs, site, tasks, tls};

/// Stands for a name of the user's choice, in the example and in the lists of keys.
pub(super) const ANY: &str = "*";

/// What may stand at a place in the configuration.
#[derive(Debug)]
pub(super) enum Known {
    /// Named keys.
    Table(BTreeMap<String, Known>),
    /// Names of the user's choice.
    Map(Box<Known>),
    /// A value.
    Leaf(Kind),
}

/// What kind of value a key has; the exact type is known to its struct alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Written as text, never shown.
    Secret,
    /// Written as text.
    Text,
    /// A number, true or false, or a list.
    Other,
}

/// What is at a path.
pub(super) enum Place<'a> {
    /// A known key.
    Known(&'a Known),
    /// `<secret>_file`: the secret's own path is the asked one without the suffix.
    SecretFile,
    /// Nothing; the length of the part of the path that is known.
    Unknown(usize),
}

impl Known {
    /// The keys of [`Config`].
    pub(super) fn of_config() -> Self {
        Value::serialize(example()).map_or(Self::Table(BTreeMap::new()), |value| Self::of(&value))
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Dict(_, dict) => match dict.get(ANY) {
                Some(any) => Self::Map(Box::new(Self::of(any))),
                None => Self::Table(dict.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect()),
            },
            Value::String(_, text) if text == MASK => Self::Leaf(Kind::Secret),
            Value::String(..) => Self::Leaf(Kind::Text),
            _ => Self::Leaf(Kind::Other),
        }
    }

    /// The key below this one.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Table(keys) => keys.get(name),
            Self::Map(any) => Some(any),
            Self::Leaf(_) => None,
        }
    }

    /// Whether `name` below this one is the file form of a secret. In a map of secrets every name that ends in
    /// `_file` is.
    pub(super) fn is_secret_file(&self, name: &str) -> bool {
        name.strip_suffix("_file").is_some_and(|secret| {
            !secret.is_empty()
                && matches!(self.child(secret), Some(Self::Leaf(Kind::Secret)))
                && (matches!(self, Self::Map(_)) || self.child(name).is_none())
        })
    }

    /// What is at `path`.
    pub(super) fn at(&self, path: &[String]) -> Place<'_> {
        let mut known = self;
        for (depth, name) in path.iter().enumerate() {
            if depth + 1 == path.len() && known.is_secret_file(name) {
                return Place::SecretFile;
            }
            match known.child(name) {
                Some(child) => known = child,
                None => return Place::Unknown(depth),
            }
        }
        Place::Known(known)
    }

    /// Whether what is at `path` is part of something that the user named, so that it is there only if it is written.
    pub(super) fn is_named_by_user(&self, path: &[String]) -> bool {
        let mut known = Some(self);
        path.iter().any(|name| {
            let map = matches!(known, Some(Self::Map(_)));
            known = known.and_then(|known| known.child(name));
            map
        })
    }

    /// Every key and section, dotted, with [`ANY`] for names of the user's choice.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect("", &mut keys);
        keys
    }

    fn collect(&self, prefix: &str, keys: &mut Vec<String>) {
        let mut each = |name: &str, child: &Self| {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            keys.push(key.clone());
            child.collect(&key, keys);
        };
        match self {
            Self::Table(children) => children.iter().for_each(|(name, child)| each(name, child)),
            Self::Map(any) => each(ANY, any),
            Self::Leaf(_) => {}
        }
    }

    /// The known key that a writer of `wrong` most likely meant.
    pub(super) fn nearest(&self, wrong: &str) -> Option<String> {
        let wrong: Vec<&str> = wrong.split('.').collect();
        self.keys()
            .iter()
            .filter(|key| !key.ends_with(ANY))
            .filter_map(|key| named_after(key, &wrong))
            .map(|key| (likeness(&wrong, &key), key))
            .filter(|(score, _)| *score > 0.6)
            .max_by(|(one, _), (two, _)| one.total_cmp(two))
            .map(|(_, key)| key.join("."))
    }
}

/// The names of `key`, with what was written in place of a name of choice; nothing where none could have been meant.
fn named_after<'a>(key: &'a str, wrong: &[&'a str]) -> Option<Vec<&'a str>> {
    let names: Vec<&str> = key.split('.').collect();
    let Some(any) = names.iter().position(|name| *name == ANY) else { return Some(names) };
    let alike = strsim::normalized_damerau_levenshtein(&names[..any].join("."), &wrong.get(..any)?.join(".")) > 0.7;
    let chosen = wrong.get(any).filter(|_| alike)?;
    Some(names.into_iter().map(|name| if name == ANY { chosen } else { name }).collect())
}

/// How likely `key` was meant by `wrong`, from 0 to 1.
fn likeness(wrong: &[&str], key: &[&str]) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein;
    let last = wrong.last().copied().unwrap_or_default();
    let whole = alike(&wrong.join("."), &key.join("."));
    // The last name against the key's last, and against all that may have been run together, as in redirect_to.
    let run_together = key.get(wrong.len() - 1..).unwrap_or_default().join("_");
    let tail = alike(last, key.last().copied().unwrap_or_default()).max(alike(last, &run_together));
    // Keys of one section are alike by that section; their own names must be alike too. The right name in the wrong
    // section is a likelier slip than another name in the right one, if the name says enough.
    if tail < 0.35 {
        0.0
    } else if last.len() > 2 {
        whole.max(0.4 * whole + 0.6 * tail)
    } else {
        whole
    }
}

/// A configuration with every option set and every map with the one entry [`ANY`].
pub(super) fn example() -> Config {
    let any = || BTreeMap::from([(ANY.to_owned(), "any".to_owned())]);
    let secret = || Secret::new("any");
    let secrets = || BTreeMap::from([(ANY.to_owned(), secret())]);
    let mut config = Config::default();
    config.tls.certificates.insert(ANY.into(), tls::CertificateFiles::default());
    config.tls.acme.eab_key = secret();
    config.wall.password = secret();
    config.wall.users.insert(ANY.into(), secret());
    config.api.app_settings = any();
    config.database.url = secret();
    config.database.request_url = secret();
    config.redis.url = secret();
    config.managed.postgres_settings = any();
    config.managed.redis_settings = any();
    config.storage.secret_access_key = secret();
    config.storage.session_token = secret();
    config.auth.jwt_secret = secret();
    let provider = auth::oauth::Provider { client_secret: secret(), private_key: secret(), ..Default::default() };
    config.auth.providers.insert(ANY.into(), provider);
    let hooks = &mut config.auth.hooks;
    for hook in [&mut hooks.custom_access_token, &mut hooks.send_email, &mut hooks.before_user_created] {
        hook.secret = secret();
    }
    config.mail.password = secret();
    config.tasks.broker_url = secret();
    config.tasks.result_url = secret();
    config.tasks.python.env = any();
    config.tasks.schedules.insert(ANY.into(), tasks::schedule::Entry::default());
    let handler = jobs::Config {
        mail: Some(jobs::Mail::default()),
        http: Some(jobs::Http { secret: secret(), headers: secrets(), ..jobs::Http::default() }),
        sql: Some(jobs::Sql::default()),
        command: Some(jobs::Command { env: secrets(), ..jobs::Command::default() }),
        ..jobs::Config::default()
    };
    config.handlers.insert(ANY.into(), handler);
    let mount = Mount {
        site: Some(site::Config { error_pages: any(), cache_control: any(), types: any(), ..site::Config::default() }),
        docs: Some(docs::Config::default()),
        redirect: Some(Redirect::default()),
        headers: any(),
        ..Mount::default()
    };
    config.mounts.insert(ANY.into(), mount);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> Vec<String> {
        key.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn keys_secrets_and_names_of_choice_are_told_apart() {
        let known = Known::of_config();
        assert!(matches!(known.at(&path("wall.password")), Place::Known(Known::Leaf(Kind::Secret))));
        assert!(matches!(known.at(&path("wall.username")), Place::Known(Known::Leaf(Kind::Text))));
        assert!(matches!(known.at(&path("wall.users.alice")), Place::Known(Known::Leaf(Kind::Secret))));
        assert!(matches!(known.at(&path("server.drain")), Place::Known(Known::Leaf(Kind::Text))));
        assert!(matches!(known.at(&path("server.workers")), Place::Known(Known::Leaf(Kind::Other))));
        assert!(matches!(known.at(&path("mounts.x.site.types.wasm")), Place::Known(Known::Leaf(Kind::Text))));
        assert!(matches!(known.at(&path("mounts.x")), Place::Known(Known::Table(_))));
    }

    #[test]
    fn what_is_below_a_name_of_choice_is_there_only_if_written() {
        let known = Known::of_config();
        assert!(known.is_named_by_user(&path("mounts.x")));
        assert!(known.is_named_by_user(&path("mounts.x.docs")));
        assert!(!known.is_named_by_user(&path("mounts")));
        assert!(!known.is_named_by_user(&path("http.limits")));
    }

    #[test]
    fn only_secrets_have_a_file_form() {
        let known = Known::of_config();
        assert!(matches!(known.at(&path("wall.password_file")), Place::SecretFile));
        assert!(matches!(known.at(&path("wall.users.alice_file")), Place::SecretFile));
        assert!(matches!(known.at(&path("wall.username_file")), Place::Unknown(1)));
        // A key of that name, which is no file form of anything.
        assert!(matches!(known.at(&path("tls.acme.ca_file")), Place::Known(_)));
    }

    #[test]
    fn the_nearest_key_is_found_in_its_own_and_in_other_sections() {
        let known = Known::of_config();
        for (wrong, right) in [
            ("listen.htps", "listen.https"),
            ("lisen", "listen"),
            ("wall.pasword", "wall.password"),
            ("http.idle", "http.timeouts.idle"),
            ("server.hosts", "http.hosts"),
            ("mounts.site.site.rot", "mounts.site.site.root"),
            ("mount", "mounts"),
            ("database_url", "database.url"),
            ("acme.email", "tls.acme.email"),
            ("mounts.www.root", "mounts.www.site.root"),
            ("mounts.www.redirect_to", "mounts.www.redirect.to"),
            ("wall.pass", "wall.password"),
            ("port", "mail.port"),
            ("server.port", "mail.port"),
        ] {
            assert_eq!(known.nearest(wrong).as_deref(), Some(right), "{wrong}");
        }
        for nothing in ["qqqqqqqq", "storage.bananas", "http.quux_level"] {
            assert_eq!(known.nearest(nothing), None, "{nothing}");
        }
    }
}
