//! Private PostgreSQL and Redis servers, for an installation that names none: found among the host's programs, kept in
//! the state folder, reached over Unix sockets alone, and supervised.
//!
//! Who keeps them: on a terminal, `beacon serve` itself; under systemd, beacon-managed.service (`beacon managed`), and the
//! slots only connect. A lock in the state folder decides when there are several Beacons: the first one keeps the
//! servers, the others connect to them, and one of them takes over when the first has gone.
//!
//! Nothing here makes Beacon fail: what is missing is told once, with the package that has it, and looked for again
//! every few seconds.

mod config;
mod keeper;
mod memory;
mod orphan;
mod place;
mod postgres;
mod record;
mod redis;
mod snapshot;

pub use config::{Config, Mode};
pub use keeper::{Managed, Wanted, Watch};
pub use memory::total as memory;
pub use place::UNIT_FOLDER;
pub use postgres::{DATABASE, OWNER, Programs, SUPERUSER};
pub use record::{Record, Told, running};
pub use redis::SNAPSHOT;
pub use snapshot::Snapshot;

/// The folders of the servers' data in the state folder. They are no files like others: each server writes them as a
/// whole, and only itself reads them.
pub const FOLDERS: [&str; 3] = ["postgres", "postgres.making", "redis"];
/// The folder in the state folder for what means something to running processes only.
pub const RUN: &str = "run";
