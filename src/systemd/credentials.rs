//! The folder in which systemd puts the unit's credentials (`LoadCredential=`, `SetCredential=`).

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder of credentials, if the unit has any. One file a credential, readable by this process alone.
#[must_use]
pub fn credentials_dir() -> Option<PathBuf> {
    folder(std::env::var_os("CREDENTIALS_DIRECTORY"))
}

/// A relative path is refused: it would name another folder after a change of the working directory.
fn folder(variable: Option<OsString>) -> Option<PathBuf> {
    variable.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_folder_counts() {
        assert_eq!(folder(Some("/run/credentials/x".into())), Some(PathBuf::from("/run/credentials/x")));
        assert_eq!(folder(Some("".into())), None);
        assert_eq!(folder(Some("credentials".into())), None);
        assert_eq!(folder(None), None);
    }
}
