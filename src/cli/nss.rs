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

/// Pins hosts, users and groups. Call it first, before any look-up and any thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn pin() {
    use std::ffi::{CStr, c_char, c_int};

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    let pins: [(&CStr, &CStr); 3] = [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")];
    for (database, services) in pins {
        // SAFETY: both are strings that end in NUL and live for ever, and no other thread runs yet. It fails only for a
        // name that glibc does not know, and then the look-ups stay as they were.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

/// Only glibc loads modules.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn pin() {}
