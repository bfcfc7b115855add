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
    /// What the API can be asked with.
    pub api: Api<'a>,
}

/// How the API is.
#[derive(Clone, Copy, Debug)]
pub enum Api<'a> {
    /// It answers; applications put this key into browsers.
    Key(&'a str),
    /// It does not answer yet, and why.
    Waits(&'a str),
    /// There is none.
    None,
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
    match places.api {
        Api::Key(key) => {
            row("API", &format!("{site}/rest/v1/"), "accounts at /auth/v1, described at /docs/api");
            row("Key", key, "publishable: it may be seen in browsers");
        }
        Api::Waits(reason) => row("API", "not yet", reason),
        Api::None => {}
    }
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
    if let Api::Key(key) = places.api {
        let trust = places.authority.map(|path| format!("--cacert {} ", quoted(path))).unwrap_or_default();
        let _ = write!(
            out,
            "\n  Try: {bold}curl {trust}-H 'apikey: {key}' {site}/rest/v1/{off}\n  \
             Secret keys and users: {bold}beacon keys create{off}, {bold}beacon user create{off}\n"
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

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |ch: char| ch.is_ascii_alphanumeric() || "/._-+@".contains(ch);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
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
            api: Api::Key("sb_publishable_x"),
        };
        let text = text(&places, false);
        for part in [
            "https://localhost:8443/docs/",
            "http://127.0.0.1:9464/metrics",
            "/state/tls/ca.crt",
            "curl --cacert /state/tls/ca.crt -H 'apikey: sb_publishable_x' https://localhost:8443/rest/v1/",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
