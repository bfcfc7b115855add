//! The data folder: its version and its making.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Instant;

use super::{Programs, SUPERUSER, reach, settings};
use crate::managed::place;
use crate::process::{Fault, Program, User};

/// The major version that made the data; none if there is no folder yet, or an empty one.
pub(super) fn version(data: &Path) -> Result<Option<u32>, Fault> {
    let shown = data.display();
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(Fault(format!("{shown}/PG_VERSION names no version: \"{}\"", text.trim()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_dir(data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(place::cannot(data, &error)),
            Ok(mut entries) => match entries.next() {
                None => Ok(None),
                Some(_) => Err(Fault(format!(
                    "{shown} is not empty, and no data folder of PostgreSQL either. Move away what is in it"
                ))),
            },
        },
        Err(error) => Err(place::cannot(data, &error)),
    }
}

/// Makes the data folder: under another name first, so that one that is there is whole.
pub(super) async fn make(data: &Path, programs: &Programs, user: Option<&User>) -> Result<(), Fault> {
    let begun = Instant::now();
    let making = data.with_file_name("postgres.making");
    let cannot = |error: io::Error| place::cannot(&making, &error);
    // A crash in the middle may have left one. The lock of the state folder is ours.
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&making).map_err(cannot)?;
    place::folder(&making, user).map_err(cannot)?;
    tracing::info!(major = programs.major, folder = %data.display(), "making a private database");

    let mut program = Program::new(programs.program("initdb")).user(user.cloned());
    let reached = reach(&mut program, &making, user)?;
    let program = program.arg("-D").arg(reached).args(arguments(programs.major));
    let output = program.output().await.map_err(|error| Fault(format!("initdb cannot be started: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let _ = fs::remove_dir_all(&making);
        return Err(Fault(format!("initdb could not make a database ({}): {}", output.status, said.join(" / "))));
    }
    settings::first(&making, user).map_err(cannot)?;
    // An empty folder may have been made in its place, as a mount point is.
    let _ = fs::remove_dir(data);
    fs::rename(&making, data).map_err(|error| place::cannot(data, &error))?;
    let parent = data.parent().unwrap_or(data);
    fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| place::cannot(parent, &error))?;
    tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "the private database is made");
    Ok(())
}

fn arguments(major: u32) -> Vec<String> {
    let mut words = vec![
        format!("--username={SUPERUSER}"),
        "--auth=peer".into(),
        "--encoding=UTF8".into(),
        "--locale=C.UTF-8".into(),
        "--data-checksums".into(),
        "--no-instructions".into(),
    ];
    if major >= 17 {
        // The order of text then is PostgreSQL's own, and no upgrade of the C library can change it under an index.
        words.extend(["--locale-provider=builtin".into(), "--builtin-locale=C.UTF-8".into()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_folder_is_read_and_a_foreign_folder_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("postgres");
        assert_eq!(version(&data), Ok(None));
        fs::create_dir(&data).unwrap();
        assert_eq!(version(&data), Ok(None));
        fs::write(data.join("letters"), "").unwrap();
        assert!(version(&data).unwrap_err().0.contains("is not empty"));
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(version(&data), Ok(Some(15)));
        fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
        assert!(version(&data).unwrap_err().0.contains("9.6"));
    }
}
