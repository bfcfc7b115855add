//! Ports on 127.0.0.1 that stay a test's own: for servers that stop and start again, and for addresses that must be
//! known before anybody listens.
//!
//! They come from below the range that the kernel takes connections' own ports from. From within it, any client of the
//! machine may get the port while its server is down; even the client that tries to connect to it again, which then has
//! connected to itself. Tests keep out of each other's way by a name that one process alone can have.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below are ports of well-known servers.
const LOWEST: u16 = 10_000;

/// A port that nobody listens on, and that no other test gets until this process ends.
pub fn free_port() -> u16 {
    /// Its names are held until the process ends, also by a panic: they are the kernel's, and no files.
    static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let (first, end) = range();
    let count = u32::from(end - first);
    // Processes begin at different places, so that a port is not used again right away.
    let begin = std::process::id().wrapping_mul(31) % count;
    for step in 0..count {
        let port = first + u16::try_from((begin + step) % count).unwrap();
        let name = SocketAddr::from_abstract_name(format!("beacon-test-port-{port}")).unwrap();
        let Ok(held) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            HELD.lock().unwrap().push(held);
            return port;
        }
    }
    panic!("no port from {first} to {end} is free");
}

/// The first port and the one after the last.
fn range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut bounds = text.split_whitespace().map(|bound| bound.parse::<u16>().unwrap());
    let (low, high) = (bounds.next().unwrap(), bounds.next().unwrap());
    match (low, high) {
        (low, _) if low > LOWEST + 1_000 => (LOWEST, low),
        (_, high) if high < u16::MAX - 1_000 => (high + 1, u16::MAX),
        // The kernel leaves none out.
        _ => (LOWEST, u16::MAX),
    }
}
