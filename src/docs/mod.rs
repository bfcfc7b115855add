//! Documentation: a folder of Markdown as a site, rendered once, at start and on change.
//!
//! `source` lists and reads files, `tree` gives them addresses and an order, `markdown` and `highlight` make HTML of one,
//! `view` puts the page around it, `edition` is one state of the whole site, and `site` serves the present edition,
//! and `renewal` replaces it when the folder changes. A folder of ready HTML is not served here: [`kind`] tells, and `app` mounts a
//! site for it.

mod config;
mod edition;
mod encoded;
mod error;
mod files;
mod highlight;
mod links;
mod markdown;
mod matter;
mod renewal;
mod search;
mod site;
mod source;
mod theme;
mod title;
mod tree;
mod view;
mod welcome;

pub use config::{Config, Kind, kind};
pub use error::Error;
pub use site::Docs;
pub use welcome::Welcome;
