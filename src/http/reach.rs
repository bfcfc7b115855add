//! Which addresses requests may go to whose host is not the operator's own word: the public internet, and networks that
//! the operator names. Everything else would let whoever names the host speak to what trusts this machine (SSRF).
//!
//! A host is looked up once, and its addresses are connected to: a name that leads elsewhere a moment later (DNS
//! rebinding) changes nothing. Names are not looked at, because every spelling of an address ends in the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Destination;

/// What is not of the public internet (the special-purpose registries of IANA), and an address at which a cloud gives out
/// the credentials of its machines. Clouds' other ones are link-local, private or shared.
const CLOSED_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All that is public is in here. What carries IPv4 within (mapped, NAT64, 6to4, Teredo) is not.
const OPEN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const CLOSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Which addresses may be reached. A cheap clone.
#[derive(Clone, Debug)]
pub struct Reach(Arc<[IpNet]>);

/// Why a host is not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Its name leads nowhere, or nobody can say.
    #[error("{0} cannot be looked up")]
    Unknown(String, #[source] std::io::Error),
    /// Nobody said in time.
    #[error("{0} could not be looked up in time")]
    Timeout(String),
    /// It leads only to where requests may not go.
    #[error("{host} leads to {address}, which is not on the public internet")]
    Closed {
        /// Which host.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
}

impl Reach {
    /// The public internet and these networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether requests may go to an address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        // The kernel takes a mapped address for the one in it.
        let meant = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&meant))
    }

    /// Looks a host up and gives its addresses that may be reached, in their order.
    ///
    /// # Errors
    /// There is none.
    pub async fn resolve(&self, to: &Destination, deadline: Duration) -> Result<Vec<SocketAddr>, ReachError> {
        let host = || to.host().to_owned();
        let found = tokio::time::timeout(deadline, tokio::net::lookup_host((to.host(), to.port())));
        let found = found.await.map_err(|_| ReachError::Timeout(host()))?;
        let found: Vec<SocketAddr> = found.map_err(|error| ReachError::Unknown(host(), error))?.collect();
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|address| self.allows(address.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(first)) => Err(ReachError::Closed { host: host(), address: first.ip() }),
            (true, None) => Err(ReachError::Unknown(host(), std::io::Error::other("it has no address"))),
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !CLOSED_V4
            .iter()
            .any(|(network, length)| Ipv4Net::new(*network, *length).is_ok_and(|network| network.contains(&address))),
        IpAddr::V6(address) => {
            let within = |(network, length): &(Ipv6Addr, u8)| {
                Ipv6Net::new(*network, *length).is_ok_and(|network| network.contains(&address))
            };
            within(&OPEN_V6) && !CLOSED_V6.iter().any(within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_open() {
        let reach = Reach::new(&[]);
        for open in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1"] {
            assert!(reach.allows(open.parse().unwrap()), "{open}");
        }
        for closed in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "2001:db8::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
        ] {
            assert!(!reach.allows(closed.parse().unwrap()), "{closed}");
        }
    }

    #[test]
    fn named_networks_are_open_too() {
        let reach = Reach::new(&["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for open in ["10.1.9.9", "::ffff:10.1.9.9", "fd00::1"] {
            assert!(reach.allows(open.parse().unwrap()), "{open}");
        }
        assert!(!reach.allows("10.2.0.1".parse().unwrap()) && !reach.allows("::ffff:10.2.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn every_spelling_of_an_address_ends_in_the_address() {
        let second = Duration::from_secs(5);
        for host in ["127.0.0.1", "[::1]", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"] {
            // Some spellings are no address of a request to begin with.
            let Ok(to) = Destination::parse_any(&format!("http://{host}:8080/")) else { continue };
            let refused = Reach::new(&[]).resolve(&to, second).await.unwrap_err();
            // Not every system's resolver knows the old spellings.
            assert!(matches!(refused, ReachError::Closed { .. } | ReachError::Unknown(..)), "{host}: {refused:?}");
            let open = Reach::new(&["127.0.0.0/8".parse().unwrap()]);
            if host == "127.0.0.1" {
                assert_eq!(open.resolve(&to, second).await.unwrap(), ["127.0.0.1:8080".parse().unwrap()]);
            }
        }
    }
}
