//! The protection of a connection to PostgreSQL, after libpq's sslmode.
//!
//! `prefer` and `require` encrypt and verify nobody, as they do in libpq: whoever sits between can read along.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::{Error, TlsMode};

/// Where the bundle of Amazon's RDS is looked for. No other store has its authorities.
pub const RDS_BUNDLE: &str = "/etc/beacon/rds-global-bundle.pem";

/// Stores of the system, the first that is there counts.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What makes TLS connections to this address; `None` when it is not protected.
pub(super) fn connector(address: &Address) -> Result<Option<MakeRustlsConnect>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Authorities { path: PathBuf::new(), why: error.to_string() })?;
    let config = match address.mode {
        TlsMode::Disable | TlsMode::Auto => return Ok(None),
        TlsMode::Prefer | TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { provider, roots: None }))
            .with_no_client_auth(),
        TlsMode::VerifyCa => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { provider, roots: Some(roots(address)?) }))
            .with_no_client_auth(),
        TlsMode::VerifyFull => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(address)?), provider)
                .build()
                .map_err(|error| Error::Authorities { path: address.authorities.clone(), why: error.to_string() })?;
            builder.with_webpki_verifier(verifier).with_no_client_auth()
        }
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The authorities: the named file alone, or all usual ones.
fn roots(address: &Address) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    if !address.authorities.as_os_str().is_empty() {
        add(&mut store, &address.authorities)?;
        return Ok(store);
    }
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = SYSTEM.iter().map(Path::new).find(|path| path.is_file()) {
        // A store of others may have a certificate that we cannot read; the rest of it counts.
        let _ = add(&mut store, path);
    }
    let bundle = Path::new(RDS_BUNDLE);
    if bundle.is_file() {
        add(&mut store, bundle)?;
    } else if address.is_rds() {
        return Err(Error::Authorities {
            path: bundle.to_path_buf(),
            why: "the file is missing, and no other store knows RDS's authorities: download \
                  https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem to it"
                .into(),
        });
    }
    Ok(store)
}

/// The file with the authorities for programs that want one; none if this host has none.
pub(super) fn file(address: &Address) -> Option<PathBuf> {
    if !address.authorities.as_os_str().is_empty() {
        return Some(address.authorities.clone());
    }
    let bundle = Path::new(RDS_BUNDLE);
    if address.is_rds() && bundle.is_file() {
        return Some(bundle.to_owned());
    }
    SYSTEM.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}

fn add(store: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let failed = |why: String| Error::Authorities { path: path.to_path_buf(), why };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| failed(error.to_string()))?;
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 { Err(failed("it has no certificate".into())) } else { Ok(()) }
}

/// Verifies the chain but not the name (with roots), or nothing (without).
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
