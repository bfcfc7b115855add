//! A database's URL, taken apart: what tokio-postgres reads, and what it does not know (sslmode=verify-full and
//! sslrootcert).
//!
//! A user is always named in the result: without one, tokio-postgres would ask the host's NSS modules who runs the
//! process, which a static binary must not do.

use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::Host;

use super::{Config, Error, TlsMode};
use crate::secret::Secret;

/// A database's address.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// All but the protection.
    pub(super) config: tokio_postgres::Config,
    /// How the connection is protected; never `Auto`.
    pub(super) mode: TlsMode,
    /// The authorities; empty for the usual ones.
    pub(super) authorities: PathBuf,
    /// Host, port and name for messages, without a secret.
    pub(super) place: String,
}

impl Address {
    pub(super) fn parse(url: &Secret, settings: &Config) -> Result<Self, Error> {
        let url = url.expose();
        let bad = |why: &str| Error::Url(why.to_owned());
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or_else(|| bad("is not a PostgreSQL URL"))?;
        let (main, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut mode, mut authorities, mut kept) = (None, settings.tls_ca_file.clone(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| bad("has a parameter without a value"))?;
            match key {
                "sslmode" => mode = Some(mode_of(value).ok_or_else(|| bad("has an unknown sslmode"))?),
                "sslrootcert" => {
                    let text = percent_decode_str(value).decode_utf8().map_err(|_| bad("has a bad sslrootcert"))?;
                    if text != "system" && settings.tls_ca_file.as_os_str().is_empty() {
                        authorities = PathBuf::from(text.as_ref());
                    }
                }
                "sslcert" | "sslkey" | "sslcrl" | "sslpassword" => {
                    return Err(Error::Url(format!("has {key}, which Beacon does not do: log in with a password")));
                }
                _ => kept.push(pair.to_owned()),
            }
        }
        // As in libpq, a host among the parameters replaces the one before the path; tokio-postgres would use both.
        let mut main = main.to_owned();
        if kept.iter().any(|pair| pair.starts_with("host=")) {
            let (authority, path) = main.split_once('/').unwrap_or((&main, ""));
            let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            if let Some((_, port)) = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
                kept.push(format!("port={port}"));
            }
            main = format!("{login}@/{path}");
        }
        let clean = if kept.is_empty() {
            format!("postgres://{main}")
        } else {
            format!("postgres://{main}?{}", kept.join("&"))
        };
        // The error of the parser may quote a part of the URL, and so a password.
        let mut config: tokio_postgres::Config =
            clean.parse().map_err(|_| bad("cannot be read: a special character in the password must be %-encoded"))?;
        if config.get_user().is_none_or(str::is_empty) {
            return Err(bad("names no user"));
        }
        if config.get_hosts().is_empty() {
            return Err(bad("names no host"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            let user = config.get_user().unwrap_or_default().to_owned();
            config.dbname(user);
        }
        let mode = match (settings.tls, mode) {
            (TlsMode::Auto, Some(mode)) => mode,
            (TlsMode::Auto, None) if config.get_hosts().iter().all(is_local) => TlsMode::Disable,
            (TlsMode::Auto, None) => TlsMode::VerifyFull,
            (set, _) => set,
        };
        let mode =
            if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) { TlsMode::Disable } else { mode };
        config
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(settings.tcp_user_timeout)
            .keepalives(true)
            .keepalives_idle(std::time::Duration::from_secs(30))
            .keepalives_interval(std::time::Duration::from_secs(5))
            .keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("beacon");
        }
        let place = place(&config);
        Ok(Self { config, mode, authorities, place })
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// Whether all hosts are this one.
    pub(super) fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(is_local)
    }

    /// Whether a host of Amazon's RDS is among the hosts, whose authority nobody else knows.
    pub(super) fn is_rds(&self) -> bool {
        self.config
            .get_hosts()
            .iter()
            .any(|host| matches!(host, Host::Tcp(name) if name.trim_end_matches('.').ends_with(".rds.amazonaws.com")))
    }
}

fn mode_of(text: &str) -> Option<TlsMode> {
    Some(match text {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => return None,
    })
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        }
    }
}

fn place(config: &tokio_postgres::Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Unix(path) => path.display().to_string(),
            Host::Tcp(name) => {
                let ports = config.get_ports();
                let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
                format!("{name}:{port}")
            }
        })
        .collect();
    format!("\"{}\" at {}", config.get_dbname().unwrap_or_default(), hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, Error> {
        Address::parse(&Secret::new(url), &Config::default())
    }

    #[test]
    fn protection_is_full_for_a_distant_host_unless_the_url_says_less() {
        let mode = |url| parse(url).unwrap().mode;
        assert_eq!(mode("postgres://u:p@db.example.org/x"), TlsMode::VerifyFull);
        assert_eq!(mode("postgres://u:p@10.0.0.5:5433/x"), TlsMode::VerifyFull);
        assert_eq!(mode("postgres://u:p@localhost/x"), TlsMode::Disable);
        assert_eq!(mode("postgres://u:p@127.0.0.1/x"), TlsMode::Disable);
        assert_eq!(mode("postgres://u:p@[::1]/x"), TlsMode::Disable);
        assert_eq!(mode("postgresql://u:p@db/x?sslmode=require&application_name=y"), TlsMode::Require);
        assert_eq!(mode("postgres://u@/x?host=/run/postgresql&sslmode=require"), TlsMode::Disable);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_without_the_password() {
        let error = |url| parse(url).unwrap_err().to_string();
        assert!(error("mysql://x").contains("not a PostgreSQL URL"));
        assert!(error("postgres://localhost/x").contains("no user"));
        assert!(error("postgres://u:p@h/x?sslmode=on").contains("sslmode"));
        assert!(error("postgres://u:p@h/x?sslcert=c.pem").contains("sslcert"));
        assert!(!error("postgres://u:hunter2@h:port/x").contains("hunter2"));
    }

    #[test]
    fn the_place_has_no_secret_and_the_database_a_name() {
        let address = parse("postgres://ann:hunter2@h1:1,h2:2/shop?target_session_attrs=read-write").unwrap();
        assert_eq!(address.place, "\"shop\" at h1:1,h2:2");
        assert_eq!(parse("postgres://ann:x@localhost").unwrap().database(), "ann");
        let socket = parse("postgres://ann:x@localhost:99/shop?host=%2Ftmp%2Fpg").unwrap();
        assert_eq!((socket.place.as_str(), socket.config.get_ports()), ("\"shop\" at /tmp/pg", &[99][..]));
        assert!(parse("postgres://u:p@x.abc.eu-west-1.rds.amazonaws.com/x").unwrap().is_rds());
    }
}
