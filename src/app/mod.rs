//! The composition: builds every component, mounts every route, reloads.
//!
//! [`serve`] and [`check`] go the same way: `build` makes everything from a configuration without
//! binding or starting; `serve` then starts it. `routes` shows all that is served.

mod backend;
mod banner;
mod build;
mod control;
mod crew;
mod database;
pub mod doctor;
mod doors;
pub mod dump;
mod error;
mod managed;
mod operations;
mod redirect;
mod routes;
mod run;
mod state;
mod status;
mod tasks;
pub mod tasks_client;
pub mod worker;

pub use build::check;
pub use control::{ask, place};
pub use database::of as database;
pub use error::Error;
pub use managed::{keep_servers, wanted};
pub use run::serve;
pub use state::find as state_dir;
pub use status::{CertificateStatus, ComponentStatus, ListenerStatus, Phase, Status};
