//! The same database for PostgreSQL's own programs (pg_dump, pg_restore), which use libpq.
//!
//! Everything goes through the environment, so that no password stands in a command line, which everybody can read.

use std::path::{Path, PathBuf};

use tokio_postgres::config::{Host, TargetSessionAttrs};

use super::address::Address;
use super::{Error, TlsMode, tls};

/// The variables for an address whose login and password are in `config`.
pub(super) fn variables(
    config: &tokio_postgres::Config,
    address: &Address,
) -> Result<Vec<(&'static str, String)>, Error> {
    let list = |items: Vec<String>| items.join(",");
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Unix(path) => path.display().to_string(),
        Host::Tcp(name) => name.clone(),
    });
    let mut all = vec![
        ("PGHOST", list(hosts.collect())),
        ("PGUSER", config.get_user().unwrap_or_default().to_owned()),
        ("PGDATABASE", config.get_dbname().unwrap_or_default().to_owned()),
        ("PGSSLMODE", mode(address.mode).to_owned()),
        ("PGAPPNAME", "beacon".to_owned()),
        // Nothing of the account that runs it: it would go before what is said here.
        ("PGPASSFILE", "/dev/null".to_owned()),
        ("PGSERVICEFILE", "/dev/null".to_owned()),
    ];
    let ports = list(config.get_ports().iter().map(u16::to_string).collect());
    let addresses = list(config.get_hostaddrs().iter().map(ToString::to_string).collect());
    for (name, value) in [("PGPORT", ports), ("PGHOSTADDR", addresses)] {
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    if let Some(password) = config.get_password() {
        all.push(("PGPASSWORD", String::from_utf8_lossy(password).into_owned()));
    }
    if let Some(options) = config.get_options() {
        all.push(("PGOPTIONS", options.to_owned()));
    }
    if let Some(timeout) = config.get_connect_timeout() {
        all.push(("PGCONNECT_TIMEOUT", timeout.as_secs().max(2).to_string()));
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
        all.push(("PGTARGETSESSIONATTRS", "read-write".to_owned()));
    }
    if matches!(address.mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        let file = tls::file(address).ok_or_else(|| Error::Authorities {
            path: PathBuf::new(),
            why: "PostgreSQL's own programs need them in a file, and this host has none: apt install ca-certificates, or \
                  set database.tls_ca_file"
                .into(),
        })?;
        all.push(("PGSSLROOTCERT", Path::display(&file).to_string()));
    }
    Ok(all)
}

fn mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable | TlsMode::Auto => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_url_becomes_variables() {
        let address = |url: &str| Address::parse(&Secret::new(url), &Config::default()).unwrap();
        let of = |url: &str| {
            let address = address(url);
            variables(&address.config, &address).unwrap()
        };
        let all = of("postgres://ann:a%27b@h1:1,h2:2/shop?sslmode=require&target_session_attrs=read-write");
        for expected in [
            ("PGHOST", "h1,h2"),
            ("PGPORT", "1,2"),
            ("PGUSER", "ann"),
            ("PGPASSWORD", "a'b"),
            ("PGDATABASE", "shop"),
            ("PGSSLMODE", "require"),
            ("PGTARGETSESSIONATTRS", "read-write"),
        ] {
            assert!(all.contains(&(expected.0, expected.1.to_owned())), "no {expected:?} in {all:?}");
        }
        let socket = of("postgres://ann@/shop?host=/run/x");
        assert!(socket.contains(&("PGHOST", "/run/x".to_owned())), "{socket:?}");
        assert!(!socket.iter().any(|(name, _)| *name == "PGPASSWORD" || *name == "PGSSLROOTCERT"), "{socket:?}");
        let mut verified = address("postgres://ann:x@db.example.org/shop");
        verified.authorities = "/ca.pem".into();
        let all = variables(&verified.config, &verified).unwrap();
        assert!(all.contains(&("PGSSLROOTCERT", "/ca.pem".to_owned())), "{all:?}");
    }
}
