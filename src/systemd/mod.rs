//! What systemd and Beacon tell each other: notifications, the watchdog, inherited sockets, credentials.
//!
//! Everything here does nothing, quietly, when the process was not started by systemd. No variable is removed from the
//! environment (that is `unsafe` once threads run): `LISTEN_PID` and `WATCHDOG_PID` keep children from taking them for
//! theirs, and `NotifyAccess=main` in the unit keeps their notifications from counting.

mod credentials;
mod notify;
mod slot;
mod sockets;
mod units;

pub use credentials::credentials_dir;
pub use notify::{
    notify_ready, notify_reloading, notify_stopping, status, under_systemd, watchdog_interval, watchdog_ping,
};
pub use slot::{SLOTS, runtime_dir, slot};
pub use sockets::inherited_sockets;
pub use units::{Activity, Unit, systemctl};
