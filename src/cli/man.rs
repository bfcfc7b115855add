//! `beacon man`

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::{Cli, Failure, output};

/// Writes the manual pages
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon man | man -l -
  beacon man /usr/share/man/man1")]
pub(super) struct Man {
    /// The folder for the pages, beacon.1 and one for each command; without it beacon.1 is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Built, so that the pages of commands show the global options too.
        let mut command = Cli::command();
        command.build();
        let Some(folder) = self.folder else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return Ok(output::print(&String::from_utf8_lossy(&page))?);
        };
        clap_mangen::generate_to(command, &folder).map_err(|error| {
            Failure::Other(format!(
                "cannot write the manual pages to {}: {error}. Name a folder that exists and may be written.",
                folder.display()
            ))
        })
    }
}
