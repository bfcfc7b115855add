//! The section `[database]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::Address;
use crate::error::Fault;
use crate::secret::Secret;

/// Where the database is, and how Beacon uses it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "postgres://user:password@host:5432/name"; DATABASE_URL sets it too. The login owns Beacon's schemas. Empty: a
    /// private server, see `managed`.
    pub url: Secret,
    /// The login that clients' requests run with, as in "postgres://authenticator:password@host/name". Empty: Beacon
    /// makes one for this database. It must be a member of the roles that requests change to, and own nothing.
    pub request_url: Secret,
    /// A program and its arguments that print the password of `url`, as `["aws", "rds", "generate-db-auth-token", …]`.
    /// It is asked again when its last answer is 10 minutes old or was refused, so that passwords may rotate.
    pub password_command: Vec<String>,
    /// "auto": what the URL's sslmode says; without one, "verify-full" for a host that is not local. Or "disable",
    /// "prefer", "require" (encrypted, nobody is verified), "verify-ca" or "verify-full".
    pub tls: TlsMode,
    /// A file with the certificates (PEM) that the server's must lead to; sslrootcert in the URL sets it too. Empty: the
    /// system's, Mozilla's, and /etc/beacon/rds-global-bundle.pem if it is there.
    pub tls_ca_file: PathBuf,
    /// The most connections for clients' requests; 0 is four for each processor, at least 8 and at most 40.
    pub connections: usize,
    /// The most connections for Beacon's own work.
    pub own_connections: usize,
    /// How long a request waits for a free connection before it is answered with 504.
    #[serde(with = "crate::clock::duration")]
    pub acquire_timeout: Duration,
    /// How long a connection may take to open.
    #[serde(with = "crate::clock::duration")]
    pub connect_timeout: Duration,
    /// The longest a request's transaction may take in all; above the roles' own statement_timeout.
    #[serde(with = "crate::clock::duration")]
    pub request_timeout: Duration,
    /// statement_timeout of the connections; a role's own setting is stronger.
    #[serde(with = "crate::clock::duration")]
    pub statement_timeout: Duration,
    /// lock_timeout of the connections.
    #[serde(with = "crate::clock::duration")]
    pub lock_timeout: Duration,
    /// How old a connection may become before it is opened anew, so that a failover or a rotated password is noticed.
    #[serde(with = "crate::clock::duration")]
    pub max_lifetime: Duration,
    /// How long sent data may stay unacknowledged before the connection counts as dead (TCP_USER_TIMEOUT).
    #[serde(with = "crate::clock::duration")]
    pub tcp_user_timeout: Duration,
    /// Whether statements are prepared and kept. Switch it off behind a pooler in transaction mode.
    pub prepared_statements: bool,
    /// A folder with the application's migrations, `"<number>_<name>.sql"`; empty: none.
    pub migrations: PathBuf,
    /// Whether `serve` applies the application's migrations before it is ready. Otherwise `beacon migrate up` does.
    pub migrate_on_start: bool,
    /// Whether Beacon gives service_role a policy on tables with row-level security where it may not have BYPASSRLS, as
    /// on RDS.
    pub service_role_policies: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            request_url: Secret::default(),
            password_command: Vec::new(),
            tls: TlsMode::Auto,
            tls_ca_file: PathBuf::new(),
            connections: 0,
            own_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_mins(1),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            max_lifetime: Duration::from_mins(30),
            tcp_user_timeout: Duration::from_secs(10),
            prepared_statements: true,
            migrations: PathBuf::new(),
            migrate_on_start: false,
            service_role_policies: true,
        }
    }
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// As the URL says, or by where the host is.
    #[default]
    Auto,
    /// Not at all.
    Disable,
    /// Encrypted if the server can; nobody is verified.
    Prefer,
    /// Encrypted; nobody is verified.
    Require,
    /// Encrypted, the server's certificate leads to a known authority.
    VerifyCa,
    /// Encrypted, and the certificate is the host's.
    VerifyFull,
}

impl Config {
    /// The most connections of clients' requests.
    #[must_use]
    pub fn request_connections(&self) -> usize {
        match self.connections {
            0 => (4 * std::thread::available_parallelism().map_or(2, usize::from)).clamp(8, 40),
            set => set,
        }
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, url) in [("url", &self.url), ("request_url", &self.request_url)] {
            if !url.is_empty()
                && let Err(error) = Address::parse(url, self)
            {
                faults.push(Fault::new(key, error.to_string(), "Use \"postgres://user:password@host:5432/name\"."));
            }
        }
        if self.own_connections < 3 {
            faults.push(Fault::new(
                "own_connections",
                "is less than 3: one listens, one watches the schema, one works",
                "Use 3 or more.",
            ));
        }
        for (key, value) in [
            ("acquire_timeout", self.acquire_timeout),
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("max_lifetime", self.max_lifetime),
            ("tcp_user_timeout", self.tcp_user_timeout),
        ] {
            if value.is_zero() {
                faults.push(Fault::new(key, "is zero", "Use a duration such as \"5s\"."));
            }
        }
        if self.migrate_on_start && self.migrations.as_os_str().is_empty() {
            faults.push(Fault::new(
                "migrate_on_start",
                "is on, but database.migrations names no folder",
                "Set database.migrations, or switch it off.",
            ));
        }
        faults
    }
}
