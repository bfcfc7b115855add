//! What addresses, numbers and passwords must be like.

use super::Config;
use super::failure::{Failure, WEAK};

/// The address in the form in which it is stored.
///
/// # Errors
/// 400 `validation_failed`.
pub fn email(text: &str) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(Failure::invalid("An email address is required"));
    }
    if text.len() > 255 {
        return Err(Failure::invalid("An email address is too long"));
    }
    let invalid = || Failure::invalid("Unable to validate email address: invalid format");
    let (local, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte) || byte >= 0x80;
    let fits = (1..=64).contains(&local.len())
        && local.bytes().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let hidden = text.chars().any(|ch| ch.is_control() || ch.is_whitespace());
    if !fits || hidden || !domain.split('.').all(label) {
        return Err(invalid());
    }
    Ok(text.to_lowercase())
}

/// The number in the form in which it is stored: digits alone.
///
/// # Errors
/// 400 `validation_failed`.
pub fn phone(text: &str) -> Result<String, Failure> {
    let digits: String = text.chars().filter(|ch| !matches!(ch, ' ' | '+' | '-' | '(' | ')')).collect();
    if !(7..=15).contains(&digits.len()) || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(Failure::invalid("Invalid phone number format (E.164 required)"));
    }
    Ok(digits)
}

/// Why `password` is too weak, if it is.
#[must_use]
pub fn weakness(config: &Config, password: &str) -> Option<Failure> {
    let mut reasons = Vec::new();
    let mut messages = Vec::new();
    if password.chars().count() < config.password_min_length as usize {
        reasons.push("length");
        messages.push(format!("Password should be at least {} characters.", config.password_min_length));
    }
    if config.password_required.iter().any(|set| !password.contains(|ch| set.contains(ch))) {
        reasons.push("characters");
        messages.push(format!(
            "Password should contain at least one character of each: {}.",
            config.password_required.join(", ")
        ));
    }
    if reasons.is_empty() {
        return None;
    }
    Some(Failure { reasons, ..Failure::unprocessable(WEAK, messages.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_and_harmless() {
        assert_eq!(email("Ann.Smith+x@Example.ORG").unwrap(), "ann.smith+x@example.org");
        assert_eq!(email("o'brien@localhost").unwrap(), "o'brien@localhost");
        for bad in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@exa mple.org",
            "ann@example.org\r\nBcc: all@example.org",
            "ann@example..org",
            "ann@-example.org",
            ".ann@example.org",
            "a..n@example.org",
            "\"ann\"@example.org",
            "ann@ben@example.org",
            "<ann@example.org>",
            "ann,ben@example.org",
            "ann@example.org\u{200b} x",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(email(&format!("{}@example.org", "a".repeat(65))).is_err());
        assert!(email(&format!("a@{}.org", "b".repeat(255))).is_err());
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(phone("+49 (170) 123-4567").unwrap(), "491701234567");
        for bad in ["", "123", "0170123456", "+49170abc", "1234567890123456"] {
            assert!(phone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_weak_password_is_told_why() {
        let config = Config { password_required: vec!["0123456789".into(), "abc".into()], ..Config::default() };
        assert!(weakness(&config, "abcdef7").is_none());
        assert_eq!(weakness(&config, "xyzxyz7").unwrap().reasons, ["characters"]);
        let failure = weakness(&config, "x").unwrap();
        assert_eq!(failure.reasons, ["length", "characters"]);
        assert!(failure.message.contains("at least 6 characters"), "{}", failure.message);
        assert!(weakness(&Config::default(), "äöüßäö").is_none());
    }
}
