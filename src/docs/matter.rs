//! Front matter: the lines between two `---` at the top of a page, `key: value` each.
//!
//! Keys that we do not know are left alone, because folders written for other tools are full of them; a value of a
//! known key that cannot be used is a fault with the line's number, and the page is shown without it.

/// What a page says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matter {
    /// The title in navigation, search and the window; without it the first heading is used.
    pub title: Option<String>,
    /// One sentence for lists of pages and for search engines.
    pub description: Option<String>,
    /// The place among its siblings; those with a number come before those without.
    pub order: Option<i64>,
    /// Served, but neither in navigation nor in search.
    pub hidden: bool,
    /// Not served at all.
    pub draft: bool,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

/// Splits a page into its front matter and its Markdown.
pub fn split(text: &str) -> (Matter, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut matter = Matter::default();
    let Some(start) = text.strip_prefix("---").and_then(|rest| rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')))
    else {
        return (matter, text);
    };
    let mut at = 0;
    for (index, line) in start.split_inclusive('\n').enumerate() {
        at += line.len();
        let line = line.trim_end();
        if line == "---" || line == "..." {
            return (matter, &start[at..]);
        }
        read(&mut matter, line, index + 2);
    }
    // A thematic break may open a page; it is front matter only if it looked like it.
    let mut unclosed = Matter::default();
    if start.lines().next().is_some_and(|line| line.split_once(':').is_some_and(|(key, _)| known(key.trim()))) {
        unclosed.faults.push("the front matter has no closing line of ---".into());
    }
    (unclosed, text)
}

fn known(key: &str) -> bool {
    matches!(key, "title" | "description" | "order" | "hidden" | "draft")
}

fn read(matter: &mut Matter, line: &str, number: usize) {
    // Indented lines and list items belong to keys that we do not know.
    if line.is_empty() || line.starts_with([' ', '\t', '#', '-']) {
        return;
    }
    let Some((key, value)) = line.split_once(':') else {
        matter.faults.push(format!("line {number} is not \"key: value\""));
        return;
    };
    let (key, value) = (key.trim(), scalar(value));
    match key {
        "title" if !value.is_empty() => matter.title = Some(value),
        "description" if !value.is_empty() => matter.description = Some(value),
        "order" => match value.parse() {
            Ok(order) => matter.order = Some(order),
            Err(_) => matter.faults.push(format!("line {number}: order is \"{value}\"; use a whole number")),
        },
        "hidden" | "draft" => match value.as_str() {
            "true" | "yes" if key == "hidden" => matter.hidden = true,
            "true" | "yes" => matter.draft = true,
            "false" | "no" | "" => {}
            _ => matter.faults.push(format!("line {number}: {key} is \"{value}\"; use true or false")),
        },
        _ => {}
    }
}

/// A YAML scalar on one line: quoted, or plain up to a comment.
fn scalar(text: &str) -> String {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.replace("''", "'");
    }
    if let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return inner.replace("\\\"", "\"").replace("\\\\", "\\");
    }
    text.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read_and_others_left_alone() {
        let (matter, rest) = split(
            "---\r\ntitle: \"TLS: the \\\"how\\\"\"\r\norder: 3 # after install\r\ntags:\r\n  - a\r\nhidden: true\r\n---\r\n# Hi\r\n",
        );
        assert_eq!(matter.title.as_deref(), Some("TLS: the \"how\""));
        assert_eq!((matter.order, matter.hidden, matter.draft), (Some(3), true, false));
        assert!(matter.faults.is_empty(), "{:?}", matter.faults);
        assert_eq!(rest, "# Hi\r\n");
    }

    #[test]
    fn faults_name_the_line_and_the_way_out() {
        let (matter, rest) = split("---\norder: first\ndraft: perhaps\nnonsense\n---\nText");
        assert_eq!(
            matter.faults,
            [
                "line 2: order is \"first\"; use a whole number",
                "line 3: draft is \"perhaps\"; use true or false",
                "line 4 is not \"key: value\"",
            ]
        );
        assert_eq!(rest, "Text");
    }

    #[test]
    fn an_unclosed_block_is_a_fault_and_a_thematic_break_is_not() {
        let (matter, rest) = split("---\ntitle: Never closed\n");
        assert_eq!(matter.faults.len(), 1);
        assert_eq!(matter.title, None);
        assert_eq!(rest, "---\ntitle: Never closed\n");
        let (matter, rest) = split("---\n\nText after a line\n");
        assert_eq!(matter, Matter::default());
        assert_eq!(rest, "---\n\nText after a line\n");
        assert_eq!(split("").1, "");
    }
}
