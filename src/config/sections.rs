//! The whole configuration: each module's struct under its section, and the checks that need more than one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mount, Server};
use crate::error::Fault;
use crate::{api, auth, db, http, jobs, mail, managed, net, redis, storage, tasks, telemetry, tls};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process as a whole.
    pub server: Server,
    /// Where Beacon listens, for whom, and how many connections it takes.
    pub listen: net::Config,
    /// Certificates and protocol versions.
    pub tls: tls::Config,
    /// Hosts, redirect, headers, limits and deadlines.
    pub http: http::Config,
    /// A password in front of everything (HTTP Basic), for a site that is not public yet.
    pub wall: auth::Wall,
    /// What is logged, how and where.
    pub log: telemetry::Config,
    /// The data of the database over HTTP, at /rest/v1.
    pub api: api::Config,
    /// The PostgreSQL database.
    pub database: db::Config,
    /// Redis.
    pub redis: redis::Config,
    /// Private PostgreSQL and Redis servers, for an installation that has no others.
    pub managed: managed::Config,
    /// Object storage for uploads and static content.
    pub storage: storage::Config,
    /// Accounts: who may sign up and sign in, and what that takes.
    pub auth: auth::accounts::Config,
    /// The mail server, and what is sent through it.
    pub mail: mail::Config,
    /// Background tasks: queues, a Celery application, schedules.
    pub tasks: tasks::Config,
    /// Tasks without a program of their own: [handlers.NAME], where NAME is the task's.
    pub handlers: BTreeMap<String, jobs::Config>,
    /// What answers where: [mounts.NAME] with a name of your choice. Without any mount, Beacon serves a welcome page
    /// at / and its own documentation at /docs.
    pub mounts: BTreeMap<String, Mount>,
}

impl Config {
    /// Gives values that mean the same one form: a mount's path without a slash at its end, its host in lower case.
    pub(super) fn normalise(&mut self) {
        for mount in self.mounts.values_mut() {
            let path = mount.path.trim_end_matches('/');
            mount.path = if path.is_empty() && mount.path.starts_with('/') { "/".into() } else { path.into() };
            mount.host = mount.host.trim_end_matches('.').to_ascii_lowercase();
        }
    }

    /// What is wrong with the values, each fault with its whole key.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |section: &str, found: Vec<Fault>| {
            faults.extend(found.into_iter().map(|fault| fault.within(section)));
        };
        add("server", self.server.validate());
        add("listen", self.listen.validate());
        add("tls", self.tls.validate());
        add("http", self.http.validate());
        add("wall", self.wall.validate());
        add("log", self.log.validate());
        add("api", self.api.validate());
        add("database", self.database.validate());
        add("redis", self.redis.validate());
        add("managed", self.managed.validate());
        add("storage", self.storage.validate());
        add("auth", self.auth.validate());
        add("mail", self.mail.validate());
        add("tasks", self.tasks.validate());
        for (name, handler) in &self.handlers {
            add(&format!("handlers.{name}"), handler.validate());
        }
        for (name, mount) in &self.mounts {
            add(&format!("mounts.{name}"), mount.validate());
        }
        faults.extend(self.mounts_in_one_place());
        faults.extend(self.servers_of_two_kinds());
        faults
    }

    /// A private server that must be there beside a named one: neither could be said to be meant.
    fn servers_of_two_kinds(&self) -> Vec<Fault> {
        let both = [
            ("postgres", self.managed.postgres, "database.url", !self.database.url.is_empty()),
            ("redis", self.managed.redis, "redis.url", !self.redis.url.is_empty()),
        ];
        let both = both.into_iter().filter(|(_, mode, _, named)| *mode == managed::Mode::On && *named);
        let fault = |(key, _, url, _): (&str, _, &str, _)| {
            Fault::new(
                format!("managed.{key}"),
                format!("is \"on\", and {url} names another server"),
                format!("Remove {url}, or set managed.{key} to \"auto\" or \"off\"."),
            )
        };
        both.map(fault).collect()
    }

    /// Two mounts with the same host and path: neither could be said to win.
    fn mounts_in_one_place(&self) -> Vec<Fault> {
        let mut places: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, mount) in &self.mounts {
            if let Some(first) = places.insert((&mount.host, &mount.path), name) {
                let host = if mount.host.is_empty() { "every host".into() } else { format!("host {}", mount.host) };
                faults.push(Fault::new(
                    format!("mounts.{name}.path"),
                    format!("mounts.{first} and mounts.{name} both stand at \"{}\" of {host}", mount.path),
                    "Give one of them another path or host, or remove it.",
                ));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, path: &str) -> Mount {
        Mount { host: host.into(), path: path.into(), docs: Some(crate::docs::Config::default()), ..Mount::default() }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn mounts_at_one_place_are_told_by_both_names_whatever_the_slash_and_case() {
        let mut config = Config::default();
        config.mounts.insert("one".into(), at("Example.org.", "/docs/"));
        config.mounts.insert("two".into(), at("example.org", "/docs"));
        config.mounts.insert("three".into(), at("", "/docs"));
        config.normalise();
        let faults = config.validate();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].key, "mounts.two.path");
        assert!(faults[0].problem.contains("mounts.one and mounts.two"), "{}", faults[0].problem);
        assert!(faults[0].problem.contains("host example.org"), "{}", faults[0].problem);
    }

    #[test]
    fn a_private_server_beside_a_named_one_is_a_fault() {
        let mut config = Config::default();
        config.database.url = crate::secret::Secret::new("postgres://app@db.example.org/app");
        assert_eq!(config.validate(), []);
        config.managed.postgres = managed::Mode::On;
        let faults = config.validate();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].key, "managed.postgres");
    }

    #[test]
    fn a_path_of_slashes_is_the_root() {
        let mut config = Config::default();
        config.mounts.insert("site".into(), at("", "/"));
        config.normalise();
        assert_eq!(config.mounts["site"].path, "/");
    }
}
