//! What can go wrong with listening sockets.

use std::io;

/// A socket that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Listening at an address failed.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The configuration names a socket that systemd did not hand over.
    #[error("systemd handed over no socket named \"{name}\"")]
    NotInherited {
        /// The socket's name.
        name: String,
    },
    /// A socket that systemd handed over cannot be used.
    #[error("cannot use the socket \"{name}\" that systemd handed over")]
    Inherit {
        /// The socket's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Bind { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "Something else listens there (`ss -ltnp` shows what). Stop it, or choose another address.".into()
                }
                io::ErrorKind::PermissionDenied => "Ports below 1024 need CAP_NET_BIND_SERVICE, or a socket that \
                                                    systemd makes (\"systemd:NAME\"). Or choose another port."
                    .into(),
                io::ErrorKind::AddrNotAvailable => {
                    "The address does not belong to this host (`ip address` shows those that do).".into()
                }
                _ => "Choose another address.".into(),
            },
            Self::NotInherited { name } => format!(
                "Start Beacon through a systemd socket unit with FileDescriptorName={name}, or give an address instead."
            ),
            Self::Inherit { .. } => "Use a socket unit with ListenStream= and Accept=no.".into(),
        }
    }
}
