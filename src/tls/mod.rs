//! Certificates: from files, from an ACME authority, or self-signed; chosen by name, replaced while serving.
//!
//! [`Prepared`] is everything read and checked with nothing changed yet; [`Tls`] serves it. Connections take the
//! current [`rustls::ServerConfig`] from [`Tls::acceptor_config`], and the certificate is looked up at each handshake,
//! so that a renewal reaches the next connection. A connection whose negotiated protocol is [`ACME_TLS_ALPN`] is an
//! authority's probe: its handshake was all that it came for, close it.

mod acme;
mod certificate;
mod config;
mod disk;
mod error;
mod files;
mod local;
mod provider;
mod resolver;
mod server;
#[cfg(test)]
mod tests;

pub use certificate::{CertificateStatus, Source};
pub use config::{Acme, CertificateFiles, Challenge, Config, MinVersion, SelfSigned};
pub use error::{Error, FileError};
pub use provider::{ACME_TLS_ALPN, provider};
pub use server::{Prepared, Tls};
