//! The certificate for local use: a local authority made once, and a short-lived certificate that it signs.
//!
//! STATE/tls holds `ca.crt` (what a user may trust), `ca.key` and `server.pem` (chain and key in one file, so that the
//! two never disagree). The authority is constrained to local and private names and to the names configured when it was
//! made: whoever trusts it does not trust us with the rest of the internet.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Certificate, normal};
use super::disk::{self, Lock};
use super::error::Error;

const DAY: Duration = Duration::from_hours(24);
/// Ten years.
const CA_LIFE: Duration = Duration::from_hours(3_650 * 24);
/// Browsers refuse more than 398 days; one day of it lies in the past for clocks that are behind.
const LEAF_LIFE: Duration = Duration::from_hours(396 * 24);
/// How long before its end the certificate is made anew.
pub const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);

/// Names that no public authority certifies, which the local one may always sign.
const LOCAL_NAMES: [&str; 6] = ["localhost", "local", "test", "internal", "lan", "home.arpa"];
/// Loopback, private and link-local networks.
const LOCAL_NETWORKS: [(&str, u8); 8] = [
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("::1", 128),
    ("fc00::", 7),
    ("fe80::", 10),
];

/// The folder and the names of the local certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    folder: PathBuf,
    names: Vec<String>,
}

impl Local {
    /// The local certificate kept in `state`, for `names`.
    #[must_use]
    pub fn new(state: &Path, names: &[String]) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| normal(name)).collect();
        names.dedup();
        Self { folder: state.join("tls"), names }
    }

    /// The authority's certificate, for the user to trust.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The certificate made earlier, if it is still good for 30 days and for these names. Writes nothing.
    #[must_use]
    pub fn read(&self, now: SystemTime) -> Option<Certificate> {
        let path = self.folder.join("server.pem");
        let leaf = Certificate::load(&path, &path).ok()?;
        let (ca, _) = self.authority(now)?;
        let fresh = leaf.not_after > now + RENEW_BEFORE
            && leaf.not_before <= now
            && leaf.is_for(self.names.iter().map(String::as_str))
            && leaf.key.cert.get(1) == Some(&ca);
        fresh.then_some(leaf)
    }

    /// The certificate made earlier if that is good, else a new one; the authority too is made if there is none that
    /// may sign these names.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::Local`].
    pub fn ensure(&self, now: SystemTime) -> Result<Certificate, Error> {
        if let Some(leaf) = self.read(now) {
            return Ok(leaf);
        }
        disk::folder(&self.folder)?;
        // Two processes that start at once must not each make an authority.
        let _lock = Lock::wait(&self.folder)?;
        if let Some(leaf) = self.read(now) {
            return Ok(leaf);
        }
        let fail = |source| Error::Local { names: self.names.join(", "), source };
        let (ca, key) = match self.authority(now) {
            Some(found) => found,
            None => self.make_authority(now)?,
        };
        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(fail)?;
        let secret = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let leaf = leaf_params(&self.names, now).and_then(|params| params.signed_by(&secret, &issuer)).map_err(fail)?;
        let text = format!("{}{}{}", secret.serialize_pem(), leaf.pem(), pem(&ca));
        let path = self.folder.join("server.pem");
        disk::write(&path, text.as_bytes())?;
        Certificate::from_pem(text.as_bytes(), text.as_bytes(), &path, &path)
            .map_err(|error| Error::State { path, source: std::io::Error::other(error) })
    }

    /// The authority on disk, if it is whole, lasts longer than a certificate and may sign our names.
    fn authority(&self, now: SystemTime) -> Option<(CertificateDer<'static>, KeyPair)> {
        let (cert, key) = (self.ca_path(), self.folder.join("ca.key"));
        let ca = Certificate::load(&cert, &key).ok()?;
        let der = ca.key.cert.first()?.clone();
        let fits = ca.not_after > now + LEAF_LIFE && self.names.iter().all(|name| may_sign(&der, name));
        let key = KeyPair::from_pem(&std::fs::read_to_string(key).ok()?).ok()?;
        fits.then_some((der, key))
    }

    fn make_authority(&self, now: SystemTime) -> Result<(CertificateDer<'static>, KeyPair), Error> {
        let fail = |source| Error::Local { names: self.names.join(", "), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let ca = ca_params(&self.names, now).self_signed(&key).map_err(fail)?;
        let path = self.ca_path();
        if path.exists() {
            tracing::warn!(
                "the local authority in {} could not sign for {} and was made anew: trust it again",
                path.display(),
                self.names.join(", ")
            );
        }
        // The key first: a certificate without its key would be trusted in vain.
        disk::write(&self.folder.join("ca.key"), key.serialize_pem().as_bytes())?;
        disk::write(&path, ca.pem().as_bytes())?;
        Ok((ca.der().clone(), key))
    }
}

fn ca_params(names: &[String], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    params.distinguished_name.push(DnType::OrganizationName, "Beacon");
    params.distinguished_name.push(DnType::CommonName, format!("Beacon local authority on {host}"));
    (params.not_before, params.not_after) = validity(now, CA_LIFE);
    let mut permitted: Vec<GeneralSubtree> =
        LOCAL_NAMES.iter().map(|name| GeneralSubtree::DnsName((*name).into())).collect();
    permitted.extend(LOCAL_NETWORKS.iter().filter_map(|(network, prefix)| {
        Some(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network.parse().ok()?, *prefix)))
    }));
    permitted.extend(names.iter().map(|name| match name.parse::<IpAddr>() {
        Ok(address) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 }))
        }
        Err(_) => GeneralSubtree::DnsName(name.strip_prefix("*.").unwrap_or(name).into()),
    }));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    params
}

fn leaf_params(names: &[String], now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Beacon local certificate");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(now, LEAF_LIFE);
    Ok(params)
}

fn validity(now: SystemTime, life: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let start = now - DAY;
    (start.into(), (start + life).into())
}

/// Whether the authority's name constraints permit a name (RFC 5280 section 4.2.1.10).
fn may_sign(ca: &CertificateDer<'_>, name: &str) -> bool {
    let Ok((_, ca)) = X509Certificate::from_der(ca) else { return false };
    let Ok(Some(constraints)) = ca.name_constraints() else { return false };
    let Some(permitted) = &constraints.value.permitted_subtrees else { return false };
    let bytes = name.parse::<IpAddr>().ok().map(|address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    let bare = name.strip_prefix("*.").unwrap_or(name);
    permitted.iter().any(|subtree| match (&subtree.base, &bytes) {
        (GeneralName::DNSName(base), None) => {
            bare.strip_suffix(base).is_some_and(|left| left.is_empty() || left.ends_with('.'))
        }
        (GeneralName::IPAddress(base), Some(bytes)) if base.len() == 2 * bytes.len() => {
            let (network, mask) = base.split_at(bytes.len());
            bytes.iter().zip(mask).zip(network).all(|((byte, mask), network)| byte & mask == network & mask)
        }
        _ => false,
    })
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
