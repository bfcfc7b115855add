//! What content codings a client takes: Accept-Encoding with its weights (RFC 9110 section 12.5.3).
//!
//! A missing header means "anything" by the RFC, but such clients rarely decode, so it counts as identity only. When
//! a client refuses identity and nothing else is at hand, identity is sent all the same: the RFC allows it, and a
//! page is of more use than a 406.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

/// A content coding that we can produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Encoding {
    /// All codings, the best first: this order decides between equal weights.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The name as a header value.
    #[must_use]
    pub const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// The usual extension of a file in this coding, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The weights a client gave, in thousandths; `None` where it said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    any: Option<u16>,
}

impl AcceptEncoding {
    /// Reads all Accept-Encoding headers. Members that are malformed are skipped.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accept = Self::default();
        for value in headers.get_all(ACCEPT_ENCODING) {
            for member in value.as_bytes().split(|byte| *byte == b',') {
                accept.member(member);
            }
        }
        accept
    }

    fn member(&mut self, member: &[u8]) {
        let mut pieces = member.split(|byte| *byte == b';');
        let name = pieces.next().unwrap_or_default().trim_ascii();
        let mut weight = 1000;
        for piece in pieces {
            let piece = piece.trim_ascii();
            if let [b'q' | b'Q', b'=', digits @ ..] = piece {
                match parse_weight(digits) {
                    Some(value) => weight = value,
                    None => return,
                }
            }
        }
        let slot = if name == b"*" {
            &mut self.any
        } else if name.eq_ignore_ascii_case(b"br") {
            &mut self.codings[Encoding::Brotli.index()]
        } else if name.eq_ignore_ascii_case(b"zstd") {
            &mut self.codings[Encoding::Zstd.index()]
        } else if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            &mut self.codings[Encoding::Gzip.index()]
        } else if name.eq_ignore_ascii_case(b"identity") {
            &mut self.identity
        } else {
            return;
        };
        *slot = Some(weight);
    }

    /// The weight of a coding in thousandths; 0 is "not acceptable".
    #[must_use]
    pub fn weight(&self, encoding: Encoding) -> u16 {
        self.codings[encoding.index()].or(self.any).unwrap_or(0)
    }

    /// Whether the client takes any coding at all.
    #[must_use]
    pub fn any_coding(&self) -> bool {
        Encoding::ALL.into_iter().any(|encoding| self.weight(encoding) > 0)
    }

    /// The coding to use among those `available`: the heaviest, and br before zstd before gzip when equal; `None` is
    /// identity, because nothing fits or because the client prefers it.
    #[must_use]
    pub fn best(&self, available: impl Fn(Encoding) -> bool) -> Option<Encoding> {
        let mut best = None;
        // An identity that is not named is acceptable, but less welcome than anything named.
        let mut heaviest = self.identity.unwrap_or(0).max(1);
        for encoding in Encoding::ALL {
            let weight = self.weight(encoding);
            let better = if best.is_some() { weight > heaviest } else { weight >= heaviest };
            if better && available(encoding) {
                best = Some(encoding);
                heaviest = weight;
            }
        }
        best
    }
}

/// `0`, `0.5`, `1.000`: at most three decimals, at most 1, in thousandths.
fn parse_weight(digits: &[u8]) -> Option<u16> {
    let (&whole, decimals) = digits.split_first()?;
    let decimals = match decimals {
        [] => decimals,
        [b'.', rest @ ..] if rest.len() <= 3 => rest,
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    let mut unit = 100;
    for digit in decimals {
        if !digit.is_ascii_digit() {
            return None;
        }
        weight += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(value: &str, available: &[Encoding]) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::try_from(value).unwrap());
        AcceptEncoding::of(&headers).best(|encoding| available.contains(&encoding))
    }

    #[test]
    fn the_heaviest_available_coding_wins_and_br_leads_when_equal() {
        use Encoding::{Brotli, Gzip, Zstd};
        let all = Encoding::ALL;
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip, zstd", Some(Zstd)),
            ("br;q=0.5, gzip;q=0.8", Some(Gzip)),
            ("br;q=0, gzip", Some(Gzip)),
            ("*", Some(Brotli)),
            ("*;q=0.1, br;q=0", Some(Zstd)),
            ("*;q=0", None),
            ("gzip;q=0.5, identity;q=0.8", None),
            ("gzip;q=0.8, identity;q=0.8", Some(Gzip)),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity", None),
            ("deflate", None),
            ("", None),
            ("X-GZIP ; Q=1.000", Some(Gzip)),
            ("br;q=1.5, gzip;q=0.001", Some(Gzip)),
            ("br;q=, gzip;q=x", None),
            ("br;q=0.0000", None),
            (",,;;,br", Some(Brotli)),
            ("brotli", None),
        ] {
            assert_eq!(best(value, &all), expected, "{value}");
        }
        assert_eq!(best("br, gzip", &[Gzip]), Some(Gzip));
        assert_eq!(best("br, gzip;q=0", &[Gzip]), None);
    }

    #[test]
    fn several_headers_count_as_one_list_and_none_is_identity() {
        let mut headers = HeaderMap::new();
        assert!(!AcceptEncoding::of(&headers).any_coding());
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0.2"));
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("br;q=0.3"));
        assert_eq!(AcceptEncoding::of(&headers).best(|_| true), Some(Encoding::Brotli));
    }
}
