//! Which certificate a handshake gets: exact name, then wildcard of one label, then the default.
//!
//! A look-up takes no lock and allocates nothing. The names that a client may ask for are bounded by TLS itself.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::provider::ACME_TLS_ALPN;

/// The certificates by name.
#[derive(Debug, Default)]
pub struct Table {
    /// Usually one each; more when, say, an RSA and an ECDSA certificate are for the same name.
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Table {
    /// A table of certificates in order of preference; the first is the default.
    #[must_use]
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Self {
        let mut table = Self::default();
        for certificate in certificates {
            if table.default.is_empty() {
                table.default.push(Arc::clone(&certificate.key));
            }
            for name in &certificate.names {
                let slot = match name.strip_prefix("*.") {
                    Some(rest) => table.wildcard.entry(rest.into()),
                    None => table.exact.entry(name.as_str().into()),
                };
                slot.or_default().push(Arc::clone(&certificate.key));
            }
        }
        table
    }

    /// Those that fit a name, in lower case without a final dot; the default without a name or for an unknown one.
    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        name.and_then(|name| {
            self.exact.get(name).or_else(|| {
                let (_, rest) = name.split_once('.')?;
                self.wildcard.get(rest)
            })
        })
        .unwrap_or(&self.default)
    }
}

/// Chooses the certificate of each handshake; its table can be swapped at any time.
#[derive(Debug)]
pub struct Resolver {
    table: ArcSwap<Table>,
    challenges: ArcSwap<HashMap<Box<str>, Arc<CertifiedKey>>>,
}

impl Resolver {
    /// A resolver with no challenge pending.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table: ArcSwap::from_pointee(table), challenges: ArcSwap::default() }
    }

    /// Handshakes from now on use `table`.
    pub fn set(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// Answers tls-alpn-01 probes for `name` with `key`, or no longer.
    pub fn challenge(&self, name: &str, key: Option<&Arc<CertifiedKey>>) {
        self.challenges.rcu(|now| {
            let mut next = HashMap::clone(now);
            match key {
                Some(key) => next.insert(name.into(), Arc::clone(key)),
                None => next.remove(name),
            };
            next
        });
    }

    fn lookup(&self, name: Option<&str>, schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let fit = table.find(name.map(|name| name.strip_suffix('.').unwrap_or(name)));
        let chosen = match fit {
            [] => None,
            [only] => Some(only),
            [first, ..] => fit.iter().find(|key| key.key.choose_scheme(schemes).is_some()).or(Some(first)),
        };
        chosen.map(Arc::clone)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case already.
        let name = hello.server_name();
        if let Some(mut protocols) = hello.alpn()
            && protocols.next() == Some(ACME_TLS_ALPN)
            && protocols.next().is_none()
        {
            return self.challenges.load().get(name?).map(Arc::clone);
        }
        self.lookup(name, hello.signature_schemes())
    }
}
