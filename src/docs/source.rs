//! Where the files of a documentation site come from: the binary, or an operator's folder.
//!
//! Only what [`Source::scan`] has listed is ever opened, and every component of its path is opened without following
//! symbolic links, so neither a crafted address nor a link swapped in later leads out of the folder. The folder itself
//! may be a link (`/srv/docs -> releases/42`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use include_dir::Dir;
use rustix::fs::{Mode, OFlags};

use super::Error;

/// How many files a documentation folder may have.
pub const MAX_FILES: usize = 20_000;
/// How deep its folders may be nested.
const MAX_DEPTH: usize = 32;
/// The largest page, in bytes.
pub const MAX_PAGE: u64 = 2 << 20;
/// The largest other file (images, downloads), in bytes.
pub const MAX_FILE: u64 = 256 << 20;

/// Where files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder inside the binary.
    Embedded(&'static Dir<'static>),
    /// A folder of the file system.
    Folder(PathBuf),
}

/// One file of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The path below the source, with `/` between its parts.
    pub path: String,
    /// The length in bytes.
    pub size: u64,
    /// Changes when the file does: modification and status change in nanoseconds, and the inode.
    pub stamp: (i128, i128, u64),
}

impl Source {
    /// Every file that may be served, sorted by path. Hidden files, symbolic links and special files are left out.
    pub fn scan(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        match self {
            Self::Embedded(root) => embedded(root, root.path(), &mut entries),
            Self::Folder(root) => folder(root, root, "", 0, &mut entries)?,
        }
        entries.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(entries)
    }

    /// Reads a whole file of at most `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Embedded(_) => self.embedded(path).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::NotFound.into()),
            Self::Folder(root) => {
                let mut bytes = Vec::new();
                open(root, path)?.take(limit + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > limit {
                    return Err(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        format!("it is larger than {} KiB; split it", limit >> 10),
                    ));
                }
                Ok(bytes)
            }
        }
    }

    /// The bytes of an embedded file.
    pub fn embedded(&self, path: &str) -> Option<&'static [u8]> {
        match self {
            Self::Embedded(root) => root.get_file(root.path().join(path)).map(include_dir::File::contents),
            Self::Folder(_) => None,
        }
    }

    /// Opens a file of a folder, and tells its length.
    pub fn open(&self, path: &str) -> io::Result<(File, u64)> {
        match self {
            Self::Embedded(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Folder(root) => {
                let file = open(root, path)?;
                let size = file.metadata()?.len();
                Ok((file, size))
            }
        }
    }

    /// Whether there is an index.html at the top.
    pub fn has_index(&self) -> bool {
        match self {
            Self::Embedded(_) => self.embedded("index.html").is_some(),
            Self::Folder(root) => open(root, "index.html").is_ok(),
        }
    }

    /// A name for messages.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Embedded(_) => PathBuf::from("(embedded)"),
            Self::Folder(root) => root.clone(),
        }
    }
}

fn embedded(dir: &'static Dir<'static>, root: &Path, out: &mut Vec<Entry>) {
    for file in dir.files() {
        if let Some(path) = file.path().strip_prefix(root).ok().and_then(Path::to_str) {
            out.push(Entry { path: path.to_owned(), size: file.contents().len() as u64, stamp: (0, 0, 0) });
        }
    }
    for inner in dir.dirs() {
        embedded(inner, root, out);
    }
}

fn folder(root: &Path, dir: &Path, prefix: &str, depth: usize, out: &mut Vec<Entry>) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: dir.to_path_buf(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            tracing::warn!(file = %entry.path().display(), "documentation file left out: its name is not UTF-8");
            continue;
        };
        // Hidden files hold what is nobody's business; a backslash never gets past the ingress.
        if name.starts_with('.') || name.contains(['\\', '\0']) {
            continue;
        }
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        // symlink_metadata: a link is left out, whatever it points to. A file that went away meanwhile is no error.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if meta.is_dir() {
            if depth < MAX_DEPTH {
                folder(root, &entry.path(), &path, depth + 1, out)?;
            }
        } else if meta.is_file() {
            if out.len() >= MAX_FILES {
                return Err(Error::TooMany { path: root.to_path_buf(), limit: MAX_FILES });
            }
            let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            out.push(Entry {
                path,
                size: meta.len(),
                stamp: (nanos(meta.mtime(), meta.mtime_nsec()), nanos(meta.ctime(), meta.ctime_nsec()), meta.ino()),
            });
        }
    }
    Ok(())
}

/// Opens `path` below `root`, component by component, none of them a symbolic link.
fn open(root: &Path, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut dir = rustix::fs::open(root, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())?;
    let (parents, name) = path.rsplit_once('/').map_or((None, path), |(parents, name)| (Some(parents), name));
    for part in parents.iter().flat_map(|parents| parents.split('/')) {
        dir = rustix::fs::openat(&dir, allowed(part)?, flags | OFlags::DIRECTORY, Mode::empty())?;
    }
    // NONBLOCK, so that a pipe put in the place of a file cannot hold the thread.
    let file = File::from(rustix::fs::openat(&dir, allowed(name)?, flags | OFlags::NONBLOCK, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn allowed(part: &str) -> io::Result<&str> {
    if part.is_empty() || part.starts_with('.') { Err(io::ErrorKind::NotFound.into()) } else { Ok(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_links_and_pipes_are_not_there() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.md"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/.git")).unwrap();
        fs::write(root.join("a/one.md"), "1").unwrap();
        fs::write(root.join("a/.git/config.md"), "2").unwrap();
        fs::write(root.join(".env"), "3").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.md"), root.join("link.md")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("dir")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe.md"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let source = Source::Folder(root.to_path_buf());
        let paths: Vec<String> = source.scan().unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(paths, ["a/one.md"]);
        assert_eq!(source.read("a/one.md", 10).unwrap(), b"1");
        for bad in ["link.md", "dir/secret.md", "../secret.md", "a/../a/one.md", ".env", "a/.git/config.md", "pipe.md"]
        {
            assert!(source.read(bad, 10).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_over_the_limit_says_so() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big.md"), vec![b'x'; 3_000]).unwrap();
        let error = Source::Folder(dir.path().to_path_buf()).read("big.md", 2_048).unwrap_err();
        assert!(error.to_string().contains("larger than 2 KiB"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = Source::Folder("/nowhere/docs".into()).scan().unwrap_err();
        assert!(error.to_string().contains("/nowhere/docs"), "{error}");
    }
}
