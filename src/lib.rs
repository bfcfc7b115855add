//! Beacon: one static binary that is a team's whole server.
//!
//! The modules stand in rows, and a module imports only from rows below its own; `tests/architecture.rs` has the
//! table and enforces it. `app::routes` shows everything that Beacon serves.

// 8 entry
pub mod cli;
// 7 composition
pub mod app;
pub mod config;
// 5 features
pub mod api;
pub mod docs;
pub mod jobs;
pub mod site;
// 4 identity
pub mod auth;
// 3 engines
pub mod http;
pub mod tasks;
// 2 resources
pub mod db;
pub mod mail;
pub mod managed;
pub mod net;
pub mod redis;
pub mod storage;
pub mod tls;
// 1 platform
pub mod lifecycle;
pub mod process;
pub mod systemd;
pub mod telemetry;
// 0 leaves
pub mod assets;
pub mod clock;
pub mod error;
pub mod id;
pub mod secret;
