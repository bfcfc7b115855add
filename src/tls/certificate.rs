//! One certificate chain with its key: parsed from PEM, checked, ready for handshakes.
//!
//! An expired certificate is usable on purpose: a server that answers with a warning page in the browser can still be
//! mended, one that does not start cannot.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::FileError;
use super::provider::provider;

/// A chain, its key, and what its first certificate says.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What handshakes use.
    pub key: Arc<CertifiedKey>,
    /// DNS names and addresses of the subject alternative name, lower case; wildcards begin with `*.`.
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// The identifier for renewal information (RFC 9773 section 4.1), if the certificate names its issuer's key.
    pub renewal_id: Option<(String, String)>,
}

/// Where a certificate came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A PEM file.
    File(PathBuf),
    /// The ACME authority.
    Acme,
    /// The local authority.
    SelfSigned,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Acme => out.write_str("acme"),
            Self::SelfSigned => out.write_str("self-signed"),
        }
    }
}

/// What is known about one certificate, for health, metrics and the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The names it is for.
    pub names: Vec<String>,
    /// End of validity; none while the authority has not issued it yet.
    pub not_after: Option<SystemTime>,
    /// Where it came from.
    pub source: Source,
    /// Why the last load, order or renewal failed; none when it went well.
    pub error: Option<String>,
}

impl Certificate {
    /// Reads a chain from `cert` and its key from `key`; the paths may be the same.
    ///
    /// # Errors
    /// [`FileError`] names the file and what is wrong with it.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, FileError> {
        let chain = read(cert)?;
        let secret = if cert == key { None } else { Some(read(key)?) };
        Self::from_pem(&chain, secret.as_ref().unwrap_or(&chain), cert, key)
    }

    /// The same from PEM text; the paths are for messages.
    ///
    /// # Errors
    /// As for [`Certificate::load`].
    pub fn from_pem(chain: &[u8], secret: &[u8], cert: &Path, key: &Path) -> Result<Self, FileError> {
        let bad_pem = |path: &Path, error: &PemError| FileError::Pem { path: path.into(), reason: error.to_string() };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|error| bad_pem(cert, &error))?;
        if chain.is_empty() {
            return Err(FileError::NoCertificate { path: cert.into() });
        }
        let secret = match PrivateKeyDer::from_pem_slice(secret) {
            Ok(secret) => secret,
            Err(PemError::NoItemsFound) if is_encrypted(secret) => {
                return Err(FileError::EncryptedKey { path: key.into() });
            }
            Err(PemError::NoItemsFound) => return Err(FileError::NoKey { path: key.into() }),
            Err(_) if is_encrypted(secret) => return Err(FileError::EncryptedKey { path: key.into() }),
            Err(error) => return Err(bad_pem(key, &error)),
        };
        Self::new(chain, secret, cert, key)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// As for [`Certificate::load`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        secret: PrivateKeyDer<'static>,
        cert: &Path,
        key: &Path,
    ) -> Result<Self, FileError> {
        let signer = provider()
            .key_provider
            .load_private_key(secret)
            .map_err(|source| FileError::BadKey { path: key.into(), source })?;
        let Some(first) = chain.first() else { return Err(FileError::NoCertificate { path: cert.into() }) };
        let facts = Facts::read(first, cert)?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let belongs_to = certified.cert.iter().position(|other| {
                    CertifiedKey::new(vec![other.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
                });
                return Err(FileError::Mismatch {
                    cert: cert.into(),
                    key: key.into(),
                    belongs_to: belongs_to.map(|index| index + 1),
                });
            }
            Err(error) => return Err(FileError::BadCertificate { path: cert.into(), reason: error.to_string() }),
        }
        Ok(Self {
            key: Arc::new(certified),
            names: facts.names,
            not_before: facts.not_before,
            not_after: facts.not_after,
            renewal_id: facts.renewal_id,
        })
    }

    /// Whether the validity is over at `now`.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        self.not_after <= now
    }

    /// Whether the certificate is for exactly these names, in any order and case.
    #[must_use]
    pub fn is_for<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let mut wanted: Vec<String> = names.into_iter().map(normal).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut have = self.names.clone();
        have.sort_unstable();
        have.dedup();
        wanted == have
    }

    /// The status line of this certificate.
    #[must_use]
    pub fn status(&self, source: Source, error: Option<String>) -> CertificateStatus {
        CertificateStatus { names: self.names.clone(), not_after: Some(self.not_after), source, error }
    }
}

/// A name as it is compared: lower case, addresses in their canonical form.
#[must_use]
pub fn normal(name: &str) -> String {
    name.parse::<std::net::IpAddr>()
        .map_or_else(|_| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(), |address| address.to_string())
}

/// Checks that a PEM file begins with a certificate, as an authority's root must.
///
/// # Errors
/// [`FileError`].
pub fn check_root(path: &Path) -> Result<(), FileError> {
    match CertificateDer::from_pem_slice(&read(path)?) {
        Ok(der) => Facts::read(&der, path).map(|_| ()),
        Err(PemError::NoItemsFound) => Err(FileError::NoCertificate { path: path.into() }),
        Err(error) => Err(FileError::Pem { path: path.into(), reason: error.to_string() }),
    }
}

/// What the first certificate of a chain says.
struct Facts {
    names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    renewal_id: Option<(String, String)>,
}

impl Facts {
    fn read(der: &CertificateDer<'_>, path: &Path) -> Result<Self, FileError> {
        let bad = |reason: String| FileError::BadCertificate { path: path.into(), reason };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
        let mut names = Vec::new();
        if let Some(san) = parsed.subject_alternative_name().map_err(|error| bad(error.to_string()))? {
            for name in &san.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.push(normal(name)),
                    GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let issuer = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        let serial = BASE64_URL_SAFE_NO_PAD.encode(parsed.raw_serial());
        let validity = parsed.validity();
        Ok(Self {
            names,
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            renewal_id: issuer.map(|issuer| (BASE64_URL_SAFE_NO_PAD.encode(issuer), serial)),
        })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

fn moment(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix.max(0) as u64)
}

/// PKCS #8 says it in the label, the older OpenSSL form in a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| memchr::memmem::find(pem, needle).is_some();
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Reads at most 1 MiB, so that a path to a device or a log cannot fill the memory.
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    use std::io::Read as _;
    const LIMIT: u64 = 1 << 20;
    let fail = |source| FileError::Read { path: path.into(), source };
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.by_ref().take(LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMIT {
        return Err(FileError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}
