//! `beacon completions`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, output};

/// Prints a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon completions bash > /etc/bash_completion.d/beacon
  beacon completions zsh > ~/.zfunc/_beacon
  beacon completions fish > ~/.config/fish/completions/beacon.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Into memory first: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "beacon", &mut script);
        Ok(output::print(&String::from_utf8_lossy(&script))?)
    }
}
