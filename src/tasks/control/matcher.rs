//! To whom a request is addressed: to named nodes, to those whose name a pattern matches, or to all.
//!
//! Patterns come from whoever may publish on the broker, so that a pattern and its work are bounded.

use fancy_regex::RegexBuilder;
use serde_json::{Map, Value};

/// The longest pattern that is tried, in bytes; node names have 255 at most.
const LONGEST: usize = 1_000;
/// The most steps back that a regular expression may take.
const STEPS: usize = 20_000;
/// The most memory that a compiled expression may take, in bytes.
const COMPILED: usize = 256 * 1024;

/// Whether a request is addressed to this node.
///
/// # Errors
/// A pattern or a kind of pattern that cannot be used: the request is then for nobody.
pub(super) fn addressed(request: &Map<String, Value>, node: &str) -> Result<bool, String> {
    match request.get("destination") {
        Some(Value::Array(nodes)) if !nodes.is_empty() => {
            return Ok(nodes.iter().any(|one| one.as_str() == Some(node)));
        }
        Some(Value::String(text)) if !text.is_empty() => return Ok(text == node),
        _ => {}
    }
    let text = |name| request.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(pattern), Some(matcher)) = (text("pattern"), text("matcher")) else { return Ok(true) };
    if pattern.len() > LONGEST {
        return Err(format!("the pattern is longer than {LONGEST} bytes"));
    }
    match matcher {
        "glob" => Ok(glob(pattern, node)),
        "pcre" => regex(pattern, node),
        _ => Err("the matcher is neither glob nor pcre".to_owned()),
    }
}

/// As Python's `re.match`: from the beginning, and not necessarily to the end.
fn regex(pattern: &str, node: &str) -> Result<bool, String> {
    let built = RegexBuilder::new(&format!("\\A(?:{pattern})"))
        .backtrack_limit(STEPS)
        .delegate_size_limit(COMPILED)
        .delegate_dfa_size_limit(COMPILED)
        .build();
    built.and_then(|regex| regex.is_match(node)).map_err(|error| error.to_string())
}

/// As Python's `fnmatch`: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`; upper and lower case differ.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.chars().collect::<Vec<_>>(), text.chars().collect::<Vec<_>>());
    let (mut at, mut here) = (0, 0);
    // Where to go on after the last star: one character further each time. Earlier stars need no other try.
    let mut star = None;
    while here < text.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, here));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[at..], text[here]),
            Some(ch) => (*ch == text[here]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => (at, here) = (at + step, here + 1),
            (None, Some((after, from))) => {
                (at, here) = (after, from + 1);
                star = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|ch| *ch == '*')
}

/// The length of a class at the start of the pattern, if it holds the character. Without an end it is a plain bracket.
fn class(pattern: &[char], ch: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A bracket that comes first is a member.
    let Some(length) = pattern.iter().skip(first + 1).position(|ch| *ch == ']') else {
        return (ch == '[').then_some(1);
    };
    let end = first + 1 + length;
    let members = &pattern[first..end];
    let (mut at, mut held) = (0, false);
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            held |= (members[at]..=members[at + 2]).contains(&ch);
            at += 3;
        } else {
            held |= members[at] == ch;
            at += 1;
        }
    }
    (held != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn to(request: &Value) -> Result<bool, String> {
        addressed(request.as_object().unwrap(), "w1@host")
    }

    #[test]
    fn a_request_goes_to_the_named_to_the_matching_or_to_all() {
        for (request, expected) in [
            (json!({}), true),
            (json!({"destination": null, "pattern": null, "matcher": null}), true),
            (json!({"destination": []}), true),
            (json!({"destination": ["w1@host", "w2@host"]}), true),
            (json!({"destination": ["w1@hos"]}), false),
            (json!({"destination": ["w2@host"], "pattern": "*", "matcher": "glob"}), false),
            (json!({"destination": "w1@host"}), true),
            (json!({"pattern": "w*@host"}), true),
            (json!({"pattern": "w2*", "matcher": "glob"}), false),
            (json!({"pattern": "w1", "matcher": "pcre"}), true),
            (json!({"pattern": "1", "matcher": "pcre"}), false),
            (json!({"pattern": "(?!w2)w\\d@.*$", "matcher": "pcre"}), true),
            (json!({"pattern": "a|w1", "matcher": "pcre"}), true),
        ] {
            assert_eq!(to(&request), Ok(expected), "{request}");
        }
        assert!(to(&json!({"pattern": "(", "matcher": "pcre"})).is_err());
        assert!(to(&json!({"pattern": "a", "matcher": "soundex"})).is_err());
        assert!(to(&json!({"pattern": "a".repeat(1_001), "matcher": "glob"})).is_err());
    }

    #[test]
    fn a_glob_is_the_one_of_python() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyyd", false),
            ("*@host", "celery@host", true),
            ("w?@h", "w1@h", true),
            ("w?@h", "w@h", false),
            ("w[12]", "w2", true),
            ("w[!12]", "w2", false),
            ("w[!12]", "w3", true),
            ("w[0-4]", "w3", true),
            ("w[0-4]", "w5", false),
            ("w[]]", "w]", true),
            ("w[!]]", "w]", false),
            ("w[", "w[", true),
            ("w[a", "wa", false),
            ("W*", "w1", false),
            ("*[0-9]*", "ab5", true),
            ("[a-]x", "-x", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let begun = std::time::Instant::now();
        let node = format!("{}!", "a".repeat(200));
        assert!(!glob(&"a*".repeat(400), &format!("{}b", "c".repeat(250))));
        let _ = glob(&"*a".repeat(450), &node);
        for pattern in ["(?=(a+)+$)", "(a*)*\\1b", "((a{1,100}){1,100}){1,100}", "(a|a)*(?=c)"] {
            let _ = regex(pattern, &node);
        }
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
