//! Who is asking and what they may do: the auth wall.

mod config;

pub use config::{Mode, Wall};
