//! The folder for what Beacon keeps.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// Finds the folder: $STATE_DIRECTORY, else the configured one, else $XDG_STATE_HOME/beacon, else
/// $HOME/.local/state/beacon. The user database is never asked (a static binary must not load its modules).
///
/// # Errors
/// None of them is given.
pub fn find(configured: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(list) = set("STATE_DIRECTORY") {
        // systemd joins several with colons; the first is the unit's own.
        let text = list.to_string_lossy().into_owned();
        return Ok(PathBuf::from(text.split(':').next().unwrap_or_default()));
    }
    if !configured.as_os_str().is_empty() {
        return Ok(configured.to_owned());
    }
    if let Some(home) = set("XDG_STATE_HOME") {
        return Ok(Path::new(&home).join("beacon"));
    }
    let home = set("HOME").ok_or(Error::NoState)?;
    Ok(Path::new(&home).join(".local/state/beacon"))
}

/// Makes the folder, readable by us alone, if it is not there.
///
/// # Errors
/// It cannot be made.
pub fn prepare(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::State { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_set_is_used() {
        let all = |name: &str| match name {
            "STATE_DIRECTORY" => Some("/var/lib/beacon:/var/lib/other".into()),
            "XDG_STATE_HOME" => Some("/x".into()),
            "HOME" => Some("/home/a".into()),
            _ => None,
        };
        let own = Path::new("/own");
        assert_eq!(find(own, all).unwrap(), Path::new("/var/lib/beacon"));
        assert_eq!(find(own, |name| all(name).filter(|_| name == "HOME")).unwrap(), own);
        let none = Path::new("");
        assert_eq!(find(none, |name| all(name).filter(|_| name == "XDG_STATE_HOME")).unwrap(), Path::new("/x/beacon"));
        assert_eq!(
            find(none, |name| all(name).filter(|_| name == "HOME")).unwrap(),
            Path::new("/home/a/.local/state/beacon")
        );
        assert!(matches!(find(none, |_| None), Err(Error::NoState)));
    }
}
