//! What is sent back: JSON, and redirects.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::json;

use super::failure::{Answer, Failure};
use crate::http::{Body, Response};

/// A JSON body. Nothing that accounts answer may be kept by a cache.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 200 with a JSON body.
///
/// # Errors
/// A value that JSON has no form for.
pub fn ok<T: Serialize>(value: &T) -> Answer {
    let value = serde_json::to_value(value)
        .map_err(|error| Failure::internal("The answer could not be written", error.to_string()))?;
    Ok(json(StatusCode::OK, &value))
}

/// 200 with an empty object.
pub fn nothing() -> Answer {
    ok(&json!({}))
}

/// 204.
#[must_use]
pub fn no_content() -> Response {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A redirect to an address that was allowed.
pub fn redirect(status: StatusCode, to: &str) -> Answer {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to)
        .map_err(|_| Failure::invalid("The address to be sent to holds characters that no address may"))?;
    let headers = response.headers_mut();
    headers.insert(LOCATION, to);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Pairs as `application/x-www-form-urlencoded`, in their order.
#[must_use]
pub fn form(pairs: &[(&str, &str)]) -> String {
    let encode = |text| utf8_percent_encode(text, FORM).to_string().replace("%20", "+");
    pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

/// `url` with pairs added to its query, and its fragment replaced if there is a new one.
#[must_use]
pub fn extend(url: &str, query: &[(&str, &str)], fragment: &[(&str, &str)]) -> String {
    let (rest, old) = url.split_once('#').map_or((url, None), |(rest, old)| (rest, Some(old)));
    let mut out = rest.to_owned();
    if !query.is_empty() {
        let names: Vec<String> = query.iter().map(|(name, _)| format!("{name}=")).collect();
        if let Some((path, had)) = rest.split_once('?') {
            // What is set replaces what was there: a page must not be told another code or error than ours.
            let kept: Vec<&str> =
                had.split('&').filter(|pair| !names.iter().any(|name| pair.starts_with(name.as_str()))).collect();
            let kept = kept.join("&");
            out = if kept.is_empty() { format!("{path}?") } else { format!("{path}?{kept}&") };
        } else {
            out.push('?');
        }
        out.push_str(&form(query));
    }
    if !fragment.is_empty() {
        out.push('#');
        out.push_str(&form(fragment));
    } else if let Some(old) = old {
        out.push('#');
        out.push_str(old);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_query_and_gets_ours() {
        assert_eq!(extend("https://a.b/c", &[("code", "x y")], &[]), "https://a.b/c?code=x+y");
        assert_eq!(extend("https://a.b/c?d=e#f", &[("code", "1")], &[]), "https://a.b/c?d=e&code=1#f");
        assert_eq!(extend("https://a.b/c?code=evil&d=e", &[("code", "1")], &[]), "https://a.b/c?d=e&code=1");
        assert_eq!(extend("https://a.b/#old", &[], &[("t", "a&b")]), "https://a.b/#t=a%26b");
        assert_eq!(extend("myapp://cb", &[("error", "é")], &[("error", "é")]), "myapp://cb?error=%C3%A9#error=%C3%A9");
    }

    #[test]
    fn a_redirect_cannot_carry_a_header() {
        assert!(redirect(StatusCode::SEE_OTHER, "https://a.b/\r\nSet-Cookie: x").is_err());
    }
}
