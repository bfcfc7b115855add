//! The one cryptographic provider, and the server configuration made with it.
//!
//! Everything that is shared by all configurations of a process (ticket keys, the session cache) is in [`Sessions`]:
//! a reload keeps it, so that clients resume across a reload.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions};

use super::config::MinVersion;

/// The protocol that an ACME authority asks for when it validates by tls-alpn-01 (RFC 8737 section 4).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// TLS 1.2 sessions of clients without tickets that are remembered; about 200 bytes each.
const SESSIONS: usize = 4096;

/// The provider, aws-lc-rs, made the default of the process at the first call. Key exchange prefers
/// X25519MLKEM768. With two providers in the tree `ServerConfig::builder()` panics at run time unless one was
/// installed, so call this before anything else makes a TLS connection.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let ours = aws_lc_rs::default_provider();
        // Somebody else's default stays theirs; ours is named in every configuration that we build.
        let _ = ours.clone().install_default();
        Arc::new(ours)
    })
}

/// What lets clients resume, kept for the life of the process.
#[derive(Clone, Debug)]
pub struct Sessions {
    tickets: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// Fresh ticket keys, which rotate by themselves every six hours, and an empty cache.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self { tickets: aws_lc_rs::Ticketer::new()?, cache: ServerSessionMemoryCache::new(SESSIONS) })
    }
}

/// The configuration of every TLS listener.
///
/// # Errors
/// When the provider lacks what the versions need; not expected.
pub fn server_config(
    min: MinVersion,
    resolver: Arc<dyn ResolvesServerCert>,
    sessions: &Sessions,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // The server's order decides: a client that offers ours besides acme-tls/1 gets ours, and the resolver refuses a
    // client that offers acme-tls/1 alone while no challenge is pending.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_TLS_ALPN.to_vec()];
    config.ticketer = Arc::clone(&sessions.tickets);
    config.session_storage = Arc::clone(&sessions.cache);
    // Every resumption brings a new ticket, so one is enough for a client that keeps one connection, as HTTP/2 clients
    // do; those that want more may ask for up to four (RFC 9149).
    config.send_tls13_tickets = 1;
    config.max_tls13_tickets = 4;
    // Early data can be replayed, and our requests are not known to be safe to repeat.
    config.max_early_data_size = 0;
    // The order of the client stays in force: phones without AES instructions put ChaCha20 first for a reason.
    config.ignore_client_order = false;
    Ok(config)
}
