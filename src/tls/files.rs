//! A certificate from PEM files, and when to read them again.
//!
//! The files are looked at by path every second, following links, so that a link that is pointed elsewhere (as certbot
//! does) counts as a change. A change is acted on when two looks agree: the certificate and the key are two files, and
//! whoever writes them needs a moment between.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::certificate::{Certificate, CertificateStatus, Source};
use super::config::CertificateFiles;
use super::error::{Error, FileError};
use crate::error::chain;

/// What tells one content of a file from another without reading it; none when the file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<[i128; 7]>);

impl Stamp {
    /// The stamp of what the path leads to now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|meta| {
            [
                meta.dev().into(),
                meta.ino().into(),
                meta.size().into(),
                meta.mtime().into(),
                meta.mtime_nsec().into(),
                // The change time too: a copy that keeps the modification time (cp -p, rsync) changes this one.
                meta.ctime().into(),
                meta.ctime_nsec().into(),
            ]
        }))
    }
}

/// One configured certificate.
#[derive(Clone, Debug)]
pub struct FileCertificate {
    name: String,
    files: CertificateFiles,
    /// What is serving.
    pub certificate: Certificate,
    seen: [Stamp; 2],
    pending: Option<[Stamp; 2]>,
    error: Option<String>,
}

impl FileCertificate {
    /// Reads the files of `tls.certificates.NAME`.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn open(name: &str, files: &CertificateFiles) -> Result<Self, Error> {
        let seen = stamps(files);
        let certificate = Certificate::load(&files.cert, &files.key)
            .map_err(|source| Error::Certificate { name: name.into(), source })?;
        let slot = Self { name: name.into(), files: files.clone(), certificate, seen, pending: None, error: None };
        slot.warn_if_odd();
        Ok(slot)
    }

    /// Looks at the files and reads them if they have changed; true when another certificate serves from now on.
    pub fn poll(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.seen {
            self.pending = None;
            return false;
        }
        if self.pending.replace(now) != Some(now) {
            return false;
        }
        self.reload()
    }

    /// Reads the files now; true when another certificate serves from now on. A bad file is logged once and leaves the
    /// old certificate serving.
    pub fn reload(&mut self) -> bool {
        self.seen = stamps(&self.files);
        self.pending = None;
        match Certificate::load(&self.files.cert, &self.files.key) {
            Ok(certificate) => {
                let changed = certificate.key.cert != self.certificate.key.cert;
                self.certificate = certificate;
                self.error = None;
                if changed {
                    tracing::info!(
                        certificate = self.name,
                        names = self.certificate.names.join(" "),
                        "the certificate \"{}\" was loaded anew",
                        self.name
                    );
                    self.warn_if_odd();
                }
                true
            }
            Err(error) => {
                self.refused(&error);
                false
            }
        }
    }

    /// The status line.
    #[must_use]
    pub fn status(&self) -> CertificateStatus {
        self.certificate.status(Source::File(self.files.cert.clone()), self.error.clone())
    }

    fn refused(&mut self, error: &FileError) {
        let text = chain(error).to_string();
        if self.error.as_ref() != Some(&text) {
            tracing::error!(
                certificate = self.name,
                error = text,
                "the changed files of the certificate \"{}\" cannot be used, the old one goes on serving",
                self.name
            );
        }
        self.error = Some(text);
    }

    fn warn_if_odd(&self) {
        let path = self.files.cert.display();
        if self.certificate.expired(SystemTime::now()) {
            tracing::warn!(certificate = self.name, "the certificate in {path} has expired: clients will refuse it");
        }
        if self.certificate.names.is_empty() {
            tracing::warn!(
                certificate = self.name,
                "the certificate in {path} has no subject alternative name: clients will refuse it"
            );
        }
    }
}

fn stamps(files: &CertificateFiles) -> [Stamp; 2] {
    [Stamp::of(&files.cert), Stamp::of(&files.key)]
}
