//! The header Prefer (RFC 7240): what the client would like, and what of it was done.
//!
//! Of a preference that is given twice, the first counts. One that is not known is left alone unless the client asked
//! for `handling=strict`, which makes it an error.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What the client would like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// What happens to rows that are there already.
    pub resolution: Option<Resolution>,
    /// What a write answers with.
    pub returned: Option<Returned>,
    /// How rows are counted.
    pub count: Option<Counted>,
    /// How the transaction ends.
    pub end: Option<End>,
    /// What a key that is not in a body means.
    pub missing: Option<Missing>,
    /// Whether preferences that cannot be met are errors.
    pub handling: Option<Handling>,
    /// The time zone of the transaction.
    pub time_zone: Option<String>,
    /// The most rows that a write may touch; it holds with `handling=strict`.
    pub max_affected: Option<i64>,
    /// What was asked for besides and is not known.
    pub unknown: Vec<String>,
}

/// `resolution=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The row is changed.
    Merge,
    /// The row is left as it is.
    Ignore,
}

/// `return=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The rows.
    Representation,
    /// Nothing.
    Minimal,
    /// Where the row is.
    HeadersOnly,
}

/// `count=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Each row.
    Exact,
    /// As the database estimates.
    Planned,
    /// Each row while there are few.
    Estimated,
}

/// `tx=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What was done stays.
    Commit,
    /// What was done is undone.
    Rollback,
}

/// `missing=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The column's default.
    Default,
    /// NULL.
    Null,
}

/// `handling=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// What is not known is an error.
    Strict,
    /// What is not known is left alone.
    Lenient,
}

/// Which preferences an answer speaks of: those that could have mattered to what was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// `resolution=`
    pub resolution: bool,
    /// `missing=`
    pub missing: bool,
    /// `return=`
    pub returned: bool,
    /// `max-affected=`
    pub max_affected: bool,
}

impl Preferences {
    /// Reads the headers. `end_is_free` says whether `tx=` may be used.
    #[must_use]
    pub fn read(headers: &HeaderMap, end_is_free: bool) -> Self {
        let mut all = Self::default();
        for value in headers.get_all(PREFER) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                all.add(one, end_is_free);
            }
        }
        all
    }

    fn add(&mut self, text: &str, end_is_free: bool) {
        match text {
            "resolution=merge-duplicates" => first(&mut self.resolution, Resolution::Merge),
            "resolution=ignore-duplicates" => first(&mut self.resolution, Resolution::Ignore),
            "return=representation" => first(&mut self.returned, Returned::Representation),
            "return=minimal" => first(&mut self.returned, Returned::Minimal),
            "return=headers-only" => first(&mut self.returned, Returned::HeadersOnly),
            "count=exact" => first(&mut self.count, Counted::Exact),
            "count=planned" => first(&mut self.count, Counted::Planned),
            "count=estimated" => first(&mut self.count, Counted::Estimated),
            "tx=commit" if end_is_free => first(&mut self.end, End::Commit),
            "tx=rollback" if end_is_free => first(&mut self.end, End::Rollback),
            "missing=default" => first(&mut self.missing, Missing::Default),
            "missing=null" => first(&mut self.missing, Missing::Null),
            "handling=strict" => first(&mut self.handling, Handling::Strict),
            "handling=lenient" => first(&mut self.handling, Handling::Lenient),
            _ => {
                let most = text.strip_prefix("max-affected=").and_then(|number| number.parse().ok());
                let zone = text.strip_prefix("timezone=").filter(|zone| !zone.is_empty());
                match (most, zone) {
                    (Some(most), _) => first(&mut self.max_affected, most),
                    (_, Some(zone)) => first(&mut self.time_zone, zone.to_owned()),
                    _ => self.unknown.push(text.to_owned()),
                }
            }
        }
    }

    /// Whether the client wants to hear of what cannot be met.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.handling == Some(Handling::Strict)
    }

    /// The most rows that a write may touch, if that was asked for in earnest.
    #[must_use]
    pub fn most_affected(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.is_strict())
    }

    /// Whether a write says how many rows it touched.
    #[must_use]
    pub fn counts_writes(&self) -> bool {
        matches!(self.count, Some(Counted::Exact | Counted::Estimated))
    }

    /// The header Preference-Applied; `None` when nothing was asked for that applies.
    #[must_use]
    pub fn applied(&self, which: Applied) -> Option<HeaderValue> {
        let mut out = String::new();
        let mut add = |text: &str| {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(text);
        };
        match self.resolution.filter(|_| which.resolution) {
            Some(Resolution::Merge) => add("resolution=merge-duplicates"),
            Some(Resolution::Ignore) => add("resolution=ignore-duplicates"),
            None => {}
        }
        match self.missing.filter(|_| which.missing) {
            Some(Missing::Default) => add("missing=default"),
            Some(Missing::Null) => add("missing=null"),
            None => {}
        }
        match self.returned.filter(|_| which.returned) {
            Some(Returned::Representation) => add("return=representation"),
            Some(Returned::Minimal) => add("return=minimal"),
            Some(Returned::HeadersOnly) => add("return=headers-only"),
            None => {}
        }
        match self.count {
            Some(Counted::Exact) => add("count=exact"),
            Some(Counted::Planned) => add("count=planned"),
            Some(Counted::Estimated) => add("count=estimated"),
            None => {}
        }
        match self.end {
            Some(End::Commit) => add("tx=commit"),
            Some(End::Rollback) => add("tx=rollback"),
            None => {}
        }
        match self.handling {
            Some(Handling::Strict) => add("handling=strict"),
            Some(Handling::Lenient) => add("handling=lenient"),
            None => {}
        }
        if let Some(zone) = &self.time_zone {
            add(&format!("timezone={zone}"));
        }
        if let Some(most) = self.most_affected().filter(|_| which.max_affected) {
            add(&format!("max-affected={most}"));
        }
        if out.is_empty() { None } else { HeaderValue::try_from(out).ok() }
    }
}

fn first<T>(place: &mut Option<T>, value: T) {
    if place.is_none() {
        *place = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str], end_is_free: bool) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        Preferences::read(&headers, end_is_free)
    }

    #[test]
    fn many_headers_and_commas_are_one_list_in_which_the_first_counts() {
        let all = read(
            &[
                "count=exact,    tx=commit   ,return=representation , missing=default, handling=strict",
                "tx=rollback, anything, resolution=ignore-duplicates, resolution=merge-duplicates",
                "timezone=America/Los_Angeles, max-affected=100, max-affected=x",
            ],
            true,
        );
        assert_eq!(all.count, Some(Counted::Exact));
        assert_eq!(all.end, Some(End::Commit));
        assert_eq!(all.resolution, Some(Resolution::Ignore));
        assert_eq!(all.most_affected(), Some(100));
        assert_eq!(all.unknown, ["anything", "max-affected=x"]);
        let which = Applied { resolution: true, missing: true, returned: true, max_affected: true };
        assert_eq!(
            all.applied(which).unwrap(),
            "resolution=ignore-duplicates, missing=default, return=representation, count=exact, tx=commit, \
             handling=strict, timezone=America/Los_Angeles, max-affected=100"
        );
        assert_eq!(
            all.applied(Applied::default()).unwrap(),
            "count=exact, tx=commit, handling=strict, timezone=America/Los_Angeles"
        );
    }

    #[test]
    fn what_does_not_apply_is_not_claimed() {
        let all = read(&["handling=lenient, max-affected=1, tx=rollback"], false);
        assert_eq!((all.most_affected(), all.end), (None, None));
        assert_eq!(all.unknown, ["tx=rollback"]);
        assert_eq!(all.applied(Applied { max_affected: true, ..Applied::default() }).unwrap(), "handling=lenient");
        assert_eq!(read(&[], true).applied(Applied::default()), None);
    }
}
