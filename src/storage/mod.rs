//! Object stores: an S3 bucket or a local folder behind one interface, which never shows half an object.
//!
//! A [`Store`] knows bytes and keys alone; who may do what is decided above. An object appears whole or not at all, is
//! durable when a write returns, and an object that is being read keeps its bytes whatever is written meanwhile.

mod check;
mod config;
mod error;
mod key;
mod local;
mod object;
mod open;
mod s3;
mod store;
mod upload;

pub use check::{Outcome, Step, check};
pub use config::{Config, Encryption};
pub use error::{Action, Error};
pub use key::Key;
pub use object::{Attributes, Content, Entry, Level, PartId, Range, Stored, Unfinished};
pub use open::{folder, open};
pub use s3::S3;
pub use store::{Backend, Store};
pub use upload::Upload;
