//! `beacon reload`, and how commands find a running Beacon.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use http::{Method, StatusCode};

use super::{Failure, output};
use crate::app;
use crate::config::{Sources, load};
use crate::systemd;

/// Where the unit's slots have their control sockets.
pub(super) const RUNTIME: &str = "/run/beacon";

/// Has the running Beacon load its configuration again
///
/// Waits until that is done. A configuration that is wrong changes nothing; what is wrong with it is printed, and the
/// exit code is 78. It is 69 when no Beacon runs. A process keeps the credentials that it was started with: after a
/// change of /etc/beacon/beacon.env use `beacon handover`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon reload
  systemctl reload beacon@a")]
pub(super) struct Reload {
    /// Only the Beacon in this slot
    #[arg(long, value_parser = systemd::SLOTS)]
    slot: Option<String>,
}

impl Reload {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let mut refused = Vec::new();
        let mut reached = false;
        for place in sockets(self.slot.as_deref(), sources) {
            match app::ask(&place, Method::POST, "/reload") {
                Ok((StatusCode::OK, _)) => reached = true,
                Ok((status, reason)) => {
                    reached = true;
                    refused.push(match status {
                        StatusCode::UNPROCESSABLE_ENTITY => reason,
                        _ => format!("the reload was not done ({status}): {reason}"),
                    });
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(unreachable(&place, &error)),
            }
        }
        if !reached {
            // Only a configuration that can be read tells where the state folder is.
            load(sources)?;
            return Err(none_runs());
        }
        if refused.is_empty() {
            return Ok(output::print("The configuration was loaded again.\n")?);
        }
        refused.dedup();
        Err(Failure::Refused(format!(
            "{}\nNothing was changed: the old configuration stays in force.",
            refused.join("\n")
        )))
    }
}

/// The control sockets that are there: of the unit's slots, and of a Beacon with this configuration's state folder.
pub(super) fn sockets(slot: Option<&str>, sources: &Sources) -> Vec<PathBuf> {
    let folder = systemd::runtime_dir().unwrap_or_else(|| RUNTIME.into());
    let names = match slot {
        Some(slot) => vec![format!("{slot}.sock")],
        None => systemd::SLOTS.iter().map(|slot| format!("{slot}.sock")).chain(["control.sock".to_owned()]).collect(),
    };
    let mut places: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    // A configuration that is wrong must not keep anybody from asking; its state folder is then unknown.
    if slot.is_none()
        && let Ok(loaded) = load(sources)
        && let Ok(state) = app::state_dir(&loaded.config.server.state_dir, |name| std::env::var_os(name))
    {
        places.push(state.join("control.sock"));
    }
    // A folder that may not be entered has what is asked for, as far as anybody can tell.
    places.retain(|place| place.try_exists().unwrap_or(true));
    places
}

/// Whether nobody listens behind a socket file: what a killed process leaves.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

pub(super) fn unreachable(place: &Path, error: &io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "Run this as root, or as the user that Beacon runs as.",
        _ => "See its log: journalctl -u 'beacon@*'.",
    };
    Failure::Unavailable(format!("the Beacon behind {} does not answer: {error}. {fix}", place.display()))
}

pub(super) fn none_runs() -> Failure {
    Failure::Unavailable("no Beacon runs here. Start it with `systemctl start beacon@a`, or `beacon serve`.".into())
}
