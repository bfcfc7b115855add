//! What can be wrong with a documentation folder as a whole.
//!
//! A single bad page is never an [`Error`]: it becomes an error page and a line in the log.

use std::io;
use std::path::PathBuf;

/// Why a documentation site cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder, or one inside it, cannot be listed.
    #[error("cannot read the documentation folder {path}; check that it exists and that Beacon's user may read it", path = .path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is neither Markdown nor an index.html.
    #[error(
        "the documentation folder {path} has neither a Markdown file (.md) nor an index.html; put an index.md into it",
        path = .path.display()
    )]
    Empty {
        /// Which folder.
        path: PathBuf,
    },
    /// More files than a documentation site may have.
    #[error(
        "the documentation folder {path} has more than {limit} files; serve what is not documentation from a site \
         mount, or point docs.folder at a smaller folder",
        path = .path.display()
    )]
    TooMany {
        /// Which folder.
        path: PathBuf,
        /// How many files are accepted.
        limit: usize,
    },
}
