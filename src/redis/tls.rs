//! The protection of a connection to Redis: the server's certificate must be the host's, and lead to a known authority.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::Error;

/// Stores of the system, the first that is there counts.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How to protect a connection: with the authorities in the named file alone, or with all usual ones if it is empty.
pub(super) fn config(authorities: &Path) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if authorities.as_os_str().is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = SYSTEM.iter().map(Path::new).find(|path| path.is_file()) {
            // A store of others may have a certificate that we cannot read; the rest of it counts.
            let _ = add(&mut roots, path);
        }
    } else {
        add(&mut roots, authorities)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Authorities { path: authorities.to_path_buf(), why: error.to_string() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let failed = |why: String| Error::Authorities { path: path.to_path_buf(), why };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| failed(error.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(failed("it has no certificate".into())) } else { Ok(()) }
}
