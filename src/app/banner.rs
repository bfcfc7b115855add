//! What a person sees who starts Beacon on a terminal with nothing configured.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// Where things are.
pub struct Places<'a> {
    /// The HTTPS addresses in fact.
    pub https: &'a [String],
    /// The operations addresses in fact.
    pub operations: &'a [String],
    /// The certificate of the local authority.
    pub authority: Option<&'a Path>,
    /// The state folder.
    pub state: &'a Path,
}

/// Prints the banner, if somebody is there to read it. Nothing depends on it, so that it cannot fail.
pub fn show(places: &Places<'_>) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let _ = stderr.write_all(text(places, colour).as_bytes());
    }
}

fn text(places: &Places<'_>, colour: bool) -> String {
    let (bold, dim, off) = if colour { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let site = places.https.first().map_or_else(String::new, |address| format!("https://{}", named(address)));
    let mut out = format!("\n  {bold}Beacon {} is up{off}\n\n", env!("CARGO_PKG_VERSION"));
    let mut row = |name: &str, value: &str, note: &str| {
        let _ = writeln!(out, "  {name:<14} {bold}{value}{off}  {dim}{note}{off}");
    };
    row("Site", &format!("{site}/"), "");
    row("Documentation", &format!("{site}/docs/"), "");
    if let Some(address) = places.operations.first() {
        row("Operations", &format!("http://{address}/metrics"), "/healthz, /readyz");
    }
    if let Some(authority) = places.authority {
        let authority = authority.display();
        let _ = write!(
            out,
            "\n  The certificate is signed by an authority of your own. To trust it, import\n  {bold}{authority}{off}\n"
        );
    }
    let _ = write!(
        out,
        "\n  Next: put this into beacon.toml, and start with {bold}--config beacon.toml{off}\n\n    \
         {dim}[mounts.site]\n    path = \"/\"\n    site.root = \"/srv/www\"{off}\n\n  \
         {dim}State is kept in {}. Ctrl-C stops.{off}\n\n",
        places.state.display(),
    );
    out
}

/// A loopback address by the name that browsers and the certificate know.
fn named(address: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    let loopback = ["127.0.0.1:", "[::1]:", "[::]:", "0.0.0.0:"].iter().any(|prefix| address.starts_with(prefix));
    if loopback { format!("localhost:{port}") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_every_place() {
        let places = Places {
            https: &["127.0.0.1:8443".into()],
            operations: &["127.0.0.1:9464".into()],
            authority: Some(Path::new("/state/tls/ca.crt")),
            state: Path::new("/state"),
        };
        let text = text(&places, false);
        for part in ["https://localhost:8443/docs/", "http://127.0.0.1:9464/metrics", "/state/tls/ca.crt"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
