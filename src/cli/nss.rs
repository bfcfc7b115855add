//! Pins the C library's look-ups to what is inside it.
//!
//! A static glibc still loads the modules that /etc/nsswitch.conf names from the host, and dies in them when the host's
//! glibc is another one: Debian 13's cloud images name `myhostname` and `resolve`, and the first look-up that leaves
//! /etc/hosts ends a binary built on Debian 12 with SIGFPE (rust-lang/rust#100711). `files` and `dns` are part of
//! libc.a since glibc 2.34.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "glibc's own function for this has no safe wrapper")
)]

use std::ffi::CStr;

/// Pins hosts, users and groups. Call it first, before any look-up and any thread. It fails only for a name that glibc
/// does not know, and then the look-ups stay as they were.
pub(super) fn pin() {
    for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")] {
        configure(database, services);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn configure(database: &CStr, services: &CStr) -> bool {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are strings that end in NUL; glibc copies what it keeps, under a lock of its own.
    unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) == 0 }
}

/// Only glibc loads modules.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn configure(_database: &CStr, _services: &CStr) -> bool {
    true
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::net::ToSocketAddrs as _;

    use super::*;

    #[test]
    fn the_databases_are_ones_that_glibc_knows() {
        for database in [c"hosts", c"passwd", c"group"] {
            assert!(configure(database, c"files"), "{database:?}");
        }
        assert!(!configure(c"nonsense", c"files"));
    }

    #[test]
    fn a_pinned_look_up_still_reads_the_hosts_file() {
        pin();
        assert!(("localhost", 0).to_socket_addrs().unwrap().all(|address| address.ip().is_loopback()));
    }
}
