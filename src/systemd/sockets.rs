//! Listening sockets inherited from systemd (`LISTEN_FDS`, sd_listen_fds(3)).
//!
//! The unsafe block is sound because descriptors are taken once a process: a second call gives nothing.
#![expect(unsafe_code, reason = "a descriptor that came with exec has no owner yet; somebody must become it")]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};

/// The sockets that systemd passed, each with its `FileDescriptorName=` (the socket unit's name when there is none). A
/// name comes as often as its unit has `ListenStream=` lines, as for IPv4 and IPv6.
///
/// To be called once, early: a second call gives an empty list. The descriptors do not survive an exec. What is no
/// listening TCP or Unix stream socket is closed with a warning, so that the rest serves.
#[must_use]
pub fn inherited_sockets() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    // Checks LISTEN_PID, and sets FD_CLOEXEC, which fails for a number that is no open descriptor.
    let numbers = match sd_notify::listen_fds() {
        Ok(numbers) => numbers,
        Err(error) => {
            tracing::warn!(%error, "LISTEN_FDS or LISTEN_PID is malformed: no socket is taken over from systemd");
            return Vec::new();
        }
    };
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut sockets = Vec::new();
    for (index, number) in numbers.enumerate() {
        // SAFETY: the descriptor is open (listen_fds set a flag on it), came with exec under the LISTEN_FDS protocol,
        // which gives it to this process, and TAKEN sees to it that nobody becomes its owner twice.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        let name = name_of(&names, index);
        match refusal(&socket) {
            None => sockets.push((name, socket)),
            Some(reason) => tracing::warn!(name, reason, "a descriptor inherited from systemd is not used"),
        }
    }
    sockets
}

/// systemd calls a descriptor without a name "unknown".
fn name_of(names: &[&str], index: usize) -> String {
    names.get(index).filter(|name| !name.is_empty()).map_or_else(|| "unknown".into(), |name| (*name).into())
}

/// Why `socket` is nothing to accept connections on, or `None` if it is.
fn refusal(socket: &impl AsFd) -> Option<&'static str> {
    let Ok(address) = rustix::net::getsockname(socket) else { return Some("it is not a socket") };
    if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&address.address_family()) {
        return Some("it is neither a TCP nor a Unix socket");
    }
    if sockopt::socket_type(socket).ok() != Some(SocketType::STREAM) {
        return Some("it is not a stream socket; use ListenStream= in the socket unit");
    }
    match sockopt::socket_acceptconn(socket) {
        Ok(true) => None,
        _ => Some("it does not listen; use Accept=no in the socket unit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};
    use std::process::{Command, Stdio};

    #[test]
    fn only_listening_stream_sockets_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(refusal(&listener), None);
        assert_eq!(refusal(&std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap()), None);
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(refusal(&connected).unwrap().contains("does not listen"));
        assert!(refusal(&UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap().contains("ListenStream"));
        assert_eq!(refusal(&std::fs::File::open("/dev/null").unwrap()), Some("it is not a socket"));
    }

    #[test]
    fn a_missing_name_is_unknown() {
        assert_eq!(name_of(&["http", ""], 0), "http");
        assert_eq!(name_of(&["http", ""], 1), "unknown");
        assert_eq!(name_of(&["http", ""], 2), "unknown");
    }

    /// The child's side of the next test.
    #[test]
    fn takes_sockets_when_asked() {
        let Some(port) = std::env::var_os("BEACON_TEST_PORT") else { return };
        let port: u16 = port.to_str().unwrap().parse().unwrap();
        let sockets = inherited_sockets();
        let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["https", "https"], "/dev/null in the middle is passed over");
        assert!(inherited_sockets().is_empty(), "nothing is given twice");
        for (_, socket) in sockets {
            assert!(rustix::io::fcntl_getfd(&socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            assert_eq!(TcpListener::from(socket).local_addr().unwrap().port(), port);
        }
    }

    fn child(pid: &str, listener: &TcpListener) -> std::process::Output {
        // The shell puts the sockets where systemd does: from 3 upwards.
        let script = format!(
            "LISTEN_PID={pid} exec \"$0\" --exact systemd::sockets::tests::takes_sockets_when_asked --nocapture \
             3<&0 4</dev/null 5<&0"
        );
        Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", "https:notes:https")
            .env("BEACON_TEST_PORT", listener.local_addr().unwrap().port().to_string())
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
            .output()
            .unwrap()
    }

    #[test]
    fn sockets_come_by_name_and_only_to_the_process_they_are_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = child("$$", &listener);
        assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
        let others = child("1", &listener);
        assert!(!others.status.success(), "sockets for process 1 must not be taken");
    }
}
