//! Configuration of TLS: the section `[tls]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::secret::Secret;

/// Certificates and protocol versions.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The oldest protocol version that is spoken: "1.2" or "1.3".
    pub min_version: MinVersion,
    /// Certificates from files, each under a name of your choice: [tls.certificates.NAME] with `cert` and `key`. The
    /// one whose names fit what the client asks for is used. Changed files are loaded within seconds.
    pub certificates: BTreeMap<String, CertificateFiles>,
    /// Certificates from an ACME authority such as Let's Encrypt.
    pub acme: Acme,
    /// The certificate for local use, signed by a local authority that is made once in the state folder. It serves
    /// whenever no other certificate fits.
    pub self_signed: SelfSigned,
}

/// The oldest protocol version that is spoken.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    Tls13,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateFiles {
    /// A PEM file: the certificate first, then its issuers.
    pub cert: PathBuf,
    /// A PEM file with the certificate's private key.
    pub key: PathBuf,
}

/// Certificates from an ACME authority (RFC 8555).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// The names to ask a certificate for; all go into one. Empty: ACME is off.
    pub domains: Vec<String>,
    /// Where the authority may send mail about the account; may be empty.
    pub email: String,
    /// The authority's directory: "letsencrypt", or a URL.
    pub directory: String,
    /// Uses the staging directory of "letsencrypt": for trying out, trusted by nobody.
    pub staging: bool,
    /// A PEM file with the authority's own root, for an authority that the public does not trust.
    pub ca_file: PathBuf,
    /// How to prove that the names are ours, the first that the authority offers is used: "tls-alpn-01" (on port 443),
    /// "http-01" (on port 80).
    pub challenges: Vec<Challenge>,
    /// The authority's profile, as in "shortlived"; may be empty.
    pub profile: String,
    /// The key identifier of an external account binding; may be empty.
    pub eab_key_id: String,
    /// The key of the external account binding, in URL-safe Base64.
    pub eab_key: Secret,
}

/// A way to prove control of a name.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8737, answered in the TLS handshake.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// RFC 8555 section 8.3, answered over plain HTTP.
    #[serde(rename = "http-01")]
    Http01,
}

/// The certificate for local use.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct SelfSigned {
    /// The names and addresses that the certificate is for.
    pub names: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_version: MinVersion::Tls12,
            certificates: BTreeMap::new(),
            acme: Acme::default(),
            self_signed: SelfSigned::default(),
        }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            email: String::new(),
            directory: "letsencrypt".into(),
            staging: false,
            ca_file: PathBuf::new(),
            challenges: vec![Challenge::TlsAlpn01, Challenge::Http01],
            profile: String::new(),
            eab_key_id: String::new(),
            eab_key: Secret::default(),
        }
    }
}

impl Default for SelfSigned {
    fn default() -> Self {
        Self { names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()] }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, files) in &self.certificates {
            for (key, path) in [("cert", &files.cert), ("key", &files.key)] {
                if path.as_os_str().is_empty() {
                    faults.push(Fault::new(
                        format!("certificates.{name}.{key}"),
                        "is not set",
                        "Give the path of a PEM file.",
                    ));
                }
            }
        }
        let acme = &self.acme;
        if !acme.domains.is_empty() && acme.challenges.is_empty() {
            faults.push(Fault::new("acme.challenges", "is empty", "Name \"tls-alpn-01\", \"http-01\" or both."));
        }
        for domain in &acme.domains {
            if domain.starts_with("*.") {
                faults.push(Fault::new(
                    "acme.domains",
                    format!("\"{domain}\" is a wildcard, which needs the dns-01 challenge that Beacon does not do"),
                    "List the names one by one, or use a certificate from files.",
                ));
            }
        }
        for (key, names) in [("acme.domains", &acme.domains), ("self_signed.names", &self.self_signed.names)] {
            for name in names {
                let shape = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*:".contains(&byte);
                if name.is_empty() || !name.bytes().all(shape) {
                    faults.push(Fault::new(
                        key,
                        format!("\"{name}\" is neither a host name nor an address"),
                        "Give names such as example.org; names with other letters in their xn-- form.",
                    ));
                }
            }
        }
        if self.self_signed.names.is_empty() {
            faults.push(Fault::new("self_signed.names", "is empty", "Name at least \"localhost\"."));
        }
        if acme.directory != "letsencrypt" && !acme.directory.starts_with("https://") {
            faults.push(Fault::new(
                "acme.directory",
                format!("\"{}\" is not an https URL", acme.directory),
                "Use \"letsencrypt\" or the URL of the authority's directory.",
            ));
        }
        if acme.staging && acme.directory != "letsencrypt" {
            faults.push(Fault::new(
                "acme.staging",
                "only \"letsencrypt\" has a staging directory that Beacon knows",
                "Give the URL of the staging directory as tls.acme.directory and turn staging off.",
            ));
        }
        if acme.eab_key_id.is_empty() != acme.eab_key.is_empty() {
            faults.push(Fault::new(
                "acme.eab_key_id",
                "only half of the binding is set",
                "Set eab_key_id and eab_key.",
            ));
        }
        if acme.eab_key_bytes().is_none() {
            faults.push(Fault::new(
                "acme.eab_key",
                "is not URL-safe Base64",
                "Copy the key as the authority shows it, without spaces.",
            ));
        }
        faults
    }
}

impl Acme {
    /// The URL of the authority's directory.
    #[must_use]
    pub fn directory_url(&self) -> &str {
        match (self.directory.as_str(), self.staging) {
            ("letsencrypt", false) => instant_acme::LetsEncrypt::Production.url(),
            ("letsencrypt", true) => instant_acme::LetsEncrypt::Staging.url(),
            (url, _) => url,
        }
    }

    /// The key of the external account binding, decoded; padding may be there or not. None when it is no Base64.
    pub(super) fn eab_key_bytes(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let text = self.eab_key.expose().trim_end_matches('=');
        base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_key() {
        let mut config = Config::default();
        assert_eq!(config.validate(), []);
        config.certificates.insert("main".into(), CertificateFiles::default());
        config.acme.domains = vec!["*.example.org".into(), "bücher.example".into()];
        config.acme.challenges.clear();
        config.acme.directory = "http://ca.example".into();
        config.acme.staging = true;
        config.acme.eab_key = Secret::new("not base64!");
        config.self_signed.names.clear();
        let keys: Vec<String> = config.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(
            keys,
            [
                "certificates.main.cert",
                "certificates.main.key",
                "acme.challenges",
                "acme.domains",
                "acme.domains",
                "self_signed.names",
                "acme.directory",
                "acme.staging",
                "acme.eab_key_id",
                "acme.eab_key",
            ]
        );
    }
}
