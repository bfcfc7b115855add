//! What happens to a host: the package installed, upgraded, broken and removed on booted Debian machines with systemd as
//! PID 1, under the load of clients that count every request they lose.
//!
//! It needs root, and what `packaging/prerequisites test` installs. Where machines cannot be booted, each test says so
//! and does nothing, but never in CI. The first run makes the trees (a minute each, kept in `.cache/machine`).

#![cfg(test)]

mod boot;
mod deploy;
mod faults;
mod install;
mod made;
mod managed;
mod nss;
mod rig;
mod upgrade;
