//! Notifications to the service manager, after sd_notify(3).
//!
//! `sd-notify` supplies the texts and the clock; the sending is ours, because that crate takes the address of an
//! abstract socket (`@...`, used by container managers) for the path of a file. A notification that cannot be sent is
//! logged and nothing else: the manager's own timeouts decide what follows.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// Says that Beacon serves (or serves again after a reload), and shows `status` in `systemctl status`.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says that a reload has begun; [`notify_ready`] ends it, also when the new configuration was refused.
pub fn notify_reloading() {
    // Type=notify-reload (systemd 253 and later) waits for the time stamp; older ones pass over it.
    let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
    notify(&[NotifyState::Reloading, now, NotifyState::Status("Reloading")]);
}

/// Says that the stop has begun.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
}

/// Shows `text` in `systemctl status`.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(&one_line(text))]);
}

/// How often to call [`watchdog_ping`]: half of the unit's `WatchdogSec=`; `None` when there is no watchdog, or when
/// it watches another process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero())
}

/// Tells the watchdog that the process lives. To be called from what would stand still if the process hung.
pub fn watchdog_ping() {
    if watchdog_interval().is_some() {
        notify(&[NotifyState::Watchdog]);
    }
}

/// Whether a service manager wants to be notified.
#[must_use]
pub fn under_systemd() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|address| !address.is_empty())
}

fn notify(states: &[NotifyState<'_>]) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else { return };
    if let Err(error) = send(&address, states) {
        tracing::warn!(address = %address.display(), %error, "the service manager could not be notified");
    }
}

/// Sends `states` in one datagram, so that they count together.
fn send(address: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let mut message = String::new();
    for state in states {
        let _ = writeln!(message, "{state}");
    }
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    // Not blocking: a manager that does not read must not hold up the event loop that pings it.
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    let sent = socket.send(message.as_bytes())?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A newline in a status would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn receive(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn states_go_out_in_one_datagram_to_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), &[NotifyState::Ready, NotifyState::Status("serving")]).unwrap();
        assert_eq!(receive(&manager), "READY=1\nSTATUS=serving\n");

        let name = format!("beacon-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), &[NotifyState::Stopping]).unwrap();
        assert_eq!(receive(&manager), "STOPPING=1\n");
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_nothing_worse() {
        let folder = tempfile::tempdir().unwrap();
        assert!(send(folder.path().join("gone").as_os_str(), &[NotifyState::Ready]).is_err());
    }

    #[test]
    fn a_status_cannot_smuggle_an_assignment() {
        assert_eq!(one_line("ready\nMAINPID=1"), "ready MAINPID=1");
    }

    /// What a service says from start to stop, seen by a manager, with the real variables in the environment of a
    /// child (this test's own binary, running `speaks_when_asked`).
    fn spoken(watchdog_pid: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let script =
            format!("WATCHDOG_PID={watchdog_pid} exec \"$0\" --exact systemd::notify::tests::speaks_when_asked");
        let status = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env("BEACON_TEST_SPEAK", "1")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "3000000")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        manager.set_nonblocking(true).unwrap();
        let mut said = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = manager.recv(&mut bytes) {
            said.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        said
    }

    #[test]
    fn speaks_when_asked() {
        if std::env::var_os("BEACON_TEST_SPEAK").is_none() {
            return;
        }
        assert!(under_systemd());
        notify_ready("serving");
        notify_reloading();
        status("busy");
        watchdog_ping();
        notify_stopping();
        if let Some(interval) = watchdog_interval() {
            assert_eq!(interval, Duration::from_millis(1_500));
        }
    }

    #[test]
    fn a_service_says_what_systemd_expects() {
        let said = spoken("$$");
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(said[0], "READY=1\nSTATUS=serving\n");
        let stamp = said[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(stamp.lines().next().unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(said[2], "STATUS=busy\n");
        assert_eq!(said[3], "WATCHDOG=1\n");
        assert_eq!(said[4], "STOPPING=1\nSTATUS=Stopping\n");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let said = spoken("1");
        assert!(!said.iter().any(|text| text.contains("WATCHDOG")), "{said:?}");
        assert_eq!(said.len(), 4);
    }
}
