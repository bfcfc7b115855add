//! The composition: builds every component, mounts every route, reloads.

mod config;

pub use config::{Mount, Redirect, Server};
