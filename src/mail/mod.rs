//! Mail: one place that sends it, and the texts that are sent.
//!
//! [`Mailer::send`] puts a mail into a bounded queue in memory and returns; a task of its own talks to the mail server and
//! tries again while that is away. What is still queued when the process is killed is lost, which is why every flow that
//! sends a mail can be asked to send it again. Where tasks run, [`Mailer::hand_over`] lets them carry those mails, so that
//! nothing is lost; tasks send mails of their own by [`Mailer::deliver`].

mod config;
mod error;
mod folder;
mod mailer;
mod render;
mod template;

pub use config::{Config, Security, Subjects};
pub use error::Error;
pub use folder::{Folder, Words};
pub use mailer::{Mail, Mailer, Relay, Undelivered};
pub use render::{Kind, Letter, Templates, Values};
