//! Bad input over real connections: each attack gets the right answer, and the server goes on.
//!
//! After each attack [`Beacon::is_unharmed`](crate::support::Beacon::is_unharmed) asks for a page over every protocol,
//! looks at the process's memory and searches its log for panics.

mod framing;
mod heads;
mod http2;
mod limits;
mod paths;
mod slow;
mod tls;

/// Deadlines short enough to wait for.
const SHORT: &str = r#"
[http.timeouts]
handshake = "1s"
header = "1s"
first_byte = "2s"
idle = "4s"
stall = "1s"
min_rate = 20000
"#;
