//! The composition: builds every component, mounts every route, reloads.
//!
//! [`serve`] and [`check`] go the same way: `build` makes everything from a configuration without
//! binding or starting; `serve` then starts it. `routes` shows all that is served.

mod banner;
mod build;
mod doors;
mod error;
mod operations;
mod redirect;
mod routes;
mod run;
mod state;

pub use build::check;
pub use error::Error;
pub use run::serve;
