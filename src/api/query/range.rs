//! Which rows of many: the header Range beside limit and offset.

use super::{Error, Level};

/// Narrows a level by a header Range. Another unit than rows (`bytes=0-99`) is not ours and does nothing, as RFC 9110
/// section 14.2 has it.
///
/// # Errors
/// A range that ends before it begins, and one of which limit and offset leave nothing.
pub fn narrow(level: &mut Level, range: &str) -> Result<(), Error> {
    let Some((first, last)) = range.split_once('-') else { return Ok(()) };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(first) || !(last.is_empty() || is_number(last)) {
        return Ok(());
    }
    // Beyond the largest number there are no rows.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX).min(i64::MAX as u64 - 1);
    let (first, last) = (number(first), if last.is_empty() { None } else { Some(number(last)) });
    if last.is_some_and(|last| last < first) {
        return Err(Error::Backwards);
    }
    if level.limit == Some(0) {
        return Ok(());
    }
    let offset = level.offset.unwrap_or_default();
    // Both as half-open ranges.
    let end = match (level.limit.map(|limit| offset.saturating_add(limit)), last.map(|last| last.saturating_add(1))) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let begin = offset.max(first);
    if end.is_some_and(|end| end <= begin) {
        return Err(Error::Disjoint);
    }
    level.offset = Some(begin).filter(|begin| *begin > 0);
    level.limit = end.map(|end| end - begin);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrowed(limit: Option<u64>, offset: Option<u64>, range: &str) -> Result<(Option<u64>, Option<u64>), Error> {
        let mut level = Level { limit, offset, ..Level::default() };
        narrow(&mut level, range).map(|()| (level.limit, level.offset))
    }

    #[test]
    fn a_range_meets_limit_and_offset() {
        assert_eq!(narrowed(None, None, "0-1"), Ok((Some(2), None)));
        assert_eq!(narrowed(None, None, "5-"), Ok((None, Some(5))));
        assert_eq!(narrowed(Some(3), None, "0-1"), Ok((Some(2), None)));
        assert_eq!(narrowed(Some(3), Some(2), "1-9"), Ok((Some(3), Some(2))));
        assert_eq!(narrowed(Some(3), Some(2), "3-3"), Ok((Some(1), Some(3))));
        assert_eq!(narrowed(Some(0), None, "3-3"), Ok((Some(0), None)));
        assert_eq!(narrowed(None, None, "0-99999999999999999999"), Ok((Some(i64::MAX as u64), None)));
        assert_eq!(narrowed(None, None, "1-0"), Err(Error::Backwards));
        assert_eq!(narrowed(Some(3), None, "5-9"), Err(Error::Disjoint));
        for foreign in ["bytes=0-99", "-5", "a-b", "1-b", ""] {
            assert_eq!(narrowed(Some(3), Some(1), foreign), Ok((Some(3), Some(1))), "{foreign}");
        }
    }
}
