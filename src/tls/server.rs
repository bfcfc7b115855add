//! [`Prepared`] and [`Tls`]: the certificates that serve, and their replacement while serving.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::acme::{self, Store};
use super::certificate::{Certificate, CertificateStatus, Source, check_root};
use super::config::Config;
use super::error::Error;
use super::files::{FileCertificate, Stamp};
use super::local::{Local, RENEW_BEFORE};
use super::provider::{Sessions, server_config};
use super::resolver::{Resolver, Table};
use crate::error::chain;

/// How often the files are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// Everything read and checked, nothing changed yet.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    files: Vec<FileCertificate>,
    store: Option<Store>,
    /// Taken before the certificate was read, so that one issued since is noticed.
    issued_stamp: Option<Stamp>,
    issued: Option<Certificate>,
    local: Local,
    local_certificate: Option<Certificate>,
}

impl Prepared {
    /// Reads the configured files, the certificate that an authority issued earlier, and the local one if it is needed
    /// and there. Writes nothing and talks to nobody.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a configured file cannot be used. Cached certificates that cannot be read are made
    /// anew later and are no error.
    pub fn new(config: &Config, state_dir: &Path) -> Result<Self, Error> {
        super::provider::provider();
        let files = config
            .certificates
            .iter()
            .map(|(name, files)| FileCertificate::open(name, files))
            .collect::<Result<Vec<_>, _>>()?;
        let store = Store::new(&config.acme, state_dir);
        let root = &config.acme.ca_file;
        if store.is_some() && !root.as_os_str().is_empty() {
            check_root(root).map_err(Error::AuthorityRoot)?;
        }
        let issued_stamp = store.as_ref().map(|store| Stamp::of(&store.certificate_path()));
        let issued = store.as_ref().and_then(Store::certificate);
        let local = Local::new(state_dir, &config.self_signed.names);
        let local_certificate = (files.is_empty() && issued.is_none()).then(|| local.read(SystemTime::now())).flatten();
        Ok(Self { config: config.clone(), files, store, issued_stamp, issued, local, local_certificate })
    }
}

/// The certificates that serve. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resolver: Arc<Resolver>,
    server: ArcSwap<ServerConfig>,
    sessions: Sessions,
    tokens: Arc<Tokens>,
    state: Mutex<State>,
    /// What is to be ordered from the authority has changed.
    acme_changed: Notify,
}

/// The answers to pending http-01 challenges, by token.
pub(super) type Tokens = ArcSwap<HashMap<String, String>>;

#[derive(Debug)]
struct State {
    prepared: Prepared,
    acme_error: Option<String>,
    local_error: Option<String>,
}

impl State {
    fn new(prepared: Prepared) -> Self {
        Self { prepared, acme_error: None, local_error: None }
    }

    /// Configured files first, then what the authority issued, then the local certificate.
    fn table(&self) -> Table {
        let prepared = &self.prepared;
        Table::new(
            prepared
                .files
                .iter()
                .map(|file| &file.certificate)
                .chain(&prepared.issued)
                .chain(&prepared.local_certificate),
        )
    }
}

impl Prepared {
    /// Makes the local certificate if nothing else could serve.
    fn complete(&mut self) -> Result<(), Error> {
        if self.files.is_empty() && self.issued.is_none() && self.local_certificate.is_none() {
            self.local_certificate = Some(self.local.ensure(SystemTime::now())?);
        }
        Ok(())
    }
}

impl Tls {
    /// Takes `prepared` into service. Makes the local authority and certificate if nothing else could serve; never
    /// waits for an ACME authority.
    ///
    /// # Errors
    /// [`Error::State`] or [`Error::Local`] when the local certificate is needed and cannot be made.
    pub fn start(mut prepared: Prepared) -> Result<Self, Error> {
        prepared.complete()?;
        let sessions = Sessions::new()?;
        let min = prepared.config.min_version;
        let state = State::new(prepared);
        let resolver = Arc::new(Resolver::new(state.table()));
        let server = server_config(min, Arc::clone(&resolver) as _, &sessions)?;
        Ok(Self(Arc::new(Inner {
            resolver,
            server: ArcSwap::from_pointee(server),
            sessions,
            tokens: Arc::default(),
            state: Mutex::new(state),
            acme_changed: Notify::new(),
        })))
    }

    /// Replaces what serves by `prepared` (a reload). Clients resume their sessions across it; connections that are
    /// open stay as they are.
    ///
    /// # Errors
    /// As for [`Tls::start`]; then nothing has changed.
    pub fn swap(&self, mut prepared: Prepared) -> Result<(), Error> {
        prepared.complete()?;
        let inner = &*self.0;
        let server = server_config(prepared.config.min_version, Arc::clone(&inner.resolver) as _, &inner.sessions)?;
        let mut next = State::new(prepared);
        let mut state = self.state();
        let same_acme = next.prepared.store == state.prepared.store;
        if same_acme {
            next.acme_error = state.acme_error.take();
        }
        *state = next;
        inner.resolver.set(state.table());
        drop(state);
        inner.server.store(Arc::new(server));
        if !same_acme {
            inner.acme_changed.notify_one();
        }
        Ok(())
    }

    /// The configuration for the next connection.
    #[must_use]
    pub fn acceptor_config(&self) -> Arc<ServerConfig> {
        self.0.server.load_full()
    }

    /// The body of `/.well-known/acme-challenge/TOKEN` while that challenge is pending (RFC 8555 section 8.3), to be
    /// sent as application/octet-stream.
    #[must_use]
    pub fn http01(&self, token: &str) -> Option<String> {
        self.0.tokens.load().get(token).cloned()
    }

    /// The local authority's certificate, for the user to trust, if the local certificate serves.
    #[must_use]
    pub fn ca_path(&self) -> Option<PathBuf> {
        let state = self.state();
        state.prepared.local_certificate.is_some().then(|| state.prepared.local.ca_path())
    }

    /// Reads the configured files now, changed or not. Bad ones leave the old ones serving and are logged.
    pub fn reload_files(&self) {
        let mut state = self.state();
        for file in &mut state.prepared.files {
            file.reload();
        }
        self.0.resolver.set(state.table());
    }

    /// One line for each certificate.
    #[must_use]
    pub fn status(&self) -> Vec<CertificateStatus> {
        let state = self.state();
        let prepared = &state.prepared;
        let mut lines: Vec<_> = prepared.files.iter().map(FileCertificate::status).collect();
        if let Some(store) = &prepared.store {
            lines.push(match &prepared.issued {
                Some(issued) => issued.status(Source::Acme, state.acme_error.clone()),
                None => CertificateStatus {
                    names: store.names().to_vec(),
                    not_after: None,
                    source: Source::Acme,
                    error: state.acme_error.clone(),
                },
            });
        }
        if let Some(local) = &prepared.local_certificate {
            lines.push(local.status(Source::SelfSigned, state.local_error.clone()));
        }
        lines
    }

    /// Watches the files, renews the local certificate, orders and renews from the ACME authority; until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let watch = async {
            let mut ticks = tokio::time::interval(WATCH);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let tls = self.clone();
                // A state folder or a certificate on a network disk that hangs must not hold a worker thread.
                let _ = tokio::task::spawn_blocking(move || tls.look(SystemTime::now())).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch => {}
            () = acme::run(&self) => {}
        }
    }

    /// One look at everything on disk.
    pub(super) fn look(&self, now: SystemTime) {
        let mut state = self.state();
        let mut changed = false;
        for file in &mut state.prepared.files {
            changed |= file.poll();
        }
        changed |= state.look_at_issued();
        changed |= state.renew_local(now);
        if changed {
            self.0.resolver.set(state.table());
        }
    }

    /// What the ACME loop works on.
    pub(super) fn acme_job(&self) -> Option<(Store, Option<Certificate>)> {
        let state = self.state();
        Some((state.prepared.store.clone()?, state.prepared.issued.clone()))
    }

    /// Takes a newly issued certificate into service, unless the configuration has moved on meanwhile.
    pub(super) fn issued(&self, store: &Store, certificate: Certificate) {
        let mut state = self.state();
        if state.prepared.store.as_ref() == Some(store) {
            state.prepared.issued_stamp = Some(Stamp::of(&store.certificate_path()));
            state.adopt(certificate);
            self.0.resolver.set(state.table());
        }
    }

    /// Remembers why the last order failed.
    pub(super) fn acme_failed(&self, store: &Store, error: String) {
        let mut state = self.state();
        if state.prepared.store.as_ref() == Some(store) {
            state.acme_error = Some(error);
        }
    }

    /// Where challenges are answered.
    pub(super) fn challenges(&self) -> (&Arc<Resolver>, &Arc<Tokens>) {
        (&self.0.resolver, &self.0.tokens)
    }

    /// Resolves when what is to be ordered has changed.
    pub(super) async fn acme_changed(&self) {
        self.0.acme_changed.notified().await;
    }

    /// A panic while holding the lock leaves whole values behind: each is assigned in one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Another process on the same state folder (the other slot of a swap) may have renewed.
    fn look_at_issued(&mut self) -> bool {
        let Some(store) = &self.prepared.store else { return false };
        let now = Some(Stamp::of(&store.certificate_path()));
        if now == self.prepared.issued_stamp {
            return false;
        }
        self.prepared.issued_stamp = now;
        match store.certificate() {
            Some(certificate) => {
                self.adopt(certificate);
                true
            }
            None => false,
        }
    }

    /// An issued certificate serves, and the local one is no longer needed.
    fn adopt(&mut self, certificate: Certificate) {
        self.prepared.issued = Some(certificate);
        self.prepared.local_certificate = None;
        self.acme_error = None;
    }

    fn renew_local(&mut self, now: SystemTime) -> bool {
        let Some(local) = &self.prepared.local_certificate else { return false };
        if local.not_after > now + RENEW_BEFORE {
            return false;
        }
        match self.prepared.local.ensure(now) {
            Ok(certificate) => {
                self.prepared.local_certificate = Some(certificate);
                self.local_error = None;
                true
            }
            Err(error) => {
                let text = chain(&error).to_string();
                if self.local_error.as_ref() != Some(&text) {
                    tracing::error!(
                        error = text,
                        "the local certificate cannot be renewed, the old one goes on serving"
                    );
                }
                self.local_error = Some(text);
                false
            }
        }
    }
}
