//! Documentation: a folder of Markdown, or of ready HTML, as a site.

mod config;

pub use config::Config;
