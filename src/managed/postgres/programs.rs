//! The programs of PostgreSQL, as the system's packages have them: several major versions may be installed.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Fault, Program};

/// The oldest major version that Beacon works with.
const OLDEST: u32 = 15;
/// Where distributions keep the programs of each major version.
const FOLDERS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/pgsql", "bin"),
    ("/usr/libexec/postgresql", ""),
    ("/usr/local/pgsql", "bin"),
];

/// The programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
    /// The major version, as in 15.
    pub major: u32,
}

impl Programs {
    /// Those in `folder`, or if that is empty, those of the host: of the major version `wanted`, or else the newest.
    ///
    /// # Errors
    /// There are none, or none of that version.
    pub async fn find(folder: &Path, wanted: Option<u32>) -> Result<Self, Fault> {
        let given = !folder.as_os_str().is_empty();
        let folders = if given { vec![folder.to_owned()] } else { folders() };
        let mut found: Vec<Self> = Vec::new();
        for folder in folders {
            if let Some(major) = version(&folder).await {
                found.push(Self { folder, major });
            }
        }
        choose(found, wanted).map_err(|fault| match fault {
            Missing::Any(old) if given => {
                let old = old.map_or_else(String::new, |major| format!(" but those of PostgreSQL {major}, which is too old"));
                Fault(format!("managed.postgres_programs: {} has no programs of PostgreSQL{old}", folder.display()))
            }
            Missing::Any(old) => {
                let old = old.map_or_else(String::new, |major| format!(" ({major} is too old)"));
                Fault(format!(
                    "PostgreSQL {OLDEST} or later is not installed{old}. Install it: apt install postgresql. Or set \
                     database.url (DATABASE_URL) to another server, or managed.postgres to \"off\""
                ))
            }
            Missing::Version { wanted, have } => Fault(format!(
                "the data of the private database were made by PostgreSQL {wanted}, and only {have} is installed. Install \
                 it: apt install postgresql-{wanted}. To go over to {have}: with {wanted} installed, `beacon backup FILE`; \
                 then stop Beacon, move the folder postgres out of the state folder, and `beacon restore FILE`"
            )),
        })
    }

    /// Those of a client (pg_dump, pg_restore) for a server of version `server`: the same, or else the next later one,
    /// which works too. In `folder`, or if that is empty, among those of the host.
    ///
    /// # Errors
    /// There are none, or only earlier ones.
    pub async fn client(folder: &Path, server: u32) -> Result<Self, Fault> {
        let folders = if folder.as_os_str().is_empty() { folders() } else { vec![folder.to_owned()] };
        let mut found: Vec<Self> = Vec::new();
        for folder in folders {
            // The program in /usr/bin is Debian's wrapper, which picks a version by its own rules.
            let programs = folder.join("pg_dump");
            if programs.canonicalize().is_ok_and(|path| path.ends_with("pg_dump"))
                && folder.join("pg_restore").is_file()
                && let Some(major) = says(&programs).await
            {
                found.push(Self { folder, major });
            }
        }
        found.sort_by_key(|programs| programs.major);
        found.into_iter().find(|programs| programs.major >= server).ok_or_else(|| {
            Fault(format!(
                "pg_dump and pg_restore of PostgreSQL {server} or later are not installed. Install them: apt install \
                 postgresql-client-{server}. Or name their folder in managed.postgres_programs"
            ))
        })
    }

    /// One of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

enum Missing {
    /// There is none; the newest of those that are too old.
    Any(Option<u32>),
    Version {
        wanted: u32,
        have: u32,
    },
}

fn choose(mut found: Vec<Programs>, wanted: Option<u32>) -> Result<Programs, Missing> {
    found.sort_by_key(|programs| Reverse(programs.major));
    let newest = found.first().map(|programs| programs.major);
    let able = |programs: &Programs| match wanted {
        Some(wanted) => programs.major == wanted,
        None => programs.major >= OLDEST,
    };
    match (found.into_iter().find(able), wanted, newest) {
        (Some(programs), ..) => Ok(programs),
        (None, Some(wanted), Some(have)) => Err(Missing::Version { wanted, have }),
        (None, _, newest) => Err(Missing::Any(newest)),
    }
}

/// Where the programs may be: the folders of PATH, then those of the packages.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for (folder, below) in FOLDERS {
        let folder = Path::new(folder);
        folders.push(folder.join(below));
        // /usr/lib/postgresql/15/bin, /usr/pgsql-15/bin, /usr/libexec/postgresql15
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
            continue;
        };
        let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let beside = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
        let beside = beside.filter(|path| {
            let own = path.file_name().and_then(|own| own.to_str()).unwrap_or_default();
            own.strip_prefix(name).is_some_and(|rest| rest.trim_start_matches('-').parse::<u32>().is_ok())
        });
        folders.extend(inside.chain(beside).map(|path| path.join(below)));
    }
    folders
}

/// The major version of the programs in a folder; none if there are none.
async fn version(folder: &Path) -> Option<u32> {
    let postgres = folder.join("postgres");
    if !postgres.is_file() || !folder.join("initdb").is_file() {
        return None;
    }
    says(&postgres).await
}

/// The major version that a program tells.
async fn says(program: &Path) -> Option<u32> {
    let output = Program::new(program).arg("--version").output().await.ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// From "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", or "17beta1".
fn major(text: &str) -> Option<u32> {
    let number = text.split_once("(PostgreSQL) ")?.1;
    number.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> Vec<Programs> {
        majors.iter().map(|major| Programs { folder: format!("/{major}").into(), major: *major }).collect()
    }

    #[test]
    fn the_version_of_the_data_decides_and_else_the_newest() {
        let majors = |found: &[u32], wanted| choose(installed(found), wanted).ok().map(|programs| programs.major);
        assert_eq!(majors(&[15, 17, 16], None), Some(17));
        assert_eq!(majors(&[15, 17, 16], Some(15)), Some(15));
        assert_eq!(majors(&[14], None), None);
        assert_eq!(majors(&[14], Some(14)), Some(14), "data that are there are served");
        assert!(matches!(choose(installed(&[16, 17]), Some(15)), Err(Missing::Version { wanted: 15, have: 17 })));
        assert!(matches!(choose(installed(&[13, 14]), None), Err(Missing::Any(Some(14)))));
        assert!(matches!(choose(Vec::new(), Some(15)), Err(Missing::Any(None))));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("bash: no"), None);
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let Fault(text) = Programs::find(folder.path(), None).await.unwrap_err();
        assert!(text.contains("managed.postgres_programs") && text.contains("has no programs"), "{text}");
        for name in ["postgres", "initdb"] {
            let path = folder.path().join(name);
            fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 16.2'\n").unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let found = Programs::find(folder.path(), None).await.unwrap();
        assert_eq!((found.major, found.program("initdb")), (16, folder.path().join("initdb")));
        let Fault(text) = Programs::find(folder.path(), Some(15)).await.unwrap_err();
        assert!(text.contains("apt install postgresql-15") && text.contains("only 16"), "{text}");
    }
}
