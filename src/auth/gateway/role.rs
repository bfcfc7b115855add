//! Where in a token the role stands: a path as in `.role`, `.realm_access.roles[0]` or `."https://example.org/role"`.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::auth::jwt::Invalid;

/// The longest name of a role, in bytes (NAMEDATALEN less one).
const LONGEST: usize = 63;

/// A path into the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Default for RolePath {
    /// `.role`
    fn default() -> Self {
        Self(vec![Step::Key("role".into())])
    }
}

/// A text that is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no path such as .role, .roles[0] or .\"https://example.org/role\"")]
pub struct NoPath;

impl FromStr for RolePath {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(index) = rest.strip_prefix('[') {
                let (index, after) = index.split_once(']').ok_or(NoPath)?;
                if steps.is_empty() || index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(NoPath);
                }
                steps.push(Step::Index(index.parse().map_err(|_| NoPath)?));
                rest = after;
                continue;
            }
            let key = rest.strip_prefix('.').ok_or(NoPath)?;
            let (key, after) = if let Some(quoted) = key.strip_prefix('"') {
                quoted.split_once('"').ok_or(NoPath)?
            } else {
                let plain = |ch: char| ch.is_alphanumeric() || "_$@".contains(ch);
                key.split_at(key.find(|ch| !plain(ch)).unwrap_or(key.len()))
            };
            if key.is_empty() {
                return Err(NoPath);
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
        if steps.is_empty() { Err(NoPath) } else { Ok(Self(steps)) }
    }
}

impl RolePath {
    /// The role that the claims give; none if they give none.
    ///
    /// # Errors
    /// [`Invalid::Role`] for what is no text or no name of a role. `none` is no name: PostgreSQL would take it as the
    /// wish to be the connection's own user.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Result<Option<&'a str>, Invalid> {
        let mut steps = self.0.iter();
        let Some(Step::Key(first)) = steps.next() else { return Ok(None) };
        let found = steps.try_fold(claims.get(first), |value, step| {
            Some(match step {
                Step::Key(key) => value?.as_object()?.get(key),
                Step::Index(index) => value?.as_array()?.get(*index),
            })
        });
        match found.flatten() {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(role)) if is_name(role) => Ok(Some(role)),
            Some(_) => Err(Invalid::Role),
        }
    }
}

fn is_name(role: &str) -> bool {
    (1..=LONGEST).contains(&role.len()) && !role.contains('\0') && !role.eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str, claims: &Value) -> Result<Option<String>, Invalid> {
        let path: RolePath = path.parse().unwrap();
        path.find(claims.as_object().unwrap()).map(|role| role.map(str::to_owned))
    }

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        for (path, claims) in [
            (".role", json!({ "role": "ann" })),
            (".a.b[1]", json!({ "a": { "b": ["x", "ann"] } })),
            (".\"https://x.org/r\"[0].n", json!({ "https://x.org/r": [{ "n": "ann" }] })),
            (".@r$_1", json!({ "@r$_1": "ann" })),
        ] {
            assert_eq!(find(path, &claims), Ok(Some("ann".into())), "{path}");
        }
        for (path, claims) in [
            (".role", json!({})),
            (".role", json!({ "role": null })),
            (".a.b", json!({ "a": "text" })),
            (".a[2]", json!({ "a": ["x"] })),
            (".a[0]", json!({ "a": { "0": "x" } })),
        ] {
            assert_eq!(find(path, &claims), Ok(None), "{path} {claims}");
        }
    }

    #[test]
    fn what_no_role_can_be_called_is_refused() {
        let long = "x".repeat(64);
        for bad in [
            json!(1),
            json!(true),
            json!(["anon"]),
            json!({}),
            json!(""),
            json!("none"),
            json!("NONE"),
            json!("a\0b"),
            json!(long),
        ] {
            assert_eq!(find(".role", &json!({ "role": bad })), Err(Invalid::Role), "{bad}");
        }
    }

    #[test]
    fn other_texts_are_no_paths() {
        for bad in ["", "role", ".", ".a.", ".a[", ".a[]", ".a[-1]", ".a[x]", "[0]", ".\"a", ".\"\"", ".a b", ".a-b"] {
            assert_eq!(bad.parse::<RolePath>(), Err(NoPath), "{bad}");
        }
        assert_eq!(".role".parse(), Ok(RolePath::default()));
    }
}
