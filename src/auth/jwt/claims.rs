//! What a verified token says, and the checks of its registered claims (RFC 7519 section 4.1).

use serde_json::{Map, Value};

use super::Invalid;

/// Clocks may differ by so many seconds.
const SKEW: f64 = 30.0;

/// The claims of a token whose signature was good.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(pub(super) Map<String, Value>);

/// What the registered claims must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// One of these must be in `aud`; empty: `aud` may be anything. A token without `aud`, or with an empty list, is
    /// for everybody, as with PostgREST.
    pub audience: &'a [String],
    /// A token without `aud` is refused, as OpenID Connect demands.
    pub needs_audience: bool,
    /// A token without `exp` is refused.
    pub needs_expiry: bool,
    /// `iss` must be this; empty: anything.
    pub issuer: &'a str,
}

impl Claims {
    /// A claim.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// When the token ends, in seconds since 1970, if it ends.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.0.get("exp")?.as_f64().map(|end| end as u64)
    }

    /// All claims.
    #[must_use]
    pub fn object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// All claims.
    #[must_use]
    pub fn into_object(self) -> Map<String, Value> {
        self.0
    }

    /// Checks the registered claims at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// The first claim that is wrong.
    pub fn check(&self, rules: &Rules<'_>, now: u64) -> Result<(), Invalid> {
        let now = now as f64;
        match self.time("exp")? {
            Some(end) if now - SKEW > end => return Err(Invalid::Expired),
            None if rules.needs_expiry => return Err(Invalid::NotNumber("exp")),
            _ => {}
        }
        if self.time("nbf")?.is_some_and(|begin| now + SKEW < begin) {
            return Err(Invalid::NotYet);
        }
        if self.time("iat")?.is_some_and(|made| now + SKEW < made) {
            return Err(Invalid::Future);
        }
        self.check_audience(rules)?;
        if !rules.issuer.is_empty() && self.text("iss") != Some(rules.issuer) {
            return Err(Invalid::Issuer);
        }
        Ok(())
    }

    fn check_audience(&self, rules: &Rules<'_>) -> Result<(), Invalid> {
        let wanted = |name: &str| rules.audience.iter().any(|ours| ours == name);
        let fits = match self.0.get("aud") {
            None | Some(Value::Null) => !rules.needs_audience,
            Some(Value::String(name)) => wanted(name),
            Some(Value::Array(names)) => {
                let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
                let names = names.ok_or(Invalid::AudienceForm)?;
                if names.is_empty() { !rules.needs_audience } else { names.into_iter().any(wanted) }
            }
            Some(_) => return Err(Invalid::AudienceForm),
        };
        if fits || rules.audience.is_empty() { Ok(()) } else { Err(Invalid::Audience) }
    }

    /// A time in whole seconds since 1970; null is as good as nothing.
    fn time(&self, name: &'static str) -> Result<Option<f64>, Invalid> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(|time| Some(time.floor())).ok_or(Invalid::NotNumber(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn check(claims: &Value, rules: Rules<'_>) -> Result<(), Invalid> {
        Claims(claims.as_object().unwrap().clone()).check(&rules, NOW)
    }

    #[test]
    fn times_have_thirty_seconds_of_leeway() {
        for (claim, offset, right) in [
            ("exp", -30, Ok(())),
            ("exp", -31, Err(Invalid::Expired)),
            ("nbf", 30, Ok(())),
            ("nbf", 31, Err(Invalid::NotYet)),
            ("iat", 30, Ok(())),
            ("iat", 31, Err(Invalid::Future)),
        ] {
            let time = NOW as i64 + offset;
            assert_eq!(check(&json!({ claim: time }), Rules::default()), right, "{claim} {offset}");
            assert_eq!(check(&json!({ claim: time as f64 + 0.5 }), Rules::default()), right, "{claim} {offset}.5");
        }
    }

    #[test]
    fn a_time_must_be_a_number() {
        for claim in ["exp", "nbf", "iat"] {
            for bad in [json!("1795000000"), json!(true), json!([]), json!({})] {
                assert_eq!(check(&json!({ claim: bad }), Rules::default()), Err(Invalid::NotNumber(claim)), "{bad}");
            }
            assert_eq!(check(&json!({ claim: null }), Rules::default()), Ok(()));
        }
        let strict = Rules { needs_expiry: true, ..Rules::default() };
        assert_eq!(check(&json!({ "exp": null }), strict), Err(Invalid::NotNumber("exp")));
        assert_eq!(check(&json!({ "exp": -1 }), Rules::default()), Err(Invalid::Expired));
        assert_eq!(check(&json!({ "exp": 1e300 }), Rules::default()), Ok(()));
    }

    #[test]
    fn the_audience_is_ours_or_not_given() {
        let ours = ["youraudience".to_owned(), "second".to_owned()];
        let rules = Rules { audience: &ours, ..Rules::default() };
        for good in [json!("youraudience"), json!(["x", "second"]), json!([]), json!(null)] {
            assert_eq!(check(&json!({ "aud": good }), rules), Ok(()), "{good}");
        }
        assert_eq!(check(&json!({}), rules), Ok(()));
        for bad in [json!("notyours"), json!(""), json!(["x", "y"])] {
            assert_eq!(check(&json!({ "aud": bad }), rules), Err(Invalid::Audience), "{bad}");
            assert_eq!(check(&json!({ "aud": bad }), Rules::default()), Ok(()), "{bad}");
        }
        for bad in [json!({ "a": 1 }), json!([1, "second"]), json!(7)] {
            assert_eq!(check(&json!({ "aud": bad }), rules), Err(Invalid::AudienceForm), "{bad}");
            assert_eq!(check(&json!({ "aud": bad }), Rules::default()), Err(Invalid::AudienceForm), "{bad}");
        }
        let strict = Rules { needs_audience: true, ..rules };
        assert_eq!(check(&json!({}), strict), Err(Invalid::Audience));
        assert_eq!(check(&json!({ "aud": [] }), strict), Err(Invalid::Audience));
    }

    #[test]
    fn the_issuer_is_compared_whole() {
        let rules = Rules { issuer: "https://a.example", ..Rules::default() };
        assert_eq!(check(&json!({ "iss": "https://a.example" }), rules), Ok(()));
        for bad in [json!({}), json!({ "iss": "https://a.example/" }), json!({ "iss": ["https://a.example"] })] {
            assert_eq!(check(&bad, rules), Err(Invalid::Issuer), "{bad}");
        }
    }
}
