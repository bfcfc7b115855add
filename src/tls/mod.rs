//! Certificates: from files, from an ACME authority, or self-signed; chosen by name, replaced while serving.

mod config;

pub use config::{Acme, CertificateFiles, Challenge, Config, MinVersion, SelfSigned};
