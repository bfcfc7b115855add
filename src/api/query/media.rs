//! Media types: which the client accepts, in its order, and which its body has.

use std::fmt;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// A media type that means something here, or any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// application/json: an array of rows.
    Json,
    /// application/vnd.pgrst.array+json;nulls=stripped
    Stripped,
    /// application/vnd.pgrst.object+json: the one row. The flag says whether NULLs are left out.
    Object(bool),
    /// text/csv
    Csv,
    /// text/plain
    Plain,
    /// text/xml
    Xml,
    /// application/octet-stream
    Octets,
    /// application/openapi+json
    OpenApi,
    /// application/x-www-form-urlencoded
    Form,
    /// application/vnd.pgrst.plan: how the database would make what another media type shows.
    Plan(Box<Plan>),
    /// `*/*`
    Any,
    /// Any other, without its parameters, or with those that are not understood.
    Other(String),
}

/// What is asked of an execution plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of what.
    pub of: Media,
    /// Whether it is JSON and not text.
    pub json: bool,
    /// Options of EXPLAIN, of [`Plan::OPTIONS`].
    pub options: Vec<&'static str>,
}

impl Plan {
    /// Options of EXPLAIN that may be asked for.
    pub const OPTIONS: [&'static str; 5] = ["analyze", "verbose", "settings", "buffers", "wal"];
}

impl Media {
    /// Reads a media type with its parameters, but for `q`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut parts = split_outside_quotes(text, ';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let parameters: Vec<&str> = parts
            .map(str::trim)
            .filter(|part| !part.is_empty() && !part.to_ascii_lowercase().starts_with("charset="))
            .collect();
        let other = || Self::Other(text.trim().to_owned());
        match name.as_str() {
            "application/json" => Self::Json,
            "text/csv" => Self::Csv,
            "text/plain" => Self::Plain,
            "text/xml" => Self::Xml,
            "application/octet-stream" => Self::Octets,
            "application/openapi+json" => Self::OpenApi,
            "application/x-www-form-urlencoded" => Self::Form,
            "*/*" => Self::Any,
            "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object" => match parameters.as_slice() {
                [] => Self::Object(false),
                ["nulls=stripped"] => Self::Object(true),
                _ => other(),
            },
            "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array" => match parameters.as_slice() {
                [] => Self::Json,
                ["nulls=stripped"] => Self::Stripped,
                _ => other(),
            },
            "application/vnd.pgrst.plan+json" => plan(true, &parameters).unwrap_or_else(other),
            "application/vnd.pgrst.plan" | "application/vnd.pgrst.plan+text" => {
                plan(false, &parameters).unwrap_or_else(other)
            }
            _ => Self::Other(name),
        }
    }

    /// What the client accepts, the best first. Without the header it is everything.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Vec<Self> {
        let mut all: Vec<(Self, u32, i32)> = Vec::new();
        let mut any = false;
        for value in headers.get_all(ACCEPT) {
            any = true;
            let text = String::from_utf8_lossy(value.as_bytes());
            for one in split_outside_quotes(&text, ',').map(str::trim).filter(|one| !one.is_empty()) {
                let (text, quality) = without_quality(one);
                // The more a type says, the better it fits.
                let exact = text.matches(';').count() as i32 - text.matches('*').count() as i32;
                if quality > 0 {
                    all.push((Self::read(&text), quality, exact));
                }
            }
        }
        if !any {
            return vec![Self::Any];
        }
        all.sort_by_key(|(_, quality, exact)| std::cmp::Reverse((*quality, *exact)));
        all.into_iter().map(|(media, ..)| media).collect()
    }

    /// The value of Content-Type.
    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        match self {
            // The frequent one without an allocation.
            Self::Json => HeaderValue::from_static("application/json; charset=utf-8"),
            Self::Octets => HeaderValue::from_static("application/octet-stream"),
            Self::Other(name) => HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("text/plain")),
            media => HeaderValue::try_from(format!("{media}; charset=utf-8"))
                .unwrap_or(HeaderValue::from_static("application/json; charset=utf-8")),
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Json => "application/json",
            Self::Stripped => "application/vnd.pgrst.array+json;nulls=stripped",
            Self::Object(false) => "application/vnd.pgrst.object+json",
            Self::Object(true) => "application/vnd.pgrst.object+json;nulls=stripped",
            Self::Csv => "text/csv",
            Self::Plain => "text/plain",
            Self::Xml => "text/xml",
            Self::Octets => "application/octet-stream",
            Self::OpenApi => "application/openapi+json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Any => "*/*",
            Self::Other(name) => name,
            Self::Plan(plan) => {
                let format = if plan.json { "json" } else { "text" };
                write!(out, "application/vnd.pgrst.plan+{format}; for=\"{}\"", plan.of)?;
                if !plan.options.is_empty() {
                    write!(out, "; options={}", plan.options.join("|"))?;
                }
                return Ok(());
            }
        })
    }
}

fn plan(json: bool, parameters: &[&str]) -> Option<Media> {
    let mut plan = Plan { of: Media::Json, json, options: Vec::new() };
    for parameter in parameters {
        if let Some(of) = parameter.strip_prefix("for=") {
            plan.of = match Media::read(of.trim_matches('"')) {
                Media::Plan(_) => return None,
                of => of,
            };
        } else {
            // Clients write the parameter even when they want no option.
            let asked: Vec<&str> = parameter
                .strip_prefix("options=")?
                .trim_matches('"')
                .split('|')
                .filter(|option| !option.is_empty())
                .collect();
            if asked.iter().any(|option| !Plan::OPTIONS.contains(option)) {
                return None;
            }
            plan.options = Plan::OPTIONS.into_iter().filter(|option| asked.contains(option)).collect();
        }
    }
    Some(Media::Plan(Box::new(plan)))
}

/// A media range without its parameter `q`, and that parameter in thousandths.
fn without_quality(text: &str) -> (String, u32) {
    let (mut out, mut quality) = (String::new(), 1000);
    for (index, part) in split_outside_quotes(text, ';').enumerate() {
        let part = part.trim();
        match part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")) {
            Some(number) if index > 0 => {
                let number: f32 = number.trim().parse().unwrap_or(1.0);
                quality = (number.clamp(0.0, 1.0) * 1000.0) as u32;
            }
            _ => {
                if index > 0 {
                    out.push(';');
                }
                out.push_str(part);
            }
        }
    }
    (out, quality)
}

fn split_outside_quotes(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |ch| {
        quoted ^= ch == '"';
        ch == at && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        Media::accepted(&headers).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_better_and_the_more_exact_come_first() {
        assert_eq!(accepted(&[]), ["*/*"]);
        assert_eq!(
            accepted(&["text/html,application/xhtml+xml,application/xml;q=0.9,image/png,*/*;q=0.8"]),
            ["text/html", "application/xhtml+xml", "image/png", "application/xml", "*/*"]
        );
        assert_eq!(accepted(&["*/*, text/csv", "application/json;q=0.5"]), ["text/csv", "*/*", "application/json"]);
        assert_eq!(accepted(&["text/csv;q=0"]), Vec::<String>::new());
        assert_eq!(accepted(&["Application/JSON; charset=utf-8"]), ["application/json"]);
    }

    #[test]
    fn vendored_types_have_parameters() {
        assert_eq!(Media::read("application/vnd.pgrst.object+json;nulls=stripped"), Media::Object(true));
        assert_eq!(Media::read("application/vnd.pgrst.object; charset=utf-8"), Media::Object(false));
        assert_eq!(Media::read("application/vnd.pgrst.array+json"), Media::Json);
        assert_eq!(Media::read("application/vnd.pgrst.array+json ; nulls=stripped"), Media::Stripped);
        assert!(matches!(Media::read("application/vnd.pgrst.object+json;nulls=kept"), Media::Other(_)));
        let plan = "application/vnd.pgrst.plan+json; for=\"application/vnd.pgrst.object+json;nulls=stripped\"; \
                    options=buffers|analyze";
        assert_eq!(
            Media::read(plan),
            Media::Plan(Box::new(Plan { of: Media::Object(true), json: true, options: vec!["analyze", "buffers"] }))
        );
        assert_eq!(
            Media::read("application/vnd.pgrst.plan").content_type(),
            "application/vnd.pgrst.plan+text; for=\"application/json\"; charset=utf-8"
        );
        let bare = "application/vnd.pgrst.plan+json; for=\"application/json\"; options=;";
        assert_eq!(Media::read(bare), Media::Plan(Box::new(Plan { of: Media::Json, json: true, options: Vec::new() })));
        assert!(matches!(Media::read("application/vnd.pgrst.plan;options=everything"), Media::Other(_)));
        assert!(matches!(Media::read("application/vnd.pgrst.plan;options=analyze|everything"), Media::Other(_)));
    }
}
