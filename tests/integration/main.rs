//! Everything that is tested through the library's public surface: one binary, one file a surface.

#![cfg(test)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's way to fail")]

mod acme;
mod wall;
