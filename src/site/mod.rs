//! A folder as a web site: small files from memory, large ones streamed, and no path ever leaves the folder.
//!
//! `handler` decides what a request gets; `load` asks the disk through `root`, which the kernel keeps below the
//! folder; `cache` remembers; the other files know one subject each.

mod cache;
mod cache_control;
mod config;
mod content_type;
mod entry;
mod error;
mod handler;
mod listing;
mod load;
mod path;
mod root;
#[cfg(test)]
mod tests;

pub use config::{Config, Symlinks};
pub use error::Error;
pub use handler::Site;
