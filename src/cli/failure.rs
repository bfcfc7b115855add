//! How a command fails: what is printed, and the exit code.

use std::io;
use std::process::ExitCode;

use super::output;
use crate::error::{chain, exit};
use crate::{app, config};

/// What ends a command before its work is done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong, or asked for help.
    Arguments(clap::Error),
    /// The configuration is wrong.
    Config(config::Error),
    /// The server cannot be built, or ended with an error.
    App(app::Error),
    /// Something in the way of this command, with what to do about it.
    Other(String),
    /// A service that this command needs does not answer.
    Unavailable(String),
    /// What was given is wrong, and nothing was changed.
    Refused(String),
    /// Everything was told already.
    Told(u8),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Tells the user and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Arguments(error) => {
                // Help and version that were asked for come this way too. Clap knows where each belongs and whether
                // colour is welcome; a reader that went away is no failure.
                let _ = error.print();
                ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
            }
            Self::Config(error) => {
                output::complain(&error.to_string());
                ExitCode::from(exit::CONFIG)
            }
            Self::App(error) => {
                output::complain(&chain(&error).to_string());
                ExitCode::from(error.exit_code())
            }
            Self::Other(text) => {
                output::complain(&text);
                ExitCode::from(exit::FAILURE)
            }
            Self::Unavailable(text) => {
                output::complain(&text);
                ExitCode::from(exit::UNAVAILABLE)
            }
            Self::Refused(text) => {
                output::complain(&text);
                ExitCode::from(exit::CONFIG)
            }
            Self::Told(code) => ExitCode::from(code),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Output(error) => {
                output::complain(&format!("cannot write to standard output: {error}"));
                ExitCode::from(exit::FAILURE)
            }
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Config(error)
    }
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        Self::App(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
