//! What can go wrong with certificates, told so that the operator knows which file to touch.

use std::io;
use std::path::PathBuf;

/// Certificates could not be prepared or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configured certificate cannot be used.
    #[error("the certificate \"{name}\" (tls.certificates.{name}) cannot be used")]
    Certificate {
        /// The name under `tls.certificates`.
        name: String,
        /// Which file and why.
        source: FileError,
    },
    /// The root of the ACME authority cannot be used.
    #[error("the authority's root (tls.acme.ca_file) cannot be used")]
    AuthorityRoot(#[source] FileError),
    /// The state folder does not let us keep what must be kept.
    #[error(
        "cannot write {}: let the user that runs Beacon write there, or set another state folder", path.display()
    )]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The local certificate could not be made.
    #[error("cannot make the local certificate for {names}: check tls.self_signed.names")]
    Local {
        /// The names asked for.
        names: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The cryptographic provider refused; not expected with the built-in one.
    #[error("cannot set up TLS")]
    Rustls(#[from] rustls::Error),
}

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}{}", path.display(), hint(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any certificate chain.
    #[error("{} is larger than 1 MiB, which no certificate or key is: check the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The PEM text is damaged.
    #[error("{} is not a sound PEM file ({reason}): copy it again from its origin", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// No certificate in the file.
    #[error("there is no certificate in {}: it needs a block that begins with -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot be parsed.
    #[error("the certificate in {} cannot be understood ({reason})", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// No private key in the file.
    #[error("there is no private key in {}: it needs a block that begins with -----BEGIN PRIVATE KEY-----", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is protected by a passphrase.
    #[error("the private key in {} is encrypted: decrypt it with `openssl pkey -in KEY -out NEWKEY`", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A key of a kind that cannot be used.
    #[error("the private key in {} cannot be used: give an ECDSA, RSA (2048 bits or more) or Ed25519 key", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the provider says.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}{}", key.display(), cert.display(), place(*belongs_to))]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The place of the certificate in the file that the key does belong to, counted from 1.
        belongs_to: Option<usize>,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (check the path)",
        io::ErrorKind::PermissionDenied => " (let the user that runs Beacon read it and enter its folders)",
        io::ErrorKind::IsADirectory => " (give a file, not a folder)",
        _ => "",
    }
}

fn place(belongs_to: Option<usize>) -> String {
    belongs_to.map_or_else(
        || ": use the key that the certificate was made with".into(),
        |place| format!(": it belongs to number {place} in there, put that one first"),
    )
}
