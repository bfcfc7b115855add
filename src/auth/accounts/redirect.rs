//! Where users may be sent: the site's own address, and what the operator allows.
//!
//! An address is read the way browsers read it before it is compared (a backslash is a slash, tabs and line ends are
//! dropped, the host is what follows the last @), and what they would read in another way than it looks is refused.
//! Everything else an open redirect would hand the tokens in the fragment to somebody else.

use std::net::IpAddr;

/// An address that somebody may be sent to, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    scheme: String,
    /// Lower case; empty for schemes without one.
    host: String,
    port: Option<u16>,
    /// Where the query begins in the text, and where the fragment.
    text: String,
}

impl Target {
    /// Reads an address. Refuses what browsers and programs read differently.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 4_096 || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return None;
        }
        let (scheme, rest) = text.split_once(':')?;
        let fits = scheme.starts_with(|ch: char| ch.is_ascii_alphabetic())
            && scheme.chars().all(|ch| ch.is_ascii_alphanumeric() || "+-._".contains(ch));
        let scheme = scheme.to_ascii_lowercase();
        if !fits || matches!(scheme.as_str(), "javascript" | "data" | "vbscript" | "file" | "blob" | "about") {
            return None;
        }
        let web = matches!(scheme.as_str(), "http" | "https");
        let Some(after) = rest.strip_prefix("//") else {
            // "https:host" is an address to browsers; a scheme of an application may have no host.
            return (!web).then(|| Self { scheme, host: String::new(), port: None, text: text.to_owned() });
        };
        let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = if web { web_host(authority)? } else { (authority.to_ascii_lowercase(), None) };
        Some(Self { scheme, host, port, text: text.to_owned() })
    }

    /// Whether it is a page on the web, and no mobile application's own scheme.
    #[must_use]
    pub fn is_web(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https")
    }

    /// The host, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn effective_port(&self) -> Option<u16> {
        self.port.or(match self.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || address(&self.host).is_some_and(|address| address.is_loopback())
    }

    /// Whether both are of one origin; on this very machine any port will do (RFC 8252 section 7.3).
    fn same_site(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host == other.host
            && (self.is_web() || !self.host.is_empty())
            && (self.effective_port() == other.effective_port() || (self.is_web() && self.is_loopback()))
    }
}

/// The host and port of an `http` authority: a name, or an IP address in its usual form, and nothing else.
fn web_host(authority: &str) -> Option<(String, Option<u16>)> {
    // Whoever writes a user name before the host wants it to be taken for the host.
    if authority.contains(['@', '%']) {
        return None;
    }
    let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
        let (inside, port) = inside.split_once(']')?;
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        (format!("[{}]", inside.to_ascii_lowercase()), port.strip_prefix(':').or((port.is_empty()).then_some(""))?)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        (host.to_ascii_lowercase(), port)
    };
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    if host.starts_with('[') {
        return Some((host, port));
    }
    let plain = |ch: char| ch.is_ascii_alphanumeric() || ch == '-' || ch == '.' || ch == '_';
    let edges = |ch: char| ch.is_ascii_alphanumeric();
    if host.is_empty() || !host.chars().all(plain) || !host.starts_with(edges) || !host.ends_with(edges) {
        return None;
    }
    // 2130706433, 0x7f.1 and 127.1 are addresses to browsers, too; only the usual form is let through.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.chars().all(|ch| ch.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<std::net::Ipv4Addr>().is_err() {
        return None;
    }
    Some((host, port))
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The addresses that users may be sent to.
#[derive(Clone, Debug)]
pub struct Allowed {
    site_url: String,
    site: Option<Target>,
    patterns: Vec<Glob>,
}

impl Allowed {
    /// The site, and the operator's patterns; those were validated.
    #[must_use]
    pub fn new(site_url: &str, patterns: &[String]) -> Self {
        Self {
            site_url: site_url.to_owned(),
            site: Target::parse(site_url),
            patterns: patterns.iter().filter_map(|pattern| Self::pattern(pattern).ok()).collect(),
        }
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pattern(text: &str) -> Result<Glob, &'static str> {
        if !text.contains(':') {
            return Err("has no scheme, as https: or myapp:");
        }
        Glob::parse(text)
    }

    /// The site's own address.
    #[must_use]
    pub fn site_url(&self) -> &str {
        &self.site_url
    }

    /// The site's host, for people to read.
    #[must_use]
    pub fn site_host(&self) -> String {
        self.site.as_ref().map(|site| site.host().to_owned()).unwrap_or_default()
    }

    /// Whether users may be sent to `url`.
    #[must_use]
    pub fn allows(&self, url: &str) -> bool {
        let Some(target) = Target::parse(url) else { return false };
        if self.site.as_ref().is_some_and(|site| site.same_site(&target)) {
            return true;
        }
        // An address of a machine is nobody's site, unless it is this very one.
        if target.is_web() && address(target.host()).is_some_and(|address| !address.is_loopback()) {
            return false;
        }
        let without_fragment = target.text.split('#').next().unwrap_or_default();
        self.patterns.iter().any(|pattern| pattern.matches(without_fragment))
    }

    /// The first of the addresses that is allowed; the site if none is.
    #[must_use]
    pub fn choose<'a>(&'a self, wanted: impl IntoIterator<Item = &'a str>) -> &'a str {
        wanted.into_iter().find(|url| self.allows(url)).unwrap_or(&self.site_url)
    }
}

/// A pattern with `*`, `**`, `?`, `[...]` and `{a,b}`; `*` and `?` stop at `.` and `/`.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Vec<Token>>);

#[derive(Clone, Debug)]
enum Token {
    Literal(char),
    One,
    Many,
    Everything,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Alternatives multiply.
const MOST_ALTERNATIVES: usize = 64;

impl Glob {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut variants = vec![String::new()];
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let end = rest[at..].find('}').ok_or("has { without }")? + at;
            let options: Vec<&str> = rest[at + 1..end].split(',').collect();
            if options.iter().any(|option| option.contains('{')) {
                return Err("has { inside of { }");
            }
            let before = &rest[..at];
            variants = variants
                .iter()
                .flat_map(|variant| options.iter().map(move |option| format!("{variant}{before}{option}")))
                .collect();
            if variants.len() > MOST_ALTERNATIVES {
                return Err("has too many alternatives");
            }
            rest = &rest[end + 1..];
        }
        if rest.contains('}') {
            return Err("has } without {");
        }
        variants.iter().map(|variant| tokens(&format!("{variant}{rest}"))).collect::<Result<_, _>>().map(Self)
    }

    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.0.iter().any(|tokens| matches(tokens, &text))
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        tokens.push(match ch {
            '*' if chars.peek() == Some(&'*') => {
                while chars.next_if_eq(&'*').is_some() {}
                Token::Everything
            }
            '*' => Token::Many,
            '?' => Token::One,
            '\\' => Token::Literal(chars.next().ok_or("ends with a backslash")?),
            '[' => {
                let negated = chars.next_if(|ch| matches!(ch, '!' | '^')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = chars.next().ok_or("has [ without ]")?;
                    if low == ']' {
                        break;
                    }
                    let high = if chars.next_if_eq(&'-').is_some() {
                        chars.next().filter(|ch| *ch != ']').ok_or("has a range without an end")?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                if ranges.is_empty() {
                    return Err("has an empty [ ]");
                }
                Token::Class { negated, ranges }
            }
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

/// Matches in a time that grows with the product of both lengths: the set of places in the pattern that the text read so
/// far can have led to.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip(tokens, &mut at);
    for ch in text {
        let mut next = vec![false; tokens.len() + 1];
        for (place, token) in tokens.iter().enumerate() {
            if !at[place] {
                continue;
            }
            match token {
                Token::Literal(literal) => next[place + 1] |= literal == ch,
                Token::One => next[place + 1] |= !is_separator(*ch),
                Token::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|(low, high)| (low..=high).contains(&ch));
                    next[place + 1] |= inside != *negated;
                }
                Token::Many => next[place] |= !is_separator(*ch),
                Token::Everything => next[place] = true,
            }
        }
        skip(tokens, &mut next);
        at = next;
    }
    at[tokens.len()]
}

/// A star may also stand for nothing.
fn skip(tokens: &[Token], at: &mut [bool]) {
    for (place, token) in tokens.iter().enumerate() {
        if at[place] && matches!(token, Token::Many | Token::Everything) {
            at[place + 1] = true;
        }
    }
}

fn is_separator(ch: char) -> bool {
    ch == '.' || ch == '/'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: &[&str]) -> Allowed {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        for pattern in &patterns {
            Allowed::pattern(pattern).unwrap();
        }
        Allowed::new("https://www.example.org", &patterns)
    }

    #[test]
    fn the_site_is_always_allowed_with_any_path() {
        let allowed = allowed(&[]);
        for url in ["https://www.example.org", "https://www.example.org/a?b=c#d", "https://WWW.example.org:443/"] {
            assert!(allowed.allows(url), "{url}");
        }
        for url in ["http://www.example.org/", "https://example.org/", "https://www.example.org:444/", "/path", ""] {
            assert!(!allowed.allows(url), "{url}");
        }
    }

    #[test]
    fn an_open_redirect_is_not_to_be_had() {
        let allowed = allowed(&["https://*.example.org/**", "https://app.example.org", "myapp://callback"]);
        for url in [
            "https://www.example.org@evil.example/",
            "https://www.example.org:pass@evil.example/",
            "https://www.example.org%40evil.example/",
            "https://www.example.org\\@evil.example/",
            "https:\\\\evil.example/",
            "https:/\\evil.example/",
            "//evil.example/",
            "///evil.example/",
            "https:evil.example",
            "https:///evil.example",
            "\thttps://evil.example",
            " https://www.example.org",
            "https://www.example.org\r\nLocation: https://evil.example",
            "https://evil.example/https://www.example.org",
            "https://evil.example#https://www.example.org/",
            "https://evil.example?x=.example.org/",
            "https://evil.example/.example.org/",
            "https://www.example.org.evil.example/",
            "https://evilexample.org/",
            "https://a.b.example.org/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://127.1/",
            "https://8.8.8.8/",
            "https://[2001:db8::1]/",
            "javascript:alert(1)",
            "JavaScript://www.example.org/%0aalert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "https://x.example.org:0x50/",
            "https://www.example.org:99999/",
            "https://exa\u{43c}ple.org/",
        ] {
            assert!(!allowed.allows(url), "{url}");
        }
        for url in [
            "https://a.example.org/x/y.html",
            "https://app.example.org",
            "https://app.example.org#x",
            "myapp://callback",
        ] {
            assert!(allowed.allows(url), "{url}");
        }
    }

    #[test]
    fn patterns_are_those_of_the_field() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let allowed = allowed(&[pattern]);
            for url in yes {
                assert!(allowed.allows(url), "{pattern} {url}");
            }
            for url in no {
                assert!(!allowed.allows(url), "{pattern} {url}");
            }
        };
        check(
            "http://localhost:3000/*",
            &["http://localhost:3000/a"],
            &["http://localhost:3000/a/b", "http://localhost:3001/a"],
        );
        check("https://x.io/a?c", &["https://x.io/abc"], &["https://x.io/ac", "https://x.io/a/c"]);
        check("https://{one,two}.x.io/**", &["https://one.x.io/", "https://two.x.io/a/b.c"], &["https://three.x.io/"]);
        check("https://p[0-9].x.io", &["https://p1.x.io"], &["https://pa.x.io", "https://p1.x.io/"]);
        check("https://p[!0-9].x.io", &["https://pa.x.io"], &["https://p1.x.io"]);
        check("com.example.my_app://**", &["com.example.my_app://callback/x?y"], &["com.example.other://callback"]);
        check("exp://192.168.*.*:8081/**", &["exp://192.168.1.20:8081/--/x"], &["exp://10.0.0.1:8081/"]);
    }

    #[test]
    fn an_address_of_this_machine_may_have_any_port() {
        let allowed = Allowed::new("http://localhost:3000", &[]);
        assert!(allowed.allows("http://localhost:5173/welcome"));
        assert!(!allowed.allows("https://localhost:5173/welcome"));
        assert!(!allowed.allows("http://127.0.0.1:3000/"));
        assert!(!Allowed::new("https://localhost.example", &[]).allows("https://localhost.example:99/"));
    }

    #[test]
    fn the_first_allowed_address_is_chosen_and_else_the_site() {
        let allowed = allowed(&["https://app.example.org/**"]);
        let good = "https://app.example.org/in";
        assert_eq!(allowed.choose(["https://evil.example", good]), good);
        assert_eq!(allowed.choose(["https://evil.example", ""]), "https://www.example.org");
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_told() {
        for pattern in ["https://[a", "https://{a", "https://a}", "https://[]", "https://x\\", "example.org"] {
            assert!(Allowed::pattern(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_cannot_be_made_slow() {
        let allowed = allowed(&["https://x.io/**a**a**a**a**a**a**a**a**b"]);
        let begin = std::time::Instant::now();
        assert!(!allowed.allows(&format!("https://x.io/{}", "a".repeat(4_000))));
        assert!(begin.elapsed().as_millis() < 500);
    }
}
