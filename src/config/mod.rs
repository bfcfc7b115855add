//! The configuration: every module's own struct composed into one [`Config`], and the layers it is loaded from.
//!
//! A value's layers, later wins: defaults, `beacon.toml`, `conf.d/*.toml`, a `.env` file, the environment, `--set`,
//! systemd credentials. Each layer is read into entries that know their key and their origin (see `layer`), checked
//! against the known keys (see `schema`) and merged by figment. Everything that is wrong is collected and told at once.
//!
//! Modules never import this one: they are handed their part of [`Config`]. No error, `Debug` or text made here holds
//! a secret's value; `layer` and `problem` are the places to keep it so.

mod aliases;
mod credentials;
mod dotenv;
mod environment;
mod error;
mod file;
mod layer;
mod load;
mod mount;
mod origin;
mod problem;
mod reference;
mod schema;
mod sections;
mod server;
mod set;
mod sources;

pub use error::Error;
pub use load::{Loaded, env_variables, load};
pub use mount::{Mount, Redirect};
pub use origin::{Origin, Origins};
pub use problem::Problem;
pub use reference::REFERENCE;
pub use sections::Config;
pub use server::Server;
pub use sources::Sources;
