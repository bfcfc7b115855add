//! In which form the answer is made: the first of the accepted media types that can be.

use super::Error;
use super::plan::Output;
use super::query::Media;
use super::schema::{Function, Returns};

/// What there is to be shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown<'a> {
    /// Rows of a relation.
    Rows,
    /// A function's result.
    Result(&'a Function),
}

/// The media type of the answer, and how its body is made. `plans` says whether execution plans may be seen.
pub(super) fn choose(accepted: &[Media], shown: Shown<'_>, plans: bool) -> Result<(Media, Output), Error> {
    accepted.iter().find_map(|media| offer(media, shown, plans)).ok_or_else(|| Error::media(accepted))
}

fn offer(media: &Media, shown: Shown<'_>, plans: bool) -> Option<(Media, Output)> {
    let output = match media {
        Media::Json => Output::Json { strip_nulls: false },
        Media::Stripped => Output::Json { strip_nulls: true },
        Media::Object(strip_nulls) => Output::Object { strip_nulls: *strip_nulls },
        Media::Csv => Output::Csv,
        Media::Any => {
            // A function that makes one media type only makes that.
            let own = own_type(shown).map(|name| if name == "*/*" { Media::Octets } else { Media::read(name) });
            return Some(match own {
                Some(own) => (own, Output::Plain),
                None => (Media::Json, Output::Json { strip_nulls: false }),
            });
        }
        Media::Other(name) if name == "application/*" => {
            return Some((Media::Json, Output::Json { strip_nulls: false }));
        }
        Media::Plan(plan) if plans => {
            let (of, output) = offer(&plan.of, shown, false)?;
            let mut plan = plan.clone();
            plan.of = of;
            return Some((Media::Plan(plan), output));
        }
        Media::Plain | Media::Xml | Media::Octets | Media::Other(_) => {
            return scalar(media, shown);
        }
        Media::OpenApi | Media::Form | Media::Plan(_) => return None,
    };
    Some((media.clone(), output))
}

/// A single value as it is.
fn scalar(media: &Media, shown: Shown<'_>) -> Option<(Media, Output)> {
    if let Some(own) = own_type(shown) {
        if own == "*/*" {
            return Some((Media::Octets, Output::Plain));
        }
        return (own == media.to_string()).then(|| (media.clone(), Output::Plain));
    }
    let type_name = single_type(shown)?;
    let fits = match media {
        Media::Xml => type_name == "xml",
        Media::Octets => type_name == "bytea",
        Media::Plain => !matches!(type_name, "xml" | "bytea"),
        _ => false,
    };
    fits.then(|| (media.clone(), Output::Plain))
}

/// The type of a function's single value.
fn single_type(shown: Shown<'_>) -> Option<&str> {
    match shown {
        Shown::Result(Function { returns: Returns::Scalar(name), returns_set: false, .. }) => Some(name),
        _ => None,
    }
}

/// The media type that a function makes: the type of its value is a domain of that name, such as `"text/html"`.
fn own_type(shown: Shown<'_>) -> Option<&str> {
    let name = single_type(shown)?;
    let quoted = name.rsplit_once('.').filter(|(schema, _)| !schema.ends_with('/')).map_or(name, |(_, name)| name);
    let quoted = if name.starts_with('"') && name.ends_with('"') && !name.contains("\".\"") { name } else { quoted };
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    inner.contains('/').then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Name, Volatility};
    use super::*;

    fn function(type_name: &str, returns_set: bool) -> Function {
        Function {
            name: Name { schema: "public".into(), name: "f".into() },
            comment: None,
            parameters: Vec::new(),
            returns_set,
            returns: Returns::Scalar(type_name.into()),
            volatility: Volatility::Stable,
            settings: Vec::new(),
        }
    }

    fn chosen(accept: &[&str], shown: Shown<'_>) -> Result<(String, Output), String> {
        let accepted: Vec<Media> = accept.iter().map(|text| Media::read(text)).collect();
        choose(&accepted, shown, true)
            .map(|(media, output)| (media.to_string(), output))
            .map_err(|error| error.message.into_owned())
    }

    const JSON: Output = Output::Json { strip_nulls: false };

    #[test]
    fn rows_are_json_or_csv() {
        let json = Ok(("application/json".to_owned(), JSON));
        assert_eq!(chosen(&["*/*"], Shown::Rows), json);
        assert_eq!(chosen(&["text/html", "application/xml", "*/*"], Shown::Rows), json);
        assert_eq!(chosen(&["text/plain", "application/json"], Shown::Rows), json);
        assert_eq!(chosen(&["text/csv", "application/json"], Shown::Rows), Ok(("text/csv".to_owned(), Output::Csv)));
        assert_eq!(
            chosen(&["text/plain", "image/png"], Shown::Rows),
            Err("None of these media types are available: text/plain, image/png".to_owned())
        );
        let plan = "application/vnd.pgrst.plan+json; for=\"application/vnd.pgrst.object+json\"";
        assert_eq!(chosen(&[plan], Shown::Rows), Ok((plan.to_owned(), Output::Object { strip_nulls: false })));
        assert!(choose(&[Media::read(plan)], Shown::Rows, false).is_err());
    }

    #[test]
    fn a_single_value_can_be_as_it_is() {
        let plain = |media: &str| Ok((media.to_owned(), Output::Plain));
        let (text, xml, bytes) = (function("text", false), function("xml", false), function("bytea", false));
        assert_eq!(chosen(&["text/plain"], Shown::Result(&text)), plain("text/plain"));
        assert!(chosen(&["text/xml"], Shown::Result(&text)).is_err());
        assert_eq!(chosen(&["text/xml"], Shown::Result(&xml)), plain("text/xml"));
        assert_eq!(chosen(&["application/octet-stream"], Shown::Result(&bytes)), plain("application/octet-stream"));
        assert!(chosen(&["text/plain"], Shown::Result(&function("text", true))).is_err());
        let page = function("\"text/html\"", false);
        assert_eq!(chosen(&["text/html", "*/*"], Shown::Result(&page)), plain("text/html"));
        assert_eq!(chosen(&["*/*"], Shown::Result(&page)), plain("text/html"));
        assert!(chosen(&["image/png"], Shown::Result(&page)).is_err());
        assert_eq!(
            chosen(&["image/png"], Shown::Result(&function("x.\"*/*\"", false))),
            plain("application/octet-stream")
        );
        assert_eq!(
            chosen(&["image/png"], Shown::Result(&function("\"a b\".\"image/png\"", false))),
            plain("image/png")
        );
    }
}
