//! The built binary in a scratch folder: exit codes, messages, configuration errors.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail as the test does")]

mod commands;
mod faults;
mod layers;
mod scratch;
mod secrets;
mod tasks;
mod terminal;
