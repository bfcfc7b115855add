//! Codes of an authenticator application (TOTP, RFC 6238): six digits, SHA-1 and steps of 30 seconds, because that is all
//! that every such application can do.
//!
//! A code counts once (section 5.2): the caller stores the step that [`check`] returns, while it holds the factor's row
//! locked, and gives it back the next time. [`Enrolment::svg`] is bare SVG: clients of the supabase-js family put
//! `data:image/svg+xml;utf-8,` before it themselves. It has no `#`, which would end such an address.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use qrcode::render::svg::Color;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Builder, Totp};

use crate::secret::Secret;

/// Seconds that a code is shown.
const STEP: u64 = 30;
/// Steps that a clock may be before or after ours.
const SKEW: u64 = 1;
/// The longest address that still makes a picture which a phone can read from a screen, in bytes.
const LONGEST: usize = 1_024;
/// RFC 3986's unreserved characters stay as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a user needs to set up an authenticator.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// 160 bits in base 32, to be typed and to be stored.
    pub secret: Secret,
    /// The same with names and parameters: `otpauth://totp/...`.
    pub uri: Secret,
    /// A picture of the address, as SVG.
    pub svg: Secret,
}

/// What came of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right; the step is to be stored, because no code of it or of an earlier one counts from now on.
    Right(i64),
    /// It was used already, or a later one was.
    Used,
    /// It is wrong.
    Wrong,
}

/// Why there is no authenticator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The names are too long for a picture.
    #[error("the names of the issuer and of the account are too long")]
    TooLong,
    /// The system has no randomness.
    #[error("no secret could be made")]
    Random(#[source] getrandom::Error),
    /// The stored secret is no base 32, or shorter than 128 bits.
    #[error("the stored secret of the factor cannot be used")]
    Stored,
}

/// A new secret for `account` (an e-mail address, say) at `issuer`, which are what the authenticator shows.
///
/// # Errors
/// Names that are too long, or a system without randomness.
pub fn enrol(issuer: &str, account: &str) -> Result<Enrolment, Error> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    let secret = totp_rs::Secret::new_stack(bytes).to_base32();
    picture(issuer, account, secret)
}

fn picture(issuer: &str, account: &str, secret: String) -> Result<Enrolment, Error> {
    let (issuer, account) = (name(issuer), name(account));
    let label = if issuer.is_empty() { account } else { format!("{issuer}:{account}") };
    let uri = format!("otpauth://totp/{label}?algorithm=SHA1&digits=6&issuer={issuer}&period={STEP}&secret={secret}");
    if uri.len() > LONGEST {
        return Err(Error::TooLong);
    }
    let code = QrCode::with_error_correction_level(&uri, EcLevel::M).map_err(|_| Error::TooLong)?;
    let svg = code.render().min_dimensions(200, 200).dark_color(Color("black")).light_color(Color("white")).build();
    // Where the picture is put into a page, a declaration in its middle would be an error.
    let svg = svg.split_once("?>").map_or(svg.as_str(), |(_, picture)| picture).to_owned();
    Ok(Enrolment { secret: Secret::new(secret), uri: Secret::new(uri), svg: Secret::new(svg) })
}

/// A name in the address. Colons separate issuer and account, even when they are encoded.
fn name(text: &str) -> String {
    utf8_percent_encode(&text.trim().replace(':', " "), PLAIN).to_string()
}

/// Whether `code` is that of `secret` (base 32) at `now`, in seconds since 1970, or one step away. `last` is the step of
/// the last code that counted. Takes the same time for every code.
///
/// # Errors
/// [`Error::Stored`].
pub fn check(secret: &str, code: &str, now: u64, last: Option<i64>) -> Result<Verdict, Error> {
    let totp = stored(secret)?;
    let code = code.trim();
    if code.len() != 6 || !code.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(Verdict::Wrong);
    }
    let here = now / STEP;
    let mut verdict = Verdict::Wrong;
    for step in here.saturating_sub(SKEW)..=here + SKEW {
        let right = totp.generate(step * STEP).to_string();
        let same: bool = subtle::ConstantTimeEq::ct_eq(right.as_bytes(), code.as_bytes()).into();
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        if same && last.is_some_and(|last| step <= last) {
            // Two steps of the window may have the same code: the later one still counts.
            verdict = Verdict::Used;
        } else if same {
            verdict = Verdict::Right(step);
        }
    }
    Ok(verdict)
}

fn stored(secret: &str) -> Result<Totp, Error> {
    let compact: String = secret.chars().filter(|ch| !ch.is_whitespace() && *ch != '=').collect();
    let secret = totp_rs::Secret::try_from_base32(compact.to_ascii_uppercase()).map_err(|_| Error::Stored)?;
    Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(STEP)
        .with_secret(secret)
        .build()
        .map_err(|_| Error::Stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "12345678901234567890", the secret of RFC 6238, appendix B.
    const RFC: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn codes_are_those_of_the_rfc() {
        // The appendix has eight digits; six are their end.
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(check(RFC, code, time, None).unwrap(), Verdict::Right((time / 30) as i64), "{time}");
        }
    }

    #[test]
    fn one_step_away_is_near_enough_and_two_are_not() {
        let code = "050471";
        let begin = 1_111_111_111 / 30 * 30;
        for (time, right) in
            [(begin - 31, false), (begin - 30, true), (begin, true), (begin + 59, true), (begin + 60, false)]
        {
            let verdict = check(RFC, code, time, None).unwrap();
            assert_eq!(verdict == Verdict::Right(37_037_037), right, "{time}: {verdict:?}");
        }
        assert_eq!(check(RFC, "755224", 0, None).unwrap(), Verdict::Right(0), "HOTP of counter 0, RFC 4226");
    }

    #[test]
    fn a_code_counts_once() {
        let (code, now) = ("050471", 1_111_111_111);
        let Verdict::Right(step) = check(RFC, code, now, None).unwrap() else { panic!("a right code was refused") };
        assert_eq!(check(RFC, code, now, Some(step)).unwrap(), Verdict::Used);
        assert_eq!(check(RFC, code, now, Some(step + 1)).unwrap(), Verdict::Used, "an earlier one than the last");
        assert_eq!(check(RFC, code, now, Some(step - 1)).unwrap(), Verdict::Right(step));
    }

    #[test]
    fn what_is_no_code_is_wrong() {
        for code in ["", "05047", "0504711", "05047a", "+50471", "050 471", "٠٥٠٤٧١", "050472"] {
            assert_eq!(check(RFC, code, 1_111_111_111, None).unwrap(), Verdict::Wrong, "{code}");
        }
    }

    #[test]
    fn stored_secrets_may_have_another_spelling() {
        for spelling in ["gezdgnbvgy3tqojqgezdgnbvgy3tqojq", "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ===="] {
            assert!(matches!(check(spelling, "287082", 59, None), Ok(Verdict::Right(1))), "{spelling}");
        }
        for broken in ["", "not base 32!", "GEZDGNBVGY3TQOJQ"] {
            assert!(matches!(check(broken, "287082", 59, None), Err(Error::Stored)), "{broken}");
        }
    }

    #[test]
    fn an_enrolment_is_fresh_and_its_secret_works() {
        let (one, other) = (enrol("x", "y").unwrap(), enrol("x", "y").unwrap());
        assert!(one.secret != other.secret);
        assert_eq!(one.secret.expose().len(), 32);
        let code = stored(one.secret.expose()).unwrap().generate(90).to_string();
        assert_eq!(check(one.secret.expose(), &code, 90, None).unwrap(), Verdict::Right(3));
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let made = picture("My: Firm", "ann+x@example.org&digits=8", RFC.into()).unwrap();
        assert_eq!(
            made.uri.expose(),
            "otpauth://totp/My%20%20Firm:ann%2Bx%40example.org%26digits%3D8?algorithm=SHA1&digits=6&\
             issuer=My%20%20Firm&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
        assert!(matches!(picture(&"x".repeat(2_000), "y", RFC.into()), Err(Error::TooLong)));
    }

    #[test]
    fn the_picture_can_stand_in_an_address() {
        let made = enrol("Firm", "ann@example.org").unwrap();
        let svg = made.svg.expose();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
        assert!(!svg.contains('#') && svg.contains("black"));
    }
}
