//! `beacon tasks python`

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::assets;
use crate::cli::{Failure, output};

/// Writes the Python package beacon_tasks, Django's backend for django.tasks, into a folder
///
/// It belongs to the application from then on: put it into its repository. Files of an earlier version are replaced.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks python .")]
pub(super) struct Python {
    /// The folder that shall have the package, as a rule that with manage.py
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// The package, below assets/ and below the folder.
const PACKAGE: (&str, &str) = ("python/beacon_tasks", "beacon_tasks");

impl Python {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(package) = assets::folder(PACKAGE.0) else {
            return Err(Failure::Other("this build of Beacon was made without its Python package.".into()));
        };
        if !self.folder.is_dir() {
            return Err(Failure::Refused(format!("{} is no folder.", self.folder.display())));
        }
        let target = self.folder.join(PACKAGE.1);
        write(package, Path::new(PACKAGE.0), &target)
            .map_err(|error| Failure::Other(format!("cannot write to {}: {error}.", target.display())))?;
        Ok(output::print(&format!("{}\n", target.display()))?)
    }
}

/// Writes a folder's files, and those of the folders in it.
fn write(folder: &include_dir::Dir<'_>, root: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for file in folder.files() {
        let name = file.path().strip_prefix(root).unwrap_or_else(|_| file.path());
        fs::write(target.join(name), file.contents())?;
    }
    for below in folder.dirs() {
        let name = below.path().strip_prefix(root).unwrap_or_else(|_| below.path());
        write(below, below.path(), &target.join(name))?;
    }
    Ok(())
}
