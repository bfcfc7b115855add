//! Everything that is tested through the library's public surface: one binary, one file a surface.

#![cfg(test)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's way to fail")]

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod acme;
mod wall;
