//! A folder as a web site.

mod config;

pub use config::{Config, Symlinks};
