//! The PROXY protocol, versions 1 and 2: who is behind a load balancer that passes connections on.
//!
//! Written after the specification (haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2). Only connections from
//! trusted addresses are read this way, and those must have the header.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, with its line end.
const MAX_V1: usize = 107;
/// The longest part after the fixed one of version 2 that is read, in bytes: addresses and extensions.
const MAX_V2: usize = 4_096;

/// Reads the header from the start of a connection, and not a byte more. Gives the client's address, or `None` when the
/// load balancer speaks for itself (LOCAL, UNKNOWN), as in a health check.
///
/// # Errors
/// `InvalidData` for what is no such header, `UnexpectedEof`, or the connection's error.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; 12];
    io.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return read_v2(io).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(bad("no PROXY protocol header came from an address that must send one"));
    }
    let mut line = Vec::with_capacity(MAX_V1);
    line.extend_from_slice(&start);
    // Byte by byte, because what follows the line belongs to TLS or HTTP.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_V1 {
            return Err(bad("the PROXY protocol line is too long"));
        }
        line.push(io.read_u8().await?);
    }
    parse_v1(&line[..line.len() - 2])
}

fn parse_v1(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).map_err(|_| bad("the PROXY protocol line is not ASCII"))?;
    let mut words = text.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let parts: Vec<&str> = words.collect();
    let [source, target, source_port, target_port] = parts[..] else {
        return Err(bad("the PROXY protocol line does not have six words"));
    };
    let (source, target) = match family {
        "TCP4" => (source.parse::<Ipv4Addr>().map(IpAddr::V4), target.parse::<Ipv4Addr>().map(IpAddr::V4)),
        "TCP6" => (source.parse::<Ipv6Addr>().map(IpAddr::V6), target.parse::<Ipv6Addr>().map(IpAddr::V6)),
        _ => return Err(bad("the PROXY protocol line names an unknown family")),
    };
    let (Ok(source), Ok(_), Ok(port), Ok(_)) = (source, target, source_port.parse::<u16>(), target_port.parse::<u16>())
    else {
        return Err(bad("the PROXY protocol line has a bad address or port"));
    };
    Ok(Some(SocketAddr::new(source, port)))
}

async fn read_v2(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    io.read_exact(&mut head).await?;
    let [version_command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 {
        return Err(bad("the PROXY protocol header has an unknown version"));
    }
    if length > MAX_V2 {
        return Err(bad("the PROXY protocol header is too long"));
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    match version_command & 15 {
        0 => return Ok(None),
        1 => {}
        _ => return Err(bad("the PROXY protocol header has an unknown command")),
    }
    match (family, &rest[..]) {
        (0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)))
        }
        (0x21, rest) if rest.len() >= 36 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&rest[..16]);
            let port = u16::from_be_bytes([rest[32], rest[33]]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(octets).into(), port)))
        }
        // UNSPEC and Unix sockets: the connection's own addresses hold (section 2.2).
        (0x00 | 0x31, _) => Ok(None),
        _ => Err(bad("the PROXY protocol header's addresses are not those of a TCP connection")),
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        let mut input = bytes;
        let found = read(&mut input).await.map_err(|error| error.to_string())?;
        Ok((found.map(|address| address.to_string()), input.len()))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0x20 | command, family]);
        out.extend((rest.len() as u16).to_be_bytes());
        out.extend(rest);
        out
    }

    #[tokio::test]
    async fn both_versions_read_and_leave_the_rest() {
        let line = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\nGET /";
        assert_eq!(run(line).await, Ok((Some("203.0.113.9:4711".into()), 5)));
        let line = b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n";
        assert_eq!(run(line).await, Ok((Some("[2001:db8::9]:4711".into()), 0)));
        assert_eq!(run(b"PROXY UNKNOWN whatever follows\r\nx").await, Ok((None, 1)));
        let mut rest = vec![203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
        rest.extend([0x04, 0, 1, 0]);
        let mut bytes = v2(1, 0x11, &rest);
        bytes.extend(b"GET");
        assert_eq!(run(&bytes).await, Ok((Some("203.0.113.9:4711".into()), 3)));
        assert_eq!(run(&v2(0, 0, &[])).await, Ok((None, 0)), "LOCAL");
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 1\r\n",
            b"PROXY TCP9 1.2.3.4 1.2.3.4 1 1\r\n",
            b"PROXY TCP4 1.2.3.4",
            &[b'P'; 200],
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
            &v2(1, 0x11, &[1, 2, 3]),
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x12, &[0; 12]),
            &v2(1, 0x21, &[0; 35]),
            &v2(1, 0x11, &[0; 5_000]),
        ] {
            assert!(run(bad).await.is_err(), "{bad:?}");
        }
    }
}
