//! Byte ranges (RFC 9110 section 14): which pieces of a representation a client asks for.

use std::ops::Range;

use http::HeaderMap;
use http::header::RANGE;

/// More ranges than this in one request are not worth the work: the whole is sent.
const MOST: usize = 16;

/// What a request's Range comes to for a representation of known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// Everything: there is no Range, or one that is malformed, abusive or of another unit.
    Whole,
    /// 416: no range begins inside the representation.
    Unsatisfiable,
    /// One piece, not empty.
    One(Range<u64>),
    /// Several pieces in the order asked for; none is empty and none overlaps another.
    Many(Vec<Range<u64>>),
}

/// Reads the Range of `headers` against a representation of `size` bytes.
pub fn pieces(headers: &HeaderMap, size: u64) -> Pieces {
    let mut values = headers.get_all(RANGE).iter();
    let Some(value) = values.next() else { return Pieces::Whole };
    if values.next().is_some() {
        return Pieces::Whole;
    }
    parse(value.as_bytes(), size).unwrap_or(Pieces::Whole)
}

fn parse(value: &[u8], size: u64) -> Option<Pieces> {
    let equals = memchr::memchr(b'=', value)?;
    if !value[..equals].trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut found = Vec::new();
    let mut count = 0;
    for spec in value[equals + 1..].split(|byte| *byte == b',') {
        let spec = spec.trim_ascii();
        if spec.is_empty() {
            // Empty list members are allowed (RFC 9110 section 5.6.1.2).
            continue;
        }
        count += 1;
        if count > MOST {
            return None;
        }
        let dash = memchr::memchr(b'-', spec)?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        let piece = if first.is_empty() {
            let length = number(last)?;
            size.saturating_sub(length)..size
        } else {
            let start = number(first)?;
            let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
            if end <= start && !last.is_empty() {
                return None;
            }
            start..end.min(size)
        };
        if piece.start < piece.end {
            found.push(piece);
        }
    }
    if count == 0 {
        return None;
    }
    let mut found = without_overlaps(found);
    if found.len() > 1 && found.iter().map(|piece| piece.end - piece.start).sum::<u64>() >= size {
        return None;
    }
    Some(match found.len() {
        0 => Pieces::Unsatisfiable,
        1 => Pieces::One(found.swap_remove(0)),
        _ => Pieces::Many(found),
    })
}

/// Merges ranges that overlap or touch, which loses the client's order; keeps the order when none does.
fn without_overlaps(pieces: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = pieces.clone();
    sorted.sort_by_key(|piece| piece.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for piece in sorted {
        match merged.last_mut() {
            Some(last) if piece.start <= last.end => last.end = last.end.max(piece.end),
            _ => merged.push(piece),
        }
    }
    if merged.len() == pieces.len() { pieces } else { merged }
}

/// Digits; what is beyond 64 bits is beyond every file.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        digit.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, size: u64) -> Pieces {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, value.parse().unwrap());
        pieces(&headers, size)
    }

    #[test]
    fn every_form_of_a_range_is_read() {
        for (value, expected) in [
            ("bytes=0-0", Pieces::One(0..1)),
            ("bytes=0-99", Pieces::One(0..100)),
            ("bytes=0-1000", Pieces::One(0..100)),
            ("bytes=10-", Pieces::One(10..100)),
            ("bytes=-1", Pieces::One(99..100)),
            ("bytes=-1000", Pieces::One(0..100)),
            ("BYTES = 1-2", Pieces::One(1..3)),
            ("bytes=99-", Pieces::One(99..100)),
            ("bytes=1-99999999999999999999999", Pieces::One(1..100)),
            ("bytes=0-18446744073709551615", Pieces::One(0..100)),
            ("bytes=100-", Pieces::Unsatisfiable),
            ("bytes=100-200, 300-", Pieces::Unsatisfiable),
            ("bytes=-0", Pieces::Unsatisfiable),
            ("bytes=99999999999999999999999-", Pieces::Unsatisfiable),
            ("bytes=0-0,-1", Pieces::Many(vec![0..1, 99..100])),
            ("bytes=-1, 0-0", Pieces::Many(vec![99..100, 0..1])),
            ("bytes=0-0, 500-600", Pieces::One(0..1)),
            ("bytes=0-10, 5-20", Pieces::One(0..21)),
            ("bytes=0-10, 11-20", Pieces::One(0..21)),
            ("bytes=50-60, 0-10, 5-20", Pieces::Many(vec![0..21, 50..61])),
            ("bytes= ,0-1, ,", Pieces::One(0..2)),
            ("bytes=2-1", Pieces::Whole),
            ("bytes=a-b", Pieces::Whole),
            ("bytes=1", Pieces::Whole),
            ("bytes=-", Pieces::Whole),
            ("bytes=+1-2", Pieces::Whole),
            ("bytes=1-2x", Pieces::Whole),
            ("bytes=1 - 2", Pieces::Whole),
            ("bytes=", Pieces::Whole),
            ("bytes", Pieces::Whole),
            ("lines=1-2", Pieces::Whole),
            ("bytes=0-1,x", Pieces::Whole),
        ] {
            assert_eq!(read(value, 100), expected, "{value}");
        }
    }

    #[test]
    fn an_empty_file_has_no_ranges() {
        assert_eq!(read("bytes=0-", 0), Pieces::Unsatisfiable);
        assert_eq!(read("bytes=-5", 0), Pieces::Unsatisfiable);
    }

    #[test]
    fn abuse_gets_the_whole() {
        let many = (0..17).map(|place| format!("{}-{}", place * 10, place * 10)).collect::<Vec<_>>().join(",");
        assert_eq!(read(&format!("bytes={many}"), 1000), Pieces::Whole);
        let mut headers = HeaderMap::new();
        headers.append(RANGE, "bytes=0-1".parse().unwrap());
        headers.append(RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(pieces(&headers, 100), Pieces::Whole);
    }
}
