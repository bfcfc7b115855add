//! Child processes under supervision: started with a clean environment in a process group of their own, their lines taken
//! into the log, started again when they end, and stopped in steps.
//!
//! A terminal's Ctrl-C does not reach them (their group is another one), so that whoever supervises them decides when
//! they stop. They never inherit variables: what Beacon was told in secret is not theirs.

mod backoff;
mod before_exec;
mod child;
mod lines;
mod program;
mod spawner;
mod supervisor;
mod user;

pub use child::{Child, Pipes};
pub use lines::each as each_line;
pub use program::Program;
pub use rustix::process::Signal;
pub use supervisor::{Condition, Fault, Service, supervise};
pub use user::{User, group};

/// One step of a stop: a signal, and how long the process may take to end after it.
pub type Step = (Signal, std::time::Duration);
