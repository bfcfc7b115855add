//! What a running Beacon tells of itself over its control socket: written by the server, read by `beacon status`.

use serde::{Deserialize, Serialize};

/// One running Beacon.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Status {
    /// Its slot, if it runs in one of two.
    pub slot: Option<String>,
    /// Its process.
    pub pid: u32,
    /// The version of its binary.
    pub version: String,
    /// What it is doing.
    pub state: Phase,
    /// How long it has been serving, in seconds.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
    /// What it shows in handshakes.
    pub certificates: Vec<CertificateStatus>,
    /// Connections that are open now.
    pub connections: usize,
    /// What its parts say of themselves.
    pub components: Vec<ComponentStatus>,
    /// The reload that was refused last, if none has succeeded since.
    pub refused_reload: Option<String>,
}

/// What a Beacon is doing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It takes connections.
    Serving,
    /// It finishes what has begun, and takes nothing new.
    Stopping,
}

/// A listening socket.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ListenerStatus {
    /// "http", "https" or "operations".
    pub role: String,
    /// The address, as it is in fact.
    pub address: String,
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The names that it is for.
    pub names: Vec<String>,
    /// A file, "acme" or "self-signed".
    pub source: String,
    /// Whole days until it expires, below zero afterwards; none while it has not been issued.
    pub days_left: Option<i64>,
    /// Why the last load, order or renewal failed.
    pub error: Option<String>,
}

/// A part, as health checks see it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// "starting", "ok", "degraded" or "failed".
    pub state: String,
    /// Why it is not ok.
    pub detail: Option<String>,
}
