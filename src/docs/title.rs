//! Titles without rendering a page, and the order of names.

use std::cmp::Ordering;

/// The text of the first `# heading` outside code, without its markup.
pub fn heading(body: &str) -> Option<String> {
    let mut fence: Option<&str> = None;
    for line in body.lines().take(400) {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, Some(mark)) => fence = Some(mark),
            (None, None) => {
                if let Some(text) = line.strip_prefix("# ") {
                    let text = plain(text.trim().trim_end_matches('#').trim_end());
                    return (!text.is_empty()).then_some(text);
                }
            }
            _ => {}
        }
    }
    None
}

/// Inline Markdown as text: emphasis and code marks dropped, a link's text kept.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(ch) = rest.next() {
        match ch {
            ']' if rest.peek() == Some(&'(') => {
                rest.by_ref().find(|&ch| ch == ')');
            }
            '`' | '*' | '[' | ']' => {}
            '\\' => out.extend(rest.next()),
            other => out.push(other),
        }
    }
    out
}

/// A title from a file's name: `02-getting_started` is "Getting started".
pub fn humanise(name: &str) -> String {
    let bare = name.trim_start_matches(|ch: char| ch.is_ascii_digit()).trim_start_matches(['-', '_', '.', ' ']);
    let bare = if bare.is_empty() { name } else { bare };
    let text = bare.replace(['-', '_'], " ");
    let mut chars = text.chars();
    chars.next().map_or(text.clone(), |first| first.to_uppercase().chain(chars).collect())
}

/// The order of names as people sort them: numbers by value, without regard to case.
pub fn natural(left: &str, right: &str) -> Ordering {
    let number = |text: &str| text.len() - text.trim_start_matches(|ch: char| ch.is_ascii_digit()).len();
    let (mut left, mut right) = (left, right);
    loop {
        let (digits_l, digits_r) = (number(left), number(right));
        if digits_l > 0 && digits_r > 0 {
            let value = |text: &str, digits| text[..digits].parse::<u64>().unwrap_or(u64::MAX);
            let order = value(left, digits_l).cmp(&value(right, digits_r));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (&left[digits_l..], &right[digits_r..]);
            continue;
        }
        let (mut chars_l, mut chars_r) = (left.chars(), right.chars());
        match (chars_l.next(), chars_r.next()) {
            (None, None) => return Ordering::Equal,
            (one, two) if one.map(|ch| ch.to_ascii_lowercase()) != two.map(|ch| ch.to_ascii_lowercase()) => {
                return one.map(|ch| ch.to_ascii_lowercase()).cmp(&two.map(|ch| ch.to_ascii_lowercase()));
            }
            _ => (left, right) = (chars_l.as_str(), chars_r.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_heading_outside_code_is_the_title() {
        let title = |text: &str| heading(text);
        assert_eq!(title("text\n\n# A *fine* `title` #\n").as_deref(), Some("A fine title"));
        assert_eq!(title("~~~\n# no\n~~~\n# [Yes](x.md) [and] \\*more\n").as_deref(), Some("Yes and *more"));
        assert_eq!((title("## Second\n"), title("#hash\n"), title("")), (None, None, None));
    }

    #[test]
    fn names_become_titles_and_sort_by_the_value_of_numbers() {
        assert_eq!(humanise("02-getting_started"), "Getting started");
        assert_eq!((humanise("404"), humanise("éa")), ("404".into(), "Éa".into()));
        let mut names = ["b10", "B9", "a", "b", "b10a", "99999999999999999999999"];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(names, ["99999999999999999999999", "a", "b", "B9", "b10", "b10a"]);
    }
}
