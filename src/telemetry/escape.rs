//! Bytes from clients, made harmless for a log: escaping, shortening, and the hiding of secrets in query strings.

/// The longest field of a line in bytes, before escaping. A line stays below what a pipe or a journal datagram takes.
pub const MAX_FIELD: usize = 4_096;

/// Appends `text` as the inside of a JSON string (RFC 8259, section 7). What is not UTF-8 becomes U+FFFD; control
/// characters (C1 too: terminals obey them) and characters that reorder text are escaped.
pub fn json(out: &mut Vec<u8>, text: &[u8]) {
    let plain = plain(text);
    out.extend_from_slice(&text[..plain]);
    for chunk in text[plain..].utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                ' '..='~' => out.push(letter as u8),
                _ if letter.is_control() || deceives(letter) => {
                    let code = letter as u32;
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX_LOWER[(code >> shift & 15) as usize]);
                    }
                }
                _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `text` as NGINX does in its "combined" format: `"`, `\`, control characters and everything outside ASCII
/// become `\xNN`.
pub fn combined(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (start, after) = rest.split_at(plain(rest));
        out.extend_from_slice(start);
        let Some((&byte, after)) = after.split_first() else { return };
        let (high, low) = (HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        rest = after;
    }
}

/// How many bytes `text` begins with that both formats write as they are.
fn plain(text: &[u8]) -> usize {
    let special = |byte: u8| matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f..);
    // Blocks without an early exit inside are compared 16 bytes an instruction.
    let clean = |block: &&[u8; 16]| !block.iter().fold(false, |any, byte| any | special(*byte));
    let (blocks, _) = text.as_chunks::<16>();
    let start = 16 * blocks.iter().take_while(clean).count();
    text[start..].iter().position(|byte| special(*byte)).map_or(text.len(), |offset| start + offset)
}

/// Gives the pieces of `target` (a request target or a Referer) to `emit`, the values of secret query parameters
/// replaced by `***` and what is longer than [`MAX_FIELD`] cut off.
pub fn redacted(target: &[u8], mut emit: impl FnMut(&[u8])) {
    let (target, cut) = match target.get(..MAX_FIELD) {
        Some(start) if target.len() > MAX_FIELD => (start, true),
        _ => (target, false),
    };
    match memchr::memchr(b'?', target) {
        None => emit(target),
        Some(mark) => {
            let (path, query) = target.split_at(mark + 1);
            emit(path);
            let oauth = || query.split(|byte| *byte == b'&').any(|pair| pair.starts_with(b"code="));
            for (index, pair) in query.split(|byte| *byte == b'&').enumerate() {
                if index > 0 {
                    emit(b"&");
                }
                match memchr::memchr(b'=', pair) {
                    Some(equals) if is_secret(&pair[..equals], &oauth) => {
                        emit(&pair[..=equals]);
                        emit(b"***");
                    }
                    _ => emit(pair),
                }
            }
        }
    }
    if cut {
        emit(b"...");
    }
}

/// Names that are secret as a whole.
const SECRET_NAMES: [&[u8]; 12] = [
    b"code",
    b"key",
    b"sig",
    b"pwd",
    b"pass",
    b"passphrase",
    b"jwt",
    b"otp",
    b"auth",
    b"authorization",
    b"awsaccesskeyid",
    b"code_verifier",
];

/// Ends of secret names: `access_token`, `client_secret`, `X-Amz-Signature`, `X-Goog-Credential`, `new_password` ...
const SECRET_ENDINGS: [&[u8]; 8] =
    [b"token", b"password", b"passwd", b"secret", b"signature", b"credential", b"api_key", b"apikey"];

/// Whether a parameter's value is to be hidden. `state` is a secret beside an OAuth `code`, else a common filter.
fn is_secret(name: &[u8], oauth: &dyn Fn() -> bool) -> bool {
    // Longer than every secret name: decoded, compared and forgotten in a buffer on the stack.
    let mut plain = [0u8; 64];
    let mut length = 0;
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (byte, after),
            },
            _ => (byte, after),
        };
        rest = after;
        // A bracket ends what the name says in `user[password]`; what is inside begins anew.
        match byte {
            b'[' => length = 0,
            b']' => {}
            _ if length == plain.len() => {
                // Endings matter, so the start is what may go.
                plain.copy_within(32.., 0);
                length = 32;
                plain[length] = byte.to_ascii_lowercase();
                length += 1;
            }
            _ => {
                plain[length] = byte.to_ascii_lowercase();
                length += 1;
            }
        }
    }
    let plain = &mut plain[..length];
    for byte in plain.iter_mut().filter(|byte| **byte == b'-') {
        *byte = b'_';
    }
    let plain = &*plain;
    SECRET_NAMES.contains(&plain)
        || SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending))
        || (plain == b"state" && oauth())
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// Line separators of Unicode and characters that change the direction of what follows.
fn deceives(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(target: &str) -> String {
        let mut out = Vec::new();
        redacted(target.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_makes_a_json_string_that_reads_back() {
        let mut every: Vec<u8> = (0..=255).collect();
        every.extend("é\u{202e}\u{2028}\u{9b}31m😀".as_bytes());
        let mut out = vec![b'"'];
        json(&mut out, &every);
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), String::from_utf8_lossy(&every));
        assert!(out.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
        assert!(!String::from_utf8(out).unwrap().contains(['\u{9b}', '\u{202e}', '\u{2028}']));
    }

    #[test]
    fn combined_leaves_only_visible_ascii() {
        let mut out = Vec::new();
        combined(&mut out, b"a\"b\\c\n\x1b[31m\xc3\xa9 \x7f");
        assert_eq!(String::from_utf8(out).unwrap(), r"a\x22b\x5Cc\x0A\x1B[31m\xC3\xA9 \x7F");
    }

    #[test]
    fn secrets_in_queries_are_hidden_and_the_rest_is_kept() {
        assert_eq!(hidden("/a?page=2&q=x"), "/a?page=2&q=x");
        assert_eq!(hidden("/a?token=abc&page=2"), "/a?token=***&page=2");
        assert_eq!(hidden("/a?Access_Token=abc&refresh_token=d"), "/a?Access_Token=***&refresh_token=***");
        assert_eq!(hidden("/cb?code=1&state=2&x=3"), "/cb?code=***&state=***&x=3");
        assert_eq!(hidden("/issues?state=open"), "/issues?state=open");
        assert_eq!(hidden("/a?%74oken=abc"), "/a?%74oken=***");
        assert_eq!(hidden("/a?user[password]=abc&user%5Bapi_key%5D=d"), "/a?user[password]=***&user%5Bapi_key%5D=***");
        assert_eq!(
            hidden("/o?X-Amz-Credential=A&X-Amz-Date=2&X-Amz-Signature=B&X-Amz-Security-Token=C&sig=D&key=E"),
            "/o?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***&X-Amz-Security-Token=***&sig=***&key=***"
        );
        assert_eq!(hidden("/a?token"), "/a?token");
        assert_eq!(hidden("/a?x=1?token=2&&=&token=a=b"), "/a?x=1?token=2&&=&token=***");
        assert_eq!(hidden("/token=abc"), "/token=abc");
        assert_eq!(hidden(&format!("/a?{}_token=abc", "x".repeat(300))), format!("/a?{}_token=***", "x".repeat(300)));
        assert_eq!(hidden("/a?monkey=1&keyboard=2&barcode=3"), "/a?monkey=1&keyboard=2&barcode=3");
    }

    #[test]
    fn a_long_target_is_cut() {
        let long = format!("/{}", "a".repeat(10_000));
        let cut = hidden(&long);
        assert_eq!(cut.len(), MAX_FIELD + 3);
        assert!(cut.ends_with("a..."));
        let exact = "a".repeat(MAX_FIELD);
        assert_eq!(hidden(&exact), exact);
    }
}
