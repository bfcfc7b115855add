//! The store: whether it can be reached and read. Nothing is written: `beacon storage check` tries all rights.

use std::path::Path;
use std::time::Duration;

use super::Report;
use crate::config::Config;
use crate::error::chain;
use crate::storage;

const SUBJECT: &str = "storage";
/// How long the store may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn examine(report: &mut Report, config: &Config, state: &Path) {
    let store = match storage::open(&config.storage, state) {
        Ok(store) => store,
        Err(error) => return report.fail(SUBJECT, chain(&error).to_string(), "Mend [storage] in the configuration."),
    };
    if config.storage.bucket.is_empty() {
        // A folder that is not there yet is made by whoever first needs it, with the right owner.
        let folder = storage::folder(&config.storage, state);
        return match std::fs::metadata(&folder) {
            Ok(there) if there.is_dir() => {
                report.ok(SUBJECT, store.describe());
                super::host::free_space(report, &folder);
            }
            Ok(_) => report.fail(
                SUBJECT,
                format!("{} is no folder", store.describe()),
                "Name another in storage.folder, or move the file away.",
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                report.ok(SUBJECT, format!("{} is made when it is needed first", store.describe()));
            }
            Err(error) => report.fail(
                SUBJECT,
                format!("{} cannot be read: {error}", store.describe()),
                "Ask as root, or mend its rights.",
            ),
        };
    }
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(async { tokio::time::timeout(DEADLINE, store.list("", None, 1)).await }));
    let fix = "Run `beacon storage check`: it tells what is refused.";
    match asked {
        Ok(Ok(Ok(_))) => report.ok(SUBJECT, format!("{} can be listed", store.describe())),
        Ok(Ok(Err(error))) => report.fail(SUBJECT, format!("{}: {}", store.describe(), chain(&error)), fix),
        Ok(Err(_)) => report.fail(SUBJECT, format!("{} does not answer within 10 seconds", store.describe()), fix),
        Err(error) => report.warn(SUBJECT, format!("the store could not be asked: {error}"), ""),
    }
}
